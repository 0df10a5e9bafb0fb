"""The commands' end of the supervisor's control socket; starts a supervisor where none runs."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any, BinaryIO

import msgspec

import fnbuild
from fnbuild.datadir import data_dir
from fnbuild.errors import FnbuildError, UnavailableError
from fnbuild.platforms import Progress
from fnbuild.platforms.process import daemon
from fnbuild.platforms.process.environment import scrubbed
from fnbuild.platforms.process.layout import supervisor_lock, supervisor_log, supervisor_socket
from fnbuild.platforms.process.proc import cpu_ticks, is_stopped, runs, state
from fnbuild.platforms.process.protocol import Request, decode_reply, encode
from fnbuild.platforms.process.sockets import peer_pid
from fnbuild.runtime.http import unix

_PATIENCE = 2.0
# Patience with a supervisor that is at work, as on a machine under load.
_LONGEST_PATIENCE = 10.0
_DYING_SECONDS = 2.0
_START_SECONDS = 30.0
_PAUSE = 0.02


class SilentError(UnavailableError):
    """A supervisor is running but does not answer in time."""


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
            answer = _ask("hello", quiet, {}, _PATIENCE)
            return Hello(str(answer["version"]), int(answer["pid"]))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except SilentError:
            raise
        except UnavailableError:
            # One that is just ending cuts its connections a moment before its socket is gone.
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)


def unwritten_state(namespace: str, name: str) -> tuple[str, str] | None:
    """Return the state and message that the supervisor failed to write, as on a full disk."""
    try:
        answer = _ask("unwritten", quiet, {"namespace": namespace, "name": name}, _PATIENCE)
    except (OSError, FnbuildError):
        return None  # the state on record is used instead
    return (str(answer["state"]), str(answer["message"])) if answer else None


def ensure() -> None:
    """See to it that a supervisor of this very version runs.

    One of another version hands its functions over without stopping them.
    """
    running = hello()
    if running is not None:
        if running.version == fnbuild.__version__:
            return
        _ask("handover", quiet, {}, _PATIENCE)
        wait_until_gone(running)
    _start()


def silence(pid: int) -> SilentError:
    """Return the error for a supervisor that does not answer; `pid` is 0 if it is unknown."""
    if not pid:
        return SilentError("the supervisor does not answer", hint=f"see {supervisor_log()}")
    replaced = f"`kill -KILL {pid}` and then `fnbuild up` replaces it; functions go on serving"
    if is_stopped(pid):
        return SilentError(
            f"the supervisor (process {pid}) is stopped, by SIGSTOP or a debugger",
            hint=f"`kill -CONT {pid}` lets it go on; {replaced}",
        )
    return SilentError(
        f"the supervisor (process {pid}) does not answer",
        hint=f"{supervisor_log()} may say why; {replaced}",
    )


def wait_until_gone(supervisor: Hello) -> None:
    """Wait until this supervisor does not answer any more, and its process has ended."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(UnavailableError):
            # Its socket goes first; what it writes in its last moments must not surprise anybody.
            if hello() != supervisor and not runs(supervisor.pid):
                return
        time.sleep(_PAUSE)
    raise UnavailableError("the supervisor does not end", hint=f"see {supervisor_log()}")


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
        with contextlib.suppress(msgspec.MsgspecError):
            reply = decode_reply(done.stdout)
            if reply.error is not None:
                raise reply.error.error()
        raise UnavailableError(
            "the supervisor does not start",
            detail=done.stderr.decode(errors="replace").strip() or None,
            hint=f"see {supervisor_log()}",
        )


def _ask(
    verb: str, progress: Progress, arguments: dict[str, Any], seconds: float | None
) -> dict[str, Any]:
    with _connected() as link:
        pid = peer_pid(link)
        if is_stopped(pid):
            raise silence(pid)
        try:
            link.sendall(encode(Request(fnbuild.__version__, verb, arguments)))
            if seconds is not None:
                _await_answer(link, pid, seconds)
                link.settimeout(_LONGEST_PATIENCE)
            else:
                link.settimeout(None)
            with link.makefile("rb") as lines:
                return _read(lines, progress)
        except TimeoutError as error:
            raise silence(pid) from error
        except ConnectionError as error:
            raise UnavailableError(
                "the supervisor does not answer", hint=f"see {supervisor_log()}"
            ) from error


def _connected() -> socket.socket:
    try:
        return unix.connect(supervisor_socket(), _PATIENCE)
    except (TimeoutError, BlockingIOError) as error:
        # The queue of its socket is full.
        raise silence(daemon.holder(supervisor_lock())) from error


def _await_answer(link: socket.socket, pid: int, seconds: float) -> None:
    """Wait until an answer can be read; raise TimeoutError after `seconds`.

    A supervisor that uses the CPU or waits for a disk gets more time than one that sleeps.
    """
    used = cpu_ticks(pid)
    if select.select([link], [], [], seconds)[0]:
        return
    busy = state(pid) in ("R", "D") or cpu_ticks(pid) != used
    if not (busy and select.select([link], [], [], _LONGEST_PATIENCE - seconds)[0]):
        raise TimeoutError


def _read(lines: BinaryIO, progress: Progress) -> dict[str, Any]:
    for line in lines:
        reply = decode_reply(line)
        if reply.error is not None:
            raise reply.error.error()
        if reply.result is not None:
            return reply.result
        if reply.progress is not None:
            progress(reply.progress)
    raise UnavailableError(
        "the supervisor ended before it was done", hint=f"see {supervisor_log()}, then try again"
    )
