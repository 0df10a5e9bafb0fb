"""Waiting until a new processor is ready, and saying why when it is not."""

from __future__ import annotations

import asyncio
import time

from fnbuild.builder.processor_settings import readiness_seconds
from fnbuild.errors import NotReadyError
from fnbuild.platforms import Progress
from fnbuild.platforms.process import functionlog
from fnbuild.platforms.process.processors import Processor
from fnbuild.platforms.processors import Status
from fnbuild.platforms.startup import StartupOutput, is_ready
from fnbuild.spec.types import Function

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.2
_VERDICT_SECONDS = 3.0


async def wait_ready(processor: Processor, function: Function, progress: Progress) -> Status:
    """The status of the processor once all its workers are ready.

    Raises `NotReadyError` when it ends, turns unhealthy (unless the function asks for the whole
    time with `waitReadinessTimeoutBeforeFailure`) or is not ready in `readinessTimeoutSeconds`.
    """
    seconds = readiness_seconds(function)
    # The processor keeps the same time and can say where the handler hangs: it goes first.
    deadline = time.monotonic() + seconds + _VERDICT_SECONDS
    pause = _FIRST_PAUSE
    count, status = 0, None
    output = _Output(processor, progress)
    while time.monotonic() < deadline:
        ended = await processor.wait(pause)
        if status is None or status.state == "starting":
            output.tell()
        if ended:
            raise _not_ready(processor, f"the processor {processor.end_in_words}", status)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
        status = await processor.status() or status
        if status is None:
            continue
        if status.state == "ready":
            output.tell()
            return status
        if status.state == "unhealthy" and not function.spec.wait_readiness_timeout_before_failure:
            raise _not_ready(processor, status.reason or "a worker does not start", status)
        ready = sum(worker.state in ("ready", "busy") for worker in status.workers)
        if ready > count:
            count = ready
            progress(f"{ready} of {len(status.workers)} workers ready")
    raise _not_ready(
        processor,
        f"it is still starting after {seconds:g} seconds",
        status,
        hint="a model that takes longer needs a larger spec.readinessTimeoutSeconds",
    )


class _Output:
    """The output of a new processor's handler in the function's log that was not reported yet."""

    def __init__(self, processor: Processor, progress: Progress):
        self._log = processor.key.log
        self._position = processor.log_start
        self._output = StartupOutput(progress)
        self._over = False

    def tell(self) -> None:
        if self._over:
            return
        for record, position in functionlog.written(self._log, self._position):
            self._position = position
            if is_ready(record):
                self._over = True
                return
            self._output.tell(record)


def _not_ready(
    processor: Processor, reason: str, status: Status | None, hint: str | None = None
) -> NotReadyError:
    if status is not None and status.reason:
        detail = status.detail
    else:
        detail = functionlog.last_words(processor.key.log, processor.log_start)
    failed = opening(processor.revision, processor.key.name)
    return NotReadyError(failed + reason, detail=detail or None, hint=hint)


def opening(revision: int, name: str) -> str:
    """What the message of each `NotReadyError` begins with; the reason follows."""
    return f"revision {revision} of {name} did not become ready: "


async def settle(processor: Processor, seconds: float) -> Status | None:
    """The first status that is ready or unhealthy; the last one, or None, when time is up."""
    deadline = time.monotonic() + seconds
    status = None
    while time.monotonic() < deadline and not processor.ended.is_set():
        status = await processor.status() or status
        if status and status.state in ("ready", "unhealthy"):
            return status
        await asyncio.sleep(_LONGEST_PAUSE)
    return status


def starting(function: Function) -> str:
    """What begins when its processor starts, in words."""
    trigger = function.http_trigger()
    count = trigger[1].num_workers if trigger else 1
    return f"starting {count} worker{'' if count == 1 else 's'}"
