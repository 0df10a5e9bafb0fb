"""What a deploy would change at Nuclio, as a value."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fnbuild.errors import UsageError
from fnbuild.platforms import CONFLICT_OPTIONS, Artifact, Change, Manifest, Plan
from fnbuild.platforms.nuclio.body import wanted
from fnbuild.platforms.nuclio.comparing import compared, projected
from fnbuild.platforms.nuclio.dashboard import Dashboard
from fnbuild.platforms.nuclio.records import (
    WAITING,
    Facts,
    facts_of,
    metadata_of,
    registry_of,
    state_of,
    without_own,
)
from fnbuild.spec.references import References
from fnbuild.spec.secrets import without_secrets
from fnbuild.spec.types import Function, Raw

OPTIONS = frozenset({"force", "keep_failed"}) | CONFLICT_OPTIONS

_WELL = ("ready", "scaledToZero")


def make(
    function: Function,
    artifact: Artifact,
    stored: Raw | None,
    options: dict[str, Any],
    dashboard: Dashboard,
) -> Plan:
    """The plan of a deploy over `stored`, what Nuclio has of the function. `UsageError` for an
    unknown option.
    """
    if unknown := set(options) - OPTIONS:
        raise UsageError(f"the nuclio platform knows no option {', '.join(sorted(unknown))}")
    known = facts_of(stored) if stored else Facts()
    artifact = as_known(artifact, stored)
    raw = wanted(function, artifact, known.number + 1)
    warnings = [*artifact.warnings, *([] if dashboard.here else _warnings(artifact))]
    config, revision = _configuration(function, raw, stored, known), _revision(artifact, stored)
    if stored and (other := _other_labels(raw, stored)):
        warnings.append(
            f"Nuclio keeps the labels that a function was made with, so {other} stays as it is;"
            f" `fnbuild delete function {function.metadata.name}` makes room for another"
        )
        config = _without_labels(config)
    steps = _with_rollout((config, revision), stored, force=bool(options.get("force")))
    references = References(f"nuclio-{function.metadata.name}")
    manifest = portable(references.replaced(raw))
    needs = references.needs(function.metadata.namespace)
    return Plan(
        function, artifact, steps, tuple(warnings), options, manifests=(manifest,), needs=needs
    )


def as_known(artifact: Artifact, stored: Raw | None) -> Artifact:
    """The artifact by its own name again, where it is the image that is deployed already."""
    known = facts_of(stored) if stored else Facts()
    if not known.pinned or artifact.reference != known.pinned:
        return artifact
    digest = artifact.digest or known.digest
    return replace(artifact, reference=known.image, digest=digest, pinned=known.pinned)


def portable(raw: Raw) -> Manifest:
    """The function as a resource for git: without secrets, and without what differs every time.

    The state is part of it: the controller acts on no function without one.
    """
    bare = without_secrets(raw)
    metadata = bare["metadata"]
    return {
        "apiVersion": "nuclio.io/v1beta1",
        "kind": "NuclioFunction",
        "metadata": {
            **metadata,
            "annotations": without_own(metadata.get("annotations") or {}),
        },
        "spec": bare["spec"],
        "status": {"state": WAITING},
    }


def _warnings(artifact: Artifact) -> list[str]:
    if registry_of(artifact.pinned or artifact.reference):
        return []
    return [
        f"the image {artifact.reference} is in no registry, so every node must have it already, and"
        " a dashboard with a registry of its own looks for it there; `-r REGISTRY` pushes it"
    ]


def _configuration(function: Function, raw: Raw, stored: Raw | None, known: Facts) -> Change:
    target, after = f"function {function.metadata.name}", compared(raw)
    if stored is None:
        return Change("create", target, None, without_secrets(after))
    before = projected(compared(stored), after, known.fields)
    return _step(target, before, after)


def _step(target: str, before: Manifest, after: Manifest) -> Change:
    """Secrets count where they differ, and are not shown."""
    shown = (without_secrets(before), without_secrets(after))
    return Change("keep" if before == after else "update", target, *shown)


def _other_labels(raw: Raw, stored: Raw) -> str:
    """The label whose value would change, in words; "" when none would."""
    there = metadata_of(stored).get("labels") or {}
    for name, text in (metadata_of(raw).get("labels") or {}).items():
        if there.get(name) != text:
            return f"{name}={there.get(name, '')}"
    return ""


def _without_labels(step: Change) -> Change:
    before, after = (_unlabelled(one or {}) for one in (step.before, step.after))
    verb = "keep" if step.verb == "keep" or before == after else step.verb
    return Change(verb, step.target, before, after)


def _unlabelled(manifest: Manifest) -> Manifest:
    metadata = {key: one for key, one in metadata_of(manifest).items() if key != "labels"}
    return {**manifest, "metadata": metadata}


def _revision(artifact: Artifact, stored: Raw | None) -> Change:
    after = {"image": artifact.reference, "code": artifact.digest}
    if artifact.pinned:
        after["exactly"] = artifact.pinned
    if stored is None:
        return Change("create", "revision", None, after)
    known = facts_of(stored)
    before = {"image": known.image, "code": known.digest}
    if artifact.pinned:
        # An image that is yet to be built has no exact name to compare.
        before["exactly"] = known.pinned
    return Change("keep" if before == after else "update", "revision", before, after)


def _with_rollout(
    steps: tuple[Change, ...], stored: Raw | None, *, force: bool
) -> tuple[Change, ...]:
    """The steps, and whether Nuclio has to act at all: it does for what is not well as well."""
    if stored is None:
        return (*steps, Change("create", "rollout"))
    state = state_of(stored)
    if all(step.verb == "keep" for step in steps) and state in _WELL and not force:
        return (*steps, Change("keep", "rollout"))
    anew = (
        Change("replace", step.target, step.before, step.after)
        if (step.target, step.verb) == ("revision", "keep")
        else step
        for step in steps
    )
    return (*anew, Change("replace", "rollout", {"state": state}, {"state": "ready"}))
