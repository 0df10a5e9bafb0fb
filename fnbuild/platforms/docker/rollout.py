"""The rollout of a plan: from the image to a recorded revision that serves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from fnbuild.builder.grpc_packages import serves_grpc
from fnbuild.datadir import function_lock
from fnbuild.errors import (
    ConflictError,
    FnbuildError,
    InputError,
    NotFoundError,
    PlatformError,
)
from fnbuild.function.gpu_group_settings import GROUP, group_settings
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import Artifact, Plan, PlanOptions, Progress, revision_records
from fnbuild.platforms.docker import function_state, leases, planning, ports, records, recovery
from fnbuild.platforms.docker.container_config import (
    ContainerPlacement,
    missing_path_warnings,
    network_names,
)
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.errors import ObjectNotFound, PortTakenError
from fnbuild.platforms.docker.inventory import FunctionObjects
from fnbuild.platforms.docker.labels import DockerKey, RevisionRecord
from fnbuild.platforms.docker.switch import Switch
from fnbuild.platforms.gpu_groups import ensure_group_folder
from fnbuild.platforms.leases import local_owner
from fnbuild.platforms.revision_records import RevisionOrigin, failure_text
from fnbuild.platforms.settings import needs_gpu, requested_port

# A free port may be taken before the container starts on it.
_PORT_ATTEMPTS = 5


@contextmanager
def exclusive_change(
    engine: Engine,
    key: DockerKey,
    participle: str,
    progress: Progress = lambda _: None,
    *,
    wait: bool = True,
) -> Iterator[FunctionObjects]:
    """Hold the function's lock and lease, so that no other client on any machine changes it.

    An interrupted change is finished or undone first; without `wait`, no workers are waited for.
    """
    with function_lock(*key, participle):
        lease = leases.acquire(engine, key, participle)
        try:
            objects = recovery.recover(engine, key, lease, progress, wait=wait)
            objects.held_lease = lease
            yield objects
        finally:
            lease.release()


def plan_deploy(
    engine: Engine,
    objects: FunctionObjects,
    function: Function,
    artifact: Artifact,
    options: PlanOptions,
) -> tuple[Plan, ContainerPlacement]:
    """Return the plan of a deploy, and the placement of the container."""
    function = planning.apply_options(function, artifact, options)
    _check_container_name(engine, objects)
    image = engine.image(artifact.id or artifact.reference) or {}
    if not artifact.digest:
        planning.check_is_function_image(artifact.reference, image)
    hosts, warnings = ports.planned_addresses(engine, function)
    if engine.is_local:
        warnings += missing_path_warnings(function)
    if objects.is_deployed_by_nuclio:
        warnings += (
            "Nuclio has deployed this function: its container is replaced, and Nuclio's dashboard"
            " may still show the old one",
        )
    container = objects.container
    context = planning.PlanContext(
        objects=objects,
        is_ready=container is not None
        and function_state.live_state(engine, objects).state == "ready",
        image_id=str(image.get("Id", "")),
        networks=frozenset(engine.networks()),
        warnings=warnings,
    )
    placement = _choose_placement(engine, objects, function, hosts, image)
    return planning.make_plan(function, artifact, context, placement, options), placement


def _check_container_name(engine: Engine, objects: FunctionObjects) -> None:
    """Raise `ConflictError` if an unrelated container has the name of the function's container."""
    name = objects.key.container_name
    if any(container.name == name for container in objects.containers):
        return
    if engine.container(name) is not None:
        raise ConflictError(
            f"there is a container {name}, which neither fnbuild nor Nuclio made",
            hint=f"rename it (`docker rename {name} NAME`), remove it or rename the function",
        )


def _choose_placement(
    engine: Engine, objects: FunctionObjects, function: Function, hosts: tuple[str, ...], image: Raw
) -> ContainerPlacement:
    port = grpc_port = 0
    if ports.is_published(function):
        port = ports.choose_port(engine, objects.key, function, hosts, objects.port)
        if serves_grpc(function):
            current, container = objects.grpc_port, objects.container
            is_bound = container is not None and container.is_running
            if not is_bound and not ports.is_free(engine, hosts, current):
                current = 0
            grpc_port = ports.choose_grpc_port(engine, objects.key, hosts, port, current)
    return ContainerPlacement(
        port=port,
        grpc_port=grpc_port,
        hosts=hosts if port else (),
        owner=local_owner(),
        image_user=str((image.get("Config") or {}).get("User") or ""),
        log_driver=str(engine.info.get("LoggingDriver") or ""),
        networks=network_names(function),
        group_folder=_group_folder(engine, function),
    )


def _group_folder(engine: Engine, function: Function) -> str:
    """Return the folder of the function's GPU group on this machine, "" without a group."""
    settings = group_settings(function)
    if settings is None:
        return ""
    if not engine.is_local:
        raise InputError(
            f"metadata.annotations.{GROUP}: the engine at {engine.host} does not share the files of"
            f" this process, so the function cannot join the group {settings.name}",
            hint="deploy it on the machine of the engine and outside of a container",
        )
    return str(ensure_group_folder(settings.name))


