"""One worker process as the processor sees it: started, spoken to, listened to, ended.

A process is started once. `Owner` is told what it says and, exactly once, how it ended.
"""

import asyncio
import os
import select
import signal
import subprocess
from collections import deque
from contextlib import suppress
from typing import Any, Callable, Deque, List, Optional, Union

from . import wire
from .config import ProcessorConfig
from .launch import command
from .loop import Loop
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


class WorkerProcess(StreamOwner):
    """See the module. `pid` is also the number of its process group and session.

    `event_unread` tells that it ended without having taken the whole of the last event.
    """

    def __init__(self, loop: Loop, owner: Owner) -> None:
        self._loop = loop
        self._owner = owner
        self._reader = wire.Reader()
        self._stream: Optional[Stream] = None
        self._pipes: List[LinePipe] = []
        self._printed = select.poll()
        self._status: Optional[int] = None
        self._hung_up = False
        self._last_sent = 0
        self.event_unread = False
        self.gone = False
        self.last_lines: Deque[str] = deque(maxlen=_KEPT_LINES)
        self.started = loop.time()
        self.pid = 0

    def start(self, config: ProcessorConfig, worker: str, env: Any) -> None:
        """Start it; OSError when the interpreter cannot be run."""
        ours, theirs = wire.pair()
        out = LinePipe(self._loop, lambda line: self._on_line("stdout", line))
        err = LinePipe(self._loop, lambda line: self._on_line("stderr", line))
        self._pipes = [out, err]
        for pipe in self._pipes:
            self._printed.register(pipe.fd, select.POLLIN)
        try:
            self._popen = subprocess.Popen(
                command(config, worker, theirs.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=out.far_end,
                stderr=err.far_end,
                pass_fds=[theirs.fileno()],
                env=env,
                cwd=config.code,
                start_new_session=True,
            )
        except (OSError, ValueError):
            ours.close()
            out.close()
            err.close()
            raise
        finally:
            theirs.close()
            os.close(out.far_end)
            os.close(err.far_end)
        self.pid = self._popen.pid
        self._stream = Stream(self._loop, ours, self)

    def send(self, kind: int, meta: Union[wire.Meta, wire.Encoded], body: wire.Body = b"") -> bool:
        """Queue one message; False when the process is known to be gone."""
        stream = self._stream
        if stream is None or stream.closing:
            return False
        self._last_sent = kind
        head = wire.encode_head(kind, meta, len(body))
        if len(body) < wire.JOINED_WRITE:
            stream.write(head + body)
        else:
            stream.write_two(head, body)
        return True

    def signal(self, number: int) -> None:
        """Send a signal to the process alone."""
        if self._status is None and self.pid:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it and every process of its group, at once."""
        if self._status is None and self.pid:
            _kill_group(self.pid)

    def reap(self) -> None:
        """Notice that it ended, if it did. Called on SIGCHLD."""
        if self._status is not None or not self.pid:
            return
        found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None:
            return
        # Before the process is reaped its group's number cannot belong to anybody else.
        _kill_group(self.pid)
        self._status = self._popen.wait()
        if self._hung_up or self._stream is None:
            self._finish()
        else:
            self._loop.call_later(_LAST_WORDS, self._finish)

    def read_output(self) -> None:
        """Take what it printed so far, so that it is logged before what comes next."""
        # Most events print nothing: one look at both is cheaper than two reads in vain.
        if not self._printed.poll(0):
            return
        for pipe in self._pipes:
            if pipe.open:
                pipe.read_event()

    def received(self, data: bytes) -> None:
        for message in self._reader.feed(data):
            self._owner.on_message(message)

    def ended(self) -> None:
        if self._stream is not None:
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
        for pipe in self._pipes:
            pipe.drain()
        if self._stream is not None:
            self._stream.abort()
        assert self._status is not None
        self._owner.on_end(self._status)

    def _on_line(self, stream: str, line: str) -> None:
        if stream == "stderr":
            self.last_lines.append(line)
        self._owner.on_line(stream, line)


def _kill_group(pid: int) -> None:
    # The group may be empty, or a zombie already.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
