"""A client of the supervisor. It starts a supervisor if none runs."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

import fnbuild
from fnbuild.datadir import data_dir
from fnbuild.errors import FnbuildError, UnavailableError
from fnbuild.platforms import Progress
from fnbuild.platforms.clean_environment import clean_environment
from fnbuild.platforms.process import daemon
from fnbuild.platforms.process.layout import supervisor_lock, supervisor_log, supervisor_socket
from fnbuild.platforms.process.listeners import peer_pid
from fnbuild.platforms.process.supervisor_protocol import SupervisorRequest, decode_reply, encode
from fnbuild.runtime import sockets

_TIMEOUT = 2.0
# The time limit for a supervisor that is busy, as on a machine under load.
_BUSY_TIMEOUT = 10.0
_ENDING_SECONDS = 2.0
_START_SECONDS = 30.0
_PAUSE = 0.02


def _stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; empty if the process has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return []
    # The name before the state may contain anything, blanks and brackets included.
    return text.rpartition(")")[2].split()


def process_state(pid: int) -> str:
    """Return the kernel's letter for the state of the process, "X" if it has ended."""
    fields = _stat_fields(pid)
    return fields[0] if fields else "X"


def is_alive(pid: int) -> bool:
    """Return True if the process has not ended; a zombie has."""
    return process_state(pid) not in ("Z", "X")


def is_stopped(pid: int) -> bool:
    """Return True if a signal or a debugger holds the process."""
    return process_state(pid) in ("T", "t")


def cpu_ticks(pid: int) -> int:
    """Return the CPU time of the process in clock ticks."""
    fields = _stat_fields(pid)
    return int(fields[11]) + int(fields[12]) if len(fields) > 12 else 0


class SupervisorSilentError(UnavailableError):
    """A supervisor is running but does not answer in time."""


@dataclass(frozen=True, slots=True)
class SupervisorInfo:
    """The version and process of a supervisor that answers."""

    version: str
    pid: int


def ignore_progress(sentence: str) -> None:
    """Drop a progress message."""


def call(verb: str, progress: Progress = ignore_progress, **arguments: Any) -> dict[str, Any]:
    """Send a request and return its result, without a time limit. Starts a supervisor if needed.

    Raises the supervisor's error, and `UnavailableError` if it cannot be reached.
    """
    ensure_running()
    try:
        return _request(verb, progress, arguments, None)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise UnavailableError("the supervisor has just ended", hint="try again") from error


def running_supervisor() -> SupervisorInfo | None:
    """Return the supervisor of this data directory; None if there is none.

    Raises `UnavailableError` if it does not answer.
    """
    deadline = time.monotonic() + _ENDING_SECONDS
    while True:
        try:
            answer = _request("hello", ignore_progress, {}, _TIMEOUT)
            return SupervisorInfo(str(answer["version"]), int(answer["pid"]))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except SupervisorSilentError:
            raise
        except UnavailableError:
            # An ending supervisor closes connections shortly before it removes its socket.
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)


def unwritten_state(namespace: str, name: str) -> tuple[str, str] | None:
    """Return the state and message that the supervisor failed to write, as on a full disk."""
    try:
        answer = _request(
            "unwritten", ignore_progress, {"namespace": namespace, "name": name}, _TIMEOUT
        )
    except (OSError, FnbuildError):
        return None  # the recorded state is used instead
    return (str(answer["state"]), str(answer["message"])) if answer else None


def ensure_running() -> None:
    """Ensure that a supervisor of this version runs.

    A supervisor of another version hands its functions over without stopping them.
    """
    running = running_supervisor()
    if running is not None:
        if running.version == fnbuild.__version__:
            return
        _request("handover", ignore_progress, {}, _TIMEOUT)
        wait_until_ended(running)
    _start_supervisor()


def silent_error(pid: int) -> SupervisorSilentError:
    """Return the error for a supervisor that does not answer; `pid` is 0 if it is unknown."""
    if not pid:
        return SupervisorSilentError(
            "the supervisor does not answer", hint=f"see {supervisor_log()}"
        )
    replaced = f"`kill -KILL {pid}` and then `fnbuild up` replaces it; functions keep running"
    if is_stopped(pid):
        return SupervisorSilentError(
            f"the supervisor (process {pid}) is stopped, by SIGSTOP or a debugger",
            hint=f"`kill -CONT {pid}` resumes it; {replaced}",
        )
    return SupervisorSilentError(
        f"the supervisor (process {pid}) does not answer",
        hint=f"{supervisor_log()} may say why; {replaced}",
    )


def wait_until_ended(supervisor: SupervisorInfo) -> None:
    """Wait until the supervisor does not answer any more and its process has ended."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(UnavailableError):
            # It removes its socket first but may still write, so its process must have ended.
            if running_supervisor() != supervisor and not is_alive(supervisor.pid):
                return
        time.sleep(_PAUSE)
    raise UnavailableError("the supervisor does not end", hint=f"see {supervisor_log()}")


def _start_supervisor() -> None:
    command = [sys.executable, "-m", "fnbuild.platforms.process.supervisor"]
    try:
        done = subprocess.run(
            [*command, "--data-dir", str(data_dir())],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=clean_environment(os.environ),
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
                raise reply.error.to_error()
        raise UnavailableError(
            "the supervisor does not start",
            detail=done.stderr.decode(errors="replace").strip() or None,
            hint=f"see {supervisor_log()}",
        )


def _request(
    verb: str, progress: Progress, arguments: dict[str, Any], seconds: float | None
) -> dict[str, Any]:
    with _connect() as link:
        pid = peer_pid(link)
        if is_stopped(pid):
            raise silent_error(pid)
        try:
            link.sendall(encode(SupervisorRequest(fnbuild.__version__, verb, arguments)))
            if seconds is not None:
                _wait_for_reply(link, pid, seconds)
                link.settimeout(_BUSY_TIMEOUT)
            else:
                link.settimeout(None)
            with link.makefile("rb") as lines:
                return _read_reply(lines, progress)
        except TimeoutError as error:
            raise silent_error(pid) from error
        except ConnectionError as error:
            raise UnavailableError(
                "the supervisor does not answer", hint=f"see {supervisor_log()}"
            ) from error


def _connect() -> socket.socket:
    try:
        return sockets.connect_unix(supervisor_socket(), _TIMEOUT)
    except (TimeoutError, BlockingIOError) as error:
        # The queue of the socket is full.
        raise silent_error(daemon.last_holder(supervisor_lock())) from error


def _wait_for_reply(link: socket.socket, pid: int, seconds: float) -> None:
    """Wait until an answer can be read; raise TimeoutError after `seconds`.

    A supervisor that uses the CPU or waits for a disk gets more time than one that sleeps.
    """
    used = cpu_ticks(pid)
    if select.select([link], [], [], seconds)[0]:
        return
    busy = process_state(pid) in ("R", "D") or cpu_ticks(pid) != used
    if not (busy and select.select([link], [], [], _BUSY_TIMEOUT - seconds)[0]):
        raise TimeoutError


def _read_reply(lines: BinaryIO, progress: Progress) -> dict[str, Any]:
    for line in lines:
        reply = decode_reply(line)
        if reply.error is not None:
            raise reply.error.to_error()
        if reply.result is not None:
            return reply.result
        if reply.progress is not None:
            progress(reply.progress)
    raise UnavailableError(
        "the supervisor ended before it replied", hint=f"see {supervisor_log()}, then try again"
    )
