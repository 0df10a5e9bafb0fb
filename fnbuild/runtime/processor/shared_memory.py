"""Large bodies in shared memory, which is written and read by turns.

The processor reads a body from its client straight to a segment; the worker, who sees the same
memory, takes its copy from there. Segments are used again and again, since fresh pages cost more
than the copies they spare.
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

# Smaller bodies travel over the socket. Measured, both ways cost the same CPU at 70 KB; at 120 KB
# this one takes a fifth less.
MIN_SHARED_BODY = 96 * 1024

# How many bodies at most lie in shared memory at a time, and how many bytes of free memory are
# kept for the next ones, for how many seconds.
_MAX_BODIES = 64
_MAX_FREE_BYTES = 64 * 1024 * 1024
_RELEASE_INTERVAL = 5.0

_GRANULARITY = 256 * 1024
_CLOEXEC, _ALLOW_SEALING = 1, 2
_ADD_SEALS, _SEAL_SHRINK = 1033, 2

# Numbers fit into a message's header; 0 is none.
_numbers = itertools.cycle(range(1, 1 << 16))


class SegmentUser:
    """A process that has mapped segments."""

    def forget_segment(self, number: int) -> None:
        """The segment is used no more."""


class Segment:
    """A piece of memory with a descriptor. It cannot be made shorter by those who have that."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.number = next(_numbers)
        self._viewers: "WeakSet[SegmentUser]" = WeakSet()
        self.fd = create_sealed_memory(size)
        try:
            self.memory = mmap.mmap(self.fd, size)
        except BaseException:
            os.close(self.fd)
            raise

    def seen_by(self, viewer: SegmentUser) -> None:
        """The viewer has mapped it, and is told when it is closed."""
        self._viewers.add(viewer)

    def close(self) -> None:
        for viewer in self._viewers:
            viewer.forget_segment(self.number)
        self.memory.close()
        os.close(self.fd)


class SharedBody:
    """A body of `len(body)` bytes: `view` shows them here, the segment to others.

    The memory is free for another body once nobody refers to this object any more.
    """

    def __init__(self, memory: "SharedMemory", segment: Segment, length: int) -> None:
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


class SharedMemory:
    """All shared memory of one processor."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._free: List[Segment] = []
        self._used = 0
        # How many of the free segments were not used since the last look.
        self._least = 0
        self._timer: Optional[asyncio.TimerHandle] = None
        self._works = is_available()

    def body(self, length: int) -> SizedBody:
        """The memory for a body of this length that is about to arrive."""
        if length < MIN_SHARED_BODY or self._used >= _MAX_BODIES or not self._works:
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
            return Segment(-(-length // _GRANULARITY) * _GRANULARITY)
        except (OSError, ValueError):
            return None

    def give_back(self, segment: Segment) -> None:
        """A body is done with."""
        self._used -= 1
        kept = sum(one.size for one in self._free)
        if kept + segment.size > _MAX_FREE_BYTES or self._loop.is_closed():
            segment.close()
            return
        self._free.append(segment)
        if self._timer is None:
            self._least = 0
            self._timer = self._loop.call_later(_RELEASE_INTERVAL, self._release)

    def _release(self) -> None:
        """Let go of what lay idle since the last time."""
        idle, self._least = self._least, len(self._free)
        for segment in self._free[:idle]:
            segment.close()
        del self._free[:idle]
        self._least = len(self._free)
        self._timer = (
            self._loop.call_later(_RELEASE_INTERVAL, self._release) if self._free else None
        )


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
    """Whether this kernel and this Python can do it."""
    # Without reference counts nobody would know when a body is done with.
    if not hasattr(sys, "getrefcount"):
        return False
    try:
        Segment(_GRANULARITY).close()
    except (ImportError, OSError, AttributeError, ValueError):
        return False
    return True
