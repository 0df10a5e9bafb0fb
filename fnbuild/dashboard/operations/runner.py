"""Changes under way: each function's deploys, deletes and rollbacks, their output and their end.

They run in threads, and what becomes of them is in the store: it outlives the dashboard, and other
dashboards with the same store see it. One that has died is known by its lock, which the kernel gave
back.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from functools import partial

import anyio.to_thread

from fnbuild.dashboard.operations.model import Operation, provisioning_error
from fnbuild.dashboard.operations.output import OperationOutput, active_revision, has_succeeded
from fnbuild.dashboard.operations.owner import OperationOwner
from fnbuild.errors import BusyError, FnbuildError, UnavailableError
from fnbuild.function.reader import function_from_dict
from fnbuild.function.secrets import secret_values
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import Deployment, FunctionKey, Progress, audit
from fnbuild.platforms.revision_records import stored_config
from fnbuild.store import OperationDraft, OperationRow, OperationState, OperationTable, Store

MAX_CONCURRENT = 4
"""Changes that run at the same time; others wait for one to end."""

_CREATING_ACTIONS = ("deploy", "import")
_STOP_SECONDS = 60.0
_RETRY_SECONDS = 1.0
_POLL_SECONDS = 0.1
_MAX_OUTCOMES = 200

_log = logging.getLogger(__name__)


class OperationRunner:
    """May be used from any thread; what is asynchronous, from the loop that started it."""

    def __init__(self, store: Store):
        self._records = OperationTable(store)
        self._owner = OperationOwner()
        self._places = threading.Semaphore(MAX_CONCURRENT)
        self._ends: dict[int, Future[FnbuildError | None]] = {}
        self._functions: dict[tuple[int, str], Function | None] = {}
        self._stopping = False
        self.on_change: list[Callable[[], None]] = []

    async def start(self) -> None:
        """Begin to be alive for other dashboards, and end what those left that are not."""
        self._owner.appear()
        await anyio.to_thread.run_sync(self._bury)

    async def stop(self) -> None:
        """Let what runs end, for a minute at most; what waits does not begin."""
        self._stopping = True
        deadline = time.monotonic() + _STOP_SECONDS
        for row in await anyio.to_thread.run_sync(self._records.in_progress):
            end = self._ends.get(row.id)
            if row.owner != self._owner.name or end is None:
                continue
            if row.state == "running":
                left = max(0.0, deadline - time.monotonic())
                await asyncio.wait({asyncio.wrap_future(end)}, timeout=left)
            self._give_up(row, "the dashboard was stopped before it was done")
        self._owner.vanish()

    # Asking

    def newest(self, namespace: str, name: str) -> Operation | None:
        """The newest change of a function, None when none is known."""
        row = self._records.newest(namespace, name)
        if row is not None and self._orphaned(row):
            self._bury()
            row = self._records.newest(namespace, name)
        return self._operation(row) if row is not None else None

    def all(self, namespace: str) -> dict[str, Operation]:
        """The newest change of each function, by its name."""
        rows = self._records.all(namespace)
        if any(self._orphaned(row) for row in rows):
            self._bury()
            rows = self._records.all(namespace)
        return {row.name: self._operation(row) for row in rows}

    def lines(self, operation: Operation, after: int = 0) -> list[Raw]:
        """The output as `{time, level, message}`, times in milliseconds since the epoch."""
        return [
            {"time": one.time, "level": one.level, "message": one.message}
            for one in self._records.lines(operation.id, after)
        ]

    async def follow(self, operation: Operation) -> AsyncIterator[tuple[str, Raw]]:
        """`line` for each line from the first on, and `state` at each change; ends behind the
        state it ended in."""
        told, seen = "", 0
        while True:
            row = await anyio.to_thread.run_sync(self._records.find, operation.id)
            lines = await anyio.to_thread.run_sync(self.lines, operation, seen)
            seen += len(lines)
            for line in lines:
                yield "line", line
            if row is None:
                return
            if row.state != told:
                told = row.state
                yield "state", {"state": row.state, "message": row.message}
            if not row.in_progress:
                return
            if self._orphaned(row):
                await anyio.to_thread.run_sync(self._bury)
            await asyncio.sleep(_POLL_SECONDS)

    async def ended(self, operation: Operation) -> Operation:
        """The operation, once it has ended."""
        now: Operation | None = operation
        while now is not None and now.id == operation.id and now.in_progress:
            await asyncio.sleep(_POLL_SECONDS)
            now = await anyio.to_thread.run_sync(self.newest, operation.namespace, operation.name)
        return now if now is not None else operation

    async def outcome(self, operation: Operation) -> None:
        """Wait for the end of an operation of this dashboard; raises what it failed with."""
        error = await asyncio.wrap_future(self._ends[operation.id])
        if error is not None:
            raise error

    # Changing

    def begin(  # noqa: PLR0913 - one keyword for each thing that is on record
        self,
        namespace: str,
        name: str,
        *,
        platform: str,
        action: str,
        actor: str,
        function: Function | None,
        work: Callable[[Progress], object],
    ) -> Operation:
        """Record the change and have it done in a thread, which sees the caller's context.

        `work` may give the `Deployment` that came of it. Raises `PreconditionError` while another
        change of the function is under way.
        """
        if self._stopping:
            raise _stopping_error()
        config = stored_config(function) if function is not None else {}
        owner = self._owner.name
        draft = OperationDraft(namespace, name, platform, action, actor, owner, config)
        if (known := self.newest(namespace, name)) is not None and known.in_progress:
            raise provisioning_error(known)
        row = self._records.begin(draft)
        if row is None:
            raise provisioning_error(self.newest(namespace, name))
        self._expect(row.id)
        context = contextvars.copy_context()
        run = partial(
            self._run, row, work, OperationOutput(self._records, row.id, secret_values(config))
        )
        threading.Thread(
            target=context.run, args=(run,), name=f"{action} {name}", daemon=True
        ).start()
        self._changed()
        return self._operation(row)

    def _expect(self, number: int) -> None:
        end: Future[FnbuildError | None] = Future()
        end.set_running_or_notify_cancel()  # so that nobody who waits can cancel it
        done = [key for key, one in list(self._ends.items()) if one.done()]
        for key in done[: max(0, len(self._ends) - _MAX_OUTCOMES)]:
            del self._ends[key]
        self._ends[number] = end

    def _run(
        self, row: OperationRow, work: Callable[[Progress], object], output: OperationOutput
    ) -> None:
        with self._places:
            if self._stopping:
                self._ends[row.id].set_result(_stopping_error())
                return
            error, made = self._done(row, work, output)
        if error is None:
            revision = made.revision if isinstance(made, Deployment) else 0
            self._end(row, "done", "", revision)
        else:
            refused = isinstance(error, BusyError)
            self._end(row, "failed", output.failed(error), active_revision(row), refused=refused)
        self._ends[row.id].set_result(error)
        self._changed()

    def _done(
        self, row: OperationRow, work: Callable[[Progress], object], output: OperationOutput
    ) -> tuple[FnbuildError | None, object]:
        try:
            self._records.run(row.id)
            self._changed()
            key = FunctionKey(row.namespace, row.name)
            with audit.audited_change(row.action, row.platform, key, output.secret_values):
                return None, work(output)
        except FnbuildError as error:
            return error, None
        except Exception as error:  # noqa: BLE001 - the edge of a thread
            _log.exception("%s of %s failed in a way unforeseen", row.action, row.name)
            return FnbuildError(f"internal error: {type(error).__name__}: {error}"), None

    def _end(
        self,
        row: OperationRow,
        state: OperationState,
        message: str,
        revision: int | None,
        *,
        refused: bool = False,
    ) -> None:
        """Record the end, however long the store cannot be written to."""
        while True:
            try:
                self._records.end(row.id, state, message, revision, refused=refused)
            except FnbuildError:
                _log.exception("the end of %s of %s cannot be recorded", row.action, row.name)
                time.sleep(_RETRY_SECONDS)
            else:
                return

    def _changed(self) -> None:
        for one in list(self.on_change):
            one()

    # Those of dashboards that have died

    def _orphaned(self, row: OperationRow) -> bool:
        return (
            row.in_progress and row.owner != self._owner.name and not self._owner.lives(row.owner)
        )

    def _bury(self) -> None:
        """Record how those ended whose dashboard did before them."""
        for row in self._records.in_progress():
            if self._orphaned(row):
                if has_succeeded(row):
                    self._records.end(row.id, "done", "", active_revision(row))
                else:
                    self._give_up(row, f"the dashboard ended before the {row.action} was done")
        self._changed()

    def _give_up(self, row: OperationRow, words: str) -> None:
        """Record that nobody saw the change to its end, unless somebody did after all."""
        if self._records.end(row.id, "failed", words, active_revision(row)):
            target = f"{row.platform} {FunctionKey(row.namespace, row.name)}"
            audit.record_change(row.action, target, f"failed: {words}", by=row.actor)

    def _operation(self, row: OperationRow) -> Operation:
        return Operation(
            row.id, row.namespace, row.name, row.platform, row.action, row.actor, row.state,
            row.message, row.started, row.ended, self._function(row), row.revision,
            bool(row.refused),
        )  # fmt: skip

    def _function(self, row: OperationRow) -> Function | None:
        """What is wanted; read once, for a list asks for it again and again."""
        if row.action not in _CREATING_ACTIONS or row.state == "done":
            return None
        known = (row.id, row.state)
        if known not in self._functions:
            config = self._records.config(row.id)
            if len(self._functions) > _MAX_OUTCOMES:
                self._functions.clear()
            self._functions[known] = function_from_dict(config, row.name) if config else None
        return self._functions[known]


def _stopping_error() -> UnavailableError:
    return UnavailableError("the dashboard is being stopped", hint="try again in a minute")
