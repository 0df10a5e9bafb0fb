"""How the steps of a plan are made out of what is there and what ought to be."""

from __future__ import annotations

from collections.abc import Iterable

from fnbuild.platforms.model import Manifest, Step

REVISION = "revision"


def compared(target: str, before: Manifest | None, after: Manifest) -> Step:
    """Creating it, changing it, or keeping it as it is."""
    if before is None:
        return Step("create", target, None, after)
    return Step("keep" if before == after else "update", target, before, after)


def anew(step: Step) -> Step:
    """Made again, though what it is has not changed; any other step as it is."""
    return Step("replace", step.target, step.before, step.after) if step.verb == "keep" else step


def as_revision(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Whatever starts something is a revision of its own, of the same code too."""
    return tuple(anew(step) if step.target == REVISION else step for step in steps)
