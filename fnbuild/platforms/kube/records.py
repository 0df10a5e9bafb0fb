"""What the cluster remembers beside what runs: older revisions, imported functions and projects.

One ConfigMap a function has one key per revision, the number; its value is the `Made` as JSON.
Serving needs none of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Literal

from fnbuild.errors import ConflictError, NotFoundError, PreconditionError
from fnbuild.platforms import LogRecord, Project, Revision
from fnbuild.platforms.cluster import kinds
from fnbuild.platforms.cluster.api import Cluster
from fnbuild.platforms.kube import labels as own
from fnbuild.platforms.kube.inventory import Known
from fnbuild.platforms.kube.labels import Key, Made
from fnbuild.platforms.projects import DEFAULT
from fnbuild.spec.types import Raw

RevisionState = Literal["active", "superseded", "failed"]

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


def shown(known: Known) -> list[Revision]:
    """All revisions, newest first."""
    now = active(known)
    return [
        _shown(made, now is not None and made.number == now.number) for made in revisions(known)
    ]


def _shown(made: Made, active: bool) -> Revision:
    message = ": ".join(part for part in (made.note, made.failure) if part)
    state: RevisionState = "active" if active else "superseded"
    if made.failed:
        state = "failed"
    return Revision(made.number, made.created, state, made.digest, made.function, message)


def revision(known: Known, number: int) -> Made:
    """The revision of that number, or `NotFoundError`."""
    all_of_them = revisions(known)
    found = next((made for made in all_of_them if made.number == number), None)
    if found is None:
        numbers = ", ".join(str(made.number) for made in all_of_them)
        raise NotFoundError(
            f"{known.key.name} has no revision {number}", hint=f"recorded: {numbers or 'none'}"
        )
    return found


def failures(known: Known) -> Iterator[LogRecord]:
    """What is left to say of a function without pods: why its newest revision failed."""
    for made in revisions(known)[:1]:
        if made.failed:
            moment = datetime.fromisoformat(made.created).timestamp()
            yield LogRecord(moment, "error", made.failure)


def without_code(key: Key, config: Raw | None) -> PreconditionError:
    """What is said when there is nothing to run a function from; `config` is what is known of it.

    Source code that is in there becomes an image by a deploy alone.
    """
    build = ((config or {}).get("spec") or {}).get("build") or {}
    hint = f"deploy it from its folder: `fnbuild deploy {key.name} --path FOLDER`"
    if build.get("functionSourceCode"):
        hint = f"`fnbuild deploy {key.name}` builds it from the source in its configuration"
    return PreconditionError(f"no code of {key.name} is recorded", hint=hint)


# Projects


def projects(cluster: Cluster, namespace: str) -> list[Project]:
    """All of the namespace, by name; `default` is there without being recorded."""
    found = {DEFAULT: Project(DEFAULT, namespace)}
    for one in cluster.list(kinds.CONFIG_MAP, namespace, labels=_PROJECTS):
        name, data = one["metadata"]["name"].removeprefix(_PREFIX), one.get("data") or {}
        found[name] = Project(name, namespace, data.get("description", ""), data.get("owner", ""))
    return [found[name] for name in sorted(found)]


def add_project(cluster: Cluster, project: Project) -> bool:
    """Record it; False when it existed already."""
    if project.name == DEFAULT or _project(cluster, project.namespace, project.name) is not None:
        return False
    manifest: Raw = {
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
        "data": {"description": project.description, "owner": project.owner},
    }
    try:
        cluster.create(manifest)
    except ConflictError:
        if _project(cluster, project.namespace, project.name) is None:
            raise ConflictError(
                f"there is a ConfigMap {_PREFIX}{project.name} already, which is no project's",
                hint="give the project another name",
            ) from None
        return False
    return True


def drop_project(cluster: Cluster, namespace: str, name: str) -> bool:
    if _project(cluster, namespace, name) is None:
        return False
    return cluster.delete(kinds.CONFIG_MAP, namespace, _PREFIX + name)


def _project(cluster: Cluster, namespace: str, name: str) -> Raw | None:
    one = cluster.get(kinds.CONFIG_MAP, namespace, _PREFIX + name)
    labels = ((one or {}).get("metadata") or {}).get("labels") or {}
    return one if labels.get(own.RECORD) == "project" else None
