"""The plan of a deploy: the changes that it would make in Nuclio."""

from __future__ import annotations

from dataclasses import replace

from fnbuild.builder.grpc_packages import serves_grpc
from fnbuild.builder.image.references import explicit_registry
from fnbuild.function.access_settings import authentication_mode
from fnbuild.function.secret_references import SecretReferences
from fnbuild.function.secrets import without_access_credentials
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import Artifact, Change, Manifest, Plan, PlanOptions
from fnbuild.platforms.nuclio.client import DashboardClient
from fnbuild.platforms.nuclio.function_config import (
    WAITING_STATE,
    DeployRecord,
    comparable_fields,
    decode_deploy_record,
    deploy_config,
    metadata_of,
    nuclio_state_of,
    select_fields,
    user_annotations,
)
from fnbuild.platforms.plans import REVISION_TARGET, make_change, with_new_revision

OPTIONS = frozenset({"force", "keep_failed"})

_SERVING_STATES = ("ready", "scaledToZero")


def make_plan(
    function: Function,
    artifact: Artifact,
    stored: Raw | None,
    options: PlanOptions,
    dashboard: DashboardClient,
) -> Plan:
    """Return the plan of a deploy over `stored`. Raises `UsageError` for an unknown option."""
    options.require_supported("Nuclio", OPTIONS)
    record = decode_deploy_record(stored) if stored else DeployRecord()
    artifact = with_deployed_reference(artifact, record)
    raw = deploy_config(function, artifact, record.number + 1)
    warnings = [*artifact.warnings, *([] if dashboard.is_local else _registry_warnings(artifact))]
    if serves_grpc(function):
        warnings.append(
            "gRPC cannot be reached: Nuclio publishes one port of a function, which serves HTTP;"
            " the platforms process, local and kube publish a second one"
        )
    if (mode := authentication_mode(function)) != "none":
        warnings.append(
            f"authenticationMode {mode} is left to Nuclio: releases before 1.17, and those whose"
            " platform does not enable function authentication, ignore it"
        )
    target = f"function {function.metadata.name}"
    configuration = _configuration_change(target, raw, stored, record)
    if stored and (label := _changed_label(raw, stored)):
        warnings.append(
            f"Nuclio never changes the labels of a function, so {label} stays;"
            f" `fnbuild delete function {function.metadata.name}` and a new deploy change it"
        )
        configuration = _ignore_labels(configuration)
    changes = (configuration, _revision_change(artifact, stored))
    steps = _add_rollout(changes, stored, force=options.force)
    references = SecretReferences(f"nuclio-{function.metadata.name}")
    manifest = resource_manifest(references.replace_secrets(raw))
    return Plan(
        function,
        artifact,
        steps,
        tuple(warnings),
        options,
        manifests=(manifest,),
        prerequisites=references.instructions(function.metadata.namespace),
    )


def with_deployed_reference(artifact: Artifact, record: DeployRecord) -> Artifact:
    """Replace an exact reference by the recorded one if both are the deployed image."""
    if not record.pinned or artifact.reference != record.pinned:
        return artifact
    digest = artifact.digest or record.digest
    return replace(artifact, reference=record.image, digest=digest, pinned=record.pinned)


def resource_manifest(raw: Raw) -> Manifest:
    """Return the NuclioFunction for git, without credentials and values that always differ.

    In `raw`, references to a Secret have replaced secret variables. The result includes the state,
    because the controller ignores a function without one.
    """
    bare = without_access_credentials(raw)
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
    if explicit_registry(artifact.pinned or artifact.reference):
        return []
    return [
        f"the image {artifact.reference} is in no registry: every node must have it, and a"
        " dashboard with a registry of its own pulls it from there; `-r REGISTRY` pushes it"
    ]


def _configuration_change(
    target: str, raw: Raw, stored: Raw | None, record: DeployRecord
) -> Change:
    """Compare the configurations. Access credentials are compared, but left out of the change."""
    after = comparable_fields(raw)
    if stored is None:
        return Change("create", target, None, without_access_credentials(after))
    before = select_fields(comparable_fields(stored), after, record.fields)
    verb = make_change(target, before, after).verb
    return Change(
        verb, target, without_access_credentials(before), without_access_credentials(after)
    )


def _changed_label(raw: Raw, stored: Raw) -> str:
    """Return a stored label that the deploy would change, as NAME=VALUE; "" if there is none."""
    labels = metadata_of(stored).get("labels") or {}
    for name, text in (metadata_of(raw).get("labels") or {}).items():
        if labels.get(name) != text:
            return f"{name}={labels.get(name, '')}"
    return ""


def _ignore_labels(change: Change) -> Change:
    before, after = _remove_labels(change.before or {}), _remove_labels(change.after or {})
    return Change("keep" if before == after else change.verb, change.target, before, after)


def _remove_labels(manifest: Manifest) -> Manifest:
    metadata = {name: value for name, value in metadata_of(manifest).items() if name != "labels"}
    return {**manifest, "metadata": metadata}


def _revision_change(artifact: Artifact, stored: Raw | None) -> Change:
    after = {"image": artifact.reference, "code": artifact.digest}
    if artifact.pinned:
        after["exactly"] = artifact.pinned
    if stored is None:
        return Change("create", REVISION_TARGET, None, after)
    record = decode_deploy_record(stored)
    before = {"image": record.image, "code": record.digest}
    if artifact.pinned:
        # An image that is not built yet has no exact reference to compare.
        before["exactly"] = record.pinned
    return make_change(REVISION_TARGET, before, after)


def _add_rollout(
    changes: tuple[Change, ...], stored: Raw | None, *, force: bool
) -> tuple[Change, ...]:
    """Add the rollout, which an unchanged function needs too if it does not serve."""
    if stored is None:
        return (*changes, Change("create", "rollout"))
    state = nuclio_state_of(stored)
    unchanged = all(change.verb == "keep" for change in changes)
    if unchanged and state in _SERVING_STATES and not force:
        return (*changes, Change("keep", "rollout"))
    rollout = Change("replace", "rollout", {"state": state}, {"state": "ready"})
    return (*with_new_revision(changes), rollout)
