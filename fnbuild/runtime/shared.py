"""Large bodies in shared memory: written by the processor once, seen by the worker in place.

The memory is kept for the next body, since fresh pages cost more than the copy they would spare. A
worker that holds on to a body says so, and that memory is never used again.
"""

import asyncio
import fcntl
import mmap
import os
import sys
from typing import List, Optional, Union

from . import wire
from .http.body import SizedBody

# Smaller bodies travel over the socket: there a copy costs less than a mapping.
THRESHOLD = 128 * 1024

# How many bodies at most lie in shared memory at a time, and how many bytes of free memory are
# kept for the next ones, for how many seconds.
_MOST = 64
_KEPT = 64 * 1024 * 1024
_SECONDS = 5.0

_GRAIN = 256 * 1024
_CLOEXEC, _ALLOW_SEALING = 1, 2
_ADD_SEALS, _SEAL_SHRINK = 1033, 2


class Segment:
    """A piece of memory with a descriptor. It cannot be made shorter by those who have that."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.fd = _memfd()
        try:
            os.ftruncate(self.fd, size)
            fcntl.fcntl(self.fd, _ADD_SEALS, _SEAL_SHRINK)
            self.memory = mmap.mmap(self.fd, size)
        except BaseException:
            os.close(self.fd)
            raise

    def close(self) -> None:
        self.memory.close()
        os.close(self.fd)


class SharedBody:
    """A body of `len(body)` bytes: `view` shows them here, `fd` to others.

    The memory is free for another body once nobody refers to this object any more.
    """

    def __init__(self, memory: "SharedMemory", segment: Segment, length: int) -> None:
        self.fd = segment.fd
        self.view = memoryview(segment.memory)[:length]
        self._memory = memory
        self._segment = segment
        self._reusable = True

    def __len__(self) -> int:
        return len(self.view)

    def keep(self) -> None:
        """A worker still looks at it: the memory is not to be written again."""
        self._reusable = False

    def __del__(self) -> None:
        self.view.release()
        self._memory.give_back(self._segment, self._reusable)


Payload = Union[wire.Body, SharedBody]


class SharedMemory:
    """All shared memory of one processor."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._free: List[Segment] = []
        self._used = 0
        # How many of the free segments were not used since the last look.
        self._least = 0
        self._timer: Optional[asyncio.TimerHandle] = None
        self._works = available()

    def body(self, length: int) -> SizedBody:
        """The memory for a body of this length that is about to arrive."""
        if length < THRESHOLD or self._used >= _MOST or not self._works:
            return SizedBody(length)
        segment = self._take(length)
        if segment is None:
            return SizedBody(length)
        self._used += 1
        return _SharedSizedBody(SharedBody(self, segment, length))

    def _take(self, length: int) -> Optional[Segment]:
        # The last one that was freed is the one whose pages are in the processor's caches.
        for number in range(len(self._free) - 1, -1, -1):
            if self._free[number].size >= length:
                self._least = min(self._least, number)
                return self._free.pop(number)
        try:
            return Segment(-(-length // _GRAIN) * _GRAIN)
        except (OSError, ValueError):
            return None

    def give_back(self, segment: Segment, reusable: bool) -> None:
        """A body is done with."""
        self._used -= 1
        kept = sum(one.size for one in self._free)
        if not reusable or kept + segment.size > _KEPT or self._loop.is_closed():
            segment.close()
            return
        self._free.append(segment)
        if self._timer is None:
            self._least = 0
            self._timer = self._loop.call_later(_SECONDS, self._release)

    def _release(self) -> None:
        """Let go of what lay idle since the last time."""
        idle, self._least = self._least, len(self._free)
        for segment in self._free[:idle]:
            segment.close()
        del self._free[:idle]
        self._least = len(self._free)
        self._timer = self._loop.call_later(_SECONDS, self._release) if self._free else None


class _SharedSizedBody(SizedBody):
    """A body that arrives in shared memory, which has no page before something is written to it."""

    __slots__ = ()

    def __init__(self, shared: SharedBody) -> None:
        self.data = shared
        self.done = False
        self._memory = shared.view
        self._length = len(shared)
        self._at = 0

    def _grow(self, end: int) -> None:
        pass


def _memfd() -> int:
    name, flags = "fnbuild-body", _CLOEXEC | _ALLOW_SEALING
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, flags)
    import ctypes

    fd = int(ctypes.CDLL(None, use_errno=True).memfd_create(name.encode("ascii"), flags))
    if fd < 0:
        raise OSError(ctypes.get_errno(), "memfd_create")
    return fd


def available() -> bool:
    """Whether this kernel and this Python can do it."""
    # Without reference counts nobody would know when a body is done with.
    if not hasattr(sys, "getrefcount"):
        return False
    try:
        Segment(_GRAIN).close()
    except (ImportError, OSError, AttributeError, ValueError):
        return False
    return True
