"""From a function's folder to an artifact: sources, staging, Python environments, images."""
