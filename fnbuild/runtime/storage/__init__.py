"""Models in storage: their URIs, and the download to the folder that a handler reads."""
