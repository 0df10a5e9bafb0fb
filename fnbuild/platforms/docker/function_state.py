"""The current state of a function, from its container, its processor and its records."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fnbuild.builder.grpc_packages import serves_grpc
from fnbuild.errors import FnbuildError
from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function
from fnbuild.platforms import Artifact, Deployment
from fnbuild.platforms.api_objects import worker_objects
from fnbuild.platforms.docker import inventory, logs, probes
from fnbuild.platforms.docker.container_config import GRPC_PORT, HOST_NETWORK, HTTP_PORT
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.inventory import Container, FunctionObjects
from fnbuild.platforms.docker.probes import describe_exit
from fnbuild.platforms.processor_status import LiveState, ProcessorStatus
from fnbuild.platforms.settings import gpu_limit

PLATFORM_NAME = "local"
_DEVICE_PREFIX = "/dev/nvidia"
_CONTROL_DEVICE = "/dev/nvidiactl"


def live_state(engine: Engine, objects: FunctionObjects) -> LiveState:
    """Determine the current state from the container and its processor."""
    container = objects.container
    if container is None:
        return _state_without_container(objects)
    if not container.is_running and container.function.spec.disable:
        return LiveState("standby")
    if container.is_running:
        return _running_state(engine, container)
    return _stopped_state(engine, container)


def _state_without_container(objects: FunctionObjects) -> LiveState:
    name = objects.key.name
    if (active := objects.active) is not None:
        return LiveState(
            "unhealthy",
            f"its container was removed; `fnbuild redeploy {name}` creates it again from"
            f" revision {active.number}",
        )
    if any(container.is_trial for container in objects.containers):
        return LiveState("building", "its first deploy is in progress")
    if objects.records:
        return LiveState("error", objects.records[0].failure)
    return LiveState("imported")


def _running_state(engine: Engine, container: Container) -> LiveState:
    if container.revision is None:
        return _health_state(container)
    status = probes.query_status(engine, container)
    return LiveState.from_status(status) if status is not None else _health_state(container)


def _health_state(container: Container) -> LiveState:
    """Return the state by Docker's health check; without one, a running container is ready."""
    if container.health == "unhealthy":
        return LiveState("unhealthy", "its health check fails")
    if container.health == "starting":
        return LiveState("building", "its health check has not passed yet")
    return LiveState("ready")


def _stopped_state(engine: Engine, container: Container) -> LiveState:
    name = container.function.metadata.name
    if container.state == "paused":
        return LiveState("stopped", f"its container is paused; `docker unpause {container.name}`")
    if container.state == "created":
        return LiveState(
            "error", f"its container was never started; `fnbuild redeploy {name}` starts it"
        )
    state = inventory.container_state(engine, container.id)
    message = f"its container {describe_exit(state, container.function)}"
    if container.state == "exited" and not _has_failed(state):
        return LiveState("stopped", f"{message}; `docker start {container.name}` starts it")
    output = logs.last_output(engine, container.id)
    return LiveState("unhealthy", f"{message}\n{output}" if output else message)


def _has_failed(state: dict[str, Any]) -> bool:
    """Return True if the container exited with an error and not because of a SIGTERM."""
    return bool(state.get("OOMKilled")) or int(state.get("ExitCode") or 0) not in (0, 143)


def to_deployment(engine: Engine, objects: FunctionObjects) -> Deployment:
    """Return the function with its configuration, state and endpoints."""
    container, active = objects.container, objects.active
    live, function = live_state(engine, objects), configuration_of(objects)
    running = container if container is not None and container.is_running else None
    port = _http_port(running) if running else 0
    desired = 0 if live.state in ("standby", "imported") else 1
    warnings = live.status.warnings if live.status else []
    return Deployment(
        function=function,
        platform=PLATFORM_NAME,
        state=live.state,
        message=live.message,
        revision=active.number if active else 0,
        http_port=port,
        grpc_port=_grpc_port(running) if running else 0,
        internal_urls=_internal_urls(running) if running else (),
        external_urls=_external_urls(running, port) if running and port else (),
        replicas=(int(live.state == "ready"), desired),
        image=_image(objects),
        processors=(container.id[:12],) if container else (),
        workers=tuple(live.status.workers) if live.status else (),
        sleep=live.status.sleep if live.status else None,
        details=_details(engine, objects, function, live.status),
        warnings=(
            *warnings,
            *gpu_warnings(engine, container),
            *inventory.interruption_warnings(engine, objects),
        ),
    ).with_ongoing_change(inventory.describe_ongoing_change(engine, objects))


