"""Run an engine's client program: its output line by line, its exit status, its timeout.

The client runs in a process group of its own, so that it receives Ctrl-C through fnbuild and only
once, and so that everything that it started ends with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from fnbuild.builder.image.engine import CompletedProgram
from fnbuild.errors import UnavailableError

_TERMINATION_SECONDS = 3.0
"""The time that a client has to tell its engine that it ends."""

_POLL_SECONDS = 0.02

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that end a command."""


def run_streaming(
    command: Sequence[str],
    take: Callable[[str], None],
    environment: Mapping[str, str],
    timeout: float | None = None,
) -> int:
    """Run the client, pass every line of its output to `take`, and return its status.

    Raises `TimeoutError` after `timeout` seconds. The client has always ended when this returns.
    """
    with _client_process(command, environment, merged=True) as process:
        timed_out = threading.Event()

        def on_timeout() -> None:
            timed_out.set()
            _terminate(process)

        timer = threading.Timer(timeout, on_timeout) if timeout is not None else None
        if timer:
            timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                take(line.rstrip())
            status = process.wait()
        finally:
            if timer:
                timer.cancel()
        if timed_out.is_set():
            raise TimeoutError
        return status


def run_captured(
    command: Sequence[str], environment: Mapping[str, str], timeout: float | None = None
) -> CompletedProgram:
    """Run the client and return its output. Raises `TimeoutError` after `timeout` seconds."""
    with _client_process(command, environment, merged=False) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError from error
        return CompletedProgram(process.returncode, out, err)


@contextmanager
def _client_process(
    command: Sequence[str], environment: Mapping[str, str], *, merged: bool
) -> Iterator[subprocess.Popen[str]]:
    process: subprocess.Popen[str] | None = None
    try:
        with _deferred_signals():
            process = _start(command, environment, merged=merged)
        yield process
    except BaseException:
        if process is not None:
            _terminate(process)
        raise
    finally:
        if process is not None:
            with process:
                pass  # closes its pipes and waits for it


def _start(
    command: Sequence[str], environment: Mapping[str, str], *, merged: bool
) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merged else subprocess.PIPE,
            env={**os.environ, **environment},
            text=True,
            encoding="utf-8",
            errors="replace",
            process_group=0,
        )
    except OSError as error:
        raise UnavailableError(f"{command[0]} does not run: {error.strerror}") from error


@contextmanager
def _deferred_signals() -> Iterator[None]:
    """Handle signals that arrive in the block after it.

    An exception raised by a handler in the middle of the start would leave a client running that
    nothing knows of. Only the main thread handles signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    handlers = {
        number: handler for number in _SIGNALS if callable(handler := signal.getsignal(number))
    }
    for number in handlers:
        signal.signal(number, lambda number, _: received.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for received_number in received:
            signal.raise_signal(received_number)


def _terminate(process: subprocess.Popen[str]) -> None:
    """End the client and everything that it started.

    SIGTERM comes first, so that the client tells its engine. With podman or buildah, the step of a
    build is in a process group of its own, and outlives a client that is ended during its start.
    """
    descendants = [
        pidfd for pid in _descendants(process.pid) if (pidfd := _open_pidfd(pid)) is not None
    ]
    try:
        _signal_group(process, signal.SIGTERM)
    finally:
        # Also after a second Ctrl-C, which ends the wait.
        _signal_group(process, signal.SIGKILL)
        for pidfd in descendants:
            with suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)


def _signal_group(process: subprocess.Popen[str], number: int) -> None:
    """Signal the client's process group, and wait until it has ended."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    deadline = time.monotonic() + _TERMINATION_SECONDS
    while _group_exists(process) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _group_exists(process: subprocess.Popen[str]) -> bool:
    """Return True if a process of the client's group exists."""
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _descendants(pid: int) -> Iterator[int]:
    """Yield the descendants of a process; none on systems without /proc."""
    for file in Path("/proc", str(pid), "task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, file.read_text().split()):
                yield child
                yield from _descendants(child)


def _open_pidfd(pid: int) -> int | None:
    """Return a descriptor that identifies the process even after its number is reused."""
    try:
        return os.pidfd_open(pid)
    except (OSError, AttributeError):  # gone, or a system other than Linux
        return None
