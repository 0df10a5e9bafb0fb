"""From a function's folder to a deployment: the pipeline and its parts."""
