"""The current state of a function, from its container, its processor and its records."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fnbuild.errors import FnbuildError
from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function
from fnbuild.platforms import Deployment, FunctionState
from fnbuild.platforms.docker import inventory, logs, probes
from fnbuild.platforms.docker.container_config import HOST_NETWORK, HTTP_PORT
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.inventory import Container, FunctionObjects
from fnbuild.platforms.docker.probes import describe_exit
from fnbuild.platforms.processor_status import ProcessorStatus
from fnbuild.platforms.settings import gpu_limit

_DEVICE_PREFIX = "/dev/nvidia"
_CONTROL_DEVICE = "/dev/nvidiactl"


def gpu_warnings(engine: Engine, container: Container | None) -> tuple[str, ...]:
    """A warning when the function of a container asked for a GPU and runs on the CPU."""
    if container is None or not container.running or not gpu_limit(container.function):
        return ()
    if _lacks_device(engine, container):
        return ("it asks for a GPU and has none, so it runs on the CPU",)
    if engine.local and has_open_device(engine.processes(container.id)) is False:
        return ("it asks for a GPU and has opened none so far, so it runs on the CPU",)
    return ()


def _lacks_device(engine: Engine, container: Container) -> bool:
    try:
        ran = engine.execute(container.id, ["test", "-e", _CONTROL_DEVICE])
    except FnbuildError:  # an image without `test`
        return False
    return ran is not None and ran.status == 1


def has_open_device(processes: Iterable[int], devices: str = _DEVICE_PREFIX) -> bool | None:
    """Whether any of these processes of this machine has such a file open; None when this user
    may not look into them.
    """
    seen = False
    for pid in processes:
        try:
            links = list(Path(f"/proc/{pid}/fd").iterdir())
        except OSError:  # it has ended, or is another user's
            continue
        seen = True
        if any(_link_target(link).startswith(devices) for link in links):
            return True
    return False if seen else None


def _link_target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:  # closed meanwhile
        return ""


PLATFORM_NAME = "local"


@dataclass(frozen=True, slots=True)
class LiveState:
    state: FunctionState
    message: str = ""
    status: ProcessorStatus | None = None


def live_state(engine: Engine, known: FunctionObjects) -> LiveState:
    """The state of the function as far as it can be found out now."""
    container = known.container
    if container is None:
        return _state_without_container(known)
    if not container.running and container.function.spec.disable:
        return LiveState("standby")
    if container.running:
        return _running_state(engine, container)
    return _stopped_state(engine, container)


def _state_without_container(known: FunctionObjects) -> LiveState:
    name = known.key.name
    if (active := known.active) is not None:
        return LiveState(
            "unhealthy",
            f"its container was removed; `fnbuild redeploy {name}` makes it again from"
            f" revision {active.number}",
        )
    if any(one.candidate for one in known.containers):
        return LiveState("building", "its first deploy is under way")
    if known.recorded:
        return LiveState("error", known.recorded[0].failure)
    return LiveState("imported")


def _running_state(engine: Engine, container: Container) -> LiveState:
    if container.made is None:
        return _health_state(container)
    status = probes.query_status(engine, container)
    if status is None:
        return _health_state(container)
    if status.state == "ready":
        return LiveState("ready", status.lost_workers, status)
    if status.state == "starting":
        return LiveState("building", "its workers are starting", status)
    return LiveState("unhealthy", status.full_reason or status.state, status)


def _health_state(container: Container) -> LiveState:
    """What Docker's own health check says; without one, a container that runs counts as well."""
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
            "error", f"its container was never started; `fnbuild redeploy {name}` does"
        )
    state = (engine.container(container.id) or {}).get("State") or {}
    words = f"its container {describe_exit(state, container.function)}"
    if container.state == "exited" and not _has_failed(state):
        return LiveState("stopped", f"{words}; `docker start {container.name}` starts it")
    last = logs.last_output(engine, container.id)
    return LiveState("unhealthy", f"{words}\n{last}" if last else words)


def _has_failed(state: dict[str, Any]) -> bool:
    """Whether it ended by itself and not well: SIGTERM and the end after it come from outside."""
    return bool(state.get("OOMKilled")) or int(state.get("ExitCode") or 0) not in (0, 143)


def to_deployment(engine: Engine, known: FunctionObjects) -> Deployment:
    """The function as the platform protocol shows it."""
    container, active = known.container, known.active
    now, function = live_state(engine, known), configuration_of(known)
    port = _http_port(container)
    inside = [one for one in container.networks.values() if one] if container else []
    serves = container is not None and container.running
    wanted = 0 if now.state in ("standby", "imported") else 1
    warnings = now.status.warnings if now.status else []
    return Deployment(
        function=function,
        platform=PLATFORM_NAME,
        state=now.state,
        message=now.message,
        revision=active.number if active else 0,
        http_port=port,
        internal_urls=tuple(f"{one}:{HTTP_PORT}" for one in inside) if serves else (),
        external_urls=_external_urls(container, port),
        replicas=(int(now.state == "ready"), wanted),
        details=_details(engine, known, function, now.status),
        warnings=(
            *warnings,
            *gpu_warnings(engine, container),
            *inventory.interruption_warnings(engine, known),
        ),
    ).with_change(inventory.describe_change(engine, known))


def configuration_of(known: FunctionObjects) -> Function:
    """The configuration that the function has, or would have when it is deployed."""
    if known.container is not None:
        return known.container.function
    if (made := known.active or next(iter(known.recorded), None)) is not None:
        return made.function
    if known.imported is not None:
        return function_from_dict(known.imported, known.key.name)
    return known.containers[0].function  # the candidate of a first deploy


def _http_port(container: Container | None) -> int:
    if container is None or not container.running:
        return 0
    if HOST_NETWORK in container.networks:
        return HTTP_PORT
    return container.published[0][1] if container.published else 0


def _external_urls(container: Container | None, port: int) -> tuple[str, ...]:
    if container is None or not port:
        return ()
    found = container.published or (("127.0.0.1", port),)
    # IPv6 addresses of a port that every interface has say nothing that IPv4's do not.
    return tuple(sorted({f"{host}:{number}" for host, number in found if ":" not in host}))


def _details(
    engine: Engine, known: FunctionObjects, function: Function, status: ProcessorStatus | None
) -> dict[str, Any]:
    container, active = known.container, known.active
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
    if known.foreign:
        details["deployed_by"] = "Nuclio"
    if count := gpu_limit(function):
        details["gpu"] = count
    if status is not None:
        details["workers"] = [
            {"id": str(one.id), "state": one.state, "pid": one.pid, "restarts": one.restarts}
            for one in status.workers
        ]
    return details
