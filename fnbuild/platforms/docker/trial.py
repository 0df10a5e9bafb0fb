"""A container beside the one that serves, without a port, for as long as it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fnbuild.errors import UnavailableError
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import Artifact, PlanOptions, Progress
from fnbuild.platforms.docker import inventory, planning, rollout
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.labels import key_of
from fnbuild.platforms.docker.probes import ReadinessProbe
from fnbuild.platforms.docker.switch import Switch
from fnbuild.runtime.container import HTTP_PORT


@contextmanager
def run_trial(
    engine: Engine, function: Function, artifact: Artifact, progress: Progress
) -> Iterator[str]:
    """Run an image, wait until it is ready, and provide its URL; it ends with the block.

    The caller has reserved the function. Raises `NotReadyError`, and `UnavailableError` if this
    process cannot reach the container.
    """
    objects = inventory.read_function(engine, key_of(function))
    plan, placement = rollout.plan_deploy(
        engine, objects, function, artifact, PlanOptions(force=True)
    )
    image = rollout.ensure_image(engine, plan, progress)
    revision = planning.next_revision(objects, plan.function, artifact, image)
    switch = Switch(engine, revision, placement, None, progress)
    with switch.started_trial() as container:
        address = _address(engine, container)
        ReadinessProbe(engine, container, revision, progress).wait_until_ready()
        yield f"http://{address}:{HTTP_PORT}"


def _address(engine: Engine, container: str) -> str:
    settings: Raw = (engine.container(container) or {}).get("NetworkSettings") or {}
    addresses = [network.get("IPAddress") for network in (settings.get("Networks") or {}).values()]
    address = next((text for text in addresses if text and engine.can_reach(text)), "")
    if not address:
        raise UnavailableError(
            f"the containers of the engine at {engine.host} cannot be reached from here",
            hint="run the command on the machine of the engine; the function needs a network of"
            " its own",
        )
    return str(address)