def configuration_of(objects: FunctionObjects) -> Function:
    """Return the configuration that the function has, or would have after its deploy."""
    if objects.container is not None:
        return objects.container.function
    if (revision := objects.active or next(iter(objects.records), None)) is not None:
        return revision.function
    if objects.imported is not None:
        return function_from_dict(objects.imported, objects.key.name)
    return objects.containers[0].function  # the trial of a first deploy


def _http_port(container: Container) -> int:
    if HOST_NETWORK in container.networks:
        return HTTP_PORT
    return container.published[0][1] if container.published else 0


def _grpc_port(container: Container) -> int:
    if HOST_NETWORK in container.networks:
        return GRPC_PORT if serves_grpc(container.function) else 0
    return container.grpc_port


def _internal_urls(container: Container) -> tuple[str, ...]:
    return tuple(f"{address}:{HTTP_PORT}" for address in container.networks.values() if address)


def _external_urls(container: Container, port: int) -> tuple[str, ...]:
    published = container.published or (("127.0.0.1", port),)
    # A port that is open on every interface is listed for IPv4 and IPv6; IPv4 is enough.
    return tuple(sorted({f"{host}:{number}" for host, number in published if ":" not in host}))


def _image(objects: FunctionObjects) -> Artifact | None:
    if (active := objects.active) is not None:
        return Artifact("image", active.image, active.digest, id=active.image_id)
    if (container := objects.container) is not None:
        return Artifact("image", container.image, "")
    return None


def _details(
    engine: Engine, objects: FunctionObjects, function: Function, status: ProcessorStatus | None
) -> dict[str, Any]:
    container, active = objects.container, objects.active
    details: dict[str, Any] = {"engine": f"Docker {engine.version}"}
    if container is not None:
        details |= {
            "container": container.name,
            "container_id": container.id[:12],
            "image": container.image,
            "networks": sorted(container.networks),
        }
    if active is not None:
        details |= {"image": active.image, "image_id": active.image_id, "digest": active.digest}
    if objects.is_deployed_by_nuclio:
        details["deployed_by"] = "Nuclio"
    if count := gpu_limit(function):
        details["gpu"] = count
    if status is not None:
        details["workers"] = worker_objects(status.workers)
    return details


def gpu_warnings(engine: Engine, container: Container | None) -> tuple[str, ...]:
    """Return a warning if the function requests a GPU and runs on the CPU."""
    if container is None or not container.is_running or not gpu_limit(container.function):
        return ()
    if _lacks_device(engine, container):
        return ("it asks for a GPU and has none, so it runs on the CPU",)
    if engine.is_local and has_open_device(engine.processes(container.id)) is False:
        return ("it asks for a GPU and has opened none so far, so it runs on the CPU",)
    return ()


def _lacks_device(engine: Engine, container: Container) -> bool:
    try:
        result = engine.execute(container.id, ["test", "-e", _CONTROL_DEVICE])
    except FnbuildError:  # an image without `test`
        return False
    return result is not None and result.status == 1


def has_open_device(processes: Iterable[int], devices: str = _DEVICE_PREFIX) -> bool | None:
    """Return True if one of these local processes has a device open.

    Return None if this user may not inspect any of them.
    """
    inspected = False
    for pid in processes:
        try:
            links = list(Path(f"/proc/{pid}/fd").iterdir())
        except OSError:  # it has ended, or belongs to another user
            continue
        inspected = True
        if any(_link_target(link).startswith(devices) for link in links):
            return True
    return False if inspected else None


def _link_target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:  # it was closed
        return ""
