"""Probes of a function's container: its processor's status and metrics, readiness, import check.

The processor is queried at the container's own address if this process can reach it, which takes a
millisecond, and through the engine otherwise.
"""

from __future__ import annotations

import contextlib
import http.client
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from threading import Event

import msgspec

from fnbuild.builder.processor_settings import readiness_seconds
from fnbuild.errors import FnbuildError, NotReadyError
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import LogRecord, Progress, Statistics
from fnbuild.platforms.docker import logs
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.inventory import Container
from fnbuild.platforms.docker.labels import RevisionRecord
from fnbuild.platforms.logs import StartupFollower
from fnbuild.platforms.processor_status import (
    ADMIN_PORT,
    ImportVerdict,
    ProcessorStatus,
    decode_status,
    parse_metrics,
)


def describe_exit(state: Raw, function: Function) -> str:
    """How a container came to its end, behind the words "the container"."""
    status = int(state.get("ExitCode") or 0)
    if state.get("OOMKilled"):
        return f"was killed, for it ran out of memory ({memory_limit_text(function)})"
    if error := state.get("Error"):
        return f"did not start: {error}"
    if status in (126, 127):
        return f"ended with exit status {status}: its program could not be run"
    if status > 128:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(status - 128).name}"
    return f"ended with exit status {status}"


def memory_limit_text(function: Function) -> str:
    """Which memory ran out, to stand in brackets."""
    limit = function.spec.resources.limits.get("memory")
    if not limit:
        return "it has no limit, so the machine has no more"
    return f"spec.resources.limits.memory lets it have {limit} in all"


PROCESSOR_PATH = "/usr/local/bin/processor"
_HTTP_TIMEOUT_SECONDS = 2.0


def query_status(engine: Engine, container: Container) -> ProcessorStatus | None:
    """What the processor of a running container says; None when it is none of fnbuild's, or does
    not answer.
    """
    for address in filter(engine.reaches, filter(None, container.networks.values())):
        if (status := parse_status(_http_get(address, "/status"))) is not None:
            return status
    ran = engine.execute(container.id, [PROCESSOR_PATH, "--status"])
    return parse_status(ran.out) if ran is not None else None


def query_statistics(engine: Engine, addresses: Iterable[str]) -> Statistics | None:
    """What the processor of a container counts; None where its addresses cannot be reached."""
    for address in filter(engine.reaches, addresses):
        if body := _http_get(address, "/metrics"):
            return parse_metrics(body.decode(errors="replace"))
    return None


