"""The plan of a deploy: the changes that it would make on the engine."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from fnbuild.builder.image.builder import DIGEST_LABEL
from fnbuild.errors import InputError, PreconditionError
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import Artifact, Change, Manifest, Plan, PlanOptions
from fnbuild.platforms.docker.container_config import (
    HOST_NETWORK,
    ContainerPlacement,
    create_body,
    mounts_of,
    network_names,
)
from fnbuild.platforms.docker.inventory import FunctionObjects
from fnbuild.platforms.docker.labels import RevisionRecord
from fnbuild.platforms.plans import REVISION_TARGET, make_change, with_new_revision
from fnbuild.platforms.revision_records import stored_config, timestamp
from fnbuild.platforms.settings import (
    GPU_RESOURCE,
    needs_gpu,
    requested_port,
    warnings_without_cluster,
    with_listen,
)

OPTIONS = frozenset({"force", "overlap", "listen"})


@dataclass(frozen=True, slots=True)
class PlanContext:
    """The state of the engine that a plan depends on.

    `is_ready` is True if the function's container is ready. `image_id` is the id of the image, ""
    if the engine does not have it.
    """

    objects: FunctionObjects
    is_ready: bool
    image_id: str
    networks: frozenset[str]
    warnings: tuple[str, ...] = ()


def apply_options(function: Function, artifact: Artifact, options: PlanOptions) -> Function:
    """Return the function with the options applied. Raises `UsageError` for an unsupported one."""
    options.require_supported("Docker", OPTIONS)
    function = function.with_spec(image=artifact.reference)
    return with_listen(function, options.listen) if options.listen else function


def make_plan(
    function: Function,
    artifact: Artifact,
    context: PlanContext,
    placement: ContainerPlacement,
    options: PlanOptions,
) -> Plan:
    """Return the plan of a deploy.

    Raises `InputError` for values that the engine cannot use, and `PreconditionError` if a network
    is missing.
    """
    _check_networks(function, context.networks)
    active = context.objects.active
    revision = next_revision(context.objects, function, artifact, context.image_id)
    create_body(revision, placement)  # raises for values that the engine cannot use
    after = {"image": artifact.reference, "code": artifact.digest, "id": context.image_id}
    before = _active_image(active, after)
    changes: tuple[Change, ...] = (
        make_change(
            f"function {function.metadata.name}",
            active.config if active else None,
            revision.config,
        ),
        make_change(REVISION_TARGET, before, after),
        _port_change(context, function, placement),
    )
    unchanged = all(change.verb == "keep" for change in changes) and not options.force
    if unchanged and (context.is_ready or function.spec.disable):
        container = Change("keep", "container")
    else:
        container = _container_change(function, context, options)
    if container.verb != "keep":
        changes = with_new_revision(changes)
    warnings = (*artifact.warnings, *configuration_warnings(function), *context.warnings)
    return Plan(function, artifact, (*changes, container), warnings, options)


def next_revision(
    objects: FunctionObjects, function: Function, artifact: Artifact, image_id: str
) -> RevisionRecord:
    """Return the record of the revision that a deploy would create."""
    number = objects.next_number
    return RevisionRecord(
        key=objects.key,
        number=number,
        created=timestamp(),
        digest=artifact.digest,
        image=artifact.reference,
        image_id=image_id,
        config=stored_config(function),
        source=number,
    )


def check_is_function_image(reference: str, image: Raw) -> None:
    """Raise `InputError` for an image without a processor: it would start and never respond."""
    config = image.get("Config") or {}
    command = [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]
    is_built_here = DIGEST_LABEL in (config.get("Labels") or {})
    runs_processor = any(posixpath.basename(word) == "processor" for word in command)
    if image and not is_built_here and not runs_processor:
        raise InputError(
            f"the image {reference} holds no function: it runs {' '.join(command) or 'nothing'},"
            " not a processor",
            hint="build the image with `fnbuild build --path FOLDER` or with nuctl",
        )


def _check_networks(function: Function, existing: frozenset[str]) -> None:
    names = network_names(function)
    missing = [name for name in names if name not in existing and name != "default"]
    if missing:
        raise PreconditionError(
            f"there is no network {missing[0]}",
            hint=f"create it with `docker network create {missing[0]}`, or use one of"
            f" {', '.join(sorted(existing))}",
        )


def _active_image(active: RevisionRecord | None, after: Manifest) -> Manifest | None:
    if active is None:
        return None
    # An image that is not built yet has no id to compare.
    image_id = active.image_id if after["id"] else ""
    return {"image": active.image, "code": active.digest, "id": image_id}


def _port_change(context: PlanContext, function: Function, placement: ContainerPlacement) -> Change:
    container, current = context.objects.container, context.objects.port
    port: int | str = "none"
    if placement.port:
        port = requested_port(function) or current or "a free one"
    hosts = sorted(placement.hosts)
    after = {"port": port, "on": hosts}
    if container is None or container.revision is None:
        return make_change("port", {"port": current} if current else None, after)
    addresses = sorted({address for address, _ in container.published if ":" not in address})
    if not container.is_running:
        # A stopped container has no port, and gets its old one when it starts.
        addresses = hosts if current == placement.port else []
    return make_change("port", {"port": current or "none", "on": addresses}, after)


def _container_change(function: Function, context: PlanContext, options: PlanOptions) -> Change:
    container = context.objects.container
    is_running = container is not None and container.is_running
    if function.spec.disable:
        return Change(
            "delete" if is_running else "create", "container", None, {"order": "do not start"}
        )
    if not is_running:
        return Change("replace" if container else "create", "container", None, {"order": "start"})
    recreate = needs_gpu(function) and not options.overlap
    order = "stop the old one, then start" if recreate else "run a trial, then switch"
    return Change("replace", "container", None, {"order": order})


def configuration_warnings(function: Function) -> tuple[str, ...]:
    """Return warnings about settings that have no effect on Docker."""
    warnings = list(mounts_of(function).warnings)
    warnings += warnings_without_cluster(function, "Docker", {}, ("cpu", "memory", GPU_RESOURCE))
    if HOST_NETWORK in network_names(function):
        warnings.append("port 8080 is open on every interface, as the machine's network is shared")
    return tuple(warnings)
