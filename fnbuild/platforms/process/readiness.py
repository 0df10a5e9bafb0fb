"""Decide whether a new revision becomes ready: check its import, and wait for its processor."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress

from fnbuild.builder.processor_settings import start_seconds
from fnbuild.errors import NotReadyError
from fnbuild.function.types import Function
from fnbuild.platforms import FunctionKey, Progress, function_log
from fnbuild.platforms.logs import StartupOutput, is_ready_record
from fnbuild.platforms.process.isolation import prepare_user, runtime_command
from fnbuild.platforms.process.layout import config_path, log_path
from fnbuild.platforms.process.processor_handle import ProcessorHandle
from fnbuild.platforms.processor_status import (
    HandlerImportVerdict,
    ProcessorStatus,
    inconclusive_check_message,
)
from fnbuild.platforms.revision_records import failure_prefix

_FIRST_PAUSE = 0.02
_MAX_PAUSE = 0.2
_VERDICT_SECONDS = 3.0


async def wait_until_ready(
    processor: ProcessorHandle, function: Function, progress: Progress
) -> ProcessorStatus:
    """Wait until all workers of the processor are ready, and return its status.

    Raises `NotReadyError` if it ends, becomes unhealthy (unless the function sets
    `waitReadinessTimeoutBeforeFailure`) or is not ready within `readinessTimeoutSeconds`.
    """
    seconds = start_seconds(function)
    # The processor has the same time limit and reports where the handler hangs, so it goes first.
    deadline = time.monotonic() + seconds + _VERDICT_SECONDS
    pause = _FIRST_PAUSE
    count, waits, status = 0, False, None
    output = _StartupReporter(processor, progress)
    while time.monotonic() < deadline:
        ended = await processor.wait(pause)
        if status is None or status.state == "starting":
            output.report_new()
        if ended:
            raise _not_ready_error(processor, f"the processor {processor.end_description}", status)
        pause = min(pause * 1.5, _MAX_PAUSE)
        status = await processor.status() or status
        if status is None:
            continue
        if status.state == "ready":
            output.report_new()
            return status
        if status.state == "unhealthy" and not function.spec.wait_readiness_timeout_before_failure:
            raise _not_ready_error(processor, status.reason or "a worker does not start", status)
        if status.waits_for_group and not waits:
            waits = True
            progress(status.note)
        ready = sum(worker.state in ("ready", "busy") for worker in status.workers)
        if ready > count:
            count = ready
            progress(f"{ready} of {len(status.workers)} workers ready")
    raise _not_ready_error(
        processor,
        f"it is still starting after {seconds:g} seconds",
        status,
        hint="a model that takes longer needs a larger spec.readinessTimeoutSeconds",
    )


class _StartupReporter:
    """Reports the output of a starting handler from the function's log as progress."""

    def __init__(self, processor: ProcessorHandle, progress: Progress):
        self._log = log_path(processor.key)
        self._position = processor.log_start
        self._output = StartupOutput(progress)
        self._over = False

    def report_new(self) -> None:
        if self._over:
            return
        for record, position in function_log.records_after(self._log, self._position):
            self._position = position
            if is_ready_record(record):
                self._over = True
                return
            self._output.report(record)


def _not_ready_error(
    processor: ProcessorHandle, reason: str, status: ProcessorStatus | None, hint: str | None = None
) -> NotReadyError:
    if status is not None and status.reason:
        detail = status.detail
    else:
        detail = function_log.last_messages(log_path(processor.key), processor.log_start)
    failed = failure_prefix(processor.revision, processor.key.name)
    return NotReadyError(failed + reason, detail=detail or None, hint=hint)


async def wait_for_outcome(processor: ProcessorHandle, seconds: float) -> ProcessorStatus | None:
    """Return the first status that is ready or unhealthy; after `seconds` the last one or None."""
    deadline = time.monotonic() + seconds
    status = None
    while time.monotonic() < deadline and not processor.ended.is_set():
        status = await processor.status() or status
        if status and status.state in ("ready", "unhealthy"):
            return status
        await asyncio.sleep(_MAX_PAUSE)
    return status


def start_message(function: Function) -> str:
    """Return the progress message for the start of a processor."""
    trigger = function.http_trigger()
    count = trigger[1].num_workers if trigger else 1
    return f"starting {count} worker{'' if count == 1 else 's'}"


async def check_handler_import(key: FunctionKey, number: int, progress: Progress) -> None:
    """Raise `NotReadyError`, with the handler's own error, if the handler cannot be imported.

    If the check is inconclusive without a GPU, the start of the processor decides.
    """
    progress("importing the handler without a GPU while the old revision serves")
    try:
        process, config = await _start_import_check(key, number)
    except (OSError, ValueError, KeyError) as error:
        progress(inconclusive_check_message(error))
        return
    try:
        out, _ = await process.communicate(config)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    verdict = HandlerImportVerdict.parse(out)
    verdict.raise_if_failed(number, key.name)
    if verdict.verdict == "unknown":
        progress(inconclusive_check_message(verdict.reason))


async def _start_import_check(
    key: FunctionKey, number: int
) -> tuple[asyncio.subprocess.Process, bytes]:
    """Start the check as the processor's user; return the process and its input.

    The configuration is passed through stdin, since that user may not read the file.
    """
    config = config_path(key, number).read_bytes()
    user = prepare_user(key, number, str(json.loads(config)["interpreter"]), gpu=False)
    command = runtime_command(user, "importcheck", "-")
    process = await asyncio.create_subprocess_exec(
        *command.arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        **command.options,
    )
    return process, config
