"""Waiting until a container that was just started is ready, and saying why when it is not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Event

from fnbuild.builder.processor_settings import readiness_seconds
from fnbuild.errors import NotReadyError
from fnbuild.platforms import LogRecord, Progress
from fnbuild.platforms.docker import logs
from fnbuild.platforms.docker.asking import PROGRAM, decoded
from fnbuild.platforms.docker.endings import ended, memory
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.labels import Made
from fnbuild.platforms.logs import StartupFollower
from fnbuild.platforms.processor_status import ProcessorStatus
from fnbuild.spec.types import Raw

# How long one question to the engine lasts; of an image of others, it is answered at once.
_SLICE_SECONDS = 10.0
_PAUSE = 0.2
# The processor keeps the same time and can say where the handler hangs: it goes first.
_VERDICT_SECONDS = 3.0
_NEXT_END_SECONDS = 3.0
_OUT_OF_MEMORY = "out of memory"


def opening(made: Made) -> str:
    """What the message of each `NotReadyError` begins with; the reason follows."""
    return f"revision {made.number} of {made.key.name} did not become ready: "


@dataclass(slots=True)
class Wait:
    """Waiting for one container of a revision. With `output`, what it prints is progress."""

    engine: Engine
    container: str
    made: Made
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
        return logs.follow_one(self.engine, self.container, until)

    def _until_ready(self) -> None:
        seconds = readiness_seconds(self.made.function)
        deadline = time.monotonic() + seconds + _VERDICT_SECONDS
        status = None
        while (left := deadline - time.monotonic()) > 0:
            patience = f"{min(left, _SLICE_SECONDS):.1f}"
            ran = self.engine.execute(self.container, [PROGRAM, "--wait", patience])
            state = self._state()
            if ran is None or not state.get("Running") or state.get("Restarting"):
                raise self._not_ready(f"the container {self._end()}", status)
            status = decoded(ran.out) or status
            if self._verdict(status, state):
                return
            if ran.status != 0 and (status is None or status.state != "starting"):
                time.sleep(_PAUSE)
        raise self._not_ready(
            f"it is still starting after {seconds:g} seconds",
            status,
            hint="a model that takes longer needs a larger spec.readinessTimeoutSeconds",
        )

    def _end(self) -> str:
        """How the container ended. One that was started again does not tell before its next end."""
        deadline = time.monotonic() + _NEXT_END_SECONDS
        while True:
            state = self._state()
            if not state.get("Running") or state.get("Restarting"):
                return ended(state, self.made.function)
            if time.monotonic() > deadline:
                return "ended, and was started again"
            time.sleep(_PAUSE / 4)

    def _state(self) -> Raw:
        state: Raw = (self.engine.container(self.container) or {}).get("State") or {}
        return state

    def _verdict(self, status: ProcessorStatus | None, state: Raw) -> bool:
        """Whether it is ready; raises when it will not be."""
        if status is None:
            return _well(state)
        if status.state == "ready":
            return True
        whole_time = self.made.function.spec.wait_readiness_timeout_before_failure
        if status.state == "unhealthy" and not whole_time:
            reason = status.reason or "a worker does not start"
            if state.get("OOMKilled") and _OUT_OF_MEMORY not in reason:
                reason = f"{reason}, likely {_OUT_OF_MEMORY}"
            if _OUT_OF_MEMORY in reason:
                reason = f"{reason} ({memory(self.made.function)})"
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
            detail = logs.last_words(self.engine, self.container)
        return NotReadyError(opening(self.made) + reason, detail=detail or None, hint=hint)


def _well(state: Raw) -> bool:
    """Whether Docker calls a container well; one without a health check counts as such."""
    health = (state.get("Health") or {}).get("Status", "none")
    return health in ("healthy", "none")
