"""What the cluster remembers beside what runs: older revisions, imported functions and projects.

One ConfigMap a function has one key per revision, the number; its value is the `Made` as JSON.
Serving needs none of it.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace

from fnbuild.errors import ConflictError
from fnbuild.platforms import Project, Revision, revision_records
from fnbuild.platforms.cluster import kinds
from fnbuild.platforms.cluster.api import Cluster
from fnbuild.platforms.kube import labels as own
from fnbuild.platforms.kube.inventory import Known
from fnbuild.platforms.kube.labels import Made
from fnbuild.platforms.kube.reasons import condition, rolled_out
from fnbuild.platforms.projects import DEFAULT_PROJECT, decode_string_map
from fnbuild.spec.types import Raw

INTERRUPTED = "its deploy was interrupted"
"""The failure of a revision whose deploy ended before it was ready and could not say why."""

_PROJECTS = f"{own.RECORD}=project"
# No object of a function has a dot in its name.
_PREFIX = "nuclio-project."


# Revisions


def recorded(known: Known) -> list[Made]:
    """What the record has, in no order."""
    data = (known.record or {}).get("data") or {}
    texts = [text for name, text in data.items() if name.isdecimal()]
    return [made for made in map(Made.from_json, texts) if made is not None]


def revisions(known: Known) -> list[Made]:
    """Every revision, newest first; what runs counts before it is recorded, too."""
    found = {made.number: made for made in recorded(known)}
    if (now := active(known)) is not None:
        found.setdefault(now.number, now)
    return [found[number] for number in sorted(found, reverse=True)]


def active(known: Known) -> Made | None:
    """The revision that runs, or is to run. What was applied from a file has the number under which
    the next deploy records it.
    """
    made = known.made
    if made is None or made.number or known.deployment is None:
        return made
    number = max((one.number for one in recorded(known)), default=0) + 1
    created = made.created or str(known.deployment["metadata"].get("creationTimestamp", ""))
    return replace(made, number=number, source=number, created=created, note="applied from a file")


def never_served(known: Known) -> bool:
    """Whether no revision on record ever became ready; False where none is on record."""
    made = recorded(known)
    return bool(made) and all(one.failed for one in made)


def shown(known: Known) -> list[Revision]:
    """Return all revisions, newest first.

    The revision of the Deployment is active once it was ready. Until then the one before it is,
    whose pods go on serving, if there are any.
    """
    some, newest, deployment = revisions(known), active(known), known.deployment
    if newest is None or deployment is None:
        return revision_records.to_revisions(some, newest)
    on_record = {made.number: made for made in recorded(known)}
    if newest.number not in on_record and not rolled_out(deployment):
        serving = _serving(some, newest, deployment)
        if _may_become_ready(known, deployment):
            return revision_records.to_revisions(some, serving, newest)
        failed = newest.with_failure(INTERRUPTED)
        some = [failed if made.number == newest.number else made for made in some]
        return revision_records.to_revisions(some, serving)
    if newest.number in on_record and on_record[newest.number].failed:
        return revision_records.to_revisions(some, _serving(some, newest, deployment))
    return revision_records.to_revisions(some, newest)


def _serving(some: list[Made], newest: Made, deployment: Raw) -> Made | None:
    """Return the revision whose pods serve while the newest one is not ready."""
    if not (deployment.get("status") or {}).get("availableReplicas"):
        return None
    served = (made for made in some if made.number != newest.number and not made.failed)
    return next(served, None)


def _may_become_ready(known: Known, deployment: Raw) -> bool:
    """Return True while a deploy of it is under way, or the cluster has not given it up."""
    return known.claimed(time.time()) or condition(deployment, "Progressing").get("status") == (
        "True"
    )


def revision(known: Known, number: int) -> Made:
    """The revision of that number, or `NotFoundError`."""
    return revision_records.find_revision(known.key.name, revisions(known), number)


# Projects


def projects(cluster: Cluster, namespace: str) -> list[Project]:
    """All of the namespace, by name; `default` is there without being recorded."""
    found = {DEFAULT_PROJECT: Project(DEFAULT_PROJECT, namespace)}
    for one in cluster.list(kinds.CONFIG_MAP, namespace, labels=_PROJECTS):
        name, data = one["metadata"]["name"].removeprefix(_PREFIX), one.get("data") or {}
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
        or _project(cluster, project.namespace, project.name) is not None
    ):
        return False
    try:
        cluster.create(_manifest(project))
    except ConflictError:
        if _project(cluster, project.namespace, project.name) is None:
            raise ConflictError(
                f"there is a ConfigMap {_PREFIX}{project.name} already, which is no project's",
                hint="give the project another name",
            ) from None
        return False
    return True


def update_project(cluster: Cluster, project: Project) -> bool:
    """Record it anew; False when there is none of that name."""
    found = _project(cluster, project.namespace, project.name)
    if found is not None:
        cluster.replace({**found, "data": _manifest(project)["data"]})
    elif project.name == DEFAULT_PROJECT:  # there without being recorded
        cluster.create(_manifest(project))
    return found is not None or project.name == DEFAULT_PROJECT


def drop_project(cluster: Cluster, namespace: str, name: str) -> bool:
    if _project(cluster, namespace, name) is None:
        return False
    return cluster.delete(kinds.CONFIG_MAP, namespace, _PREFIX + name)


def _manifest(project: Project) -> Raw:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": _PREFIX + project.name,
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


def _project(cluster: Cluster, namespace: str, name: str) -> Raw | None:
    one = cluster.get(kinds.CONFIG_MAP, namespace, _PREFIX + name)
    labels = ((one or {}).get("metadata") or {}).get("labels") or {}
    return one if labels.get(own.RECORD) == "project" else None
