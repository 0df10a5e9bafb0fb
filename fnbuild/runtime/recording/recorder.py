"""The processor's part of a recording: it keeps requests and replies, within bounds.

The loop only hands over what it has in memory, after the reply was sent. A thread writes the files.
If it cannot keep up, requests are dropped and counted, never delayed.
"""

import asyncio
import atexit
import errno
import itertools
import os
import threading
import time
from queue import Queue
from typing import Any, Dict, List, Optional, Union

from ..http.messages import HttpRequest, Reply
from ..logs import Log
from ..processor.pending_event import EventResult
from ..processor.shared_memory import SharedBody
from ..streams import FileBody
from . import files

# Requests and bytes that may wait for the thread.
_MAX_WAITING = 32
_MAX_WAITING_BYTES = 64 * 1024 * 1024
# A request with its reply that is larger is not recorded.
_MAX_BYTES = 32 * 1024 * 1024
_CHUNK = 1024 * 1024
# Requests after which the files are counted again: another processor may write there, too.
_COUNT_INTERVAL = 50
_CLOSE_SECONDS = 2.0
_GRACE_SECONDS = 60.0
# Seconds until old requests are removed, also if there are no new ones.
_FIRST_TRIM_SECONDS = 1.0
_TRIM_SECONDS = 600.0
_FULL = (errno.ENOSPC, errno.EDQUOT)


class _Job:
    """A request that waits for the thread.

    Only the loop may hold the last reference to `body`, which may be memory to reuse.
    """

    def __init__(self, header: Dict[str, Any], body: Any, reply: Any, size: int) -> None:
        self.header = header
        self.body = body
        self.reply = reply
        self.size = size


_TRIM = _Job({}, b"", b"", 0)


