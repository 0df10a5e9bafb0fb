"""Locks on files (flock), which end with the processes that hold them."""

import fcntl
import os
from typing import Union


def is_locked(path: Union[str, "os.PathLike[str]"]) -> bool:
    """Return True if a process holds the lock file exclusively; False if there is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
