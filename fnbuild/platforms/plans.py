"""Plans: the changes that a deploy will make, and the options that they depend on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal

from fnbuild.builder.artifact import Artifact
from fnbuild.errors import FnbuildError, UsageError
from fnbuild.function.types import Function

Manifest = dict[str, Any]
"""A resource as plain JSON values: what `--dry-run -o yaml` prints and `diff` compares."""

REVISION_TARGET = "revision"


@dataclass(frozen=True, slots=True)
class Change:
    """One change on the platform. A diff compares `before` and `after`.

    A `replace` recreates an object without a difference, so a diff does not show it.
    """

    verb: Literal["create", "update", "replace", "delete", "keep"]
    target: str
    before: Manifest | None = None
    after: Manifest | None = None


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """Options of a deploy.

    `force` makes a new revision even without changes. `overlap` starts the new processor before the
    old one stops although both need a GPU. `listen` are the listen addresses of the function.
    `keep_failed` keeps the objects of a revision that does not become ready. `monitoring` adds
    resources for Prometheus. `force_conflicts` takes over fields that other clients own instead of
    failing, `show_conflicts` turns that failure into a warning; both have no effect on platforms
    without other clients.
    """

    force: bool = False
    overlap: bool = False
    listen: str = ""
    keep_failed: bool = False
    monitoring: bool = False
    force_conflicts: bool = False
    show_conflicts: bool = False

    def require_supported(
        self, platform: str, supported: frozenset[str], hint: str | None = None
    ) -> None:
        """Raise `UsageError` if an option is set that the platform does not support."""
        allowed = supported | {"force_conflicts", "show_conflicts"}
        options = [item.name for item in fields(self) if getattr(self, item.name)]
        if unsupported := sorted(set(options) - allowed):
            raise UsageError(
                f"the {platform} platform has no option {', '.join(unsupported)}", hint=hint
            )


NO_OPTIONS = PlanOptions()


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes that `apply` will make.

    `ignored_build_lines` are those that the platform cannot run, a possible cause of a failure.
    `manifests` are the resources in the form that users keep in git, on platforms that have them;
    `prerequisites` describes what else the manifests require, and `explanations` the decisions that
    depend on the state of the platform, one sentence each. `refusal` is the error that `apply`
    would raise in the present state.
    """

    function: Function
    artifact: Artifact
    changes: tuple[Change, ...]
    warnings: tuple[str, ...] = ()
    options: PlanOptions = NO_OPTIONS
    ignored_build_lines: tuple[str, ...] = ()
    manifests: tuple[Manifest, ...] = ()
    prerequisites: tuple[str, ...] = ()
    explanations: tuple[str, ...] = ()
    refusal: FnbuildError | None = None

    @property
    def unchanged_message(self) -> str:
        """The message of a deploy without changes."""
        state = "is still disabled" if self.function.spec.disable else "runs"
        return f"nothing has changed, and the function {state}"

    @property
    def effective_changes(self) -> tuple[Change, ...]:
        """The changes without those that keep an object."""
        return tuple(change for change in self.changes if change.verb != "keep")


def make_change(target: str, before: Manifest | None, after: Manifest) -> Change:
    """Return the change that turns `before` into `after`."""
    if before is None:
        return Change("create", target, None, after)
    return Change("keep" if before == after else "update", target, before, after)


def as_replacement(change: Change) -> Change:
    """Return a `replace` for a `keep`, and any other change as it is."""
    return (
        Change("replace", change.target, change.before, change.after)
        if change.verb == "keep"
        else change
    )


def with_new_revision(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Return the changes with a new revision: each start is a revision, even of the same code."""
    return tuple(
        as_replacement(change) if change.target == REVISION_TARGET else change for change in changes
    )
