"""A worker process as the processor sees it: spawned or forked, talked to, reaped.

An instance stands for one process. Its `ProcessOwner` receives its messages and output and, exactly
once, its exit status.
"""

import asyncio
import os
import select
import subprocess
from collections import deque
from typing import Callable, Deque, Dict, Iterable, List, Optional, Set, Tuple

from .. import wire
from ..config import ProcessorConfig
from ..streams import Stream, StreamOwner
from ..tracebacks import handler_frames
from .children import kill_group, reap_child
from .launch import DUMP_SIGNAL, start_interpreter
from .shared_memory import Payload, Segment, SegmentUser, SharedBody

# Seconds to wait for the output of a dead worker while a grandchild holds its socket.
_EXIT_GRACE = 0.2
_MAX_LINE_LENGTH = 64 * 1024
# Seconds that a hanging worker gets to print its stack; on a busy machine it begins later.
_DUMP_TIME = 0.15
_LATEST_DUMP = 2.0
# Lines of stderr kept for the reason of a death; a crash dump begins with the innermost frame.
_KEPT_LINES = 120


class ProcessOwner:
    """Callbacks of a worker process."""

    def on_message(self, message: wire.Message) -> None:
        """Handle a message."""

    def on_line(self, stream: str, line: str) -> None:
        """Handle a line printed to `stdout` or `stderr`."""

    def on_end(self, status: int) -> None:
        """Handle its end, after all messages and output; `status` is negative for a signal."""


