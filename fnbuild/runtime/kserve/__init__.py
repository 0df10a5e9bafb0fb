"""Models written for the Python servers of KServe and KFServing, served by the processor.

`arguments` reads the command line of KServe's containers. `model_source` finds the model of an
entry module, and `model_handler` makes it the handler of a worker. `imports` provides the packages
`kserve` and `kfserving` to models whose environment lacks them, with the names that `kserve_api`
and `kfserving_api` define.
"""
