"""A function as it is right now: what its container, its processor and its records say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fnbuild.platforms import Deployment, FunctionState
from fnbuild.platforms.docker import asking, gpus, logs, pending
from fnbuild.platforms.docker.containers import HTTP_PORT, MACHINE
from fnbuild.platforms.docker.endings import ended
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.inventory import Container, Known
from fnbuild.platforms.processor_status import ProcessorStatus
from fnbuild.platforms.settings import gpu_limit
from fnbuild.spec.reader import from_raw
from fnbuild.spec.types import Function

PLATFORM = "local"


@dataclass(frozen=True, slots=True)
class Live:
    state: FunctionState
    message: str = ""
    status: ProcessorStatus | None = None


def live(engine: Engine, known: Known) -> Live:
    """The state of the function as far as it can be found out now."""
    container = known.container
    if container is None:
        return _without_container(known)
    if not container.running and container.function.spec.disable:
        return Live("standby")
    if container.running:
        return _running(engine, container)
    return _down(engine, container)


def _without_container(known: Known) -> Live:
    name = known.key.name
    if (active := known.active) is not None:
        return Live(
            "unhealthy",
            f"its container was removed; `fnbuild redeploy {name}` makes it again from"
            f" revision {active.number}",
        )
    if any(one.candidate for one in known.containers):
        return Live("building", "its first deploy is under way")
    if known.recorded:
        return Live("error", known.recorded[0].failure)
    return Live("imported")


def _running(engine: Engine, container: Container) -> Live:
    if container.made is None:
        return _by_health(container)
    status = asking.status_of(engine, container)
    if status is None:
        return _by_health(container)
    if status.state == "ready":
        return Live("ready", status.lost_workers, status)
    if status.state == "starting":
        return Live("building", "its workers are starting", status)
    return Live("unhealthy", status.words or status.state, status)


def _by_health(container: Container) -> Live:
    """What Docker's own health check says; without one, a container that runs counts as well."""
    if container.health == "unhealthy":
        return Live("unhealthy", "its health check fails")
    if container.health == "starting":
        return Live("building", "its health check has not passed yet")
    return Live("ready")


def _down(engine: Engine, container: Container) -> Live:
    name = container.function.metadata.name
    if container.state == "paused":
        return Live("stopped", f"its container is paused; `docker unpause {container.name}`")
    if container.state == "created":
        return Live("error", f"its container was never started; `fnbuild redeploy {name}` does")
    state = (engine.container(container.id) or {}).get("State") or {}
    words = f"its container {ended(state, container.function)}"
    if container.state == "exited" and not _failed(state):
        return Live("stopped", f"{words}; `docker start {container.name}` starts it")
    last = logs.last_words(engine, container.id)
    return Live("unhealthy", f"{words}\n{last}" if last else words)


def _failed(state: dict[str, Any]) -> bool:
    """Whether it ended by itself and not well: SIGTERM and the end after it come from outside."""
    return bool(state.get("OOMKilled")) or int(state.get("ExitCode") or 0) not in (0, 143)


def deployment(engine: Engine, known: Known) -> Deployment:
    """The function as the platform protocol shows it."""
    container, active = known.container, known.active
    now, function = live(engine, known), function_of(known)
    port = _http_port(container)
    inside = [one for one in container.networks.values() if one] if container else []
    serves = container is not None and container.running
    wanted = 0 if now.state in ("standby", "imported") else 1
    warnings = now.status.warnings if now.status else []
    return Deployment(
        function=function,
        platform=PLATFORM,
        state=now.state,
        message=now.message,
        revision=active.number if active else 0,
        http_port=port,
        internal_urls=tuple(f"{one}:{HTTP_PORT}" for one in inside) if serves else (),
        external_urls=_external(container, port),
        replicas=(int(now.state == "ready"), wanted),
        details=_details(engine, known, function, now.status),
        warnings=(
            *warnings,
            *gpus.warnings_of(engine, container),
            *pending.warnings_of(engine, known),
        ),
    ).with_change(pending.change_of(engine, known))


def function_of(known: Known) -> Function:
    """The configuration that the function has, or would have when it is deployed."""
    if known.container is not None:
        return known.container.function
    if (made := known.active or next(iter(known.recorded), None)) is not None:
        return made.function
    if known.imported is not None:
        return from_raw(known.imported, known.key.name)
    return known.containers[0].function  # the candidate of a first deploy


def _http_port(container: Container | None) -> int:
    if container is None or not container.running:
        return 0
    if MACHINE in container.networks:
        return HTTP_PORT
    return container.published[0][1] if container.published else 0


def _external(container: Container | None, port: int) -> tuple[str, ...]:
    if container is None or not port:
        return ()
    found = container.published or (("127.0.0.1", port),)
    # IPv6 addresses of a port that every interface has say nothing that IPv4's do not.
    return tuple(sorted({f"{host}:{number}" for host, number in found if ":" not in host}))


def _details(
    engine: Engine, known: Known, function: Function, status: ProcessorStatus | None
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
