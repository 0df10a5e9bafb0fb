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

from fnbuild.builder.processor_settings import readiness_seconds, start_seconds
from fnbuild.errors import FnbuildError, NotReadyError, PlatformError
from fnbuild.function.types import Function, Raw
from fnbuild.names import PROCESSOR_PATH
from fnbuild.platforms import LogRecord, Progress, RecordingAction, SleepAction, Statistics
from fnbuild.platforms.docker import logs
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.inventory import Container, container_state
from fnbuild.platforms.docker.labels import RevisionRecord
from fnbuild.platforms.logs import StartupFollower
from fnbuild.platforms.processor_status import (
    ADMIN_PORT,
    HandlerImportVerdict,
    ProcessorStatus,
    SleepAnswer,
    decode_status,
    inconclusive_check_message,
    parse_metrics,
)
from fnbuild.platforms.revision_records import failure_prefix

_HTTP_TIMEOUT_SECONDS = 2.0
_IMPORT_POLL_SECONDS = 0.1
# The duration of one probe; the processor of another image responds at once.
_PROBE_SECONDS = 10.0
_RETRY_SECONDS = 0.2
# The processor has the same time limit and reports where the handler hangs, so it comes first.
_GRACE_SECONDS = 3.0
_RESTART_SECONDS = 3.0
_OUT_OF_MEMORY = "out of memory"


def describe_exit(state: Raw, function: Function) -> str:
    """Describe the exit of a container, as text that follows "the container"."""
    status = int(state.get("ExitCode") or 0)
    if state.get("OOMKilled"):
        return f"was killed because it ran out of memory ({memory_limit_text(function)})"
    if error := state.get("Error"):
        return f"did not start: {error}"
    if status in (126, 127):
        return f"ended with exit status {status}: its program could not be run"
    if status > 128:
        with contextlib.suppress(ValueError):
            return f"was terminated by {signal.Signals(status - 128).name}"
    return f"ended with exit status {status}"


def memory_limit_text(function: Function) -> str:
    """Describe the memory that ran out, as text in brackets."""
    limit = function.spec.resources.limits.get("memory")
    if not limit:
        return "it has no limit, so the memory of the machine is used up"
    return f"spec.resources.limits.memory lets it have {limit} in all"


def query_status(engine: Engine, container: Container) -> ProcessorStatus | None:
    """Return the status of the processor in a running container.

    Return None if the processor is not fnbuild's, or does not respond.
    """
    for address in filter(engine.can_reach, filter(None, container.networks.values())):
        if (status := decode_status_or_none(_http_get(address, "/status"))) is not None:
            return status
    result = engine.execute(container.id, [PROCESSOR_PATH, "--status"])
    return decode_status_or_none(result.out) if result is not None else None


def change_sleep(engine: Engine, container: Container, action: SleepAction) -> None:
    """Have a container's processor sleep or wake, as `Platform.change_sleep` does."""
    result = engine.execute(container.id, [PROCESSOR_PATH, f"--{action}"])
    name = container.function.metadata.name
    SleepAnswer.check(result.out if result is not None else b"", name, action)


def read_recording(engine: Engine, container: Container, action: RecordingAction) -> bytes:
    """List, export or clear the recording in a container, as `Platform.recordings` does."""
    result = engine.execute(container.id, [PROCESSOR_PATH, "--recording", action])
    if result is None or result.status:
        name = container.function.metadata.name
        raise PlatformError(
            f"the recorded requests of {name} cannot be read",
            hint="another version may have made its image: deploy it again",
        )
    return result.out


def query_statistics(engine: Engine, addresses: Iterable[str]) -> Statistics | None:
    """Return the metrics of a processor, or None if its addresses cannot be reached."""
    for address in filter(engine.can_reach, addresses):
        if body := _http_get(address, "/metrics"):
            return parse_metrics(body.decode(errors="replace"))
    return None


