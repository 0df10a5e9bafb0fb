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
from fnbuild.platforms.keys import Key
from fnbuild.platforms.model import Deployment, Plan, Progress, Project, Reservation
from fnbuild.platforms.protocol import Platform
from fnbuild.spec.secrets import hidden, hiding
from fnbuild.spec.types import Function, to_dict

acting_as: ContextVar[str] = ContextVar("acting_as", default="")
"""In whose name changes are made; the user's own where it is empty."""

DONE = "done"

_seen: ContextVar[set[str] | None] = ContextVar("_seen", default=None)
"""The functions whose changes were recorded in the change that is under way as a whole."""

_told = logging.getLogger("fnbuild.audit")
_log = logging.getLogger(__name__)


def actor() -> str:
    """Who changes something now."""
    if asked := acting_as.get():
        return asked
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def audited(platform: Platform) -> Platform:
    """The same platform, whose changes are recorded."""
    return cast("Platform", _Audited(platform))


class _Audited:
    """What reads goes to the platform itself; what changes is recorded with its outcome."""

    def __init__(self, platform: Platform):
        self._platform = platform

    def __getattr__(self, name: str) -> Any:
        return getattr(self._platform, name)

    def apply(self, plan: Plan, progress: Progress) -> Deployment:
        secret_values = hiding(to_dict(plan.function))
        with self._noting("deploy", _key(plan.function), secret_values):
            return self._platform.apply(plan, progress)

    @contextmanager
    def reserve(self, function: Function, progress: Progress) -> Iterator[Reservation]:
        """Record refusals and deploys; a failure between them changes nothing on the platform."""
        key = _key(function)
        with ExitStack() as stack:
            with self._noting("deploy", key) as note:
                note.nothing = True
                reservation = stack.enter_context(self._platform.reserve(function, progress))

            def apply(plan: Plan, progress: Progress) -> Deployment:
                with self._noting("deploy", key, hiding(to_dict(plan.function))):
                    return reservation.apply(plan, progress)

            yield Reservation(apply)

    def delete(self, namespace: str, name: str, *, image: bool = False) -> bool:
        with self._noting("delete", Key(namespace, name)) as note:
            found = self._platform.delete(namespace, name, image=image)
            note.nothing = not found
            return found

    def rollback(
        self, namespace: str, name: str, revision: int | None, progress: Progress, **options: Any
    ) -> Deployment:
        with self._noting("rollback", Key(namespace, name)):
            return self._platform.rollback(namespace, name, revision, progress, **options)

    def redeploy(self, namespace: str, name: str, progress: Progress, **options: Any) -> Deployment:
        with self._noting("redeploy", Key(namespace, name)):
            return self._platform.redeploy(namespace, name, progress, **options)

    def store_imported(self, function: Function) -> Deployment:
        with self._noting("import", _key(function)):
            return self._platform.store_imported(function)

    def restore(self, progress: Progress, function: Key | None = None) -> tuple[str, ...]:
        with self._noting("restore", function) as note:
            restored = self._platform.restore(progress, function)
            note.nothing = not restored
            note.outcome = ", ".join((DONE, *restored))
            return restored

    def create_project(self, project: Project) -> bool:
        with self._noting("create project", Key(project.namespace, project.name)) as note:
            made = self._platform.create_project(project)
            note.nothing = not made
            return made

    def update_project(self, project: Project) -> bool:
        with self._noting("update project", Key(project.namespace, project.name)) as note:
            found = self._platform.update_project(project)
            note.nothing = not found
            return found

    def delete_project(self, namespace: str, name: str, *, cascade: bool) -> bool:
        members = self._platform.deployments(namespace, name) if cascade else []
        with self._noting("delete project", Key(namespace, name)) as note:
            found = self._platform.delete_project(namespace, name, cascade=cascade)
            note.nothing = not found
        for member in members:
            with self._noting("delete", Key(namespace, member.name)):
                pass
        return found

    @contextmanager
    def _noting(
        self, action: str, key: Key | None, secret_values: tuple[str, ...] = ()
    ) -> Iterator[_Note]:
        target = f"{self._platform.name} {key}" if key else self._platform.name
        note = _Note()
        try:
            yield note
        except BaseException as error:
            self._record(action, target, hidden(_failure(error), secret_values))
            raise
        if not note.nothing:
            self._record(action, target, note.outcome)

    def _record(self, action: str, target: str, outcome: str) -> None:
        record(action, target, outcome)
        if (seen := _seen.get()) is not None and not action.endswith("project"):
            seen.add(target)


class _Note:
    """How a change ended; `nothing` when there was nothing to change."""

    outcome = DONE
    nothing = False


@contextmanager
def whole(
    action: str, platform: str, key: Key, secret_values: tuple[str, ...] = ()
) -> Iterator[None]:
    """A change of a function with all that comes before its platform is asked for it.

    One that fails before that is recorded here, and so is a delete of what was there by name only:
    each change has one line.
    """
    target, seen = f"{platform} {key}", set[str]()
    outer = _seen.set(seen)
    try:
        yield
    except BaseException as error:
        if target not in seen:
            record(action, target, hidden(_failure(error), secret_values))
        raise
    finally:
        _seen.reset(outer)
    if action == "delete" and target not in seen:
        record(action, target)


def _failure(error: BaseException) -> str:
    return f"failed: {error.message if isinstance(error, FnbuildError) else type(error).__name__}"


def record(action: str, target: str, outcome: str = DONE, *, by: str = "") -> None:
    """Note a change that somebody has made, or tried to make: whoever is acting, if not `by`."""
    from fnbuild.store import Store

    who = by or actor()
    line = _printable((outcome.strip().splitlines() or [""])[0])
    target = _printable(target)
    _told.info("%s: %s %s: %s", who, action, target, line)
    try:
        with Store.open() as store:
            store.record(who, action, target, line)
    except FnbuildError as error:
        _log.warning("%s %s is not in the audit log: %s", action, target, error.message)


def _printable(text: str) -> str:
    """The text as one line that a terminal only shows."""
    return "".join(one if one.isprintable() else "\ufffd" for one in text)


def _key(function: Function) -> Key:
    return Key(function.metadata.namespace, function.metadata.name)
