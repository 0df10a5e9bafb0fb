"""Who changes what, on every platform: a wrapper that records each change, and in whose name.

The audit log is kept in the data directory of whoever makes the change, and told to the logger
`fnbuild.audit` at once. A change that was made counts as made even when it cannot be recorded.
"""

from __future__ import annotations

import getpass
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, cast

from fnbuild.errors import FnbuildError
from fnbuild.platforms.base import (
    Deployment,
    FunctionKey,
    Plan,
    Platform,
    Progress,
    Project,
    Reservation,
)
from fnbuild.spec.secrets import hidden, hiding
from fnbuild.spec.types import Function, to_dict

acting_as: ContextVar[str] = ContextVar("acting_as", default="")
"""In whose name changes are made; the user's own where it is empty."""

DONE = "done"

_recorded_targets: ContextVar[set[str] | None] = ContextVar("_recorded_targets", default=None)
"""The functions whose changes were recorded in the change that is under way as a whole."""

_audit_log = logging.getLogger("fnbuild.audit")
_log = logging.getLogger(__name__)


def current_actor() -> str:
    """Who changes something now."""
    if asked := acting_as.get():
        return asked
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def with_audit_log(platform: Platform) -> Platform:
    """The same platform, whose changes are recorded."""
    return cast("Platform", _AuditedPlatform(platform))


class _AuditedPlatform:
    """What reads goes to the platform itself; what changes is recorded with its outcome."""

    def __init__(self, platform: Platform):
        self._platform = platform

    def __getattr__(self, name: str) -> Any:
        return getattr(self._platform, name)

    def apply(self, plan: Plan, progress: Progress) -> Deployment:
        secret_values = hiding(to_dict(plan.function))
        with self._recording("deploy", _function_key(plan.function), secret_values):
            return self._platform.apply(plan, progress)

    @contextmanager
    def reserve(self, function: Function, progress: Progress) -> Iterator[Reservation]:
        """Record refusals and deploys; a failure between them changes nothing on the platform."""
        key = _function_key(function)
        with ExitStack() as stack:
            with self._recording("deploy", key) as note:
                note.nothing = True
                reservation = stack.enter_context(self._platform.reserve(function, progress))

            def apply(plan: Plan, progress: Progress) -> Deployment:
                with self._recording("deploy", key, hiding(to_dict(plan.function))):
                    return reservation.apply(plan, progress)

            yield Reservation(apply)

    def delete(self, namespace: str, name: str, *, image: bool = False) -> bool:
        with self._recording("delete", FunctionKey(namespace, name)) as note:
            found = self._platform.delete(namespace, name, image=image)
            note.nothing = not found
            return found

    def rollback(
        self, namespace: str, name: str, revision: int | None, progress: Progress, **options: Any
    ) -> Deployment:
        with self._recording("rollback", FunctionKey(namespace, name)):
            return self._platform.rollback(namespace, name, revision, progress, **options)

    def redeploy(self, namespace: str, name: str, progress: Progress, **options: Any) -> Deployment:
        with self._recording("redeploy", FunctionKey(namespace, name)):
            return self._platform.redeploy(namespace, name, progress, **options)

    def store_imported(self, function: Function) -> Deployment:
        with self._recording("import", _function_key(function)):
            return self._platform.store_imported(function)

    def restore(self, progress: Progress, function: FunctionKey | None = None) -> tuple[str, ...]:
        with self._recording("restore", function) as note:
            restored = self._platform.restore(progress, function)
            note.nothing = not restored
            note.outcome = ", ".join((DONE, *restored))
            return restored

    def create_project(self, project: Project) -> bool:
        with self._recording(
            "create project", FunctionKey(project.namespace, project.name)
        ) as note:
            made = self._platform.create_project(project)
            note.nothing = not made
            return made

    def update_project(self, project: Project) -> bool:
        with self._recording(
            "update project", FunctionKey(project.namespace, project.name)
        ) as note:
            found = self._platform.update_project(project)
            note.nothing = not found
            return found

    def delete_project(self, namespace: str, name: str, *, cascade: bool) -> bool:
        members = self._platform.deployments(namespace, name) if cascade else []
        with self._recording("delete project", FunctionKey(namespace, name)) as note:
            found = self._platform.delete_project(namespace, name, cascade=cascade)
            note.nothing = not found
        for member in members:
            with self._recording("delete", FunctionKey(namespace, member.name)):
                pass
        return found

    @contextmanager
    def _recording(
        self, action: str, key: FunctionKey | None, secret_values: tuple[str, ...] = ()
    ) -> Iterator[_AuditEntry]:
        target = f"{self._platform.name} {key}" if key else self._platform.name
        note = _AuditEntry()
        try:
            yield note
        except BaseException as error:
            self._record(action, target, hidden(_failure_text(error), secret_values))
            raise
        if not note.nothing:
            self._record(action, target, note.outcome)

    def _record(self, action: str, target: str, outcome: str) -> None:
        record_change(action, target, outcome)
        if (seen := _recorded_targets.get()) is not None and not action.endswith("project"):
            seen.add(target)


class _AuditEntry:
    """How a change ended; `nothing` when there was nothing to change."""

    outcome = DONE
    nothing = False


@contextmanager
def audited_change(
    action: str, platform: str, key: FunctionKey, secret_values: tuple[str, ...] = ()
) -> Iterator[None]:
    """A change of a function with all that comes before its platform is asked for it.

    One that fails before that is recorded here, and so is a delete of what was there by name only:
    each change has one line.
    """
    target, seen = f"{platform} {key}", set[str]()
    outer = _recorded_targets.set(seen)
    try:
        yield
    except BaseException as error:
        if target not in seen:
            record_change(action, target, hidden(_failure_text(error), secret_values))
        raise
    finally:
        _recorded_targets.reset(outer)
    if action == "delete" and target not in seen:
        record_change(action, target)


def _failure_text(error: BaseException) -> str:
    return f"failed: {error.message if isinstance(error, FnbuildError) else type(error).__name__}"


def record_change(action: str, target: str, outcome: str = DONE, *, by: str = "") -> None:
    """Note a change that somebody has made, or tried to make: whoever is acting, if not `by`."""
    from fnbuild.store import Store

    who = by or current_actor()
    line = _printable((outcome.strip().splitlines() or [""])[0])
    target = _printable(target)
    _audit_log.info("%s: %s %s: %s", who, action, target, line)
    try:
        with Store.open() as store:
            store.record(who, action, target, line)
    except FnbuildError as error:
        _log.warning("%s %s is not in the audit log: %s", action, target, error.message)


def _printable(text: str) -> str:
    """The text as one line that a terminal only shows."""
    return "".join(one if one.isprintable() else "\ufffd" for one in text)


def _function_key(function: Function) -> FunctionKey:
    return FunctionKey(function.metadata.namespace, function.metadata.name)