def apply_plan(
    engine: Engine,
    objects: FunctionObjects,
    planned: tuple[Plan, ContainerPlacement],
    origin: RevisionOrigin,
    progress: Progress,
) -> None:
    """Run the planned revision and record the outcome. The caller holds the function's lock."""
    plan, placement = planned
    image = ensure_image(engine, plan, progress)
    if (engine.image(plan.artifact.reference) or {}).get("Id") == image:
        placement = replace(placement, image=plan.artifact.reference)
    revision = planning.next_revision(objects, plan.function, plan.artifact, image)
    revision = replace(revision, source=origin.revision or revision.number, note=origin.note)
    progress(f"making revision {revision.number}")
    is_random_port = bool(placement.port) and not (requested_port(plan.function) or objects.port)
    attempts = _PORT_ATTEMPTS if is_random_port else 1
    old, lease = objects.container, objects.held_lease
    while True:
        revision, attempts = revision.with_ports(placement.port, placement.grpc_port), attempts - 1
        try:
            _run_switch(Switch(engine, revision, placement, old, progress, lease), plan)
            break
        except BaseException as error:
            if isinstance(error, PortTakenError) and attempts:
                progress(f"{error.message}; choosing another port")
                port = ports.choose_port(engine, objects.key, plan.function, placement.hosts, 0)
                placement = replace(placement, port=port)
                if placement.grpc_port:
                    grpc_port = ports.choose_grpc_port(
                        engine, objects.key, placement.hosts, port, 0
                    )
                    placement = replace(placement, grpc_port=grpc_port)
                continue
            _record_failure(engine, revision, error)
            raise
    records.record_serving(engine, revision)


def _run_switch(switch: Switch, plan: Plan) -> None:
    function = plan.function
    try:
        if function.spec.disable:
            switch.create_stopped()
        else:
            switch.run(trial=plan.options.overlap or not needs_gpu(function))
    except ObjectNotFound as error:
        if switch.lease is not None:
            switch.lease.check()
        raise ConflictError(
            f"the deploy of {function.metadata.name} failed, because another client has removed its"
            f" container ({error})",
            hint=f"`fnbuild get function {function.metadata.name}` shows the current state",
        ) from error


def pull_if_always(engine: Engine, plan: Plan, progress: Progress) -> None:
    """Pull the image if imagePullPolicy is Always and the image was not built here.

    If the pull fails, an existing image is used.
    """
    reference, spec = plan.artifact.reference, plan.function.spec
    if plan.artifact.id or spec.image_pull_policy != "Always" or spec.build.offline:
        return
    progress(f"pulling {reference}")
    try:
        engine.pull(reference)
    except FnbuildError as error:
        if engine.image(reference) is None:
            raise
        progress(f"warning: the existing image is used, because {error.message}")


def ensure_image(engine: Engine, plan: Plan, progress: Progress) -> str:
    """Return the id of the image, which is pulled if the engine does not have it."""
    reference, spec = plan.artifact.reference, plan.function.spec
    image = engine.image(plan.artifact.id or reference)
    if image is None:
        if spec.image_pull_policy == "Never" or spec.build.offline:
            raise NotFoundError(
                f"the engine has no image {reference}",
                hint="build it, load it (`docker load`), or allow the pull: spec.imagePullPolicy",
            )
        progress(f"pulling {reference}")
        engine.pull(reference)
        image = engine.image(reference)
    if image is None:
        raise PlatformError(f"the engine has no image {reference} after it was pulled")
    if not plan.artifact.digest:
        planning.check_is_function_image(reference, image)
    return str(image["Id"])


def _record_failure(engine: Engine, revision: RevisionRecord, error: BaseException) -> None:
    """Record the failure of a revision. The first line of the message is the reason."""
    if isinstance(error, ConflictError | InputError):
        return  # no container was started
    message = failure_text(revision.number, revision.key.name, error)
    try:
        records.record_revision(engine, revision.with_failure(message))
    except FnbuildError as problem:
        if isinstance(error, FnbuildError):
            problem_text = f"the failure could not be recorded: {problem.message}"
            error.hint = f"{error.hint}; {problem_text}" if error.hint else problem_text


def recreate_container(
    engine: Engine, objects: FunctionObjects, revision: RevisionRecord, progress: Progress
) -> str:
    """Create and start the container of the active revision again, and return its id.

    The revision stays the same, so nothing is recorded. The caller holds the function's lock.
    """
    image = engine.image(revision.image_id) if revision.image_id else None
    if image is None:
        raise revision_records.missing_code_error(objects.key.name, revision.config)
    _check_container_name(engine, objects)
    hosts, _ = ports.planned_addresses(engine, revision.function)
    placement = _choose_placement(engine, objects, revision.function, hosts, image)
    if (engine.image(revision.image) or {}).get("Id") == revision.image_id:
        placement = replace(placement, image=revision.image)
    revision = revision.with_ports(placement.port, placement.grpc_port)
    return Switch(engine, revision, placement, None, progress).create_started()


def rerun_revision(
    engine: Engine,
    objects: FunctionObjects,
    record: RevisionRecord,
    origin: RevisionOrigin,
    progress: Progress,
) -> tuple[str, ...]:
    """Deploy a recorded revision as a new one, and return the warnings of its plan."""
    if not record.image_id or engine.image(record.image_id) is None:
        raise revision_records.missing_code_error(record.key.name, record.config)
    artifact = Artifact("image", record.image, record.digest, id=record.image_id)
    planned = plan_deploy(engine, objects, record.function, artifact, PlanOptions(force=True))
    apply_plan(engine, objects, planned, origin, progress)
    return planned[0].warnings
