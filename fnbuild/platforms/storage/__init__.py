"""Storage of models in a cluster: volumes, credentials, and uploads to claims."""
