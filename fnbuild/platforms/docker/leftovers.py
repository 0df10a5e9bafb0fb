"""Containers of killed deploys, which can be removed, and the images that revisions need."""

from __future__ import annotations

from fnbuild.builder.image import references
from fnbuild.platforms import ImageUse, Leftover
from fnbuild.platforms.docker import code, inventory, pending, records
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.inventory import Container, Known
from fnbuild.platforms.docker.labels import Made
from fnbuild.platforms.docker.ports import name_of


def image_use(engine: Engine) -> ImageUse:
    """Return the images that the functions of all namespaces need."""
    functions = inventory.everywhere(engine)
    revisions = [revision for function in functions for revision in function.all]
    own = (container.image for function in functions for container in function.containers)
    needed = {reference for revision in revisions for reference in _references(revision)}
    pushed = {name for revision in revisions if (name := records.pushed_name(revision))}
    return ImageUse(
        frozenset(filter(None, (*needed, *own))),
        frozenset(name.rpartition(":")[0] for name in pushed),
        frozenset(
            function.key.name for function in functions if pending.change_of(engine, function)
        ),
    )


def _references(made: Made) -> tuple[str, ...]:
    """Return the names of a revision's image, on the engine and in its registry."""
    pushed = records.pushed_name(made)
    tag = references.build_tag(pushed, made.image_id) if pushed and made.image_id else ""
    return made.image_id, made.key.image(made.number), tag


def found(engine: Engine) -> list[Leftover]:
    """List the containers that killed clients have left."""
    left = [
        Leftover("container", container.name, "its deploy was killed", function.key.name)
        for function in inventory.everywhere(engine)
        for container in _abandoned(engine, function)
    ]
    for listed in code.abandoned(engine):
        name = name_of(listed)
        left.append(Leftover("container", name, "its process was killed while it read code"))
    return left


def _abandoned(engine: Engine, known: Known) -> list[Container]:
    """Return the extra containers of a function that no deploy is using."""
    if not pending.is_pending(engine, known):
        return []
    # A new container that runs is kept: it takes over the next time the function is read.
    return [
        container
        for container in known.leftovers
        if container is not known.container and (container.candidate or not container.running)
    ]


def discard(engine: Engine, leftover: Leftover) -> bool:
    """Remove a container if it is still a leftover."""
    if leftover not in found(engine):
        return False
    engine.remove(leftover.name)
    return True
