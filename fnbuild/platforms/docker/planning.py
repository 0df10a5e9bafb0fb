"""The plan of a deploy: the changes that it would make on the engine."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Any

import msgspec

from fnbuild.builder.image.builder import DIGEST_LABEL
from fnbuild.errors import InputError, PreconditionError, UsageError
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import CONFLICT_OPTIONS, Artifact, Change, Manifest, Plan
from fnbuild.platforms.base import REVISION_TARGET, make_change, with_new_revision
from fnbuild.platforms.docker.container_config import (
    HOST_NETWORK,
    ContainerPlacement,
    create_body,
    mounts_of,
    network_names,
)
from fnbuild.platforms.docker.inventory import FunctionObjects
from fnbuild.platforms.docker.labels import RevisionRecord, timestamp
from fnbuild.platforms.revision_records import stored_config
from fnbuild.platforms.settings import (
    GPU_RESOURCE,
    needs_gpu,
    requested_port,
    warnings_without_cluster,
    with_listen,
)

OPTIONS = frozenset({"force", "overlap", "listen"}) | CONFLICT_OPTIONS


@dataclass(frozen=True, slots=True)
class PlanContext:
    """What the engine has that a plan depends on.

    `well` says whether the function's container is up and ready, `image_id` what the reference
    means now ("" when the engine does not have it), `hosts` where the port would be published.
    """

    known: FunctionObjects
    well: bool
    image_id: str
    networks: frozenset[str]
    hosts: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def apply_options(function: Function, artifact: Artifact, options: dict[str, Any]) -> Function:
    """The function as it would be deployed; `UsageError` for an unknown option."""
    if unknown := set(options) - OPTIONS:
        raise UsageError(f"the Docker platform knows no option {', '.join(sorted(unknown))}")
    spec = msgspec.structs.replace(function.spec, image=artifact.reference)
    function = msgspec.structs.replace(function, spec=spec)
    listen = options.get("listen")
    return with_listen(function, listen) if listen else function


def make_plan(
    function: Function,
    artifact: Artifact,
    around: PlanContext,
    place: ContainerPlacement,
    options: dict[str, Any],
) -> Plan:
    """The plan. Raises `InputError` for values that the engine cannot use, `PreconditionError`
    when a network is missing.
    """
    _check_networks(function, around.networks)
    active = around.known.active
    made = next_revision(around.known, function, artifact, around.image_id)
    create_body(made, place)  # what the engine cannot use shows here
    after = {"image": artifact.reference, "code": artifact.digest, "id": around.image_id}
    before = _active_image(active, after)
    steps: tuple[Change, ...] = (
        make_change(
            f"function {function.metadata.name}",
            active.config if active else None,
            made.config,
        ),
        make_change(REVISION_TARGET, before, after),
        _port_change(around, function, place),
    )
    same = all(step.verb == "keep" for step in steps) and not options.get("force")
    if same and (around.well or function.spec.disable):
        container = Change("keep", "container")
    else:
        container = _container_change(function, around, options)
    if container.verb != "keep":
        steps = with_new_revision(steps)
    warnings = (*artifact.warnings, *configuration_warnings(function), *around.warnings)
    return Plan(function, artifact, (*steps, container), warnings, options)


def next_revision(
    known: FunctionObjects, function: Function, artifact: Artifact, image_id: str
) -> RevisionRecord:
    """The revision that a deploy would make."""
    number = known.next_number
    return RevisionRecord(
        key=known.key,
        number=number,
        created=timestamp(),
        digest=artifact.digest,
        image=artifact.reference,
        image_id=image_id,
        config=stored_config(function),
        source=number,
    )


def check_is_function_image(reference: str, image: Raw) -> None:
    """An image that was not built for a function would start, and never answer."""
    config = image.get("Config") or {}
    words = [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]
    ours = DIGEST_LABEL in (config.get("Labels") or {})
    if image and not ours and not any(posixpath.basename(word) == "processor" for word in words):
        shown = " ".join(words) or "nothing"
        raise InputError(
            f"the image {reference} holds no function: it runs {shown}, not a processor",
            hint="`fnbuild build --path FOLDER` makes one that does; nuctl's images do too",
        )


def _check_networks(function: Function, there: frozenset[str]) -> None:
    missing = [one for one in network_names(function) if one not in there and one != "default"]
    if missing:
        raise PreconditionError(
            f"there is no network {missing[0]}",
            hint=f"`docker network create {missing[0]}` makes it;"
            f" there are: {', '.join(sorted(there))}",
        )


def _active_image(active: RevisionRecord | None, after: Manifest) -> Manifest | None:
    if active is None:
        return None
    # An image that is yet to be built has no id to compare.
    image_id = active.image_id if after["id"] else ""
    return {"image": active.image, "code": active.digest, "id": image_id}


def _port_change(around: PlanContext, function: Function, place: ContainerPlacement) -> Change:
    container, known = around.known.container, around.known.port
    port: int | str = "none"
    if place.port:
        port = requested_port(function) or known or "a free one"
    hosts = sorted(place.hosts)
    after = {"port": port, "on": hosts}
    if container is None or container.made is None:
        return make_change("port", {"port": known} if known else None, after)
    addresses = sorted({address for address, _ in container.published if ":" not in address})
    if not container.running:
        # It has no port now, and will be back at the one that it had.
        addresses = hosts if known == place.port else []
    return make_change("port", {"port": known or "none", "on": addresses}, after)


def _container_change(function: Function, around: PlanContext, options: dict[str, Any]) -> Change:
    container = around.known.container
    runs = container is not None and container.running
    if function.spec.disable:
        return Change("delete" if runs else "create", "container", None, {"order": "do not start"})
    if not runs:
        return Change("replace" if container else "create", "container", None, {"order": "start"})
    recreate = needs_gpu(function) and not options.get("overlap")
    order = "stop the old one, then start" if recreate else "prove a trial, then switch"
    return Change("replace", "container", None, {"order": order})


def configuration_warnings(function: Function) -> tuple[str, ...]:
    """What the function asks for and does not get here, in as few sentences as possible."""
    found = list(mounts_of(function).warnings)
    found += warnings_without_cluster(function, "Docker", {}, ("cpu", "memory", GPU_RESOURCE))
    if HOST_NETWORK in network_names(function):
        found.append("the network of the machine is shared: port 8080 is open on every interface")
    return tuple(found)
