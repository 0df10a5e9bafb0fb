"""The Docker platform: one container for each function.

All state is on the engine: labels of containers describe what runs, and empty labelled volumes
record what ran before. So every client of the engine sees the same functions.
"""

from fnbuild.platforms.base import ConnectOptions
from fnbuild.platforms.docker.platform import DockerPlatform

__all__ = ["DockerPlatform", "create_platform"]


def create_platform(_: ConnectOptions) -> DockerPlatform:
    """Return the platform, which connects to the engine on first use."""
    return DockerPlatform()
