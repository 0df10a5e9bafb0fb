"""An operation on a function, and its effect on the function's status."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from fnbuild.errors import PreconditionError
from fnbuild.function.types import Function
from fnbuild.platforms import Deployment, FunctionKey, FunctionState, Platform, Progress
from fnbuild.store import OperationState

RESTORE = "restore"
"""The action of an operation that the reconciler begins."""

FAILURE_SHOWN_SECONDS = 600.0
"""Seconds for which a failed operation determines the state of a function that still serves."""


@dataclass(frozen=True, slots=True)
class PlannedOperation:
    """A valid operation before it begins. `work` may return the resulting `Deployment`.

    `function` is the requested one, None if the operation requests none.
    """

    key: FunctionKey
    platform: str
    action: str
    work: Callable[[Progress], object]
    function: Function | None = None

    @classmethod
    def of(
        cls, function: Function, platform: Platform, action: str, work: Callable[[Progress], object]
    ) -> PlannedOperation:
        return cls(FunctionKey.of(function), platform.name, action, work, function)


@dataclass(frozen=True, slots=True)
class Operation:
    """One deploy, delete, rollback or other change of a function.

    `action` is the kind of operation in one word. Times are ISO 8601 in UTC, `ended` is "" until
    the end. `pending_function` is the one that it creates, None once that exists. `revision` is
    the active one at the end, 0 without one. `refused` is True if it failed because of another
    operation.
    """

    id: int
    namespace: str
    name: str
    platform: str
    action: str
    actor: str
    state: OperationState
    message: str
    started: str
    ended: str
    pending_function: Function | None
    revision: int = 0
    refused: bool = False

    @property
    def in_progress(self) -> bool:
        return self.state in ("waiting", "running")


def function_status(
    deployment: Deployment, operation: Operation | None, now: float
) -> tuple[FunctionState, str]:
    """Return the state of a function for clients, and its message.

    Clients that wait for an operation must not take the state before it for its outcome, and they
    have to learn that it failed although the previous revision still serves. `now` is in seconds
    since the epoch.
    """
    own = deployment.state, deployment.message
    if operation is None or operation.action == "delete":
        return own
    if operation.in_progress:
        return "building", operation.message
    if operation.refused:
        return _status_after_refusal(deployment, operation, now)
    if operation.state == "done" or deployment.revision != operation.revision:
        return own
    return _status_after_failure(deployment, operation, now)


def _status_after_failure(
    deployment: Deployment, operation: Operation, now: float
) -> tuple[FunctionState, str]:
    """Return the status of a function that has not changed since a failed operation."""
    own = deployment.state, deployment.message
    if operation.action == RESTORE:
        return (
            own if deployment.replicas[0] else _status_after_failed_restore(deployment, operation)
        )
    if deployment.replicas[0]:
        return _status_while_serving(deployment, operation, now)
    return "error", (own[0] == "error" and own[1]) or operation.message


def _status_after_refusal(
    deployment: Deployment, operation: Operation, now: float
) -> tuple[FunctionState, str]:
    """Return the status of a function after a refused operation, which does not affect it."""
    if _is_old(operation, now) or operation.message in deployment.message:
        return deployment.state, deployment.message
    message = f"the last {operation.action} requested here was refused: {operation.message}"
    return deployment.state, "\n".join(text for text in (deployment.message, message) if text)


def _status_after_failed_restore(
    deployment: Deployment, operation: Operation
) -> tuple[FunctionState, str]:
    """Return the status of a function that should run and could not be restored."""
    message = f"starting it again failed: {operation.message}"
    return deployment.state, "\n".join(text for text in (deployment.message, message) if text)


def _status_while_serving(
    deployment: Deployment, operation: Operation, now: float
) -> tuple[FunctionState, str]:
    """Return the status of a function that still serves after a failed operation."""
    if _is_old(operation, now):
        return deployment.state, deployment.message
    suffix = f"; revision {deployment.revision} goes on serving"
    # Lists show the first line of a message.
    first, *rest = operation.message.replace(suffix, "").split("\n")
    return "error", "\n".join([first.removesuffix(":") + suffix, *rest])


def _is_old(operation: Operation, now: float) -> bool:
    return now - datetime.fromisoformat(operation.ended).timestamp() > FAILURE_SHOWN_SECONDS


_IN_PROGRESS_MESSAGE = "Function is being provisioned and cannot be changed until it is done"


def refuse_if_changing(deployment: Deployment) -> None:
    """Raise `PreconditionError` while a function is changed without this dashboard."""
    if deployment.ongoing_change:
        raise PreconditionError(_IN_PROGRESS_MESSAGE, hint=f"it is {deployment.ongoing_change}")


def in_progress_error(operation: Operation | None) -> PreconditionError:
    """Return Nuclio's error for a change while another operation is under way."""
    if operation is not None:
        description = f"{operation.action} by {operation.actor}"
    else:
        description = "another change"
    return PreconditionError(
        _IN_PROGRESS_MESSAGE,
        hint=f"{description} is under way: GET /api/functions/NAME/operation shows its progress",
    )
