"""A client of the Kubernetes API: kubeconfig, requests, watches, logs and port forwarding."""
