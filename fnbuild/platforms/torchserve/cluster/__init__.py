"""TorchServe servers in a cluster: a Deployment of pods that share a model store in a claim."""
