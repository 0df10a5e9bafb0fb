"""The plan of a deploy in a cluster: the claim, the revision, and the changes of its objects."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from fnbuild.bridges.torchserve.export import VERSION_FORMAT, config_warnings
from fnbuild.bridges.torchserve.server_config import render
from fnbuild.errors import ConflictError, InputError, NotFoundError
from fnbuild.function.secret_references import SecretReferences
from fnbuild.function.torchserve_settings import CLAIM_SCHEME, torchserve_settings
from fnbuild.function.types import Function, Raw
from fnbuild.names import FUNCTION_LABEL
from fnbuild.platforms import Artifact, Change, Manifest, Plan, PlanOptions
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster, if_allowed
from fnbuild.platforms.kubeclient.manifests import change_target, object_identity
from fnbuild.platforms.kubeclient.object_changes import (
    default_pull_secret,
    dry_run,
    object_change,
)
from fnbuild.platforms.kubeclient.ownership import is_managed, labels_of
from fnbuild.platforms.kubeclient.secret_store import SecretStore
from fnbuild.platforms.leases import local_owner
from fnbuild.platforms.plans import REVISION_TARGET, make_change, with_new_revision
from fnbuild.platforms.revision_records import RevisionOrigin, stored_config, timestamp
from fnbuild.platforms.settings import ignored_trigger_attributes, unserved_trigger_warnings
from fnbuild.platforms.torchserve.cluster.manifests import (
    ALL_ADDRESSES,
    STORE_MOUNT,
    render_objects,
    replica_count,
    server_ports,
    store_location,
    validate_names,
)
from fnbuild.platforms.torchserve.cluster.records import RECORDS, FunctionRecord, RevisionRecord
from fnbuild.platforms.torchserve.configuration import (
    served_model,
    tree_config,
    tree_models,
    tree_warnings,
)

PLAN_OPTIONS = frozenset({"force", "keep_failed"})
_TREE_FOLDERS = ("config", "model-store", "backup")
_UNPACKED = ("replicas", "minReplicas", "resources", "description")
_CONTENT = ("version", "archives", "models", "server_config", "loaded")


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """A plan with everything that its execution needs.

    With `packs_archive`, the archive of the record is a preview, and the deploy makes it.
    """

    plan: Plan
    record: RevisionRecord
    pull_secret: str
    secret_store: SecretStore
    packs_archive: bool

    def manifests(self, record: RevisionRecord) -> list[Manifest]:
        return render_objects(record, self.pull_secret)


def plan_deploy(  # noqa: PLR0913, PLR0917 (the record, function, options)
    cluster: Cluster,
    function_record: FunctionRecord,
    function: Function,
    artifact: Artifact,
    options: PlanOptions,
    again: tuple[RevisionRecord, RevisionOrigin] | None = None,
) -> ServerPlan:
    """Plan the deploy of a function; `again` is a recorded revision to run once more.

    Raises `InputError` for a store that is no claim, `NotFoundError` for a missing claim, and
    `ConflictError` for one of another function.
    """
    options.require_supported("torchserve", PLAN_OPTIONS)
    store = RECORDS.secret_store(cluster, function_record.key)
    warnings = [*artifact.warnings]
    if again is None:
        is_tree = torchserve_settings(function).model_tree
        code = Path(artifact.reference)
        warnings += tree_warnings(code) if is_tree else config_warnings(function, code)
    record, packs_archive = _new_revision(function_record, store, function, artifact, again)
    if options.force:
        record = replace(record, stamp=record.created)
    validate_names(record)
    check_store(cluster, record)
    warnings += _warnings(record)
    pull_secret = default_pull_secret(cluster, function)
    changes = [*_function_changes(function_record, record)]
    conflicts = []
    for manifest in render_objects(record, pull_secret):
        change, conflict = _object_change(cluster, manifest, record.name, options)
        changes.append(change)
        conflicts += [conflict] if conflict else []
    changes += [
        Change("delete", change_target(obsolete), obsolete)
        for obsolete in obsolete_objects(function_record.applied, record)
    ]
    if again or options.force or any(change.verb != "keep" for change in changes):
        changes = list(with_new_revision(changes))
    references = SecretReferences(RECORDS.secret_owner(record.name))
    plain = replace(record, config=references.replace_secrets(stored_config(function)), stamp="")
    plan = Plan(
        function,
        artifact,
        tuple(changes),
        (*warnings, *conflicts),
        options,
        manifests=tuple(render_objects(plain, pull_secret)),
        prerequisites=references.instructions(record.namespace),
        explanations=(
            f"TorchServe runs in the cluster at {cluster.server}, as KUBECONFIG or the options say",
        ),
    )
    return ServerPlan(plan, record, pull_secret, store, packs_archive)


def _new_revision(
    function_record: FunctionRecord,
    store: SecretStore,
    function: Function,
    artifact: Artifact,
    again: tuple[RevisionRecord, RevisionOrigin] | None,
) -> tuple[RevisionRecord, bool]:
    """Return the record that a deploy would make, and whether its archives are new."""
    key, applied = function_record.key, function_record.applied
    number = max((record.number for record in function_record.revisions), default=0) + 1
    config = store.with_references(stored_config(function))
    source, note, stamp, packs_archive = number, "", "", False
    if again is not None:
        target, origin = again
        content, stamp = _content_of(target), timestamp()
        source, note = origin.revision, origin.note
    elif applied is not None and _serves(applied, config, artifact):
        # An unchanged deploy restarts no pod.
        content, stamp = _content_of(applied), applied.stamp
    else:
        version = datetime.now().strftime(VERSION_FORMAT)
        content, packs_archive = _new_content(function, artifact, version), True
    record = RevisionRecord(
        namespace=key.namespace,
        name=key.name,
        number=number,
        created=timestamp(),
        digest=artifact.digest,
        config=config,
        source=source,
        note=note,
        owner=local_owner(),
        stamp=stamp,
        **content,
    )
    return record, packs_archive


def _content_of(record: RevisionRecord) -> dict[str, Any]:
    """Return what the pods of a revision serve."""
    return {name: getattr(record, name) for name in _CONTENT}


def _serves(applied: RevisionRecord, config: Raw, artifact: Artifact) -> bool:
    """Return True if the archives of a revision are those of this configuration and code."""
    if applied.failed or applied.digest != artifact.digest:
        return False
    return _packed_config(applied.config) == _packed_config(config)


def _packed_config(config: Raw) -> Raw:
    """Return the configuration without what concerns only the number and the size of pods."""
    spec = {key: value for key, value in config["spec"].items() if key not in _UNPACKED}
    return {**config, "spec": spec}


def _new_content(function: Function, artifact: Artifact, version: str) -> dict[str, Any]:
    """Return what the pods of new code serve."""
    name = function.metadata.name
    if not torchserve_settings(function).model_tree:
        return packed_content(function, version)
    tree = Path(artifact.reference)
    ports = server_ports(torchserve_settings(function))
    config = tree_config(function, tree, ports, ALL_ADDRESSES, Path(STORE_MOUNT))
    models = tree_models(name, tree)
    return {
        "version": version,
        "archives": list(dict.fromkeys(model.file for model in models)),
        "models": list(dict.fromkeys(model.name for model in models)),
        "server_config": render(config),
    }


def packed_content(function: Function, version: str) -> dict[str, Any]:
    """Return what the pods serve of a function that is packed as an archive of this version."""
    file = f"{function.metadata.name}_{version}.mar"
    models = [served_model(function, file).name]
    return {"version": version, "archives": [file], "models": models}


def check_store(cluster: Cluster, record: RevisionRecord) -> None:
    """Check that the store is a claim that exists, and that no other function has it."""
    settings, location = record.settings, store_location(record)
    place = "spec.platform.attributes.torchserve.store"
    if settings.store and not settings.store.startswith(CLAIM_SCHEME):
        raise InputError(
            f"{place}: {settings.store} is a folder, and the pods of a cluster need a claim",
            hint=f"`store: {CLAIM_SCHEME}CLAIM/PATH`, with `storeMount` if it is mounted here",
        )
    if set(location.path.split("/")) & {"..", *_TREE_FOLDERS}:
        raise InputError(
            f"{place}: {settings.store} leads into the folders of a store",
            hint=f"a store has {', '.join(_TREE_FOLDERS)}; name the folder that contains them",
        )
    claim = if_allowed(
        lambda: cluster.get(kinds.VOLUME_CLAIM, record.namespace, location.claim), {}
    )
    if claim is None:
        raise NotFoundError(
            f"there is no claim {location.claim} in namespace {record.namespace}",
            hint=f"`fnbuild create volume {location.claim} --size 10Gi --access-mode ReadWriteMany`"
            f" creates one; `{place}` names another one",
        )
    uri = f"{CLAIM_SCHEME}{location.claim}"
    for other in RECORDS.read_all(cluster, record.namespace):
        newest = next(iter(other.revisions), None) if other.is_leased(time.time()) else None
        holder = other.applied or newest
        is_taken = holder is not None and store_location(holder) == location
        if is_taken and other.key != record.key:
            raise ConflictError(
                f"the model store {'/'.join(filter(None, (uri, location.path)))} belongs to the"
                f" function {other.key.name}",
                hint="a server loads the archives of its store: name another claim or folder, as in"
                f" `{place}: {uri}/{record.name}`",
            )


def _function_changes(
    function_record: FunctionRecord, record: RevisionRecord
) -> tuple[Change, Change]:
    applied = function_record.applied
    if applied is not None and applied.failed:
        applied = None
    before = None
    if applied is not None:
        before = {"code": applied.digest, "archives": applied.archives}
    return (
        make_change(f"function {record.name}", applied.config if applied else None, record.config),
        make_change(REVISION_TARGET, before, {"code": record.digest, "archives": record.archives}),
    )


def _object_change(
    cluster: Cluster, manifest: Manifest, function: str, options: PlanOptions
) -> tuple[Change, str]:
    """Return the change of an object, and a warning or "".

    Raises `ConflictError` for an object of another tool or function.
    """
    live = live_object(cluster, manifest)
    owner = owner_of(live)
    if live is not None and owner != function and not options.force_conflicts:
        whose = f"belongs to the function {owner}" if owner else "is not managed by fnbuild"
        raise ConflictError(
            f"{change_target(manifest)} {whose}",
            hint="`deploymentName` and `serviceName` choose other names, and"
            " `--force-conflicts` takes it over",
        )
    after, conflict = dry_run(cluster, manifest, options)
    return object_change(manifest, live, after), conflict


def live_object(cluster: Cluster, manifest: Manifest) -> Raw | None:
    metadata = manifest["metadata"]
    return cluster.get(kinds.kind_of(manifest), metadata["namespace"], metadata["name"])


def owner_of(live: Raw | None) -> str:
    """Return the function that an object belongs to; "" if it is another tool's, or missing."""
    return labels_of(live).get(FUNCTION_LABEL, "") if live and is_managed(live) else ""


