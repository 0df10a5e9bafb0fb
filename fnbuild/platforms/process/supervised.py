"""One function in the supervisor's care: its sockets, its serving processor, those that drain.

The sockets stay open while processors come and go. A switch to another revision is all or nothing:
until the new processor is ready and that is on record, the old one serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Coroutine
from typing import Any

from fnbuild.errors import ConflictError, FnbuildError, NotFoundError, NotReadyError
from fnbuild.platforms import Progress
from fnbuild.platforms.process import functionlog
from fnbuild.platforms.process.layout import Key
from fnbuild.platforms.process.ports import listeners_for
from fnbuild.platforms.process.processors import Accept, Processor, launch
from fnbuild.platforms.process.readiness import wait_ready
from fnbuild.platforms.process.settings import (
    DRAIN_SECONDS,
    restart_policy,
    termination_seconds,
    wants_gpu,
)
from fnbuild.platforms.process.sockets import Listeners
from fnbuild.spec.reader import from_raw
from fnbuild.spec.types import Function
from fnbuild.store import FunctionRow, Store

_FIRST_DELAY = 0.5
_LONGEST_DELAY = 30.0
_STEADY_SECONDS = 60.0
_GRACE_SECONDS = 5.0
_SILENT_TICKS = 5
_HUNG_TICKS = 60

log = logging.getLogger(__name__)


class SupervisedFunction:
    def __init__(self, key: Key, store: Store):
        self.key = key
        self.active: Processor | None = None
        self.listeners: Listeners | None = None
        self._store = store
        self._changing = asyncio.Lock()
        self._others: set[Processor] = set()  # that start or drain beside the active one
        self._tasks: set[asyncio.Task[None]] = set()
        self._restart: asyncio.Task[None] | None = None
        self._restarts = 0
        self._silent = 0
        self._reported: tuple[str, str] | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing of it is left to care for."""
        alive = self.active or self._others or self._restart or self.listeners
        return not alive and not self._changing.locked()

    # Switching

    async def switch(self, number: int, progress: Progress, *, overlap: bool) -> None:
        """Run revision `number` instead of the active one, if any.

        Raises `NotReadyError` or `ConflictError` (a port is taken); what ran before runs on then.
        """
        if self._changing.locked():
            raise ConflictError(f"{self.key.name} is changing already", hint="try again soon")
        async with self._changing:
            self._cancel_restart()
            row, fresh = self._row(), None
            try:
                function = self._function(number)
                fresh = listeners_for(function, row, self.listeners, self._store)
                processor = await self._try(number, function, fresh, progress, overlap)
                self._commit(processor, function, fresh)
            except BaseException as error:
                await self._fall_back(number, fresh)
                self._record_failure(row, number, error)
                raise
            self._replace(processor, fresh, progress)

    async def _try(
        self, number: int, function: Function, fresh: Listeners, progress: Progress, overlap: bool
    ) -> Processor:
        old = self.active
        if old is not None and wants_gpu(function) and not overlap:
            progress(f"stopping revision {old.revision}, which holds the GPU")
            self._report("building", f"revision {number} is starting")
            self.active = None
            await old.stop(self._grace(old))
            self._others.discard(old)
        accept: Accept = "when-ready" if old is not None else "immediately"
        progress(_starting(function))
        processor = launch(self.key, number, fresh, accept)
        self._others.add(processor)
        await wait_ready(processor, function, progress)
        return processor

    def _commit(self, processor: Processor, function: Function, fresh: Listeners) -> None:
        row = self._store.revision(*self.key, processor.revision)
        if row is None:
            raise NotFoundError(f"{self.key.name} has no revision {processor.revision}")
        self._store.activate(
            *self.key,
            processor.revision,
            desired="running",
            state="ready",
            message="",
            http_port=fresh.port,
            admin_port=fresh.admin_port,
            config=row.config,
            project=function.metadata.labels.get("nuclio.io/project-name", "default"),
        )
        self._reported = ("ready", "")

    def _replace(self, processor: Processor, fresh: Listeners, progress: Progress) -> None:
        old, kept = self.active, self.listeners
        self._others.discard(processor)
        self.active, self.listeners = processor, fresh
        self._restarts = self._silent = 0
        self._later(self._after_end(processor))
        if kept is not None:
            kept.close(but=fresh)
        if old is not None:
            progress(f"draining revision {old.revision}")
            self._later(self._drain(old))
        progress(f"ready on http://{fresh.hosts[0]}:{fresh.port}")

    async def _fall_back(self, number: int, fresh: Listeners | None) -> None:
        for processor in [one for one in self._others if one.revision == number]:
            await processor.kill()
            self._others.discard(processor)
        if fresh is not None:
            fresh.close(but=self.listeners)
        if self.active is None:
            with contextlib.suppress(FnbuildError):
                # It served a moment ago: requests can wait for it in the socket's queue.
                self._resume(self._row(), "when-ready")

    def _record_failure(self, row: FunctionRow, number: int, error: BaseException) -> None:
        message = "the deploy was interrupted"
        if isinstance(error, FnbuildError):
            message = "\n".join(part for part in (error.detail, error.message) if part)
        try:
            self._store.fail(*self.key, number, message)
        except FnbuildError as problem:
            log.warning("the failure of %s is not recorded: %s", self.key, problem)
        if row.revision == 0:
            self._report("unhealthy" if isinstance(error, NotReadyError) else "error", message)

    # Coming back

    def resume(self) -> None:
        """Start the recorded active revision unless it runs; does not wait until it is ready.

        Raises `ConflictError` when the function's port is taken by somebody else.
        """
        if not self._changing.locked():
            self._resume(self._row())

    def _resume(self, row: FunctionRow, accept: Accept = "immediately") -> None:
        if self.active or row.revision == 0 or row.desired != "running":
            return
        self._cancel_restart()
        try:
            function = self._function(row.revision)
            self.listeners = listeners_for(function, row, self.listeners, self._store)
            self._start(row.revision, accept)
        except FnbuildError as error:
            self._report("error", error.message)
            self._close()
            raise

    def _start(self, revision: int, accept: Accept = "immediately") -> None:
        assert self.listeners is not None
        self.active = launch(self.key, revision, self.listeners, accept)
        self._silent = 0
        self._later(self._after_end(self.active))

    def adopt(self, processor: Processor, listeners: Listeners) -> None:
        """Take over a serving processor of a supervisor that is gone, with its sockets."""
        self.active, self.listeners = processor, listeners
        self._later(self._after_end(processor))

    def adopt_draining(self, processor: Processor) -> None:
        self._later(self._drain(processor))

    async def _after_end(self, processor: Processor) -> None:
        await processor.ended.wait()
        if processor is not self.active or processor.draining:
            return
        self.active = None
        policy = restart_policy(self._function(processor.revision))
        words = f"the processor {processor.end_in_words}"
        functionlog.append(self.key.log, "error", words)
        said = functionlog.last_words(self.key.log, processor.log_start, 5)
        if time.monotonic() - processor.started > _STEADY_SECONDS:
            self._restarts = 0
        if policy.allows(self._restarts, processor.exit_status):
            delay = min(_LONGEST_DELAY, _FIRST_DELAY * 2**self._restarts)
            self._restarts += 1
            self._report("unhealthy", f"{words}; it starts again in {delay:g} s\n{said}")
            self._restart = self._later(self._restart_after(delay, processor.revision))
        else:
            self._report("unhealthy", f"{words}; restart policy: {policy.name}\n{said}")
            # Nobody will answer: refusing connections is better than letting them wait.
            self._close()

    async def _restart_after(self, delay: float, revision: int) -> None:
        await asyncio.sleep(delay)
        self._restart = None
        if self.active is None and self.listeners is not None:
            self._start(revision)

    # Going

    async def stop(self) -> None:
        """End its processors and close its sockets; requests in flight are answered."""
        async with self._changing:
            self._cancel_restart()
            found = [*self._others, *([self.active] if self.active else [])]
            self.active = None
            await asyncio.gather(*(one.stop(self._grace(one)) for one in found))
            self._others.clear()
            self._close()
            self._report("stopped", "")

    async def _drain(self, processor: Processor) -> None:
        self._others.add(processor)
        await processor.drain()
        if not await processor.wait(DRAIN_SECONDS + self._grace(processor)):
            await processor.stop(self._grace(processor))
        self._others.discard(processor)

    def release(self) -> None:
        """Let go of everything and leave it running, for the next supervisor to adopt."""
        for task in self._tasks:
            task.cancel()
        for processor in (*self._others, *([self.active] if self.active else [])):
            processor.release()

    def _close(self) -> None:
        if self.listeners is not None:
            self.listeners.close()
            self.listeners = None

    # Watching

    async def tick(self) -> None:
        """Look at it once: record a change of state, keep its log small."""
        functionlog.rotate(self.key.log)
        processor = self.active
        if processor is None:
            return
        status = await processor.status()
        if processor is not self.active or processor.ended.is_set():
            return
        if status is None:
            await self._is_silent(processor)
            return
        self._silent = 0
        if status.state == "ready":
            self._report("ready", "")
        elif status.state == "unhealthy":
            self._report("unhealthy", status.message)
        elif self._reported is None:
            self._report("building", "")

    async def _is_silent(self, processor: Processor) -> None:
        self._silent += 1
        if self._silent == _SILENT_TICKS:
            self._report("unhealthy", "the processor does not answer")
        if self._silent == _HUNG_TICKS:
            functionlog.append(self.key.log, "error", "the processor hangs and is ended")
            processor.signal(signal.SIGKILL)

    def _report(self, state: str, message: str) -> None:
        if self._reported == (state, message):
            return
        try:
            self._store.update_function(*self.key, state=state, message=message)
            self._reported = (state, message)
        except FnbuildError as error:
            log.warning("the state of %s is not recorded: %s", self.key, error)

    # Inside

    def _row(self) -> FunctionRow:
        row = self._store.function(*self.key)
        if row is None:
            raise NotFoundError(f"there is no function {self.key.name}")
        return row

    def _function(self, number: int) -> Function:
        row = self._store.revision(*self.key, number)
        if row is None:
            raise NotFoundError(f"{self.key.name} has no revision {number}")
        return from_raw(row.config, f"{self.key.name} revision {number}")

    def _grace(self, processor: Processor) -> float:
        try:
            return termination_seconds(self._function(processor.revision)) + _GRACE_SECONDS
        except FnbuildError:
            return _GRACE_SECONDS

    def _cancel_restart(self) -> None:
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None

    def _later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _starting(function: Function) -> str:
    trigger = function.http_trigger()
    count = trigger[1].num_workers if trigger else 1
    return f"starting {count} worker{'' if count == 1 else 's'}"
