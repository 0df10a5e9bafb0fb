"""Records on the engine: empty volumes whose labels say what was deployed, imported or grouped.

A label never changes, so a revision is recorded once it is known how it went; which one is active
is told by the function's container.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from fnbuild.builder.image.references import with_registry
from fnbuild.errors import ConflictError, FnbuildError
from fnbuild.platforms import Project, Revision, revision_records
from fnbuild.platforms.docker import code, inventory
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.inventory import Known
from fnbuild.platforms.docker.labels import (
    RECORD,
    RECORD_NAME,
    RECORD_NAMESPACE,
    Key,
    Made,
    imported_labels,
    key_of,
    record_labels,
)
from fnbuild.platforms.projects import DEFAULT_PROJECT, decode_string_map
from fnbuild.spec.types import Function

KEPT = 10
_DESCRIPTION = "fnbuild.io/description"
_PROJECT_OWNER = "fnbuild.io/project-owner"
_PROJECT_LABELS = "fnbuild.io/project-labels"
_PROJECT_ANNOTATIONS = "fnbuild.io/project-annotations"
_IMPORTED = "imported"


# Revisions


def add(engine: Engine, made: Made) -> None:
    """Record a revision, and keep its image from whoever removes unused ones."""
    name = made.key.record(made.number)
    if not engine.add_volume(name, made.record_labels()):
        raise ConflictError(
            f"there is a volume {name} already, which records something else",
            hint=f"`docker volume inspect {name}` shows it; without it the deploy goes on",
        )
    if made.image_id and not made.failed:
        engine.tag(made.image_id, made.key.image(made.number))


def add_serving(engine: Engine, made: Made) -> None:
    """Record the revision that serves from now on, and forget those beyond the number kept."""
    add(engine, made)
    drop_import(engine, made.key)
    prune(engine, inventory.function(engine, made.key))


def forget(engine: Engine, made: Made) -> None:
    """Remove a record; its image goes with it when nothing else uses it or names it."""
    engine.remove_volume(made.key.record(made.number))
    engine.untag(made.key.image(made.number))
    code.drop(made)
    found = engine.image(made.image_id) if made.image_id else None
    if found is not None and not found.get("RepoTags") and not found.get("RepoDigests"):
        engine.untag(made.image_id)  # that of a revision that failed has no name any more


def prune(engine: Engine, known: Known) -> None:
    """Forget all but the newest revisions and the active one."""
    active = known.active
    for made in known.recorded[KEPT:]:
        if active is None or made.number != active.number:
            forget(engine, made)


def shown(known: Known) -> list[Revision]:
    """All revisions, newest first."""
    return revision_records.to_revisions(known.all, known.active)


def recorded(known: Known, number: int) -> Made:
    """The revision of that number, or `NotFoundError`."""
    return revision_records.find_revision(known.key.name, known.all, number)


# Imported functions


def add_import(engine: Engine, function: Function) -> None:
    """Record a function without code, in place of the one imported before."""
    key = key_of(function)
    drop_import(engine, key)
    engine.add_volume(key.record(_IMPORTED), imported_labels(function))


def drop_import(engine: Engine, key: Key) -> None:
    engine.remove_volume(key.record(_IMPORTED))


# Projects


def projects(engine: Engine, namespace: str) -> list[Project]:
    """All of the namespace, by name; `default` is there without being recorded."""
    found = {DEFAULT_PROJECT: Project(DEFAULT_PROJECT, namespace)}
    for volume in engine.volumes((f"{RECORD}=project", f"{RECORD_NAMESPACE}={namespace}")):
        labels = volume["Labels"]
        name = labels.get(RECORD_NAME, "")
        found[name] = Project(
            name,
            namespace,
            labels.get(_DESCRIPTION, ""),
            labels.get(_PROJECT_OWNER, ""),
            decode_string_map(labels.get(_PROJECT_LABELS)),
            decode_string_map(labels.get(_PROJECT_ANNOTATIONS)),
        )
    return [found[name] for name in sorted(found)]


def add_project(engine: Engine, project: Project) -> bool:
    if _has(projects(engine, project.namespace), project.name):
        return False
    return _record_project(engine, project)


def _record_project(engine: Engine, project: Project) -> bool:
    labels = record_labels("project", project.namespace, project.name)
    labels |= {_DESCRIPTION: project.description, _PROJECT_OWNER: project.owner}
    labels |= {
        _PROJECT_LABELS: json.dumps(project.labels),
        _PROJECT_ANNOTATIONS: json.dumps(project.annotations),
    }
    return engine.add_volume(_project_volume(project.namespace, project.name), labels)


def update_project(engine: Engine, project: Project) -> bool:
    """Labels never change: the record is made anew."""
    known = drop_project(engine, project.namespace, project.name)
    return known and _record_project(engine, project)


def drop_project(engine: Engine, namespace: str, name: str) -> bool:
    known = _has(projects(engine, namespace), name)
    engine.remove_volume(_project_volume(namespace, name))
    return known


def _has(some: Iterable[Project], name: str) -> bool:
    return any(one.name == name for one in some)


def _project_volume(namespace: str, name: str) -> str:
    return f"fnbuild-project-{namespace}.{name}"


def drop_image(engine: Engine, made: Made) -> None:
    """Take the names that the image was deployed and pushed by, where they still mean it."""
    for name in (made.image, pushed_name(made)):
        found = engine.image(name) if name else None
        if found is not None and found["Id"] == made.image_id:
            engine.untag(name)


def pushed_name(made: Made) -> str:
    """Return the name of the image in the registry that it was built for, "" for none."""
    try:
        registry = made.function.spec.build.registry
        return with_registry(registry, made.image) if registry and made.image else ""
    except FnbuildError:  # an image that was not built here, with a registry that is none
        return ""
