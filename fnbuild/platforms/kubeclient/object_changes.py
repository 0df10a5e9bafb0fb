"""The changes that manifests would make to live objects."""

from __future__ import annotations

from fnbuild.function.types import Function, Raw
from fnbuild.platforms import Change, Manifest, PlanOptions
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import FIELD_MANAGER, Cluster, if_allowed
from fnbuild.platforms.kubeclient.errors import FieldConflictError
from fnbuild.platforms.kubeclient.manifests import change_target, without_server_fields
from fnbuild.platforms.plans import make_change

_PULL_SECRET = "registry-credentials"  # noqa: S105 (a name, and Nuclio's)
_HIDDEN_ANNOTATIONS = (
    "kubectl.kubernetes.io/last-applied-configuration",
    "deployment.kubernetes.io/revision",
)


def dry_run(
    cluster: Cluster, manifest: Manifest, options: PlanOptions, manager: str = FIELD_MANAGER
) -> tuple[Raw, str]:
    """Return the object that a manifest would result in, and a warning or ""."""
    force = options.force_conflicts
    try:
        return cluster.apply(manifest, dry_run=True, force=force, manager=manager), ""
    except FieldConflictError as error:
        if not options.show_conflicts:
            raise
        after = cluster.apply(manifest, dry_run=True, force=True, manager=manager)
        return after, f"{error.message}; `--force-conflicts` takes them over"


def object_change(manifest: Manifest, live: Raw | None, after: Raw) -> Change:
    return make_change(
        change_target(manifest),
        without_server_fields(live, _HIDDEN_ANNOTATIONS) if live is not None else None,
        without_server_fields(after, _HIDDEN_ANNOTATIONS),
    )


def take_over(cluster: Cluster, live: Raw) -> None:
    """Make fnbuild the only manager of an object, so that applies remove fields that they lack."""
    fields: Raw = {}
    others = []
    for entry in live["metadata"].get("managedFields") or ():
        if "f:status" in entry["fieldsV1"]:
            others.append(entry)
        else:
            _merge(fields, entry["fieldsV1"])
    own = {
        "manager": FIELD_MANAGER,
        "operation": "Apply",
        "apiVersion": live["apiVersion"],
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }
    cluster.replace({**live, "metadata": {**live["metadata"], "managedFields": [own, *others]}})


def _merge(fields: Raw, more: Raw) -> None:
    for key, value in more.items():
        _merge(fields.setdefault(key, {}), value)


def default_pull_secret(cluster: Cluster, function: Function) -> str:
    """Return the default pull secret of functions, or "" if it is missing or forbidden."""
    namespace = function.metadata.namespace
    secret = if_allowed(lambda: cluster.get(kinds.SECRET, namespace, _PULL_SECRET), None)
    return _PULL_SECRET if secret is not None else ""
