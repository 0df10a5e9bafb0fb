"""Records on the engine: empty volumes whose labels describe revisions, imports and projects.

Labels never change, so a revision is recorded when its outcome is known. The function's container
tells which revision is active.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from fnbuild.builder.image.references import build_tag, with_registry
from fnbuild.errors import ConflictError, FnbuildError
from fnbuild.function.types import Function
from fnbuild.platforms import ImageUse, Project, Revision, revision_records
from fnbuild.platforms.docker import image_code, inventory
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.inventory import FunctionObjects
from fnbuild.platforms.docker.labels import (
    RECORD_LABEL,
    RECORD_NAME_LABEL,
    RECORD_NAMESPACE_LABEL,
    DockerKey,
    RevisionRecord,
    import_labels,
    key_of,
    record_labels,
)
from fnbuild.platforms.projects import DEFAULT_PROJECT, decode_string_map

MAX_REVISIONS = 10
_DESCRIPTION_LABEL = "fnbuild.io/description"
_PROJECT_OWNER_LABEL = "fnbuild.io/project-owner"
_PROJECT_LABELS_LABEL = "fnbuild.io/project-labels"
_PROJECT_ANNOTATIONS_LABEL = "fnbuild.io/project-annotations"
_IMPORT_RECORD = "imported"


# Revisions


def record_revision(engine: Engine, made: RevisionRecord) -> None:
    """Record a revision, and keep its image from whoever removes unused ones."""
    name = made.key.record(made.number)
    if not engine.add_volume(name, made.record_labels()):
        raise ConflictError(
            f"there is a volume {name} already, which records something else",
            hint=f"`docker volume inspect {name}` shows it; without it the deploy goes on",
        )
    if made.image_id and not made.failed:
        engine.tag(made.image_id, made.key.image(made.number))


def record_serving(engine: Engine, made: RevisionRecord) -> None:
    """Record the revision that serves from now on, and forget those beyond the number kept."""
    record_revision(engine, made)
    remove_import(engine, made.key)
    prune_revisions(engine, inventory.read_function(engine, made.key))


def remove_revision(engine: Engine, made: RevisionRecord) -> None:
    """Remove a record; its image goes with it when nothing else uses it or names it."""
    engine.remove_volume(made.key.record(made.number))
    engine.untag(made.key.image(made.number))
    image_code.remove_code(made)
    found = engine.image(made.image_id) if made.image_id else None
    if found is not None and not found.get("RepoTags") and not found.get("RepoDigests"):
        engine.untag(made.image_id)  # that of a revision that failed has no name any more


def prune_revisions(engine: Engine, known: FunctionObjects) -> None:
    """Forget all but the newest revisions and the active one."""
    active = known.active
    for made in known.recorded[MAX_REVISIONS:]:
        if active is None or made.number != active.number:
            remove_revision(engine, made)


def revision_history(known: FunctionObjects) -> list[Revision]:
    """All revisions, newest first."""
    return revision_records.to_revisions(known.all, known.active)


def find_revision(known: FunctionObjects, number: int) -> RevisionRecord:
    """The revision of that number, or `NotFoundError`."""
    return revision_records.find_revision(known.key.name, known.all, number)


# Imported functions


def record_import(engine: Engine, function: Function) -> None:
    """Record a function without code, in place of the one imported before."""
    key = key_of(function)
    remove_import(engine, key)
    engine.add_volume(key.record(_IMPORT_RECORD), import_labels(function))


def remove_import(engine: Engine, key: DockerKey) -> None:
    engine.remove_volume(key.record(_IMPORT_RECORD))


# Projects


def list_projects(engine: Engine, namespace: str) -> list[Project]:
    """All of the namespace, by name; `default` is there without being recorded."""
    found = {DEFAULT_PROJECT: Project(DEFAULT_PROJECT, namespace)}
    for volume in engine.volumes(
        (f"{RECORD_LABEL}=project", f"{RECORD_NAMESPACE_LABEL}={namespace}")
    ):
        labels = volume["Labels"]
        name = labels.get(RECORD_NAME_LABEL, "")
        found[name] = Project(
            name,
            namespace,
            labels.get(_DESCRIPTION_LABEL, ""),
            labels.get(_PROJECT_OWNER_LABEL, ""),
            decode_string_map(labels.get(_PROJECT_LABELS_LABEL)),
            decode_string_map(labels.get(_PROJECT_ANNOTATIONS_LABEL)),
        )
    return [found[name] for name in sorted(found)]


def create_project(engine: Engine, project: Project) -> bool:
    if _has_project(list_projects(engine, project.namespace), project.name):
        return False
    return _record_project(engine, project)


def _record_project(engine: Engine, project: Project) -> bool:
    labels = record_labels("project", project.namespace, project.name)
    labels |= {_DESCRIPTION_LABEL: project.description, _PROJECT_OWNER_LABEL: project.owner}
    labels |= {
        _PROJECT_LABELS_LABEL: json.dumps(project.labels),
        _PROJECT_ANNOTATIONS_LABEL: json.dumps(project.annotations),
    }
    return engine.add_volume(_project_volume(project.namespace, project.name), labels)


def update_project(engine: Engine, project: Project) -> bool:
    """Labels never change: the record is made anew."""
    known = delete_project(engine, project.namespace, project.name)
    return known and _record_project(engine, project)


def delete_project(engine: Engine, namespace: str, name: str) -> bool:
    known = _has_project(list_projects(engine, namespace), name)
    engine.remove_volume(_project_volume(namespace, name))
    return known


def _has_project(some: Iterable[Project], name: str) -> bool:
    return any(one.name == name for one in some)


def _project_volume(namespace: str, name: str) -> str:
    return f"fnbuild-project-{namespace}.{name}"


def untag_image(engine: Engine, made: RevisionRecord) -> None:
    """Take the names that the image was deployed and pushed by, where they still mean it."""
    for name in (made.image, pushed_reference(made)):
        found = engine.image(name) if name else None
        if found is not None and found["Id"] == made.image_id:
            engine.untag(name)


def pushed_reference(made: RevisionRecord) -> str:
    """Return the name of the image in the registry that it was built for, "" for none."""
    try:
        registry = made.function.spec.build.registry
        return with_registry(registry, made.image) if registry and made.image else ""
    except FnbuildError:  # an image that was not built here, with a registry that is none
        return ""


def image_use(engine: Engine) -> ImageUse:
    """Return the images that the functions of all namespaces need."""
    functions = inventory.list_all_functions(engine)
    revisions = [revision for function in functions for revision in function.all]
    own = (container.image for function in functions for container in function.containers)
    needed = {reference for revision in revisions for reference in _image_references(revision)}
    pushed = {name for revision in revisions if (name := pushed_reference(revision))}
    return ImageUse(
        frozenset(filter(None, (*needed, *own))),
        frozenset(name.rpartition(":")[0] for name in pushed),
        frozenset(
            function.key.name
            for function in functions
            if inventory.describe_change(engine, function)
        ),
    )


def _image_references(made: RevisionRecord) -> tuple[str, ...]:
    """Return the names of a revision's image, on the engine and in its registry."""
    pushed = pushed_reference(made)
    tag = build_tag(pushed, made.image_id) if pushed and made.image_id else ""
    return made.image_id, made.key.image(made.number), tag
