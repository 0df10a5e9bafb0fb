"""Access to the API of a Kubernetes cluster, for every platform that keeps its functions in one."""
