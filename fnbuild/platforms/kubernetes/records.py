"""Records in ConfigMaps: revisions, imported functions and projects.

The ConfigMap of a function has one key per revision, its number; the value is the `RevisionRecord`
as JSON. Serving does not depend on it.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace

from fnbuild.errors import ConflictError
from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function, Metadata, Raw
from fnbuild.names import DEFAULT_PROJECT
from fnbuild.platforms import Project, Revision, revision_records
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubernetes import labels as own
from fnbuild.platforms.kubernetes.diagnosis.rollout_status import get_condition, is_rolled_out
from fnbuild.platforms.kubernetes.inventory import FunctionObjects
from fnbuild.platforms.kubernetes.labels import RevisionRecord
from fnbuild.platforms.projects import decode_string_map

INTERRUPTED = "its deploy was interrupted"
"""The failure of a revision whose deploy ended before it was ready and could not say why."""

_PROJECTS_SELECTOR = f"{own.RECORD}=project"
# No object of a function has a dot in its name.
_PROJECT_PREFIX = "nuclio-project."


# Revisions


def recorded_revisions(known: FunctionObjects) -> list[RevisionRecord]:
    """What the record has, in no order."""
    data = (known.record or {}).get("data") or {}
    texts = [text for name, text in data.items() if name.isdecimal()]
    return [made for made in map(RevisionRecord.from_json, texts) if made is not None]


def all_revisions(known: FunctionObjects) -> list[RevisionRecord]:
    """Every revision, newest first; what runs counts before it is recorded, too."""
    found = {made.number: made for made in recorded_revisions(known)}
    if (now := active_revision(known)) is not None:
        found.setdefault(now.number, now)
    return [found[number] for number in sorted(found, reverse=True)]


def active_revision(known: FunctionObjects) -> RevisionRecord | None:
    """The revision that runs, or is to run. What was applied from a file has the number under which
    the next deploy records it.
    """
    made = known.made
    if made is None or made.number or known.deployment is None:
        return made
    number = max((one.number for one in recorded_revisions(known)), default=0) + 1
    created = made.created or str(known.deployment["metadata"].get("creationTimestamp", ""))
    return replace(made, number=number, source=number, created=created, note="applied from a file")


def never_served(known: FunctionObjects) -> bool:
    """Whether no revision on record ever became ready; False where none is on record."""
    made = recorded_revisions(known)
    return bool(made) and all(one.failed for one in made)


def revision_history(known: FunctionObjects) -> list[Revision]:
    """Return all revisions, newest first.

    The revision of the Deployment is active once it was ready. Until then the one before it is,
    whose pods go on serving, if there are any.
    """
    some, newest, deployment = all_revisions(known), active_revision(known), known.deployment
    if newest is None or deployment is None:
        return revision_records.to_revisions(some, newest)
    on_record = {made.number: made for made in recorded_revisions(known)}
    if newest.number not in on_record and not is_rolled_out(deployment):
        serving = _serving_revision(some, newest, deployment)
        if _may_become_ready(known, deployment):
            return revision_records.to_revisions(some, serving, newest)
        failed = newest.with_failure(INTERRUPTED)
        some = [failed if made.number == newest.number else made for made in some]
        return revision_records.to_revisions(some, serving)
    if newest.number in on_record and on_record[newest.number].failed:
        return revision_records.to_revisions(some, _serving_revision(some, newest, deployment))
    return revision_records.to_revisions(some, newest)


def _serving_revision(
    some: list[RevisionRecord], newest: RevisionRecord, deployment: Raw
) -> RevisionRecord | None:
    """Return the revision whose pods serve while the newest one is not ready."""
    if not (deployment.get("status") or {}).get("availableReplicas"):
        return None
    served = (made for made in some if made.number != newest.number and not made.failed)
    return next(served, None)


def _may_become_ready(known: FunctionObjects, deployment: Raw) -> bool:
    """Return True while a deploy of it is under way, or the cluster has not given it up."""
    return known.claimed(time.time()) or get_condition(deployment, "Progressing").get("status") == (
        "True"
    )


def find_revision(known: FunctionObjects, number: int) -> RevisionRecord:
    """The revision of that number, or `NotFoundError`."""
    return revision_records.find_revision(known.key.name, all_revisions(known), number)


# Projects


def list_projects(cluster: Cluster, namespace: str) -> list[Project]:
    """All of the namespace, by name; `default` is there without being recorded."""
    found = {DEFAULT_PROJECT: Project(DEFAULT_PROJECT, namespace)}
    for one in cluster.list(kinds.CONFIG_MAP, namespace, labels=_PROJECTS_SELECTOR):
        name, data = one["metadata"]["name"].removeprefix(_PROJECT_PREFIX), one.get("data") or {}
        found[name] = Project(
            name,
            namespace,
            data.get("description", ""),
            data.get("owner", ""),
            decode_string_map(data.get("labels")),
            decode_string_map(data.get("annotations")),
        )
    return [found[name] for name in sorted(found)]


def add_project(cluster: Cluster, project: Project) -> bool:
    """Record it; False when it existed already."""
    if (
        project.name == DEFAULT_PROJECT
        or _get_project(cluster, project.namespace, project.name) is not None
    ):
        return False
    try:
        cluster.create(_project_manifest(project))
    except ConflictError:
        if _get_project(cluster, project.namespace, project.name) is None:
            raise ConflictError(
                f"there is a ConfigMap {_PROJECT_PREFIX}{project.name} already, which is no"
                " project's",
                hint="give the project another name",
            ) from None
        return False
    return True


def update_project(cluster: Cluster, project: Project) -> bool:
    """Record it anew; False when there is none of that name."""
    found = _get_project(cluster, project.namespace, project.name)
    if found is not None:
        cluster.replace({**found, "data": _project_manifest(project)["data"]})
    elif project.name == DEFAULT_PROJECT:  # there without being recorded
        cluster.create(_project_manifest(project))
    return found is not None or project.name == DEFAULT_PROJECT


def delete_project(cluster: Cluster, namespace: str, name: str) -> bool:
    if _get_project(cluster, namespace, name) is None:
        return False
    return cluster.delete(kinds.CONFIG_MAP, namespace, _PROJECT_PREFIX + name)


def _project_manifest(project: Project) -> Raw:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": _PROJECT_PREFIX + project.name,
            "namespace": project.namespace,
            "labels": {
                own.MANAGED_BY: own.MANAGER,
                own.RECORD: "project",
                own.PROJECT: project.name,
            },
        },
        # Labels of a project need not be such as a cluster takes.
        "data": {
            "description": project.description,
            "owner": project.owner,
            "labels": json.dumps(project.labels),
            "annotations": json.dumps(project.annotations),
        },
    }


def _get_project(cluster: Cluster, namespace: str, name: str) -> Raw | None:
    one = cluster.get(kinds.CONFIG_MAP, namespace, _PROJECT_PREFIX + name)
    labels = ((one or {}).get("metadata") or {}).get("labels") or {}
    return one if labels.get(own.RECORD) == "project" else None


def read_configuration(known: FunctionObjects) -> Function:
    """The configuration that the function has, or would have when it is deployed.

    Raises `ConfigError` for one that cannot be read.
    """
    if (made := known.made) is not None:
        return made.function
    if known.deployment is not None:
        return _nuclio_configuration(known)
    if (imported := known.imported) is not None:
        return _with_name(known, imported)
    newest = next(iter(all_revisions(known)), None)
    if newest is not None:
        return newest.function
    wanted = known.wanted
    return unreadable_function(known) if wanted is None else _with_name(known, wanted)


def _nuclio_configuration(known: FunctionObjects) -> Function:
    """What Nuclio writes about a function into its Deployment, which is the spec alone
    (pkg/platform/kube/functionres/lazy.go: serializeFunctionJSON).
    """
    about = (known.deployment or {})["metadata"]
    try:
        config = json.loads((about.get("annotations") or {}).get(own.CONFIG, ""))
    except ValueError:
        return unreadable_function(known)
    if not isinstance(config, dict):
        return unreadable_function(known)
    if "spec" in config:
        return _with_name(known, config)
    return _with_name(known, {"metadata": {"labels": {own.PROJECT: known.project}}, "spec": config})


def _with_name(known: FunctionObjects, config: Raw) -> Function:
    """A configuration as that of this function, whatever name it was written for."""
    given = config.get("metadata") or {}
    name = {"name": known.key.name, "namespace": known.key.namespace}
    metadata = {**given, **name} if isinstance(given, dict) else given
    return function_from_dict({**config, "metadata": metadata}, known.key.name)


def unreadable_function(known: FunctionObjects) -> Function:
    """What is known where the configuration cannot be read: the name and the project."""
    name = Metadata(name=known.key.name, namespace=known.key.namespace)
    name.labels[own.PROJECT] = known.project
    return Function(metadata=name)
