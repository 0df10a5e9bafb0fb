"""Shared memory for large request bodies.

The processor reads a body from its client directly into a segment, from which the worker copies it.
Segments are reused, since new pages cost more than the copies they save.
"""

import asyncio
import fcntl
import itertools
import mmap
import os
import sys
from typing import List, Optional, Union
from weakref import WeakSet

from .. import wire
from ..http.reader import SizedBody

# Smaller bodies go through the socket. Both ways cost the same CPU at 70 KB; at 120 KB shared
# memory costs a fifth less. Of a function that decodes a photograph of 314 KB, it saves 1 to 2 % of
# the CPU time (`python -m bench.pairs`); the share grows with the body.
MIN_SHARED_BODY = 96 * 1024

# The maximum of bodies in shared memory at a time, of bytes of free memory that are kept, and the
# seconds after which unused memory is released.
_MAX_BODIES = 64
_MAX_FREE_BYTES = 64 * 1024 * 1024
_RELEASE_INTERVAL = 5.0

_GRANULARITY = 256 * 1024
_CLOEXEC, _ALLOW_SEALING = 1, 2
_ADD_SEALS, _SEAL_SHRINK = 1033, 2

# Segment numbers fit into a message's header, where 0 means none.
_numbers = itertools.cycle(range(1, 1 << 16))


class SegmentUser:
    """A process that has mapped segments."""

    def forget_segment(self, number: int) -> None:
        """Unmap the segment, which is closed."""


class Segment:
    """Shared memory with a descriptor. Sealed, so that its users cannot shrink it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.number = next(_numbers)
        self._users: "WeakSet[SegmentUser]" = WeakSet()
        self.fd = create_sealed_memory(size)
        try:
            self.memory = mmap.mmap(self.fd, size)
        except BaseException:
            os.close(self.fd)
            raise

    def add_user(self, user: SegmentUser) -> None:
        """Register a process that maps the segment; it is notified when the segment closes."""
        self._users.add(user)

    def close(self) -> None:
        """Close the segment, and have its users unmap it."""
        for user in self._users:
            user.forget_segment(self.number)
        self.memory.close()
        os.close(self.fd)


class SharedBody:
    """A body in a segment; `view` is its memory in this process.

    The memory is reused for another body once this object has no references.
    """

    def __init__(self, memory: "RequestMemory", segment: Segment, length: int) -> None:
        self.segment = segment
        self.view = memoryview(segment.memory)[:length]
        self._memory = memory

    def __len__(self) -> int:
        return len(self.view)

    def __bytes__(self) -> bytes:
        return bytes(self.view)

    def __del__(self) -> None:
        self.view.release()
        self._memory.give_back(self.segment)


Payload = Union[wire.Body, SharedBody]


class RequestMemory:
    """The shared memory for the bodies of large requests."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._free: List[Segment] = []
        self._used = 0
        # The number of free segments that were not used since the last release.
        self._least_free = 0
        self._timer: Optional[asyncio.TimerHandle] = None
        self._available = is_available()

    def allocate_body(self, length: int) -> SizedBody:
        """Return the memory for a body of this length that is about to arrive."""
        if length < MIN_SHARED_BODY or self._used >= _MAX_BODIES or not self._available:
            return SizedBody(length)
        segment = self._acquire_segment(length)
        if segment is None:
            return SizedBody(length)
        self._used += 1
        return _SharedSizedBody(SharedBody(self, segment, length))

    def _acquire_segment(self, length: int) -> Optional[Segment]:
        # The last one freed is most likely in the CPU's caches.
        for number in range(len(self._free) - 1, -1, -1):
            if self._free[number].size >= length:
                self._least_free = min(self._least_free, number)
                return self._free.pop(number)
        try:
            return Segment(-(-length // _GRANULARITY) * _GRANULARITY)
        except (OSError, ValueError):
            return None

    def give_back(self, segment: Segment) -> None:
        """Take back the segment of a body."""
        self._used -= 1
        free_bytes = sum(free.size for free in self._free)
        if free_bytes + segment.size > _MAX_FREE_BYTES or self._loop.is_closed():
            segment.close()
            return
        self._free.append(segment)
        if self._timer is None:
            self._least_free = 0
            self._timer = self._loop.call_later(_RELEASE_INTERVAL, self._release)

    def _release(self) -> None:
        """Close the segments that were not used since the last call."""
        idle, self._least_free = self._least_free, len(self._free)
        for segment in self._free[:idle]:
            segment.close()
        del self._free[:idle]
        self._least_free = len(self._free)
        self._timer = (
            self._loop.call_later(_RELEASE_INTERVAL, self._release) if self._free else None
        )


class _SharedSizedBody(SizedBody):
    """A body that arrives in shared memory, which gets its pages when it is written."""

    __slots__ = ()

    def __init__(self, shared: SharedBody) -> None:
        self.data = shared
        self.done = False
        self._memory = shared.view
        self._length = len(shared)
        self._offset = 0

    def _grow(self, end: int) -> None:
        pass


def create_sealed_memory(size: int) -> int:
    """Return a descriptor of shared memory that cannot be shrunk."""
    fd = _create_memfd()
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, _ADD_SEALS, _SEAL_SHRINK)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _create_memfd() -> int:
    name, flags = "fnbuild-body", _CLOEXEC | _ALLOW_SEALING
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, flags)
    import ctypes

    fd = int(ctypes.CDLL(None, use_errno=True).memfd_create(name.encode("ascii"), flags))
    if fd < 0:
        raise OSError(ctypes.get_errno(), "memfd_create")
    return fd


def is_available() -> bool:
    """Return True if the kernel and Python support it."""
    # Without reference counts it is unknown when the last reference to a body is gone.
    if not hasattr(sys, "getrefcount"):
        return False
    try:
        Segment(_GRANULARITY).close()
    except (ImportError, OSError, AttributeError, ValueError):
        return False
    return True