class Recorder:
    """Keeps requests and replies in a folder. `add` is called on the loop's thread."""

    def __init__(
        self, config: files.RecordConfig, log: Log, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._config = config
        self._log = log
        self._loop = loop
        self._queue: "Queue[Optional[_Job]]" = Queue()
        self._thread: Optional[threading.Thread] = None
        loop.call_later(_FIRST_TRIM_SECONDS, self._begin_trim)
        self._waiting = 0
        self._waiting_bytes = 0
        self._numbers = itertools.count(1)
        self._failed = False
        self._size = 0
        self.recorded = 0
        self.dropped = 0

    def to_dict(self) -> Dict[str, Any]:
        """Return the entry of the status."""
        return {
            "recorded": self.recorded,
            "dropped": self.dropped,
            "size": self._config.size,
            "age": self._config.age,
        }

    def add(self, request: HttpRequest, reply: Reply, result: EventResult) -> None:
        """Record a request, whose reply is about to be sent."""
        lookup = request.head.lookup()
        if files.NO_RECORD in lookup:
            return
        size = len(request.body) + len(reply.body)
        if (
            size > _MAX_BYTES
            or self._waiting >= _MAX_WAITING
            or self._waiting_bytes + size > _MAX_WAITING_BYTES
        ):
            self.dropped += 1
            return
        content_types = [value for name, value in result.headers if name.lower() == "content-type"]
        header = {
            "time": time.time(),
            "method": request.method,
            "path": request.path,
            "headers": {name: lookup[name] for name in files.KEPT_HEADERS if name in lookup},
            "status": reply.status,
            "content_type": content_types[-1] if content_types else "",
            "seconds": round(time.monotonic() - request.received_at, 6),
        }
        body: Any = reply.body
        if isinstance(body, FileBody):
            # The body is closed once it was sent.
            body = _ReplyFile(os.dup(body.fd), len(body))
        self._waiting += 1
        self._waiting_bytes += size
        # After the reply, which is sent before the loop's next turn.
        self._loop.call_soon(self._put, _Job(header, request.body, body, size))

    def _begin_trim(self) -> None:
        self._loop.call_later(min(_TRIM_SECONDS, max(1.0, self._config.age)), self._begin_trim)
        self._put(_TRIM)

    def _put(self, job: _Job) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
            atexit.register(self.close)
            self._thread.start()
        self._queue.put(job)

    def close(self) -> None:
        """Write what waits, for a moment at most."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(_CLOSE_SECONDS)

    # On the thread

    def _run(self) -> None:
        count = 0
        while True:
            job = self._queue.get()
            if job is None:
                return
            try:
                if count % _COUNT_INTERVAL == 0 or job is _TRIM:
                    files.make_folder(self._config.folder)
                    self._size = self._trim()
                if job is not _TRIM:
                    self._store(job)
                    count += 1
                    if self._size > self._config.size:
                        self._size = self._trim()
                done = True
            except Exception as problem:  # noqa: BLE001 - it must not end the recording
                done = False
                count = 0
                self._report(problem)
                if isinstance(problem, OSError) and problem.errno in _FULL:
                    self._trim(is_full=True)
            if job is not _TRIM and not self._give_back(job, done):
                return
            del job

    def _give_back(self, job: _Job, done: bool) -> bool:
        """Have the loop release the request; return False if the loop is closed."""
        try:
            self._loop.call_soon_threadsafe(self._release, job, done)
        except RuntimeError:
            return False
        return True

    def _store(self, job: _Job) -> None:
        request = _copy(job.body.view if isinstance(job.body, SharedBody) else job.body)
        reply = job.reply.read() if isinstance(job.reply, _ReplyFile) else _copy(job.reply)
        header = job.header
        name = "%020d-%d-%d" % (header["time"] * 1e9, os.getpid(), next(self._numbers))
        content_type = header["headers"].get("content-type", "")
        files.store_entry(
            self._config.folder, files.Entry(name, header, request, reply), content_type
        )
        # At most: the pictures may be there already.
        self._size += job.size

    def _trim(self, is_full: bool = False) -> int:
        """Remove the oldest requests until the rest is within the bounds; return its size.

        Several are removed at a time, so that the files are not counted for each request. On a full
        disk, newer requests take the place of older ones.
        """
        requests, images = files.stored_files(self._config.folder)
        total = sum(stored.size for stored in requests + images)
        oldest = time.time() - self._config.age
        limit = total - 1 if is_full else self._config.size
        if total > limit:
            limit -= limit // 10
        images.sort(key=lambda stored: stored.time)
        while True:
            # A picture is written a moment before its request.
            needed = _time_of(requests[0]) if requests else time.time() - _GRACE_SECONDS
            while images and images[0].time < needed - 1e-3:
                total -= _remove(images.pop(0))
            if not requests or (total <= limit and _time_of(requests[0]) >= oldest):
                return total
            total -= _remove(requests.pop(0))

    def _report(self, problem: Exception) -> None:
        if not self._failed:
            self._failed = True
            self._log.warn("Requests cannot be recorded in %s: %s" % (self._config.folder, problem))

    # On the loop

    def _release(self, job: _Job, done: bool) -> None:
        self._waiting -= 1
        self._waiting_bytes -= job.size
        job.body = None
        if done:
            self.recorded += 1
        else:
            self.dropped += 1


class _ReplyFile:
    """The bytes of a reply that the kernel sends from a file."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._size = size

    def read(self) -> bytes:
        pieces: List[bytes] = []
        for at in range(0, self._size, _CHUNK):
            pieces.append(os.pread(self._fd, min(_CHUNK, self._size - at), at))
        return b"".join(pieces)

    def __del__(self) -> None:
        os.close(self._fd)


def _copy(body: Union[bytes, bytearray, memoryview]) -> bytes:
    """Return the bytes, copied in steps that let other threads run."""
    if isinstance(body, bytes):
        return body
    return b"".join([bytes(body[at : at + _CHUNK]) for at in range(0, len(body), _CHUNK)])


def _remove(stored: files.StoredFile) -> int:
    try:
        os.unlink(stored.path)
    except OSError:
        return 0
    return stored.size


def _time_of(stored: files.StoredFile) -> float:
    """Return the time of a request, which begins its name."""
    return int(os.path.basename(stored.path)[:20]) / 1e9
