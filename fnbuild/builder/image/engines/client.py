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
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from fnbuild.builder.image.engine import CompletedProgram
from fnbuild.errors import UnavailableError

_TERMINATION_SECONDS = 3.0
"""The time that a client has to tell its engine that it ends."""

_POLL_SECONDS = 0.02


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
    def start() -> subprocess.Popen[str]:
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

    try:
        process = _start_uninterrupted(start)
    except OSError as error:
        raise UnavailableError(f"{command[0]} does not run: {error.strerror}") from error
    with process:
        try:
            yield process
        except BaseException:
            _terminate(process)
            raise


def _start_uninterrupted(start: Callable[[], subprocess.Popen[str]]) -> subprocess.Popen[str]:
    """Start the client in a thread.

    Only the main thread receives signals. One in the middle of the start would leave a
    client running that nothing knows of.
    """
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(start)
        try:
            return future.result()
        except KeyboardInterrupt:
            _terminate(future.result())
            raise


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