def obsolete_objects(previous: RevisionRecord | None, record: RevisionRecord) -> list[Manifest]:
    """Return the objects that only the previous revision has."""
    before = render_objects(previous) if previous is not None else []
    kept = {object_identity(manifest) for manifest in render_objects(record)}
    return [manifest for manifest in before if object_identity(manifest) not in kept]


def _warnings(record: RevisionRecord) -> list[str]:
    settings, function = record.settings, record.function
    warnings = list(unserved_trigger_warnings(function))
    spec, count = function.spec, replica_count(function.spec)
    keys = {
        "maxReplicas": (spec.max_replicas or 0) > count,
        "targetCPU": spec.target_cpu,
        "sidecars": spec.sidecars,
        "scaleToZero": spec.scale_to_zero,
        "autoScaleMetrics": spec.auto_scale_metrics,
    }
    ignored = [key for key, value in keys.items() if value]
    if ignored := [*ignored, *ignored_trigger_attributes(function)]:
        warnings.append(f"without effect on TorchServe: {', '.join(ignored)}")
    if settings.expose_management:
        warnings.append(
            "the management port is in the Service for clients: with its token, or without tokens,"
            " anyone who reaches it can change the models"
        )
    if not settings.tokens:
        warnings.append(
            "without tokens, anyone who reaches the Service can call the model, and anyone in the"
            " cluster can scale its workers"
        )
    elif count > 1:
        warnings.append(
            "each replica has tokens of its own, so that clients of the Service are refused by all"
            " replicas but one; `fnbuild invoke` has the right token, and `tokens: false` needs"
            " none"
        )
    return warnings
