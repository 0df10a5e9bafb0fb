"""The audit log: a wrapper around a platform that records each change with its actor and outcome.

The log is kept in the data directory of the process that makes the change, and written to the
logger `fnbuild.audit` as well. A change does not fail if it cannot be recorded.
"""

from __future__ import annotations

import getpass
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, cast

from fnbuild.errors import FnbuildError
from fnbuild.function.secrets import mask_values, secret_values
from fnbuild.function.types import Function, to_dict
from fnbuild.platforms.base import Deployment, FunctionKey, Project, Reservation, SleepAction
from fnbuild.platforms.plans import Plan
from fnbuild.platforms.protocol import Platform
from fnbuild.progress import Progress

acting_as: ContextVar[str] = ContextVar("acting_as", default="")
"""The actor of changes; empty for the user of this process."""

DONE = "done"

_recorded_targets: ContextVar[set[str] | None] = ContextVar("_recorded_targets", default=None)
"""The targets recorded so far in the current `audited_change`; None outside of one."""

_audit_log = logging.getLogger("fnbuild.audit")
_log = logging.getLogger(__name__)


def current_actor() -> str:
    """Return the name of the user or client that makes changes now."""
    if name := acting_as.get():
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the user of a container may have no name
        return "unknown"


def with_audit_log(platform: Platform) -> Platform:
    """Return the platform with a wrapper that records its changes."""
    return cast("Platform", _AuditedPlatform(platform))


class _AuditedPlatform:
    """A platform that records each change with its outcome and passes other calls on."""

    def __init__(self, platform: Platform):
        self._platform = platform

    def __getattr__(self, name: str) -> Any:
        return getattr(self._platform, name)

    def apply(self, plan: Plan, progress: Progress) -> Deployment:
        secrets = secret_values(to_dict(plan.function))
        with self._recording("deploy", FunctionKey.of(plan.function), secrets):
            return self._platform.apply(plan, progress)

    @contextmanager
    def reserve(self, function: Function, progress: Progress) -> Iterator[Reservation]:
        """Record refusals and deploys; a failure between them changes nothing on the platform."""
        key = FunctionKey.of(function)
        with ExitStack() as stack:
            with self._recording("deploy", key) as entry:
                entry.unchanged = True
                reservation = stack.enter_context(self._platform.reserve(function, progress))

            def apply(plan: Plan, progress: Progress) -> Deployment:
                with self._recording("deploy", key, secret_values(to_dict(plan.function))):
                    return reservation.apply(plan, progress)

            yield Reservation(apply)

    def delete(self, namespace: str, name: str, *, image: bool = False) -> bool:
        with self._recording("delete", FunctionKey(namespace, name)) as entry:
            return entry.changed_if(self._platform.delete(namespace, name, image=image))

    def rollback(
        self, namespace: str, name: str, revision: int | None, progress: Progress, **options: Any
    ) -> Deployment:
        with self._recording("rollback", FunctionKey(namespace, name)):
            return self._platform.rollback(namespace, name, revision, progress, **options)

    def redeploy(self, namespace: str, name: str, progress: Progress, **options: Any) -> Deployment:
        with self._recording("redeploy", FunctionKey(namespace, name)):
            return self._platform.redeploy(namespace, name, progress, **options)

    def change_sleep(self, namespace: str, name: str, action: SleepAction) -> None:
        with self._recording(action, FunctionKey(namespace, name)):
            self._platform.change_sleep(namespace, name, action)

    def store_imported(self, function: Function) -> Deployment:
        with self._recording("import", FunctionKey.of(function)):
            return self._platform.store_imported(function)

    def restore(self, progress: Progress, function: FunctionKey | None = None) -> tuple[str, ...]:
        with self._recording("restore", function) as entry:
            restored = self._platform.restore(progress, function)
            entry.unchanged = not restored
            entry.outcome = ", ".join((DONE, *restored))
            return restored

    def create_project(self, project: Project) -> bool:
        key = FunctionKey(project.namespace, project.name)
        with self._recording("create project", key) as entry:
            return entry.changed_if(self._platform.create_project(project))

    def update_project(self, project: Project) -> bool:
        key = FunctionKey(project.namespace, project.name)
        with self._recording("update project", key) as entry:
            return entry.changed_if(self._platform.update_project(project))

    def delete_project(self, namespace: str, name: str, *, cascade: bool) -> bool:
        members = self._platform.deployments(namespace, name) if cascade else []
        with self._recording("delete project", FunctionKey(namespace, name)) as entry:
            deleted = entry.changed_if(
                self._platform.delete_project(namespace, name, cascade=cascade)
            )
        for member in members:
            with self._recording("delete", FunctionKey(namespace, member.name)):
                pass
        return deleted

    @contextmanager
    def _recording(
        self, action: str, key: FunctionKey | None, secret_values: tuple[str, ...] = ()
    ) -> Iterator[_AuditEntry]:
        target = f"{self._platform.name} {key}" if key else self._platform.name
        entry = _AuditEntry()
        try:
            yield entry
        except BaseException as error:
            self._record(action, target, mask_values(_failure_text(error), secret_values))
            raise
        if not entry.unchanged:
            self._record(action, target, entry.outcome)

    def _record(self, action: str, target: str, outcome: str) -> None:
        record_change(action, target, outcome)
        if (recorded := _recorded_targets.get()) is not None and not action.endswith("project"):
            recorded.add(target)


class _AuditEntry:
    """The outcome of a change; `unchanged` is True if there was nothing to change."""

    outcome = DONE
    unchanged = False

    def changed_if(self, changed: bool) -> bool:
        """Record the change only if it was made; return `changed`."""
        self.unchanged = not changed
        return changed


@contextmanager
def audited_change(
    action: str, platform: str, key: FunctionKey, secret_values: tuple[str, ...] = ()
) -> Iterator[None]:
    """Record a change of a function, including the steps before its platform is called.

    The change gets exactly one line: a failure before the platform's own record is recorded here,
    and so is a delete that the platform did not record.
    """
    target, recorded = f"{platform} {key}", set[str]()
    outer = _recorded_targets.set(recorded)
    try:
        yield
    except BaseException as error:
        if target not in recorded:
            record_change(action, target, mask_values(_failure_text(error), secret_values))
        raise
    finally:
        _recorded_targets.reset(outer)
    if action == "delete" and target not in recorded:
        record_change(action, target)


def _failure_text(error: BaseException) -> str:
    return f"failed: {error.message if isinstance(error, FnbuildError) else type(error).__name__}"


def record_change(action: str, target: str, outcome: str = DONE, *, by: str = "") -> None:
    """Record a change or an attempt, made by `by` or else by the current actor."""
    from fnbuild.store import Store

    name = by or current_actor()
    line = _printable((outcome.strip().splitlines() or [""])[0])
    target = _printable(target)
    _audit_log.info("%s: %s %s: %s", name, action, target, line)
    try:
        with Store.open() as store:
            store.add_audit_entry(name, action, target, line)
    except FnbuildError as error:
        _log.warning("%s %s is not in the audit log: %s", action, target, error.message)


def _printable(text: str) -> str:
    """Replace characters that a terminal would interpret."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
