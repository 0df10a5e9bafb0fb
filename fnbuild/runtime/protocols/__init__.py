"""The protocols of model servers over HTTP: KServe's V1 and V2, and TorchServe's API."""
