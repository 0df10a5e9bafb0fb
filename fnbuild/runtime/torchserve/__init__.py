"""TorchServe's archives: their handlers in the workers of fnbuild, and functions as handlers."""

MANIFEST_PATH = "MAR-INF/MANIFEST.json"
"""The manifest in an archive. A function with such a file runs the archive's handler."""

BUSY_LOCK_VARIABLE = "FNBUILD_BUSY_LOCK"
"""The environment variable with the path of a file that is locked while a worker is busy."""
