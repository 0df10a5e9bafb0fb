"""A change of a function as a value, and what it makes of the function's state."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fnbuild.errors import PreconditionError
from fnbuild.function.types import Function
from fnbuild.platforms import Deployment, FunctionState
from fnbuild.store import OperationState

RESTORE = "restore"
"""The action of a change that nobody has asked for."""

FAILURE_SHOWN_SECONDS = 600.0
"""How long a change that failed is the state of a function that serves on."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One change. `action` is what was asked for, in one word; times are ISO 8601 in UTC, `ended`
    is "" until then. `function` is the one that is wanted, until it is there.

    `revision` is the active one at the end, 0 when there was none. `refused` when it failed because
    somebody else was at the function.
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
    function: Function | None
    revision: int = 0
    refused: bool = False

    @property
    def in_progress(self) -> bool:
        return self.state in ("waiting", "running")


def function_status(
    deployment: Deployment, operation: Operation | None, now: float
) -> tuple[FunctionState, str]:
    """The state of a function for clients, and its message; `now` is in seconds since the epoch.

    Those who wait for the end of a change must not take the state before it for its outcome, and
    they have to learn that it failed although the revision before it serves on.
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
    """The state of a function that is as the change left it."""
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
    """The state of a function that somebody else was changing: nothing is wrong with it."""
    if _is_old(operation, now) or operation.message in deployment.message:
        return deployment.state, deployment.message
    words = f"the last {operation.action} asked for here was refused: {operation.message}"
    return deployment.state, "\n".join(text for text in (deployment.message, words) if text)


def _status_after_failed_restore(
    deployment: Deployment, operation: Operation
) -> tuple[FunctionState, str]:
    """The state of a function that ought to run, and that could not be brought back."""
    words = f"starting it again failed: {operation.message}"
    return deployment.state, "\n".join(text for text in (deployment.message, words) if text)


def _status_while_serving(
    deployment: Deployment, operation: Operation, now: float
) -> tuple[FunctionState, str]:
    """The state of a function that serves on after a change that failed."""
    if _is_old(operation, now):
        return deployment.state, deployment.message
    serves = f"; revision {deployment.revision} goes on serving"
    # Lists show the first line of a message.
    first, *rest = operation.message.replace(serves, "").split("\n")
    return "error", "\n".join([first.removesuffix(":") + serves, *rest])


def _is_old(operation: Operation, now: float) -> bool:
    return now - datetime.fromisoformat(operation.ended).timestamp() > FAILURE_SHOWN_SECONDS


_PROVISIONED = "Function is being provisioned and cannot be changed until it is done"


def refuse_if_changing(deployment: Deployment) -> None:
    """`PreconditionError` while somebody changes a function without this dashboard."""
    if deployment.changing:
        raise PreconditionError(_PROVISIONED, hint=f"it is {deployment.changing}")


def provisioning_error(known: Operation | None) -> PreconditionError:
    """The refusal of a change while another one is under way, in Nuclio's words."""
    what = f"{known.action} by {known.actor}" if known is not None else "another change"
    return PreconditionError(
        _PROVISIONED,
        hint=f"{what} is under way: GET /api/functions/NAME/operation says how far it is",
    )
