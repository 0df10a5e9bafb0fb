"""Becoming a daemon: detached from the terminal, one a lock file, telling when it is up."""

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
from fnbuild.platforms.process.protocol import Failure, Reply, decode_reply, encode

_LARGEST_LOG = 4 << 20
_LOCK_SECONDS = 15.0
_PAUSE = 0.05

_parent: list[int] = []
"""The pipe on which the command that started the daemon waits; empty once it was told."""


def detach(log: Path) -> bool:
    """Fork twice; True in the daemon, False in the caller once the daemon is up.

    Raises `UnavailableError` in the caller when the daemon says why it did not start.
    """
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read().decode(errors="replace")
        os.wait()
        if said != "ready":
            raise _failure(said)
        return False
    os.close(reading)
    os.setsid()
    if os.fork():
        os._exit(0)
    _parent.append(writing)
    _redirect(log)
    os.chdir("/")
    return True


def _redirect(log: Path) -> None:
    mode = os.O_APPEND
    with contextlib.suppress(FileNotFoundError):
        mode = os.O_TRUNC if log.stat().st_size > _LARGEST_LOG else os.O_APPEND
    sys.stdout.flush()
    sys.stderr.flush()
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | mode | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.close(sink)
    os.close(nothing)


def tell_ready() -> None:
    """Let the command that started the daemon return."""
    _tell("ready")


def tell_failure(error: FnbuildError) -> None:
    """Let the command that started the daemon fail with this error."""
    line = encode(Reply(error=Failure.of(error))).decode()
    if _parent:
        _tell(line)
    else:
        print(error.message, file=sys.stderr)
        print(line, end="")


def _failure(line: str) -> FnbuildError:
    try:
        reply = decode_reply(line)
    except msgspec.MsgspecError:
        reply = Reply()
    if reply.error is None:
        return UnavailableError("the supervisor ended while it started")
    return reply.error.error()


def _tell(word: str) -> None:
    if _parent:
        pipe = _parent.pop()
        with contextlib.suppress(OSError):
            os.write(pipe, word.encode())
        os.close(pipe)


@contextlib.contextmanager
def single(path: Path, runs: Callable[[], bool]) -> Iterator[bool]:
    """Hold the lock file; gives False when another daemon holds it and `runs`.

    One that is about to end is waited for. Raises `UnavailableError` when it hangs.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        first = _acquired(descriptor, runs)
        if first:
            os.ftruncate(descriptor, 0)
            with contextlib.suppress(OSError):  # a full disk must not keep it from running
                os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        yield first
    finally:
        os.close(descriptor)


def holder(path: Path) -> int:
    """Return the id of the process that held the lock file last, 0 if it is not recorded."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def is_held(path: Path) -> bool:
    """Whether a daemon holds the lock file: one that starts, runs or ends."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _acquired(descriptor: int, runs: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if runs():
                return False
            if time.monotonic() > deadline:
                raise UnavailableError(
                    "another supervisor of this data directory runs and does not answer"
                ) from None
            time.sleep(_PAUSE)
        else:
            return True
