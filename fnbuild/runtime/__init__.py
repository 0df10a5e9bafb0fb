"""The runtime: everything that runs beside the handler, and all of fnbuild that images contain.

It runs on CPython 3.6 and later and needs nothing but an interpreter.

- `processor` serves requests and supervises the workers; `worker` runs the handler.
- `triggers` turn requests and schedules into events; `http` is the HTTP server under them.
- The modules at this level are entry points, and what processor and workers share.
"""