class LinePipe:
    """A pipe that splits the output of a worker into lines."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_line: Callable[[str], None]) -> None:
        self._loop = loop
        self._on_line = on_line
        self._partial_line = b""
        self.open = True
        self.fd, self.child_end = os.pipe()
        os.set_blocking(self.fd, False)
        loop.add_reader(self.fd, self.read)

    @property
    def has_partial_line(self) -> bool:
        """True if an incomplete line was read."""
        return bool(self._partial_line)

    def read(self) -> bool:
        """Read without waiting; return False if there was nothing."""
        try:
            data = os.read(self.fd, _MAX_LINE_LENGTH)
        except BlockingIOError:
            return False
        if not data:
            self.close()
            return False
        lines = (self._partial_line + data).split(b"\n")
        self._partial_line = lines.pop()
        for line in lines:
            self._on_line(line.decode("utf-8", "replace"))
        if len(self._partial_line) > _MAX_LINE_LENGTH:
            self._flush()
        return True

    def read_all(self) -> None:
        """Read everything at the end of an event, including an incomplete line."""
        while self.open and self.read():
            pass
        self._flush()

    def read_all_and_close(self) -> None:
        """Read everything, and close."""
        while self.open and self.read():
            pass
        self.close()

    def close(self) -> None:
        """Close without reading further; pass on an incomplete line."""
        if self.open:
            self.open = False
            self._loop.remove_reader(self.fd)
            os.close(self.fd)
            self._flush()

    def _flush(self) -> None:
        if self._partial_line:
            text, self._partial_line = self._partial_line, b""
            self._on_line(text.decode("utf-8", "replace"))


class WorkerProcess(StreamOwner, SegmentUser):
    """One process. `pid` is also the number of its process group and session.

    `event_unread` is True if the process ended before it had read all of the last event. The
    constructor raises OSError if no descriptors are left.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: ProcessOwner) -> None:
        self.owner = owner
        self.event_unread = False
        self.gone = False
        self.last_lines: Deque[str] = deque(maxlen=_KEPT_LINES)
        self.pid = 0
        self._loop = loop
        self._reader = wire.MessageReader()
        self._popen: "Optional[subprocess.Popen[bytes]]" = None
        self._status: Optional[int] = None
        self._disconnected = False
        self._segments: Set[int] = set()
        self._last_sent = 0
        self._dump: Optional[List[str]] = None
        ours, self._child_end = wire.socket_pair()
        self._stream = Stream(loop, ours, self)
        self._pipes: List[LinePipe] = []
        self._output_poll = select.poll()
        try:
            for stream in ("stdout", "stderr"):
                pipe = self._pipe(stream)
                self._pipes.append(pipe)
                self._output_poll.register(pipe.fd, select.POLLIN)
        except OSError:
            # Out of descriptors: close the open ones, so that retries do not leak them.
            self._close_child_ends()
            self.discard()
            raise

    def spawn(self, config: ProcessorConfig, env: Dict[str, str]) -> None:
        """Start a new interpreter; raise OSError or ValueError if it cannot be run."""
        fd, out, err = self._child_ends()
        try:
            self._popen = start_interpreter(config, env, fd, out, err)
        except (OSError, ValueError):
            self.discard()
            raise
        finally:
            self._close_child_ends()
        self.pid = self._popen.pid

    def request_fork(self, template: "WorkerProcess") -> bool:
        """Ask a template for a fork, which `forked` then reports; return False if it has ended."""
        head = wire.encode_head(wire.FORK + wire.WITH_FDS, {}, 0)
        sent = template._stream.write_with(head, self._child_ends())
        self._close_child_ends()
        if not sent:
            self.discard()
        return sent

    def forked(self, pid: int, status: Optional[int]) -> None:
        """Take the pid of the fork, and its status if it has ended since."""
        self.pid = pid
        if status is not None:
            self._end_soon(status)
        elif self._disconnected:
            self._loop.call_later(_EXIT_GRACE, self.kill)

    def discard(self) -> None:
        """Discard the process before it runs; a fork that starts later finds its socket closed."""
        self.gone = True
        self._close()

    def send(self, kind: int, meta: wire.Meta, body: Payload = b"") -> bool:
        """Send or queue a message; return False if the process is known to have ended."""
        stream = self._stream
        if stream.closing:
            return False
        if kind != wire.FORGET:
            self._last_sent = kind
        size = len(body)
        if isinstance(body, SharedBody):
            if self._send_shared(kind, meta, body.segment, size):
                return True
            body = body.view
        head = wire.encode_head(kind, meta, size)
        if size < wire.JOINED_WRITE:
            stream.write(head + body)
        else:
            stream.write_two(head, body)
        return True

    def _send_shared(self, kind: int, meta: wire.Meta, segment: Segment, size: int) -> bool:
        number = segment.number
        if number in self._segments:
            self._stream.write(wire.encode_head(kind, meta, size, number))
            return True
        head = wire.encode_head(kind + wire.WITH_FDS, meta, size, number)
        if not self._stream.write_with(head, (segment.fd,)):
            return False
        self._segments.add(number)
        segment.add_user(self)
        return True

    def send_fd(self, kind: int, meta: wire.Meta, fd: int) -> bool:
        """Send a message with an open descriptor; return False if there is no room for it."""
        if self._stream.closing:
            return False
        self._last_sent = kind
        return self._stream.write_with(wire.encode_head(kind, meta, 0), (fd,))

    def forget_segment(self, number: int) -> None:
        """Tell the process to unmap a segment."""
        self._segments.discard(number)
        self.send(wire.FORGET, {"segment": number})

    def dump_stack(self, report: Callable[[List[str]], None]) -> None:
        """Make the process, which hangs, print its stack, call `report` with it, kill the process.

        `report` gets the handler's frames in the order of a traceback; none if nothing was printed.
        Further calls have no effect.
        """
        if self._dump is None:
            self._dump = []
            if self._status is None and self.pid:
                os.kill(self.pid, DUMP_SIGNAL)
            latest = self._loop.time() + _LATEST_DUMP
            self._loop.call_later(_DUMP_TIME, self._end_dump, report, latest)

    def _end_dump(self, report: Callable[[List[str]], None], latest: float) -> None:
        if not self.gone:
            self.read_output()
            if not self._dump and self._loop.time() < latest:
                self._loop.call_later(_DUMP_TIME, self._end_dump, report, latest)
                return
            report(handler_frames(self._dump or []))
            self.kill()

    def kill(self) -> None:
        """Kill the process and its group."""
        if self._status is None and self.pid:
            kill_group(self.pid)

    def reap(self) -> None:
        """Check whether the process has ended. Called on SIGCHLD."""
        if self._status is not None or not self.pid:
            return
        status = reap_child(self.pid)
        if status is not None:
            self._end_soon(status)

    def _end_soon(self, status: int) -> None:
        self._status = status
        if self._popen is not None:
            self._popen.returncode = status
        self._loop.call_later(0.0 if self._disconnected else _EXIT_GRACE, self._finish)

    def read_output(self) -> None:
        """Read the output so far, so that it is logged before anything that follows."""
        # Most events print nothing: one poll of both pipes is cheaper than two reads. A part of a
        # line may have been read before the reply.
        out, err = self._pipes
        if not (self._output_poll.poll(0) or out.has_partial_line or err.has_partial_line):
            return
        for pipe in self._pipes:
            if pipe.open:
                pipe.read_all()

    def data_received(self, data: bytes) -> None:
        self._deliver(self._reader.feed(data))
        if self._reader.long:
            self._stream.get_buffer = self._reader.get_buffer

    def buffer_updated(self, count: int) -> None:
        messages = self._reader.buffer_updated(count)
        if messages:
            self._stream.get_buffer = None
            self._deliver(messages)

    def _deliver(self, messages: Iterable[wire.Message]) -> None:
        for message in messages:
            self.owner.on_message(message)

    def eof_received(self) -> None:
        self._stream.close()

    def connection_lost(self, error: Optional[Exception]) -> None:
        self._disconnected = True
        # The kernel resets a unix socket whose other end was closed with unread data.
        reset = isinstance(error, (ConnectionResetError, BrokenPipeError))
        self.event_unread = reset and self._last_sent == wire.EVENT
        self.reap()
        if self._status is not None:
            self._finish()
        else:
            # Without its socket it cannot answer; it gets a moment to end by itself.
            self._loop.call_later(_EXIT_GRACE, self.kill)

    def _finish(self) -> None:
        if self.gone:
            return
        self.gone = True
        self._close()
        assert self._status is not None
        self.owner.on_end(self._status)

    def _close(self) -> None:
        for pipe in self._pipes:
            pipe.read_all_and_close()
        self._stream.abort()

    def _child_ends(self) -> Tuple[int, int, int]:
        out, err = self._pipes
        return self._child_end.fileno(), out.child_end, err.child_end

    def _close_child_ends(self) -> None:
        self._child_end.close()
        for pipe in self._pipes:
            os.close(pipe.child_end)

    def _pipe(self, stream: str) -> LinePipe:
        return LinePipe(self._loop, lambda line: self._on_line(stream, line))

    def _on_line(self, stream: str, line: str) -> None:
        if stream == "stderr":
            self.last_lines.append(line)
            if self._dump is not None:
                self._dump.append(line)
                return
        self.owner.on_line(stream, line)