def _http_get(address: str, path: str) -> bytes:
    """The answer of the processor at that address; nothing when there is none."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection(address, ADMIN_PORT, timeout=_HTTP_TIMEOUT_SECONDS)
        with contextlib.closing(connection):
            connection.request("GET", path)
            return connection.getresponse().read()
    return b""


def parse_status(body: bytes) -> ProcessorStatus | None:
    """What a processor has answered; None for anything else."""
    try:
        return decode_status(body)
    except msgspec.MsgspecError:
        return None


# How long one question to the engine lasts; of an image of others, it is answered at once.
_PROBE_SECONDS = 10.0
_RETRY_SECONDS = 0.2
# The processor keeps the same time and can say where the handler hangs: it goes first.
_GRACE_SECONDS = 3.0
_RESTART_SECONDS = 3.0
_OUT_OF_MEMORY = "out of memory"


def not_ready_prefix(made: RevisionRecord) -> str:
    """What the message of each `NotReadyError` begins with; the reason follows."""
    return f"revision {made.number} of {made.key.name} did not become ready: "


@dataclass(slots=True)
class ReadinessProbe:
    """Waiting for one container of a revision. With `output`, what it prints is progress."""

    engine: Engine
    container: str
    made: RevisionRecord
    progress: Progress
    output: bool = True
    _ready: int = 0

    def until_ready(self) -> None:
        """Return once all workers are ready; where the image is none of fnbuild's, once Docker's
        own health check says so.

        Raises `NotReadyError` when it ends, turns unhealthy (unless the function asks for the
        whole time with `waitReadinessTimeoutBeforeFailure`) or is not ready in
        `readinessTimeoutSeconds`.
        """
        if not self.output:
            self._until_ready()
            return
        with StartupFollower(self._log, self.progress):
            self._until_ready()

    def _log(self, until: Event) -> Iterator[LogRecord]:
        return logs.follow_container(self.engine, self.container, until)

    def _until_ready(self) -> None:
        seconds = readiness_seconds(self.made.function)
        deadline = time.monotonic() + seconds + _GRACE_SECONDS
        status = None
        while (left := deadline - time.monotonic()) > 0:
            patience = f"{min(left, _PROBE_SECONDS):.1f}"
            ran = self.engine.execute(self.container, [PROCESSOR_PATH, "--wait", patience])
            state = self._state()
            if ran is None or not state.get("Running") or state.get("Restarting"):
                raise self._not_ready(f"the container {self._end()}", status)
            status = parse_status(ran.out) or status
            if self._verdict(status, state):
                return
            if ran.status != 0 and (status is None or status.state != "starting"):
                time.sleep(_RETRY_SECONDS)
        raise self._not_ready(
            f"it is still starting after {seconds:g} seconds",
            status,
            hint="a model that takes longer needs a larger spec.readinessTimeoutSeconds",
        )

    def _end(self) -> str:
        """How the container ended. One that was started again does not tell before its next end."""
        deadline = time.monotonic() + _RESTART_SECONDS
        while True:
            state = self._state()
            if not state.get("Running") or state.get("Restarting"):
                return describe_exit(state, self.made.function)
            if time.monotonic() > deadline:
                return "ended, and was started again"
            time.sleep(_RETRY_SECONDS / 4)

    def _state(self) -> Raw:
        state: Raw = (self.engine.container(self.container) or {}).get("State") or {}
        return state

    def _verdict(self, status: ProcessorStatus | None, state: Raw) -> bool:
        """Whether it is ready; raises when it will not be."""
        if status is None:
            return _is_healthy(state)
        if status.state == "ready":
            return True
        whole_time = self.made.function.spec.wait_readiness_timeout_before_failure
        if status.state == "unhealthy" and not whole_time:
            reason = status.reason or "a worker does not start"
            if state.get("OOMKilled") and _OUT_OF_MEMORY not in reason:
                reason = f"{reason}, likely {_OUT_OF_MEMORY}"
            if _OUT_OF_MEMORY in reason:
                reason = f"{reason} ({memory_limit_text(self.made.function)})"
            raise self._not_ready(reason, status)
        ready = sum(worker.state in ("ready", "busy") for worker in status.workers)
        if ready > self._ready:
            self._ready = ready
            self.progress(f"{ready} of {len(status.workers)} workers ready")
        return False

    def _not_ready(
        self, reason: str, status: ProcessorStatus | None, hint: str | None = None
    ) -> NotReadyError:
        if status is not None and status.reason:
            detail = status.detail
        else:
            detail = logs.last_output(self.engine, self.container)
        return NotReadyError(not_ready_prefix(self.made) + reason, detail=detail or None, hint=hint)


def _is_healthy(state: Raw) -> bool:
    """Whether Docker calls a container well; one without a health check counts as such."""
    health = (state.get("Health") or {}).get("Status", "none")
    return health in ("healthy", "none")


_IMPORT_POLL_SECONDS = 0.1


def check_import(engine: Engine, container: str, made: RevisionRecord, progress: Progress) -> None:
    """Wait for the end of a container with the command `containers.CHECK_IMPORT`.

    Raises `NotReadyError` if the handler cannot be imported. If the check cannot decide without a
    GPU, the start of the function does.
    """
    seconds = readiness_seconds(made.function)
    deadline = time.monotonic() + seconds
    while (engine.container(container) or {}).get("State", {}).get("Running"):
        if time.monotonic() > deadline:
            progress(f"the import check was inconclusive: it took longer than {seconds:g} s")
            return
        time.sleep(_IMPORT_POLL_SECONDS)
    output = ""
    with suppress(FnbuildError):  # some log drivers cannot be read
        output = logs.last_output(engine, container)
    verdict = ImportVerdict.parse(output.encode())
    if verdict.verdict == "failed":
        raise NotReadyError(
            not_ready_prefix(made) + verdict.reason, detail=verdict.extra_detail or None
        )
    if verdict.verdict == "unknown":
        progress(f"the import check was inconclusive: {verdict.reason}")
