"""TorchServe's formats: archives, model stores and the server's configuration."""
