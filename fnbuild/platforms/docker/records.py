"""Records on the engine: empty volumes whose labels describe revisions, imports and projects.

Labels never change, so a revision is recorded when its outcome is known. The function's container
tells which revision is active.
"""

from __future__ import annotations

import json

from fnbuild.builder.image.references import immutable_reference, with_registry
from fnbuild.errors import ConflictError, FnbuildError
from fnbuild.function.types import Function
from fnbuild.platforms import Artifact, ImageUse, Project
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
from fnbuild.platforms.projects import decode_string_map, with_default_project
from fnbuild.platforms.revision_records import RevisionHistory

MAX_REVISIONS = 10
_DESCRIPTION_LABEL = "fnbuild.io/description"
_PROJECT_OWNER_LABEL = "fnbuild.io/project-owner"
_PROJECT_LABELS_LABEL = "fnbuild.io/project-labels"
_PROJECT_ANNOTATIONS_LABEL = "fnbuild.io/project-annotations"
_IMPORT_RECORD = "imported"


# Revisions


def record_revision(engine: Engine, revision: RevisionRecord) -> None:
    """Record a revision, and tag its image so that it does not count as unused."""
    name = revision.key.record_name(revision.number)
    if not engine.add_volume(name, revision.record_labels()):
        raise ConflictError(
            f"there is already a volume {name} with another record",
            hint=f"`docker volume inspect {name}` shows it; remove it and deploy again",
        )
    if revision.image_id and not revision.failed:
        engine.tag(revision.image_id, revision.key.image_reference(revision.number))


def record_serving(engine: Engine, revision: RevisionRecord) -> None:
    """Record the revision that serves, forget an import, and prune old revisions."""
    record_revision(engine, revision)
    remove_import(engine, revision.key)
    prune_revisions(engine, inventory.read_function(engine, revision.key))


def remove_revision(engine: Engine, revision: RevisionRecord) -> None:
    """Remove a revision: its record, tag and extracted code, and its image without another use."""
    engine.remove_volume(revision.key.record_name(revision.number))
    engine.untag(revision.key.image_reference(revision.number))
    image_code.remove_code(revision)
    image = engine.image(revision.image_id) if revision.image_id else None
    if image is not None and not image.get("RepoTags") and not image.get("RepoDigests"):
        engine.untag(revision.image_id)  # the image of a failed revision has no tag


def prune_revisions(engine: Engine, objects: FunctionObjects) -> None:
    """Remove all but the newest revisions and the active one.

    Their records, tags and extracted code go, and images without another use.
    """
    active = objects.active
    for revision in objects.records[MAX_REVISIONS:]:
        if active is None or revision.number != active.number:
            remove_revision(engine, revision)


def history_of(objects: FunctionObjects) -> RevisionHistory[RevisionRecord]:
    return RevisionHistory(objects.key.name, objects.revisions, objects.active)


# Imported functions


def existing_image(engine: Engine, revision: RevisionRecord) -> Artifact | None:
    """Return the image of a recorded revision, None if the engine does not have it any more."""
    if not revision.image_id or engine.image(revision.image_id) is None:
        return None
    return Artifact("image", revision.image, revision.digest, id=revision.image_id)


def record_import(engine: Engine, function: Function) -> None:
    """Record an imported function, in place of an earlier import."""
    key = key_of(function)
    remove_import(engine, key)
    engine.add_volume(key.record_name(_IMPORT_RECORD), import_labels(function))


def remove_import(engine: Engine, key: DockerKey) -> None:
    engine.remove_volume(key.record_name(_IMPORT_RECORD))


# Projects


def list_projects(engine: Engine, namespace: str) -> list[Project]:
    """Return the projects of the namespace by name; `default` exists without a record."""
    selected = (f"{RECORD_LABEL}=project", f"{RECORD_NAMESPACE_LABEL}={namespace}")
    records = (volume["Labels"] for volume in engine.volumes(selected))
    projects = (
        Project(
            labels.get(RECORD_NAME_LABEL, ""),
            namespace,
            labels.get(_DESCRIPTION_LABEL, ""),
            labels.get(_PROJECT_OWNER_LABEL, ""),
            decode_string_map(labels.get(_PROJECT_LABELS_LABEL)),
            decode_string_map(labels.get(_PROJECT_ANNOTATIONS_LABEL)),
        )
        for labels in records
    )
    return with_default_project(namespace, projects)


def create_project(engine: Engine, project: Project) -> bool:
    if _has_project(engine, project.namespace, project.name):
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
    """Replace the record, since labels never change."""
    existed = delete_project(engine, project.namespace, project.name)
    return existed and _record_project(engine, project)


def delete_project(engine: Engine, namespace: str, name: str) -> bool:
    existed = _has_project(engine, namespace, name)
    engine.remove_volume(_project_volume(namespace, name))
    return existed


def _has_project(engine: Engine, namespace: str, name: str) -> bool:
    return any(project.name == name for project in list_projects(engine, namespace))


def _project_volume(namespace: str, name: str) -> str:
    return f"fnbuild-project-{namespace}.{name}"


def untag_image(engine: Engine, revision: RevisionRecord) -> None:
    """Remove the tags by which the image was deployed and pushed, if they are still its tags."""
    for name in (revision.image, pushed_reference(revision)):
        image = engine.image(name) if name else None
        if image is not None and image["Id"] == revision.image_id:
            engine.untag(name)


def pushed_reference(revision: RevisionRecord) -> str:
    """Return the reference of the image in the registry of its build, or ""."""
    try:
        registry = revision.function.spec.build.registry
        return with_registry(registry, revision.image) if registry and revision.image else ""
    except FnbuildError:  # the image was not built here, and its registry is invalid
        return ""


def image_use(engine: Engine) -> ImageUse:
    """Return the images that the functions of all namespaces need."""
    functions = inventory.list_all_functions(engine)
    revisions = [revision for function in functions for revision in function.revisions]
    running = (container.image for function in functions for container in function.containers)
    needed = {reference for revision in revisions for reference in _image_references(revision)}
    pushed = {name for revision in revisions if (name := pushed_reference(revision))}
    return ImageUse(
        frozenset(filter(None, (*needed, *running))),
        frozenset(name.rpartition(":")[0] for name in pushed),
        frozenset(
            function.key.name
            for function in functions
            if inventory.describe_ongoing_change(engine, function)
        ),
    )


def _image_references(revision: RevisionRecord) -> tuple[str, ...]:
    """Return the references of a revision's image, on the engine and in its registry."""
    pushed = pushed_reference(revision)
    tag = immutable_reference(pushed, revision.image_id) if pushed and revision.image_id else ""
    return revision.image_id, revision.key.image_reference(revision.number), tag
