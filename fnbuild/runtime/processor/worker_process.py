"""A worker process as the processor sees it: spawned or forked, talked to, reaped.

An instance stands for one process. Its `ProcessOwner` receives its messages and output and, exactly
once, its exit status.

The processor is a subreaper: a process whose parent has ended becomes its child. Workers forked by
a template are thus children like all others, and processes that a dead worker leaves behind do not
stay zombies.
"""

import asyncio
import os
import select
import signal
import subprocess
from collections import deque
from contextlib import suppress
from typing import Callable, Deque, Dict, Iterable, List, Optional, Set, Tuple, Union

from .. import wire
from ..config import ProcessorConfig
from ..event_loop import EventLoop, Stream, StreamOwner
from ..tracebacks import handler_stack
from .launch import DUMP_SIGNAL, worker_command
from .shared_memory import Payload, Segment, SegmentUser, SharedBody

_PR_SET_CHILD_SUBREAPER = 36
# PyPy has none; there a process is reaped before its group is killed.
_HAS_WAITID = hasattr(os, "waitid")


def become_subreaper() -> bool:
    """Have the kernel give this process its orphaned descendants; False where it cannot."""
    if not _HAS_WAITID:
        return False
    try:
        import ctypes

        return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (ImportError, OSError, AttributeError):
        return False


def reap_child(pid: int) -> Optional[int]:
    """How the child ended, negative for a signal; None while it lives.

    What is left of its process group ends with it.
    """
    if _HAS_WAITID:
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        if os.waitid(os.P_PID, pid, flags) is None:
            return None
        # Before the process is reaped its group's number cannot belong to anybody else.
        kill_group(pid)
    found, status = os.waitpid(pid, os.WNOHANG)
    if not found:
        return None
    if not _HAS_WAITID:
        kill_group(pid)
    return _exit_status(status)


def reap_orphan(known: Callable[[int], bool]) -> Optional[Tuple[int, int]]:
    """Reap one child that is not `known`: its pid and how it ended; None when there is none."""
    if not _HAS_WAITID:
        return _reap_listed_orphan(known)
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    # A known one that comes first brings another SIGCHLD, behind which the strays have their turn.
    if found is None or known(found.si_pid):
        return None
    return found.si_pid, _exit_status(os.waitpid(found.si_pid, 0)[1])


def _reap_listed_orphan(known: Callable[[int], bool]) -> Optional[Tuple[int, int]]:
    try:
        with open("/proc/thread-self/children") as file:
            pids = [int(word) for word in file.read().split()]
    except OSError:
        return None
    for pid in pids:
        if not known(pid):
            # It is a child of this process alone, which nobody else waits for.
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                return pid, _exit_status(status)
    return None


def kill_group(pid: int) -> None:
    """End every process of the group at once; it may be empty, or a zombie already."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _exit_status(status: int) -> int:
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


# How long output of a dead worker is awaited when a grandchild still holds its socket, seconds.
_EXIT_GRACE = 0.2
_MAX_LINE_LENGTH = 64 * 1024
# Of stderr, for the reason of a death: a crash dump begins with the innermost frame.
_KEPT_LINES = 120


class ProcessOwner:
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
            data = os.read(self.fd, _MAX_LINE_LENGTH)
        except BlockingIOError:
            return False
        if not data:
            self.close()
            return False
        lines = (self._held + data).split(b"\n")
        self._held = lines.pop()
        for line in lines:
            self._on_line(line.decode("utf-8", "replace"))
        if len(self._held) > _MAX_LINE_LENGTH:
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


class WorkerProcess(StreamOwner, SegmentUser):
    """See the module. `pid` is also the number of its process group and session.

    `event_unread` is True if it ended without having read the whole of the last event. Creation
    raises `OSError` if no descriptors are left.
    """

    def __init__(self, loop: EventLoop, owner: ProcessOwner) -> None:
        self.owner = owner
        self.event_unread = False
        self.gone = False
        self.last_lines: Deque[str] = deque(maxlen=_KEPT_LINES)
        self.pid = 0
        self._loop = loop
        self._reader = wire.MessageReader()
        self._popen: "Optional[subprocess.Popen[bytes]]" = None
        self._status: Optional[int] = None
        self._hung_up = False
        self._segments: Set[int] = set()
        self._last_sent = 0
        ours, self._far_end = wire.socket_pair()
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
                worker_command(config, fd),
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
            self._loop.call_later(_EXIT_GRACE, self.kill)

    def give_up(self) -> None:
        """Forget it before it ran; a copy that comes to life after all finds its socket closed."""
        self.gone = True
        self._close()

    def send(
        self, kind: int, meta: Union[wire.Meta, wire.EncodedMeta], body: Payload = b""
    ) -> bool:
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
        self, kind: int, meta: Union[wire.Meta, wire.EncodedMeta], segment: Segment, size: int
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
            kill_group(self.pid)

    def reap(self) -> None:
        """Notice that it ended, if it did. Called on SIGCHLD."""
        if self._status is not None or not self.pid:
            return
        status = reap_child(self.pid)
        if status is not None:
            self._end_soon(status)

    def _end_soon(self, status: int) -> None:
        self._status = status
        if self._popen is not None:
            self._popen.returncode = status
        self._loop.call_later(0.0 if self._hung_up else _EXIT_GRACE, self._finish)

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


# How long it gets to print its stack, in seconds.
_DUMP_TIME = 0.15


class StackDump:
    """Collects what faulthandler prints for the signal, calls `report` with it, then kills.

    `report` gets the handler's frames in the order of a traceback; none when nothing was printed.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        process: WorkerProcess,
        report: Callable[[List[str]], None],
    ) -> None:
        self._process = process
        self._report = report
        self._lines: List[str] = []
        process.signal(DUMP_SIGNAL)
        loop.call_later(_DUMP_TIME, self._end)

    def add(self, line: str) -> None:
        """A line that the worker printed to stderr meanwhile."""
        self._lines.append(line)

    def _end(self) -> None:
        if self._process.gone:
            return
        self._process.read_output()
        self._report(handler_stack(self._lines))
        self._process.kill()
