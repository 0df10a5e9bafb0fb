"""The Docker platform: one container a function, on the engine that DOCKER_HOST or the current
Docker context names.

The truth is the engine alone: labels of containers tell what runs, and empty labelled volumes tell
what ran before, so any machine and data directory that reaches the engine sees the same.
"""

from fnbuild.platforms.docker.platform import DockerPlatform

__all__ = ["DockerPlatform", "connect"]


def connect() -> DockerPlatform:
    """The platform; the engine is reached on first use."""
    return DockerPlatform()
