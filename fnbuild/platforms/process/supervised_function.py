"""A function in the supervisor: its sockets, its active processor, and processors that drain.

The sockets stay open while processors are replaced. A switch to another revision is atomic: the old
processor serves until the new one is ready and recorded as active.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Coroutine
from typing import Any

from fnbuild.builder.processor_settings import DRAIN_SECONDS, start_seconds, termination_seconds
from fnbuild.errors import ConflictError, FnbuildError, PlatformError, StoreError
from fnbuild.function.types import Function
from fnbuild.platforms import FunctionKey, Progress, function_log
from fnbuild.platforms.process.layout import log_path
from fnbuild.platforms.process.listeners import Listeners, open_listeners_for
from fnbuild.platforms.process.processor_handle import AcceptMode, ProcessorHandle, start_processor
from fnbuild.platforms.process.readiness import (
    check_handler_import,
    start_message,
    wait_for_outcome,
    wait_until_ready,
)
from fnbuild.platforms.process.records import StoredFunction
from fnbuild.platforms.processor_status import ProcessorStatus
from fnbuild.platforms.settings import RestartPolicy, needs_gpu, restart_policy
from fnbuild.store import Store

_FIRST_DELAY = 0.5
_MAX_DELAY = 30.0
_STEADY_SECONDS = 60.0
_GRACE_SECONDS = 5.0
_FIRST_RETRY = 1.0
_SILENT_TICKS = 5
_HUNG_TICKS = 60

log = logging.getLogger(__name__)


class SupervisedFunction:
    def __init__(self, key: FunctionKey, store: Store):
        self.key = key
        self.active: ProcessorHandle | None = None
        self.listeners: Listeners | None = None
        self._stored = StoredFunction(key, store)
        self._changing = asyncio.Lock()
        self._other_processors: set[ProcessorHandle] = set()  # they start or drain
        self._tasks: set[asyncio.Task[None]] = set()
        self._restart: asyncio.Task[None] | None = None
        self._restarts = 0
        self._retries = 0  # while a port is taken, or the machine is short of resources
        self._silent_ticks = 0

    @property
    def idle(self) -> bool:
        """True if the function has no processors, sockets or pending work."""
        alive = self.active or self._other_processors or self._restart or self.listeners
        return not alive and not self._changing.locked()

    @property
    def unwritten(self) -> tuple[str, str] | None:
        """Return the last state and message if they could not be written to the store."""
        return self._stored.unwritten

    # Switching

    async def switch(self, number: int, progress: Progress, *, overlap: bool) -> None:
        """Replace the active revision, if any, by revision `number`.

        Raises `NotReadyError` or `ConflictError`; the previous revision then keeps running.
        """
        async with self._changing:
            self._cancel_restart()
            self._stored.forget_report()
            before, listeners = self.active, None
            try:
                function = self._stored.function(number)
                listeners = self._listeners(function)
                processor = await self._start_successor(
                    number, function, listeners, progress, overlap
                )
                self._stored.activate(number, function, listeners)
            except BaseException as error:
                await self._roll_back(number, listeners)
                self._stored.fail(number, error)
                self._add_serving_hint(error, before)
                raise
            await self._replace(processor, listeners, progress)

    def _add_serving_hint(self, error: BaseException, before: ProcessorHandle | None) -> None:
        if self.active is None or not isinstance(error, FnbuildError):
            return
        verb = "goes on serving" if self.active is before else "starts again"
        hint = f"revision {self.active.revision} {verb}"
        error.hint = f"{hint}; {error.hint}" if error.hint else hint

    async def _start_successor(
        self,
        number: int,
        function: Function,
        listeners: Listeners,
        progress: Progress,
        overlap: bool,
    ) -> ProcessorHandle:
        old = self.active
        if old is not None and needs_gpu(function) and not overlap:
            await check_handler_import(self.key, number, progress)
            progress(f"stopping revision {old.revision}, which holds the GPU")
            self._stored.report("building", f"revision {number} is starting")
            self.active = None
            self._other_processors.add(old)
            await old.stop(self._grace(old))
            self._other_processors.discard(old)
        accept: AcceptMode = "when-ready" if old is not None else "immediately"
        progress(start_message(function))
        processor = start_processor(self.key, number, listeners, accept, gpu=needs_gpu(function))
        self._other_processors.add(processor)
        await wait_until_ready(processor, function, progress)
        return processor

    async def _replace(
        self, processor: ProcessorHandle, listeners: Listeners, progress: Progress
    ) -> None:
        old, old_listeners = self.active, self.listeners
        self._other_processors.discard(processor)
        self.active, self.listeners = processor, listeners
        self._restarts = self._silent_ticks = 0
        self._create_task(self._after_end(processor))
        if old_listeners is not None:
            old_listeners.close(keep=listeners)
        if old is not None:
            progress(f"draining revision {old.revision}")
            # After this request no new connection reaches the old revision.
            await asyncio.shield(self._drain(old))
        grpc = f", gRPC on port {listeners.grpc_port}" if listeners.grpc else ""
        progress(f"ready on http://{listeners.hosts[0]}:{listeners.port}{grpc}")

    async def _roll_back(self, number: int, listeners: Listeners | None) -> None:
        for processor in [other for other in self._other_processors if other.revision == number]:
            await processor.kill()
            self._other_processors.discard(processor)
        if listeners is not None:
            listeners.close(keep=self.listeners)
        if self.active is None:
            revision = self._active_revision()
            # Two processors of the same revision would share their files in `run/`.
            for processor in [
                other for other in self._other_processors if other.revision == revision
            ]:
                await processor.stop(self._grace(processor))
                self._other_processors.discard(processor)
            with contextlib.suppress(FnbuildError):
                # It served a moment ago, so requests can wait in the socket's queue.
                self._resume("when-ready")

    # Starting again

    def resume(self) -> None:
        """Start the active revision unless it runs, without waiting until it is ready.

        Raises `ConflictError` if the function's port is taken.
        """
        if not self._changing.locked():
            self._restarts = self._retries = 0
            self._resume("immediately")

    def _resume(self, accept: AcceptMode) -> None:
        if self.active:
            return
        try:
            row = self._stored.row()
            if row.revision == 0 or row.desired != "running":
                return
            self._cancel_restart()
            self.listeners = self._listeners(self._stored.function(row.revision))
            self._start(row.revision, accept)
        except FnbuildError as error:
            self._close()
            retry = ""
            if isinstance(error, ConflictError | PlatformError | StoreError):
                self._restart = self._create_task(self._resume_after(self._retry_delay(), accept))
                taken = isinstance(error, ConflictError)
                retry = "; it is tried again" + (" until the port is free" if taken else "")
            self._stored.report("error", error.message + retry)
            raise
        self._retries = 0

    async def _resume_after(self, delay: float, accept: AcceptMode) -> None:
        await asyncio.sleep(delay)
        self._restart = None
        # A failure is recorded and retried.
        with contextlib.suppress(FnbuildError):
            self._resume(accept)

    def _start(self, revision: int, accept: AcceptMode) -> None:
        assert self.listeners is not None
        gpu = needs_gpu(self._stored.function(revision))
        self.active = start_processor(self.key, revision, self.listeners, accept, gpu=gpu)
        self._silent_ticks = 0
        self._create_task(self._after_end(self.active))

    def adopt(self, processor: ProcessorHandle, listeners: Listeners) -> None:
        """Take over a running processor of a previous supervisor, with its sockets."""
        self.active, self.listeners = processor, listeners
        self._create_task(self._after_end(processor))

    def adopt_draining(self, processor: ProcessorHandle) -> None:
        self._drain(processor)

    async def _after_end(self, processor: ProcessorHandle) -> None:
        await processor.ended.wait()
        if processor is not self.active or processor.draining:
            return
        self.active = None
        reason = f"the processor {processor.end_description}"
        function_log.append(log_path(self.key), "error", reason)
        if time.monotonic() - processor.started > _STEADY_SECONDS:
            self._restarts = 0
        self._restart = self._create_task(self._restart_by_policy(processor, reason))

    async def _restart_by_policy(self, processor: ProcessorHandle, reason: str) -> None:
        output = function_log.last_messages(log_path(self.key), processor.log_start, 5)
        policy = await self._policy(processor.revision)
        if not policy.allows(self._restarts, processor.exit_status):
            self._restart = None
            self._stored.report("unhealthy", f"{reason}; restart policy: {policy.name}\n{output}")
            # No processor will answer, so connections are refused rather than left waiting.
            self._close()
            return
        delay = min(_MAX_DELAY, _FIRST_DELAY * 2**self._restarts)
        self._restarts += 1
        self._stored.report("unhealthy", f"{reason}; it starts again in {delay:g} s\n{output}")
        await self._restart_after(delay, processor.revision, reason)

    async def _policy(self, revision: int) -> RestartPolicy:
        """Return the restart policy of the revision, once the store can be read."""
        while True:
            try:
                policy = restart_policy(self._stored.function(revision))
            except StoreError as error:
                log.warning("the restart policy of %s cannot be read: %s", self.key, error)
                await asyncio.sleep(self._retry_delay())
            else:
                self._retries = 0
                return policy

    async def _restart_after(self, delay: float, revision: int, reason: str) -> None:
        """Start the revision again; a start that fails is retried until one succeeds."""
        while True:
            await asyncio.sleep(delay)
            if self.active is not None or self.listeners is None:
                self._restart = None
                return
            try:
                self._start(revision, "immediately")
            except FnbuildError as error:
                delay = self._retry_delay()
                message = f"{reason}; {error.message}; it is tried again in {delay:g} s"
                self._stored.report("unhealthy", message)
                function_log.append(log_path(self.key), "error", message)
            else:
                self._restart = None
                self._retries = 0
                return

    def _retry_delay(self) -> float:
        delay = min(_MAX_DELAY, _FIRST_RETRY * 2.0 ** min(self._retries, 10))
        self._retries += 1
        return delay

    async def wait_until_settled(self) -> ProcessorStatus | None:
        """Wait until the active processor is ready or has failed."""
        if self.active is None:
            return None
        seconds = start_seconds(self._stored.function(self.active.revision))
        return await wait_for_outcome(self.active, seconds)

    # Stopping

    async def stop(self) -> None:
        """Stop the processors and close the sockets; requests in flight are answered."""
        async with self._changing:
            self._cancel_restart()
            processors = [*self._other_processors, *([self.active] if self.active else [])]
            self.active = None
            await asyncio.gather(
                *(processor.stop(self._grace(processor)) for processor in processors)
            )
            self._other_processors.clear()
            self._close()
            self._stored.report("stopped", "")

    def _drain(self, processor: ProcessorHandle) -> asyncio.Task[None]:
        """Drain the processor; the returned task ends when the request to drain was sent."""
        self._other_processors.add(processor)
        request = self._create_task(processor.drain())
        self._create_task(self._wait_for_end(processor))
        return request

    async def _wait_for_end(self, processor: ProcessorHandle) -> None:
        if not await processor.wait(DRAIN_SECONDS + self._grace(processor)):
            await processor.stop(self._grace(processor))
        self._other_processors.discard(processor)

    def release(self) -> None:
        """Leave the processors running for the next supervisor to adopt."""
        for task in self._tasks:
            task.cancel()
        for processor in (*self._other_processors, *([self.active] if self.active else [])):
            processor.release()

    def _close(self) -> None:
        if self.listeners is not None:
            self.listeners.close()
            self.listeners = None

    # Watching

    async def tick(self) -> None:
        """Record the current state and rotate the log."""
        self._stored.retry_report()
        try:
            function_log.rotate(log_path(self.key))
        except OSError as error:
            log.warning("the log of %s is not rotated: %s", self.key, error)
        processor = self.active
        if processor is None:
            return
        status = await processor.status()
        if status is None and not processor.can_probe:
            return
        if processor is not self.active or processor.ended.is_set():
            return
        if status is None:
            await self._count_silent_tick(processor)
            return
        self._silent_ticks = 0
        if status.state == "ready":
            self._stored.report("ready", processor.notice)
        elif status.state == "unhealthy":
            self._stored.report("unhealthy", status.full_reason)
        elif not self._stored.has_reported:
            self._stored.report("building", "")

    async def _count_silent_tick(self, processor: ProcessorHandle) -> None:
        self._silent_ticks += 1
        if self._silent_ticks == _SILENT_TICKS:
            self._stored.report("unhealthy", "the processor does not answer")
        if self._silent_ticks == _HUNG_TICKS:
            function_log.append(log_path(self.key), "error", "the processor hangs and is killed")
            processor.signal(signal.SIGKILL)

    # Helpers

    def _listeners(self, function: Function) -> Listeners:
        return open_listeners_for(function, self._stored.row(), self.listeners, self._stored.store)

    def _active_revision(self) -> int:
        """Return the active revision on record, 0 if the store cannot be read."""
        try:
            return self._stored.row().revision
        except FnbuildError:
            return 0

    def _grace(self, processor: ProcessorHandle) -> float:
        try:
            return termination_seconds(self._stored.function(processor.revision)) + _GRACE_SECONDS
        except FnbuildError:
            return _GRACE_SECONDS

    def _cancel_restart(self) -> None:
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None

    def _create_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
