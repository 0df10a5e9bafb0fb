"""Restoration of functions whose containers are gone or down although nobody stopped them.

A container that was stopped by hand stays stopped, and after a restart of the engine the restart
policies apply. That leaves containers that were removed by hand, containers that the engine could
not start, and what a deploy leaves that was killed between two containers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from fnbuild.datadir import remove_lock
from fnbuild.errors import ConfigError, FnbuildError
from fnbuild.platforms import Progress
from fnbuild.platforms.docker import inventory, rollout
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.inventory import Container, FunctionObjects, is_interrupted
from fnbuild.platforms.docker.labels import DockerKey
from fnbuild.platforms.docker.probes import ReadinessProbe


def find_lapsed(engine: Engine) -> list[DockerKey]:
    """All of the engine's."""
    return [
        known.key
        for known in inventory.list_all_functions(engine)
        if is_interrupted(engine, known) or _has_lapsed(engine, known)
    ]


def _has_lapsed(engine: Engine, known: FunctionObjects) -> bool:
    active = known.active
    with contextlib.suppress(ConfigError):
        if active is None or active.function.spec.disable:
            return False  # Nuclio's own, a first deploy, or one that stands by
        if known.container is None:
            return not known.containers
        return _is_down(engine, known, known.container)
    return False


def _is_down(engine: Engine, known: FunctionObjects, container: Container) -> bool:
    if container.state == "created":
        # On record, so its deploy has ended: it was made again, and not started.
        return any(made == container.made for made in known.recorded)
    if container.state != "exited":
        return False
    if any(not one.candidate for one in known.containers if one is not container):
        return True  # its successor was made and never took over
    state = (engine.container(container.id) or {}).get("State") or {}
    return bool(state.get("Error"))


def restore_function(engine: Engine, key: DockerKey, progress: Progress) -> bool:
    """Have the function run as before; False when it does, or ought not to.

    Raises `ConflictError` while somebody else changes it, `NotReadyError` and what the engine
    refuses.
    """
    before = inventory.read_function(engine, key)
    interrupted = is_interrupted(engine, before)
    if not (interrupted or _has_lapsed(engine, before)):
        return False
    with rollout.exclusive_change(engine, key, "started again", progress) as known:
        if not known.there:
            remove_lock(*key)  # all that there was is what a first deploy has left
        made, container = known.active, known.container
        if made is None:
            return False
        if container is not None and container.running:
            if not interrupted:
                return False
            started = container.id
        elif not _has_lapsed(engine, known):
            return False
        elif container is None:
            progress(f"its container is gone: making it again from revision {made.number}")
            started = rollout.recreate_container(engine, known, made, progress)
        else:
            progress("its container is down: starting it")
            engine.start(container.id)
            started = container.id
    # From here on the container is on its own, and may be changed by others.
    ReadinessProbe(engine, started, made, progress, output=False).until_ready()
    progress("the function is ready")
    return True


def restore_all(engine: Engine, progress: Progress) -> Iterator[str]:
    """Bring back all that are found; one that fails does not keep the others."""
    for key in find_lapsed(engine):
        try:
            if restore_function(engine, key, progress):
                yield key.name
        except FnbuildError as error:
            progress(f"{key.name}: {error.message}")
