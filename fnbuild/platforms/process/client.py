"""The commands' end of the supervisor's control socket; starts a supervisor where none runs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

import fnbuild
from fnbuild.datadir import data_dir
from fnbuild.errors import UnavailableError
from fnbuild.platforms import Progress
from fnbuild.platforms.process.environment import scrubbed
from fnbuild.platforms.process.layout import supervisor_log, supervisor_socket
from fnbuild.platforms.process.protocol import Reply, Request, encode
from fnbuild.runtime.http import unix

_HELLO_SECONDS = 10.0
_DYING_SECONDS = 2.0
_START_SECONDS = 30.0
_PAUSE = 0.02


@dataclass(frozen=True, slots=True)
class Hello:
    """A supervisor that answers."""

    version: str
    pid: int


def quiet(sentence: str) -> None:
    """Progress that nobody wants to hear."""


def call(verb: str, progress: Progress = quiet, **arguments: Any) -> dict[str, Any]:
    """Ask the supervisor, starting one when there is none; waits as long as it takes.

    Raises what the supervisor raised, `UnavailableError` when it cannot be reached.
    """
    ensure()
    try:
        return _ask(verb, progress, arguments, None)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise UnavailableError("the supervisor has just ended", hint="try again") from error


def hello() -> Hello | None:
    """Who supervises this data directory; None when nobody does.

    Raises `UnavailableError` when one does and does not answer.
    """
    deadline = time.monotonic() + _DYING_SECONDS
    while True:
        try:
            said = _ask("hello", quiet, {}, _HELLO_SECONDS)
            return Hello(str(said["version"]), int(said["pid"]))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except UnavailableError:
            # One that is just ending cuts its connections a moment before its socket is gone.
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)


def ensure() -> None:
    """See to it that a supervisor of this very version runs.

    One of another version hands its functions over without stopping them.
    """
    running = hello()
    if running is not None:
        if running.version == fnbuild.__version__:
            return
        _ask("handover", quiet, {}, _HELLO_SECONDS)
        wait_until_gone(running)
    _start()


def wait_until_gone(supervisor: Hello) -> None:
    """Wait until this supervisor does not answer any more, and its process has ended."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(UnavailableError):
            # Its socket goes first; what it writes in its last moments must not surprise anybody.
            if hello() != supervisor and not _runs(supervisor.pid):
                return
        time.sleep(_PAUSE)
    raise UnavailableError("the supervisor does not end", hint=f"see {supervisor_log()}")


def _runs(pid: int) -> bool:
    """Whether the process has not ended; one that nobody has waited for yet has."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in (b"Z", b"X")


def _start() -> None:
    command = [sys.executable, "-m", "fnbuild.platforms.process.supervisor"]
    try:
        done = subprocess.run(
            [*command, "--data-dir", str(data_dir())],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=scrubbed(os.environ),
            cwd="/",
            timeout=_START_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(
            f"the supervisor does not start: {error}", hint=f"see {supervisor_log()}"
        ) from error
    if done.returncode != 0:
        raise UnavailableError(
            "the supervisor does not start",
            detail=done.stderr.decode(errors="replace").strip() or None,
            hint=f"see {supervisor_log()}",
        )


def _ask(
    verb: str, progress: Progress, arguments: dict[str, Any], seconds: float | None
) -> dict[str, Any]:
    with unix.connect(supervisor_socket(), _HELLO_SECONDS) as link:
        link.settimeout(seconds)
        try:
            link.sendall(encode(Request(fnbuild.__version__, verb, arguments)))
            with link.makefile("rb") as lines:
                return _read(lines, progress)
        except (TimeoutError, ConnectionError) as error:
            raise UnavailableError(
                "the supervisor does not answer", hint=f"see {supervisor_log()}"
            ) from error


def _read(lines: BinaryIO, progress: Progress) -> dict[str, Any]:
    for line in lines:
        reply = msgspec.json.decode(line, type=Reply)
        if reply.error is not None:
            raise reply.error.error()
        if reply.result is not None:
            return reply.result
        if reply.progress is not None:
            progress(reply.progress)
    raise UnavailableError(
        "the supervisor ended before it was done", hint=f"see {supervisor_log()}, then try again"
    )
