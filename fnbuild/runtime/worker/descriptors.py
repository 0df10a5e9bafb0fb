"""Check, after an error of the handler, that the worker's descriptors are intact.

If a handler leaks descriptors or closes those of the runtime, every later event fails.
"""

import errno
import gc
import os
import sys
from typing import Optional, Tuple

_STANDARD = ((1, "stdout"), (2, "stderr"))


class DescriptorCheck:
    """The descriptors that this process needs; `channel` is the socket to the processor."""

    def __init__(self, channel: int) -> None:
        self._channel = channel
        self._identity = _identity(channel)

    def problem(self) -> str:
        """Return the reason why this process can no longer serve; empty if it can."""
        for fd, name in _STANDARD:
            if _identity(fd) is None:
                return "the handler closed descriptor %d (%s)" % (fd, name)
            if getattr(getattr(sys, name, None), "closed", False):
                return "the handler closed sys.%s" % name
        return _exhaustion()

    def connected(self) -> bool:
        """Return False if the handler closed or replaced the socket to the processor."""
        return _identity(self._channel) == self._identity


def _identity(fd: int) -> Optional[Tuple[int, int]]:
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _exhaustion() -> str:
    error = _open_error()
    if error:
        # The collector closes files in reference cycles, such as those of the exception's frames.
        gc.collect()
        error = _open_error()
    return error


def _open_error() -> str:
    try:
        os.close(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        # If the whole machine is out of descriptors, another process does not help.
        if error.errno == errno.EMFILE:
            return "the handler has used up its descriptors (%s)" % error.strerror
    return ""
