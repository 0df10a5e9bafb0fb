"""Restoration of functions whose containers are gone or down unintentionally.

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


def functions_to_restore(engine: Engine) -> list[DockerKey]:
    """Return the functions of the engine that `restore_function` would restore."""
    return [
        objects.key
        for objects in inventory.list_all_functions(engine)
        if is_interrupted(engine, objects) or _needs_restoring(engine, objects)
    ]


def _needs_restoring(engine: Engine, objects: FunctionObjects) -> bool:
    active = objects.active
    with contextlib.suppress(ConfigError):
        if active is None or active.function.spec.disable:
            return False  # a function of Nuclio, a first deploy, or a disabled function
        if objects.container is None:
            return not objects.containers
        return _is_down(engine, objects, objects.container)
    return False


def _is_down(engine: Engine, objects: FunctionObjects, container: Container) -> bool:
    if container.state == "created":
        # Its deploy is recorded, so the container was created again and not started.
        return container.revision in objects.records
    if container.state != "exited":
        return False
    others = (other for other in objects.containers if other is not container)
    if any(not other.is_trial for other in others):
        return True  # its successor never took over
    return bool(inventory.container_state(engine, container.id).get("Error"))


def restore_function(engine: Engine, key: DockerKey, progress: Progress) -> bool:
    """Start the function again; return False if it runs already or should not run.

    Raises `ConflictError` while another client changes it, and `NotReadyError` if it does not
    become ready.
    """
    before = inventory.read_function(engine, key)
    interrupted = is_interrupted(engine, before)
    if not (interrupted or _needs_restoring(engine, before)):
        return False
    with rollout.exclusive_change(engine, key, "started again", progress) as objects:
        if not objects.exists:
            remove_lock(*key)  # only remains of an interrupted first deploy existed
        revision, container = objects.active, objects.container
        if revision is None:
            return False
        if container is not None and container.is_running:
            if not interrupted:
                return False
            started = container.id
        elif not _needs_restoring(engine, objects):
            return False
        elif container is None:
            progress(f"its container is gone: creating it again from revision {revision.number}")
            started = rollout.recreate_container(engine, objects, revision, progress)
        else:
            progress("its container is down: starting it")
            engine.start(container.id)
            started = container.id
    # The lease is released, so other clients may change the function during this wait.
    ReadinessProbe(engine, started, revision, progress, report_output=False).wait_until_ready()
    progress("the function is ready")
    return True


def restore_all(engine: Engine, progress: Progress) -> Iterator[str]:
    """Restore all functions that need it, and yield their names. Failures are reported."""
    for key in functions_to_restore(engine):
        try:
            if restore_function(engine, key, progress):
                yield key.name
        except FnbuildError as error:
            progress(f"{key.name}: {error.message}")
