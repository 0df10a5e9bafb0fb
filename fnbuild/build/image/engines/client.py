"""Runs an engine's client program: its output line by line, its end, its time-out.

The client gets a process group of its own, so that Ctrl-C reaches it through us and once, and
whatever it started ends with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from fnbuild.build.image.engine import Ran
from fnbuild.errors import UnavailableError

_PATIENCE_SECONDS = 3.0
"""How long a client that is told to end may take to tell its engine."""


def stream(
    command: Sequence[str],
    take: Callable[[str], None],
    environment: Mapping[str, str],
    timeout: float | None = None,
) -> int:
    """Run the client to its end, give every line of its output to `take`, return its status.

    `TimeoutError` after `timeout` seconds. However this ends, the client has ended before.
    """
    with _started(command, environment, merged=True) as process:
        late = threading.Event()

        def give_up() -> None:
            late.set()
            _end(process)

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


def capture(
    command: Sequence[str], environment: Mapping[str, str], timeout: float | None = None
) -> Ran:
    """Run the client to its end, return what it wrote; `TimeoutError` after `timeout` seconds."""
    with _started(command, environment, merged=False) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError from error
        return Ran(process.returncode, out, err)


@contextmanager
def _started(
    command: Sequence[str], environment: Mapping[str, str], *, merged: bool
) -> Iterator[subprocess.Popen[str]]:
    try:
        process = subprocess.Popen(
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
    with process:
        try:
            yield process
        except BaseException:
            _end(process)
            raise


def _end(process: subprocess.Popen[str]) -> None:
    """End the client and what it started: asked first, since it has to tell its engine."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE_SECONDS)
