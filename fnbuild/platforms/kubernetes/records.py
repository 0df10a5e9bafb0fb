"""Records in ConfigMaps: revisions and imported functions.

The ConfigMap of a function has one key per revision, its number; the value is the `RevisionRecord`
as JSON. Serving does not depend on it.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace

from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import Revision, revision_records
from fnbuild.platforms.base import placeholder_function
from fnbuild.platforms.kubeclient.objects import KubeDeployment
from fnbuild.platforms.kubernetes import labels
from fnbuild.platforms.kubernetes.inventory import FunctionObjects
from fnbuild.platforms.kubernetes.revision_record import RevisionRecord
from fnbuild.platforms.revision_records import RevisionHistory

INTERRUPTED = "its deploy was interrupted"
"""The failure of a revision whose deploy ended before it was ready and could not say why."""


def recorded_revisions(objects: FunctionObjects) -> list[RevisionRecord]:
    """Return the recorded revisions, in no particular order."""
    data = (objects.config_map or {}).get("data") or {}
    texts = [text for name, text in data.items() if name.isdecimal()]
    return [revision for revision in map(RevisionRecord.from_json, texts) if revision is not None]


def all_revisions(objects: FunctionObjects) -> list[RevisionRecord]:
    """Return all revisions, newest first, including an applied one that is not recorded yet."""
    by_number = {revision.number: revision for revision in recorded_revisions(objects)}
    if (current := applied_revision(objects)) is not None:
        by_number.setdefault(current.number, current)
    return [by_number[number] for number in sorted(by_number, reverse=True)]


def applied_revision(objects: FunctionObjects) -> RevisionRecord | None:
    """Return the revision of the Deployment, which need not be ready, or None.

    A Deployment that was applied from a file has the number with which the next deploy records it.
    """
    revision = objects.applied_revision
    if revision is None or revision.number or objects.deployment is None:
        return revision
    number = max((record.number for record in recorded_revisions(objects)), default=0) + 1
    created = revision.created or str(objects.deployment["metadata"].get("creationTimestamp", ""))
    return replace(
        revision, number=number, source=number, created=created, note="applied from a file"
    )


def never_served(objects: FunctionObjects) -> bool:
    """Return True if there are recorded revisions and none of them ever became ready."""
    revisions = recorded_revisions(objects)
    return bool(revisions) and all(revision.failed for revision in revisions)


def to_revisions(objects: FunctionObjects) -> list[Revision]:
    """Return all revisions, newest first.

    The revision of the Deployment is active once it was ready. Until then the one before it is,
    whose pods go on serving, if there are any.
    """
    revisions, newest = all_revisions(objects), applied_revision(objects)
    kube_deployment = objects.deployment
    if newest is None or kube_deployment is None:
        return revision_records.to_revisions(revisions, newest)
    recorded = {revision.number: revision for revision in recorded_revisions(objects)}
    record = recorded.get(newest.number)
    serving = _serving_revision(revisions, newest, kube_deployment)
    if record is None and not kube_deployment.is_rolled_out:
        if _may_become_ready(objects, kube_deployment):
            return revision_records.to_revisions(revisions, serving, newest)
        failed = newest.with_failure(INTERRUPTED)
        revisions = [
            failed if revision.number == newest.number else revision for revision in revisions
        ]
        return revision_records.to_revisions(revisions, serving)
    is_failed = record is not None and record.failed
    return revision_records.to_revisions(revisions, serving if is_failed else newest)


def _serving_revision(
    revisions: list[RevisionRecord], newest: RevisionRecord, kube_deployment: KubeDeployment
) -> RevisionRecord | None:
    """Return the revision whose pods serve while the newest one is not ready."""
    if not kube_deployment.available_replicas:
        return None
    served = (
        revision
        for revision in revisions
        if revision.number != newest.number and not revision.failed
    )
    return next(served, None)


def _may_become_ready(objects: FunctionObjects, kube_deployment: KubeDeployment) -> bool:
    """Return True while a deploy of it is under way, or the cluster has not given it up."""
    return objects.is_leased(time.time()) or kube_deployment.condition("Progressing").is_true


def history_of(objects: FunctionObjects) -> RevisionHistory[RevisionRecord]:
    return RevisionHistory(objects.key.name, all_revisions(objects), applied_revision(objects))


def configuration_of(objects: FunctionObjects) -> Function:
    """Return the configuration of a function, deployed or not.

    Raises `ConfigError` if it cannot be read.
    """
    if (revision := objects.applied_revision) is not None:
        return revision.function
    if objects.deployment is not None:
        return _nuclio_configuration(objects)
    if (imported := objects.imported_config) is not None:
        return _with_name(objects, imported)
    newest = next(iter(all_revisions(objects)), None)
    if newest is not None:
        return newest.function
    pending_config = objects.pending_config
    return _unreadable(objects) if pending_config is None else _with_name(objects, pending_config)


def _nuclio_configuration(objects: FunctionObjects) -> Function:
    """Return the configuration in a Deployment of Nuclio, which is only the spec
    (pkg/platform/kube/functionres/lazy.go: serializeFunctionJSON).
    """
    annotations = objects.deployment.annotations if objects.deployment else {}
    try:
        config = json.loads(annotations.get(labels.CONFIG, ""))
    except ValueError:
        return _unreadable(objects)
    if not isinstance(config, dict):
        return _unreadable(objects)
    if "spec" in config:
        return _with_name(objects, config)
    return _with_name(
        objects, {"metadata": {"labels": {labels.PROJECT: objects.project}}, "spec": config}
    )


def _with_name(objects: FunctionObjects, config: Raw) -> Function:
    """Return a configuration with the name and namespace of the function."""
    metadata_config = config.get("metadata") or {}
    name = {"name": objects.key.name, "namespace": objects.key.namespace}
    metadata = {**metadata_config, **name} if isinstance(metadata_config, dict) else metadata_config
    return function_from_dict({**config, "metadata": metadata}, objects.key.name)


def _unreadable(objects: FunctionObjects) -> Function:
    return placeholder_function(objects.key, objects.project)
