"""Run operations: each function's deploys, deletes and rollbacks, with their output and outcome.

Operations run in threads. Their records are in the store, so that they outlive the dashboard and
other dashboards with the same store see them. A dashboard that has died is recognized by its lock,
which the kernel has released.
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

from fnbuild.dashboard.operations.dashboard_lock import DashboardLock
from fnbuild.dashboard.operations.model import Operation, PlannedOperation, in_progress_error
from fnbuild.dashboard.operations.output import OperationOutput, active_revision, has_succeeded
from fnbuild.deploy.access import without_credential_variables
from fnbuild.errors import BusyError, FnbuildError, UnavailableError
from fnbuild.function.reader import function_from_dict
from fnbuild.function.secrets import secret_values
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import (
    NO_CONNECT_OPTIONS,
    ConnectOptions,
    Deployment,
    FunctionKey,
    Progress,
    audit,
)
from fnbuild.platforms.revision_records import stored_config
from fnbuild.store import OperationDraft, OperationRow, OperationState, OperationTable, Store

MAX_CONCURRENT = 4
"""Operations that run at the same time; others wait for one to end."""

_CREATING_ACTIONS = ("deploy", "import")
_STOP_SECONDS = 60.0
_RETRY_SECONDS = 1.0
_POLL_SECONDS = 0.1
_MAX_OUTCOMES = 200

_log = logging.getLogger(__name__)


class OperationRunner:
    """Runs operations in threads, and records them with their output.

    Usable from any thread; asynchronous methods from the loop that called `start`.
    """

    def __init__(self, store: Store, connect: ConnectOptions = NO_CONNECT_OPTIONS):
        self._records = OperationTable(store)
        self._connect = connect
        self._lock = DashboardLock()
        self._slots = threading.Semaphore(MAX_CONCURRENT)
        self._outcomes: dict[int, Future[FnbuildError | None]] = {}
        self._functions: dict[tuple[int, str], Function | None] = {}
        self._stopping = False
        self.on_change: list[Callable[[], None]] = []

    async def start(self) -> None:
        """Take this dashboard's lock, and end the operations of dashboards that have died."""
        self._lock.acquire()
        await anyio.to_thread.run_sync(self._end_orphaned)

    async def stop(self) -> None:
        """Let running operations end, for a minute at most; waiting ones do not begin."""
        self._stopping = True
        deadline = time.monotonic() + _STOP_SECONDS
        for row in await anyio.to_thread.run_sync(self._records.in_progress):
            outcome = self._outcomes.get(row.id)
            if row.owner != self._lock.name or outcome is None:
                continue
            if row.state == "running":
                timeout = max(0.0, deadline - time.monotonic())
                await asyncio.wait({asyncio.wrap_future(outcome)}, timeout=timeout)
            self._abandon(row, "the dashboard was stopped before it was done")
        self._lock.release()

    # Queries

    def newest(self, namespace: str, name: str) -> Operation | None:
        """Return the newest operation of a function, None without one."""
        row = self._records.of_function(namespace, name)
        if row is not None and self._is_orphaned(row):
            self._end_orphaned()
            row = self._records.of_function(namespace, name)
        return self._operation(row) if row is not None else None

    def newest_by_function(self, namespace: str) -> dict[str, Operation]:
        """Return the newest operation of each function, by its name."""
        rows = self._records.all(namespace)
        if any(self._is_orphaned(row) for row in rows):
            self._end_orphaned()
            rows = self._records.all(namespace)
        return {row.name: self._operation(row) for row in rows}

    def output_lines(self, operation: Operation, after: int = 0) -> list[Raw]:
        """Return the output as `{time, level, message}`, times in milliseconds since the epoch."""
        return [
            {"time": line.time, "level": line.level, "message": line.message}
            for line in self._records.lines(operation.id, after)
        ]

    async def follow(self, operation: Operation) -> AsyncIterator[tuple[str, Raw]]:
        """Yield `line` for each line from the first on, and `state` at each change of state.

        Ends after the final state.
        """
        state, line_count = "", 0
        while True:
            row = await anyio.to_thread.run_sync(self._records.by_id, operation.id)
            lines = await anyio.to_thread.run_sync(self.output_lines, operation, line_count)
            line_count += len(lines)
            for line in lines:
                yield "line", line
            if row is None:
                return
            if row.state != state:
                state = row.state
                yield "state", {"state": row.state, "message": row.message}
            if not row.in_progress:
                return
            if self._is_orphaned(row):
                await anyio.to_thread.run_sync(self._end_orphaned)
            await asyncio.sleep(_POLL_SECONDS)

    async def wait_until_ended(self, operation: Operation) -> Operation:
        """Wait for the end of an operation of any dashboard, and return its final state."""
        newest: Operation | None = operation
        while newest is not None and newest.id == operation.id and newest.in_progress:
            await asyncio.sleep(_POLL_SECONDS)
            newest = await anyio.to_thread.run_sync(
                self.newest, operation.namespace, operation.name
            )
        return newest if newest is not None else operation

    async def wait_for_success(self, operation: Operation) -> None:
        """Wait for the end of an operation of this dashboard. Raises its error if it failed."""
        error = await asyncio.wrap_future(self._outcomes[operation.id])
        if error is not None:
            raise error

    # Execution

    def begin(self, planned: PlannedOperation, actor: str) -> Operation:
        """Record an operation and run its work in a thread, with the caller's context.

        Raises `PreconditionError` while another operation of the function is under way.
        """
        if self._stopping:
            raise _stopping_error()
        key, action, function = planned.key, planned.action, planned.function
        config: Raw = {}
        if function is not None:
            config = stored_config(without_credential_variables(function))
        draft = OperationDraft(*key, planned.platform, action, actor, self._lock.name, config)
        if (newest := self.newest(*key)) is not None and newest.in_progress:
            raise in_progress_error(newest)
        row = self._records.add_waiting(draft)
        if row is None:
            raise in_progress_error(self.newest(*key))
        self._add_outcome(row.id)
        context = contextvars.copy_context()
        output = OperationOutput(self._records, row.id, secret_values(config))
        run = partial(self._run, row, planned.work, output)
        threading.Thread(
            target=context.run, args=(run,), name=f"{action} {key.name}", daemon=True
        ).start()
        self._notify()
        return self._operation(row)

    def _add_outcome(self, number: int) -> None:
        outcome: Future[FnbuildError | None] = Future()
        outcome.set_running_or_notify_cancel()  # so that waiting callers cannot cancel it
        done = [key for key, future in list(self._outcomes.items()) if future.done()]
        for key in done[: max(0, len(self._outcomes) - _MAX_OUTCOMES)]:
            del self._outcomes[key]
        self._outcomes[number] = outcome

    def _run(
        self, row: OperationRow, work: Callable[[Progress], object], output: OperationOutput
    ) -> None:
        with self._slots:
            if self._stopping:
                self._outcomes[row.id].set_result(_stopping_error())
                return
            error, result = self._execute(row, work, output)
        if error is None:
            revision = result.revision if isinstance(result, Deployment) else 0
            self._end(row, "done", "", revision)
        else:
            refused = isinstance(error, BusyError)
            self._end(
                row,
                "failed",
                output.add_error(error),
                active_revision(row, self._connect),
                refused=refused,
            )
        self._outcomes[row.id].set_result(error)
        self._notify()

    def _execute(
        self, row: OperationRow, work: Callable[[Progress], object], output: OperationOutput
    ) -> tuple[FnbuildError | None, object]:
        try:
            self._records.mark_running(row.id)
            self._notify()
            key = FunctionKey(row.namespace, row.name)
            with audit.audited_change(row.action, row.platform, key, output.secret_values):
                return None, work(output)
        except FnbuildError as error:
            return error, None
        except Exception as error:  # noqa: BLE001 - the edge of a thread
            _log.exception("%s of %s failed unexpectedly", row.action, row.name)
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
        """Record the end; retry until the store can be written to."""
        while True:
            try:
                self._records.end(row.id, state, message, revision, refused=refused)
            except FnbuildError:
                _log.exception("the end of %s of %s cannot be recorded", row.action, row.name)
                time.sleep(_RETRY_SECONDS)
            else:
                return

    def _notify(self) -> None:
        for callback in list(self.on_change):
            callback()

    # Operations of dashboards that have died

    def _is_orphaned(self, row: OperationRow) -> bool:
        is_foreign = row.owner != self._lock.name
        return row.in_progress and is_foreign and not self._lock.is_alive(row.owner)

    def _end_orphaned(self) -> None:
        """Record the outcome of operations whose dashboard died before their end."""
        for row in self._records.in_progress():
            if self._is_orphaned(row):
                if has_succeeded(row, self._connect):
                    self._records.end(row.id, "done", "", active_revision(row, self._connect))
                else:
                    self._abandon(row, f"the dashboard ended before the {row.action} was done")
        self._notify()

    def _abandon(self, row: OperationRow, reason: str) -> None:
        """Record an operation as failed, unless its end was recorded meanwhile."""
        if self._records.end(row.id, "failed", reason, active_revision(row, self._connect)):
            target = f"{row.platform} {FunctionKey(row.namespace, row.name)}"
            audit.record_change(row.action, target, f"failed: {reason}", by=row.actor)

    def _operation(self, row: OperationRow) -> Operation:
        return Operation(
            row.id, row.namespace, row.name, row.platform, row.action, row.actor, row.state,
            row.message, row.started, row.ended, self._pending_function(row), row.revision,
            bool(row.refused),
        )  # fmt: skip

    def _pending_function(self, row: OperationRow) -> Function | None:
        """Return the function that an operation creates; cached, because lists need it often."""
        if row.action not in _CREATING_ACTIONS or row.state == "done":
            return None
        key = (row.id, row.state)
        if key not in self._functions:
            config = self._records.config(row.id)
            if len(self._functions) > _MAX_OUTCOMES:
                self._functions.clear()
            self._functions[key] = function_from_dict(config, row.name) if config else None
        return self._functions[key]


def _stopping_error() -> UnavailableError:
    return UnavailableError("the dashboard is being stopped", hint="try again in a minute")
