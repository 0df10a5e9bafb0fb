"""Run a process as a daemon: detach it, run one instance per lock file, report its start."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from fnbuild.errors import FnbuildError, UnavailableError
from fnbuild.platforms.process.supervisor_protocol import (
    ErrorMessage,
    SupervisorReply,
    decode_reply,
    encode,
)

_MAX_LOG_SIZE = 4 << 20
_LOCK_SECONDS = 15.0
_PAUSE = 0.05

_start_pipe: list[int] = []
"""The pipe on which the starting command waits; empty after the report."""


def detach(log: Path) -> bool:
    """Fork a daemon; return True in it, and False in the caller once the daemon is ready.

    Raises the daemon's error in the caller if the daemon does not start.
    """
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            report = pipe.read().decode(errors="replace")
        os.wait()
        if report != "ready":
            raise _decode_failure(report)
        return False
    os.close(reading)
    os.setsid()
    if os.fork():
        os._exit(0)
    _start_pipe.append(writing)
    _redirect_output(log)
    os.chdir("/")
    return True


def _redirect_output(log: Path) -> None:
    mode = os.O_APPEND
    with contextlib.suppress(FileNotFoundError):
        mode = os.O_TRUNC if log.stat().st_size > _MAX_LOG_SIZE else os.O_APPEND
    sys.stdout.flush()
    sys.stderr.flush()
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | mode | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.close(sink)
    os.close(nothing)


def report_ready() -> None:
    """Report to the starting command that the daemon is ready."""
    _report("ready")


def report_failure(error: FnbuildError) -> None:
    """Report to the starting command that the daemon failed with this error."""
    line = encode(SupervisorReply(error=ErrorMessage.from_error(error))).decode()
    if _start_pipe:
        _report(line)
    else:
        print(error.message, file=sys.stderr)
        print(line, end="")


def _decode_failure(line: str) -> FnbuildError:
    try:
        reply = decode_reply(line)
    except msgspec.MsgspecError:
        reply = SupervisorReply()
    if reply.error is None:
        return UnavailableError("the supervisor ended while it started")
    return reply.error.to_error()


def _report(text: str) -> None:
    if _start_pipe:
        pipe = _start_pipe.pop()
        with contextlib.suppress(OSError):
            os.write(pipe, text.encode())
        os.close(pipe)


@contextlib.contextmanager
def single_instance(path: Path, runs: Callable[[], bool]) -> Iterator[bool]:
    """Hold the lock file; yield False if another daemon holds it and `runs`.

    Waits for a daemon that is about to end. Raises `UnavailableError` if it hangs.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        acquired = _acquire_lock(descriptor, runs)
        if acquired:
            os.ftruncate(descriptor, 0)
            with contextlib.suppress(OSError):  # a full disk must not prevent the start
                os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        yield acquired
    finally:
        os.close(descriptor)


def last_holder(path: Path) -> int:
    """Return the id of the process that held the lock file last, 0 if it is not recorded."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def _acquire_lock(descriptor: int, runs: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if runs():
                return False
            if time.monotonic() > deadline:
                raise UnavailableError(
                    "another supervisor of this data directory runs but does not answer"
                ) from None
            time.sleep(_PAUSE)
        else:
            return True
