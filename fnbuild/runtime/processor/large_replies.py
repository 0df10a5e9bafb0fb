"""The processor's side of replies that do not fit into one message.

A body is in shared memory, or arrives in pieces at the pace of the client.
"""

from typing import Optional, Tuple

from .. import wire
from ..http.messages import BodySource
from ..streams import FileBody
from .pending_event import EventResult, PendingEvent
from .shared_memory import create_sealed_memory
from .worker_process import WorkerProcess

# Bytes of shared memory for all replies. Further replies go through the socket in pieces, for which
# the worker waits for its client.
_MAX_REPLY_MEMORY = 1024 * 1024 * 1024


class ReplyMemory:
    """The shared memory for the bodies of all large replies of a processor."""

    def __init__(self) -> None:
        self._used = 0

    def allocate(self, size: int) -> Optional[FileBody]:
        """Return memory for a body of this size, or None if the limit is reached."""
        if self._used + size > _MAX_REPLY_MEMORY:
            return None
        try:
            fd = create_sealed_memory(size)
        except (ImportError, OSError, AttributeError, ValueError):
            return None
        self._used += size

        def release() -> None:
            self._used -= size

        return FileBody(fd, size, release)


class PieceSource(BodySource):
    """A worker that sends its reply in pieces."""

    def __init__(self, process: WorkerProcess) -> None:
        self._process: Optional[WorkerProcess] = process

    def credit(self, count: int) -> None:
        if self._process is not None:
            self._process.send(wire.CREDIT, {"n": count})

    def cancel(self) -> None:
        if self._process is not None:
            self._process.send(wire.CANCEL, {})

    def end(self) -> None:
        """Send no more credit: the worker has sent the last piece, or has ended."""
        self._process = None


class LargeReply:
    """The large reply that one worker is sending, if any."""

    def __init__(self, memory: ReplyMemory) -> None:
        self._memory = memory
        self._reply_memory: Optional[FileBody] = None
        self._pieces: Optional[Tuple[PieceSource, EventResult]] = None

    def provide_memory(self, process: WorkerProcess, size: int) -> None:
        """Send the worker shared memory for its reply, or a message that there is none."""
        self._reply_memory = self._memory.allocate(size)
        if self._reply_memory is None or not process.send_fd(
            wire.REPLY_MEMORY, {"fd": 1}, self._reply_memory.fd
        ):
            self._reply_memory = None
            process.send(wire.REPLY_MEMORY, {"fd": 0})

    def begin(
        self, process: WorkerProcess, event: PendingEvent, result: EventResult, place: str
    ) -> bool:
        """Begin the answer; return True if the body is complete, False if pieces follow."""
        memory, self._reply_memory = self._reply_memory, None
        if place == wire.SHARED and memory is not None:
            result.body = memory
            return True
        source = PieceSource(process)
        self._pieces = source, result
        event.begin_reply(result, source)
        return False

    def end(self, meta: wire.Meta) -> Optional[EventResult]:
        """Return the result of a reply whose last piece has arrived."""
        pieces = self._pieces
        self.discard()
        if pieces is None:
            return None
        result = pieces[1]
        result.duration = meta["d"]
        result.cut_short = result.raised = "x" in meta
        return result

    def discard(self) -> None:
        """Discard the reply, because it or its worker has ended."""
        self._reply_memory = None
        if self._pieces is not None:
            self._pieces[0].end()
            self._pieces = None
