"""Models in storage: checks of storage URIs, uploads with hashes, and listings."""
