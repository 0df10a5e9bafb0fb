"""Records on the engine: empty volumes whose labels say what was deployed, imported or grouped.

A label never changes, so a revision is recorded once it is known how it went; which one is active
is told by the function's container.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Literal

from fnbuild.build.image.names import with_registry
from fnbuild.errors import ConflictError, FnbuildError, NotFoundError, PreconditionError
from fnbuild.platforms import LogRecord, Project, Revision
from fnbuild.platforms.docker import code
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
from fnbuild.platforms.projects import DEFAULT
from fnbuild.spec.types import Function, Raw

RevisionState = Literal["active", "superseded", "failed"]

KEPT = 10
_DESCRIPTION = "fnbuild.io/description"
_PROJECT_OWNER = "fnbuild.io/project-owner"
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
    active = known.active
    return [_shown(made, active is not None and made.number == active.number) for made in known.all]


def _shown(made: Made, active: bool) -> Revision:
    message = ": ".join(part for part in (made.note, made.failure) if part)
    state: RevisionState = "active" if active else "superseded"
    if made.failed:
        state = "failed"
    return Revision(made.number, made.created, state, made.digest, made.function, message)


def failures(known: Known) -> Iterator[LogRecord]:
    """What is left to say of a function that has no container: why its newest revision failed."""
    for made in known.all[:1]:
        if made.failed:
            moment = datetime.fromisoformat(made.created).timestamp()
            yield LogRecord(moment, "error", made.failure)


def recorded(known: Known, number: int) -> Made:
    found = next((made for made in known.all if made.number == number), None)
    if found is None:
        numbers = ", ".join(str(made.number) for made in known.all)
        raise NotFoundError(
            f"{known.key.name} has no revision {number}", hint=f"recorded: {numbers or 'none'}"
        )
    return found


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
    found = {DEFAULT: Project(DEFAULT, namespace)}
    for volume in engine.volumes((f"{RECORD}=project", f"{RECORD_NAMESPACE}={namespace}")):
        labels = volume["Labels"]
        name = labels.get(RECORD_NAME, "")
        found[name] = Project(
            name, namespace, labels.get(_DESCRIPTION, ""), labels.get(_PROJECT_OWNER, "")
        )
    return [found[name] for name in sorted(found)]


def add_project(engine: Engine, project: Project) -> bool:
    if _has(projects(engine, project.namespace), project.name):
        return False
    labels = record_labels("project", project.namespace, project.name)
    labels |= {_DESCRIPTION: project.description, _PROJECT_OWNER: project.owner}
    return engine.add_volume(_project_volume(project.namespace, project.name), labels)


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
    for name in (made.image, _pushed(made)):
        found = engine.image(name) if name else None
        if found is not None and found["Id"] == made.image_id:
            engine.untag(name)


def _pushed(made: Made) -> str:
    """The name of the image in the registry that it was built for, "" for none."""
    try:
        registry = made.function.spec.build.registry
        return with_registry(registry, made.image) if registry and made.image else ""
    except FnbuildError:  # an image that was not built here, with a registry that is none
        return ""


def without_code(key: Key, config: Raw | None) -> PreconditionError:
    """What is said when there is nothing to run a function from; `config` is what is known of it.

    Source code that is in there becomes an image by a deploy alone.
    """
    build = ((config or {}).get("spec") or {}).get("build") or {}
    hint = f"deploy it from its folder: `fnbuild deploy {key.name} --path FOLDER`"
    if build.get("functionSourceCode"):
        hint = f"`fnbuild deploy {key.name}` builds it from the source in its configuration"
    return PreconditionError(f"no code of {key.name} is recorded", hint=hint)
