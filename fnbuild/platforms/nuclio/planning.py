"""The plan of a deploy: the changes that it would make in Nuclio."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fnbuild.errors import UsageError
from fnbuild.function.secrets import SecretReferences, without_secrets
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import CONFLICT_OPTIONS, Artifact, Change, Manifest, Plan
from fnbuild.platforms.nuclio.client import DashboardClient
from fnbuild.platforms.nuclio.function_config import (
    WAITING_STATE,
    RevisionRecord,
    comparable_fields,
    decode_revision,
    deploy_config,
    metadata_of,
    registry_of,
    select_fields,
    state_of,
    user_annotations,
)

OPTIONS = frozenset({"force", "keep_failed"}) | CONFLICT_OPTIONS

_SERVING_STATES = ("ready", "scaledToZero")


def make_plan(
    function: Function,
    artifact: Artifact,
    stored: Raw | None,
    options: dict[str, Any],
    dashboard: DashboardClient,
) -> Plan:
    """The plan of a deploy over `stored`, what Nuclio has of the function. `UsageError` for an
    unknown option.
    """
    if unknown := set(options) - OPTIONS:
        raise UsageError(f"the nuclio platform knows no option {', '.join(sorted(unknown))}")
    known = decode_revision(stored) if stored else RevisionRecord()
    artifact = with_deployed_reference(artifact, stored)
    raw = deploy_config(function, artifact, known.number + 1)
    warnings = [*artifact.warnings, *([] if dashboard.here else _registry_warnings(artifact))]
    config, revision = (
        _configuration_change(function, raw, stored, known),
        _revision_change(artifact, stored),
    )
    if stored and (other := _changed_label(raw, stored)):
        warnings.append(
            f"Nuclio keeps the labels that a function was made with, so {other} stays as it is;"
            f" `fnbuild delete function {function.metadata.name}` makes room for another"
        )
        config = _ignore_labels(config)
    steps = _add_rollout((config, revision), stored, force=bool(options.get("force")))
    references = SecretReferences(f"nuclio-{function.metadata.name}")
    manifest = resource_manifest(references.replace_secrets(raw))
    needs = references.needs(function.metadata.namespace)
    return Plan(
        function, artifact, steps, tuple(warnings), options, manifests=(manifest,), needs=needs
    )


def with_deployed_reference(artifact: Artifact, stored: Raw | None) -> Artifact:
    """The artifact by its own name again, where it is the image that is deployed already."""
    known = decode_revision(stored) if stored else RevisionRecord()
    if not known.pinned or artifact.reference != known.pinned:
        return artifact
    digest = artifact.digest or known.digest
    return replace(artifact, reference=known.image, digest=digest, pinned=known.pinned)


def resource_manifest(raw: Raw) -> Manifest:
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
            "annotations": user_annotations(metadata.get("annotations") or {}),
        },
        "spec": bare["spec"],
        "status": {"state": WAITING_STATE},
    }


def _registry_warnings(artifact: Artifact) -> list[str]:
    if registry_of(artifact.pinned or artifact.reference):
        return []
    return [
        f"the image {artifact.reference} is in no registry, so every node must have it already, and"
        " a dashboard with a registry of its own looks for it there; `-r REGISTRY` pushes it"
    ]


def _configuration_change(
    function: Function, raw: Raw, stored: Raw | None, known: RevisionRecord
) -> Change:
    target, after = f"function {function.metadata.name}", comparable_fields(raw)
    if stored is None:
        return Change("create", target, None, without_secrets(after))
    before = select_fields(comparable_fields(stored), after, known.fields)
    return _make_change(target, before, after)


def _make_change(target: str, before: Manifest, after: Manifest) -> Change:
    """Secrets count where they differ, and are not shown."""
    shown = (without_secrets(before), without_secrets(after))
    return Change("keep" if before == after else "update", target, *shown)


def _changed_label(raw: Raw, stored: Raw) -> str:
    """The label whose value would change, in words; "" when none would."""
    there = metadata_of(stored).get("labels") or {}
    for name, text in (metadata_of(raw).get("labels") or {}).items():
        if there.get(name) != text:
            return f"{name}={there.get(name, '')}"
    return ""


def _ignore_labels(step: Change) -> Change:
    before, after = (_remove_labels(one or {}) for one in (step.before, step.after))
    verb = "keep" if step.verb == "keep" or before == after else step.verb
    return Change(verb, step.target, before, after)


def _remove_labels(manifest: Manifest) -> Manifest:
    metadata = {key: one for key, one in metadata_of(manifest).items() if key != "labels"}
    return {**manifest, "metadata": metadata}


def _revision_change(artifact: Artifact, stored: Raw | None) -> Change:
    after = {"image": artifact.reference, "code": artifact.digest}
    if artifact.pinned:
        after["exactly"] = artifact.pinned
    if stored is None:
        return Change("create", "revision", None, after)
    known = decode_revision(stored)
    before = {"image": known.image, "code": known.digest}
    if artifact.pinned:
        # An image that is yet to be built has no exact name to compare.
        before["exactly"] = known.pinned
    return Change("keep" if before == after else "update", "revision", before, after)


def _add_rollout(
    steps: tuple[Change, ...], stored: Raw | None, *, force: bool
) -> tuple[Change, ...]:
    """The steps, and whether Nuclio has to act at all: it does for what is not well as well."""
    if stored is None:
        return (*steps, Change("create", "rollout"))
    state = state_of(stored)
    if all(step.verb == "keep" for step in steps) and state in _SERVING_STATES and not force:
        return (*steps, Change("keep", "rollout"))
    anew = (
        Change("replace", step.target, step.before, step.after)
        if (step.target, step.verb) == ("revision", "keep")
        else step
        for step in steps
    )
    return (*anew, Change("replace", "rollout", {"state": state}, {"state": "ready"}))
