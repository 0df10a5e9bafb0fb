"""Functions as Deployments and Services of a Kubernetes cluster."""
