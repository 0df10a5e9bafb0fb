"""The process platform: functions as supervised processes on this machine, without containers.

A command prepares a revision and requests the switch to it from the supervisor, one daemon per data
directory. The supervisor owns the listening sockets and lends them to processors. Both write to the
store.
"""

from fnbuild.platforms.base import ConnectOptions
from fnbuild.platforms.process.platform import ProcessPlatform

__all__ = ["ProcessPlatform", "create_platform"]


def create_platform(_: ConnectOptions) -> ProcessPlatform:
    """Return the platform of the data directory."""
    return ProcessPlatform()
