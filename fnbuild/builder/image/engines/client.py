"""Runs an engine's client program: its output line by line, its end, its time-out.

The client gets a process group of its own, so that Ctrl-C reaches it through us and once, and
whatever it started ends with it.
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
"""How long a client that is told to end may take to tell its engine."""

_POLL_SECONDS = 0.02


def run_streaming(
    command: Sequence[str],
    take: Callable[[str], None],
    environment: Mapping[str, str],
    timeout: float | None = None,
) -> int:
    """Run the client to its end, give every line of its output to `take`, return its status.

    `TimeoutError` after `timeout` seconds. However this ends, the client has ended before.
    """
    with _client_process(command, environment, merged=True) as process:
        late = threading.Event()

        def give_up() -> None:
            late.set()
            _terminate(process)

        timer = threading.Timer(timeout, give_up) if timeout is not None else None
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
        if late.is_set():
            raise TimeoutError
        return status


def run_captured(
    command: Sequence[str], environment: Mapping[str, str], timeout: float | None = None
) -> CompletedProgram:
    """Run the client to its end, return what it wrote; `TimeoutError` after `timeout` seconds."""
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
    """Start the client in a thread: a signal, which only the main one sees, in the midst of it
    would leave a client that nobody knows."""
    with ThreadPoolExecutor(1) as starter:
        starting = starter.submit(start)
        try:
            return starting.result()
        except KeyboardInterrupt:
            _terminate(starting.result())
            raise


def _terminate(process: subprocess.Popen[str]) -> None:
    """End the client and all that it started: asked first, since it has to tell its engine.

    The step of a build under podman or buildah is in a process group of its own, and outlives a
    client that is ended while it starts.
    """
    started = [
        handle for pid in _descendants(process.pid) if (handle := _open_pidfd(pid)) is not None
    ]
    try:
        _signal_group(process, signal.SIGTERM)
    finally:
        # Here behind a second Ctrl-C too, which ends the patience.
        _signal_group(process, signal.SIGKILL)
        for handle in started:
            with suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            os.close(handle)


def _signal_group(process: subprocess.Popen[str], number: int) -> None:
    """Tell the client's group to end, and wait until it has."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    deadline = time.monotonic() + _TERMINATION_SECONDS
    while _group_exists(process) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _group_exists(process: subprocess.Popen[str]) -> bool:
    """Whether anything is left of the client's group."""
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _descendants(pid: int) -> Iterator[int]:
    """The children of a process, and theirs; none where the system does not tell."""
    for file in Path("/proc", str(pid), "task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, file.read_text().split()):
                yield child
                yield from _descendants(child)


def _open_pidfd(pid: int) -> int | None:
    """A descriptor that stands for the process even when another one has got its number."""
    try:
        return os.pidfd_open(pid)
    except (OSError, AttributeError):  # gone, or a system other than Linux
        return None
