"""The process platform: functions as supervised processes on this machine, without containers.

A command prepares a revision and asks the supervisor, one daemon a data directory, to switch to it;
the supervisor owns the listening sockets and lends them to processors. Both record in the store.
"""

from fnbuild.platforms.process.platform import ProcessPlatform

__all__ = ["ProcessPlatform", "connect"]


def connect() -> ProcessPlatform:
    """The platform of the data directory."""
    return ProcessPlatform()
