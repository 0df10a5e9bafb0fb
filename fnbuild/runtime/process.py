"""One worker process as the processor sees it: started, spoken to, listened to, ended.

A process is started once. `Owner` is told what it says and, exactly once, how it ended.
"""

import asyncio
import os
import select
import subprocess
from collections import deque
from typing import Callable, Deque, Dict, Iterable, List, Optional, Set, Tuple, Union

from . import children, wire
from .config import ProcessorConfig
from .launch import command
from .loop import Loop
from .shared import Payload, Segment, SharedBody, Viewer
from .stream import Stream, StreamOwner

# How long output of a dead worker is awaited when a grandchild still holds its socket, seconds.
_LAST_WORDS = 0.2
_LINE_CAP = 64 * 1024
# Of stderr, for the reason of a death: a crash dump begins with the innermost frame.
_KEPT_LINES = 120


class Owner:
    """What a worker process calls back."""

    def on_message(self, message: wire.Message) -> None:
        """It said something."""

    def on_line(self, stream: str, line: str) -> None:
        """It printed a line to `stdout` or `stderr`."""

    def on_end(self, status: int) -> None:
        """It is gone, reaped, and everything it said was delivered; negative: a signal."""


class LinePipe:
    """Cuts what a worker prints into lines."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_line: Callable[[str], None]) -> None:
        self._loop = loop
        self._on_line = on_line
        self._held = b""
        self.open = True
        self.fd, self.far_end = os.pipe()
        os.set_blocking(self.fd, False)
        loop.add_reader(self.fd, self.read)

    @property
    def holds(self) -> bool:
        """Whether a line has begun that has not ended."""
        return bool(self._held)

    def read(self) -> bool:
        """Take what is there, without waiting; False when there was nothing."""
        try:
            data = os.read(self.fd, _LINE_CAP)
        except BlockingIOError:
            return False
        if not data:
            self.close()
            return False
        lines = (self._held + data).split(b"\n")
        self._held = lines.pop()
        for line in lines:
            self._on_line(line.decode("utf-8", "replace"))
        if len(self._held) > _LINE_CAP:
            self._flush()
        return True

    def read_event(self) -> None:
        """Take what is there at the end of an event; a line without an end is one too."""
        while self.open and self.read():
            pass
        self._flush()

    def drain(self) -> None:
        """Take everything that is there, and close."""
        while self.open and self.read():
            pass
        self.close()

    def close(self) -> None:
        if self.open:
            self.open = False
            self._loop.remove_reader(self.fd)
            os.close(self.fd)
            self._flush()

    def _flush(self) -> None:
        if self._held:
            text, self._held = self._held, b""
            self._on_line(text.decode("utf-8", "replace"))


class WorkerProcess(StreamOwner, Viewer):
    """See the module. `pid` is also the number of its process group and session.

    `event_unread` is True if it ended without having read the whole of the last event. Creation
    raises `OSError` if no descriptors are left.
    """

    def __init__(self, loop: Loop, owner: Owner) -> None:
        self.owner = owner
        self.event_unread = False
        self.gone = False
        self.last_lines: Deque[str] = deque(maxlen=_KEPT_LINES)
        self.pid = 0
        self._loop = loop
        self._reader = wire.Reader()
        self._popen: "Optional[subprocess.Popen[bytes]]" = None
        self._status: Optional[int] = None
        self._hung_up = False
        self._segments: Set[int] = set()
        self._last_sent = 0
        ours, self._far_end = wire.pair()
        self._stream = Stream(loop, ours, self)
        self._pipes: List[LinePipe] = []
        self._printed = select.poll()
        try:
            for stream in ("stdout", "stderr"):
                pipe = self._pipe(stream)
                self._pipes.append(pipe)
                self._printed.register(pipe.fd, select.POLLIN)
        except OSError:
            # Out of descriptors: close those that are open, so that retries do not leak them.
            self._close_far_ends()
            self.give_up()
            raise

    def spawn(self, config: ProcessorConfig, env: Dict[str, str]) -> None:
        """Start it afresh; OSError or ValueError when the interpreter cannot be run."""
        fd, out, err = self._far_ends()
        try:
            self._popen = subprocess.Popen(
                command(config, fd),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                pass_fds=[fd],
                env=env,
                cwd=config.code,
                start_new_session=True,
            )
        except (OSError, ValueError):
            self.give_up()
            raise
        finally:
            self._close_far_ends()
        self.pid = self._popen.pid

    def copy_from(self, template: "WorkerProcess") -> bool:
        """Ask a template for a copy, which `copied` then tells of; False when it is gone."""
        head = wire.encode_head(wire.FORK + wire.WITH_FDS, {}, 0)
        asked = template._stream.write_with(head, self._far_ends())
        self._close_far_ends()
        if not asked:
            self.give_up()
        return asked

    def copied(self, pid: int, status: Optional[int]) -> None:
        """The copy has this pid; with a status it has ended since."""
        self.pid = pid
        if status is not None:
            self._end_soon(status)
        elif self._hung_up:
            self._loop.call_later(_LAST_WORDS, self.kill)

    def give_up(self) -> None:
        """Forget it before it ran; a copy that comes to life after all finds its socket closed."""
        self.gone = True
        self._close()

    def send(self, kind: int, meta: Union[wire.Meta, wire.Encoded], body: Payload = b"") -> bool:
        """Queue one message; False when the process is known to be gone."""
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

    def _send_shared(
        self, kind: int, meta: Union[wire.Meta, wire.Encoded], segment: Segment, size: int
    ) -> bool:
        number = segment.number
        if number in self._segments:
            self._stream.write(wire.encode_head(kind, meta, size, number))
            return True
        head = wire.encode_head(kind + wire.WITH_FDS, meta, size, number)
        if not self._stream.write_with(head, (segment.fd,)):
            return False
        self._segments.add(number)
        segment.seen_by(self)
        return True

    def send_fd(self, kind: int, meta: wire.Meta, fd: int) -> bool:
        """Send a message with an open descriptor; return False if there is no room for it."""
        if self._stream.closing:
            return False
        self._last_sent = kind
        return self._stream.write_with(wire.encode_head(kind, meta, 0), (fd,))

    def forget_segment(self, number: int) -> None:
        """The memory is given back; the process still holds it."""
        self._segments.discard(number)
        self.send(wire.FORGET, {"segment": number})

    def signal(self, number: int) -> None:
        """Send a signal to the process alone."""
        if self._status is None and self.pid:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it and every process of its group, at once."""
        if self._status is None and self.pid:
            children.kill_group(self.pid)

    def reap(self) -> None:
        """Notice that it ended, if it did. Called on SIGCHLD."""
        if self._status is not None or not self.pid:
            return
        status = children.reap(self.pid)
        if status is not None:
            self._end_soon(status)

    def _end_soon(self, status: int) -> None:
        self._status = status
        if self._popen is not None:
            self._popen.returncode = status
        self._loop.call_later(0.0 if self._hung_up else _LAST_WORDS, self._finish)

    def read_output(self) -> None:
        """Take what it printed so far, so that it is logged before what comes next."""
        # Most events print nothing: one look at both is cheaper than two reads in vain. Half a line
        # may have been taken already, when it came before the reply.
        out, err = self._pipes
        if not (self._printed.poll(0) or out.holds or err.holds):
            return
        for pipe in self._pipes:
            if pipe.open:
                pipe.read_event()

    def received(self, data: bytes) -> None:
        self._tell(self._reader.feed(data))
        if self._reader.long:
            self._stream.into = self._reader.room

    def filled(self, count: int) -> None:
        messages = self._reader.filled(count)
        if messages:
            self._stream.into = None
            self._tell(messages)

    def _tell(self, messages: Iterable[wire.Message]) -> None:
        for message in messages:
            self.owner.on_message(message)

    def ended(self) -> None:
        self._stream.close()

    def lost(self, error: Optional[Exception]) -> None:
        self._hung_up = True
        # The kernel resets a unix socket whose far end was closed with something still in it.
        reset = isinstance(error, (ConnectionResetError, BrokenPipeError))
        self.event_unread = reset and self._last_sent == wire.EVENT
        self.reap()
        if self._status is not None:
            self._finish()
        else:
            # Without its socket it can answer nothing; it has a moment to end in its own way.
            self._loop.call_later(_LAST_WORDS, self.kill)

    def _finish(self) -> None:
        if self.gone:
            return
        self.gone = True
        self._close()
        assert self._status is not None
        self.owner.on_end(self._status)

    def _close(self) -> None:
        for pipe in self._pipes:
            pipe.drain()
        self._stream.abort()

    def _far_ends(self) -> Tuple[int, int, int]:
        out, err = self._pipes
        return self._far_end.fileno(), out.far_end, err.far_end

    def _close_far_ends(self) -> None:
        self._far_end.close()
        for pipe in self._pipes:
            os.close(pipe.far_end)

    def _pipe(self, stream: str) -> LinePipe:
        return LinePipe(self._loop, lambda line: self._on_line(stream, line))

    def _on_line(self, stream: str, line: str) -> None:
        if stream == "stderr":
            self.last_lines.append(line)
        self.owner.on_line(stream, line)