def _http_get(address: str, path: str) -> bytes:
    """Return the processor's response body, empty if it does not respond."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection(address, ADMIN_PORT, timeout=_HTTP_TIMEOUT_SECONDS)
        with contextlib.closing(connection):
            connection.request("GET", path)
            return connection.getresponse().read()
    return b""


def decode_status_or_none(body: bytes) -> ProcessorStatus | None:
    """Decode the status of a processor; None if it is not one."""
    try:
        return decode_status(body)
    except msgspec.MsgspecError:
        return None


@dataclass(slots=True)
class ReadinessProbe:
    """The readiness of one container of a revision.

    With `report_output`, the output of the function is reported as progress.
    """

    engine: Engine
    container: str
    revision: RevisionRecord
    progress: Progress
    report_output: bool = True
    _ready: int = 0
    _waits: bool = False

    def wait_until_ready(self) -> None:
        """Wait until all workers are ready, or until the health check of another image passes.

        Raises `NotReadyError` if the container exits, is unhealthy (unless the function sets
        `waitReadinessTimeoutBeforeFailure`), or is not ready within `readinessTimeoutSeconds`.
        """
        if not self.report_output:
            self._poll()
            return
        with StartupFollower(self._log, self.progress):
            self._poll()

    def _log(self, stop: Event) -> Iterator[LogRecord]:
        return logs.follow_container(self.engine, self.container, stop)

    def _poll(self) -> None:
        seconds = start_seconds(self.revision.function)
        deadline = time.monotonic() + seconds + _GRACE_SECONDS
        status = None
        while (remaining := deadline - time.monotonic()) > 0:
            timeout = f"{min(remaining, _PROBE_SECONDS):.1f}"
            result = self.engine.execute(self.container, [PROCESSOR_PATH, "--wait", timeout])
            state = self._state()
            if result is None or not state.get("Running") or state.get("Restarting"):
                raise self._not_ready_error(f"the container {self._describe_exit()}", status)
            status = decode_status_or_none(result.out) or status
            if self._evaluate(status, state):
                return
            if result.status != 0 and (status is None or status.state != "starting"):
                time.sleep(_RETRY_SECONDS)
        raise self._not_ready_error(
            f"it is still starting after {seconds:g} seconds",
            status,
            hint="increase spec.readinessTimeoutSeconds for a model that takes longer",
        )

    def _describe_exit(self) -> str:
        """Describe the exit. A container that was restarted has no exit status until the next."""
        deadline = time.monotonic() + _RESTART_SECONDS
        while True:
            state = self._state()
            if not state.get("Running") or state.get("Restarting"):
                return describe_exit(state, self.revision.function)
            if time.monotonic() > deadline:
                return "ended and was restarted"
            time.sleep(_RETRY_SECONDS / 4)

    def _state(self) -> Raw:
        return container_state(self.engine, self.container)

    def _evaluate(self, status: ProcessorStatus | None, state: Raw) -> bool:
        """Return True if the container is ready. Raises `NotReadyError` if it cannot become so."""
        if status is None:
            return _is_healthy(state)
        if status.state == "ready":
            return True
        waits_for_timeout = self.revision.function.spec.wait_readiness_timeout_before_failure
        if status.state == "unhealthy" and not waits_for_timeout:
            reason = status.reason or "a worker does not start"
            if state.get("OOMKilled") and _OUT_OF_MEMORY not in reason:
                reason = f"{reason}, likely {_OUT_OF_MEMORY}"
            if _OUT_OF_MEMORY in reason:
                reason = f"{reason} ({memory_limit_text(self.revision.function)})"
            raise self._not_ready_error(reason, status)
        if status.waits_for_group and not self._waits:
            self._waits = True
            self.progress(status.note)
        ready = sum(worker.state in ("ready", "busy") for worker in status.workers)
        if ready > self._ready:
            self._ready = ready
            self.progress(f"{ready} of {len(status.workers)} workers ready")
        return False

    def _not_ready_error(
        self, reason: str, status: ProcessorStatus | None, hint: str | None = None
    ) -> NotReadyError:
        if status is not None and status.reason:
            detail = status.detail
        else:
            detail = logs.last_output(self.engine, self.container)
        message = failure_prefix(self.revision.number, self.revision.key.name) + reason
        return NotReadyError(message, detail=detail or None, hint=hint)


def _is_healthy(state: Raw) -> bool:
    """Return True if Docker's health check passes or does not exist."""
    health = (state.get("Health") or {}).get("Status", "none")
    return health in ("healthy", "none")


def wait_for_import_check(
    engine: Engine, container: str, revision: RevisionRecord, progress: Progress
) -> None:
    """Wait for the exit of a container with the command `CHECK_IMPORT_COMMAND`.

    Raises `NotReadyError` if the handler cannot be imported. An import that needs a GPU is
    undecided until the function starts.
    """
    seconds = readiness_seconds(revision.function)
    deadline = time.monotonic() + seconds
    while container_state(engine, container).get("Running"):
        if time.monotonic() > deadline:
            progress(inconclusive_check_message(f"it took longer than {seconds:g} s"))
            return
        time.sleep(_IMPORT_POLL_SECONDS)
    output = ""
    with suppress(FnbuildError):  # some log drivers cannot be read
        output = logs.last_output(engine, container)
    verdict = HandlerImportVerdict.parse(output.encode())
    verdict.raise_if_failed(revision.number, revision.key.name)
    if verdict.verdict == "unknown":
        progress(inconclusive_check_message(verdict.reason))
