"""fnbuild's processor and its peers under the same load, relative to the rate of the handler alone.

    python -m bench install      create the environments of the peers
    python -m bench run          measure, and write the results as JSON
    python -m bench report       write the results into docs/performance.md

`catalog` has the measured servers, `workloads` the requests, `lifecycle` and `rounds` the
measurements.
"""
