"""The rollout of a plan: from the image to a recorded revision that serves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from fnbuild.datadir import function_lock
from fnbuild.errors import (
    ConflictError,
    FnbuildError,
    InputError,
    NotFoundError,
    PlatformError,
)
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import Artifact, Plan, Progress, revision_records
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
from fnbuild.platforms.docker.probes import not_ready_prefix
from fnbuild.platforms.docker.switch import Switch
from fnbuild.platforms.leases import local_owner
from fnbuild.platforms.settings import needs_gpu, requested_port

# How many free ports are tried that somebody takes before the container has it.
_PORT_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class RevisionSource:
    """The revision whose code and configuration another one runs again, and the note of that.

    A new one has no other: 0.
    """

    revision: int = 0
    note: str = ""


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

    What a killed client left is finished or undone first; without `wait` no model is waited for.
    """
    with function_lock(*key, participle):
        lease = leases.acquire(engine, key, participle)
        try:
            known = recovery.recover(engine, key, lease, progress, wait=wait)
            known.held = lease
            yield known
        finally:
            lease.give_back()


def plan_deploy(
    engine: Engine,
    known: FunctionObjects,
    function: Function,
    artifact: Artifact,
    options: dict[str, Any],
) -> tuple[Plan, ContainerPlacement]:
    """What would change, and where the container would be."""
    function = planning.apply_options(function, artifact, options)
    _check_container_name(engine, known)
    image = engine.image(artifact.id or artifact.reference) or {}
    if not artifact.digest:
        planning.check_is_function_image(artifact.reference, image)
    hosts, warnings = ports.publish_addresses(engine, function)
    if engine.local:
        warnings += missing_path_warnings(function)
    if known.foreign:
        warnings += (
            "Nuclio has deployed this function: its container is replaced, and Nuclio's dashboard"
            " may still show what it remembers",
        )
    container = known.container
    around = planning.PlanContext(
        known=known,
        well=container is not None and function_state.live_state(engine, known).state == "ready",
        image_id=str(image.get("Id", "")),
        networks=frozenset(engine.networks()),
        hosts=hosts,
        warnings=warnings,
    )
    place = _choose_placement(engine, known, function, hosts, image)
    return planning.make_plan(function, artifact, around, place, options), place


def _check_container_name(engine: Engine, known: FunctionObjects) -> None:
    """Touch no container that has the function's name and is none of Nuclio's or fnbuild's."""
    if any(one.name == known.key.container for one in known.containers):
        return
    if engine.container(known.key.container) is not None:
        raise ConflictError(
            f"there is a container {known.key.container}, which neither fnbuild nor Nuclio made",
            hint=f"rename it (`docker rename {known.key.container} NAME`) or remove it, or give the"
            " function another name",
        )


def _choose_placement(
    engine: Engine, known: FunctionObjects, function: Function, hosts: tuple[str, ...], image: Raw
) -> ContainerPlacement:
    port = 0
    if ports.is_published(function):
        port = ports.choose_port(engine, known.key, function, hosts, known.port)
    return ContainerPlacement(
        port=port,
        hosts=hosts if port else (),
        owner=local_owner(),
        image_user=str((image.get("Config") or {}).get("User") or ""),
        log_driver=str(engine.info.get("LoggingDriver") or ""),
        networks=network_names(function),
    )


def apply_plan(
    engine: Engine,
    known: FunctionObjects,
    planned: tuple[Plan, ContainerPlacement],
    source: RevisionSource,
    progress: Progress,
) -> None:
    """Run what is planned and record how that went. The caller holds the function's lock."""
    plan, place = planned
    image = _ensure_image(engine, plan, progress)
    if (engine.image(plan.artifact.reference) or {}).get("Id") == image:
        place = replace(place, image=plan.artifact.reference)
    made = planning.next_revision(known, plan.function, plan.artifact, image)
    made = replace(made, source=source.revision or made.number, note=source.note)
    progress(f"making revision {made.number}")
    drawn = bool(place.port) and not (requested_port(plan.function) or known.port)
    tries = _PORT_ATTEMPTS if drawn else 1
    while True:
        made, tries = replace(made, port=place.port), tries - 1
        try:
            _run_switch(Switch(engine, made, place, known.container, progress, known.held), plan)
            break
        except BaseException as error:
            if isinstance(error, PortTakenError) and tries:
                progress(f"{error.message} by now, so it is another one")
                port = ports.choose_port(engine, known.key, plan.function, place.hosts, 0)
                place = replace(place, port=port)
                continue
            _record_failure(engine, made, error)
            raise
    records.record_serving(engine, made)


def _run_switch(switch: Switch, plan: Plan) -> None:
    function = plan.function
    try:
        if function.spec.disable:
            switch.stand_by()
        else:
            switch.run(prove=bool(plan.options.get("overlap")) or not needs_gpu(function))
    except ObjectNotFound as error:
        if switch.lease is not None:
            switch.lease.check()
        raise ConflictError(
            f"the deploy of {function.metadata.name} was overtaken: somebody else has removed its"
            f" container ({error})",
            hint=f"`fnbuild get function {function.metadata.name}` shows what serves",
        ) from error


def pull_if_always(engine: Engine, plan: Plan, progress: Progress) -> None:
    """Fetch the image of a function that always wants the newest (imagePullPolicy); where that
    fails, the one that is there does. What was built here is the newest there is.
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
        progress(f"warning: the image that is there is run, for {error.message}")


def _ensure_image(engine: Engine, plan: Plan, progress: Progress) -> str:
    """The id of the image, fetched when the engine does not have it."""
    reference, spec = plan.artifact.reference, plan.function.spec
    found = engine.image(plan.artifact.id or reference)
    if found is None:
        if spec.image_pull_policy == "Never" or spec.build.offline:
            raise NotFoundError(
                f"the engine has no image {reference}",
                hint="build it, load it (`docker load`), or let it be pulled: spec.imagePullPolicy",
            )
        progress(f"pulling {reference}")
        engine.pull(reference)
        found = engine.image(reference)
    if found is None:
        raise PlatformError(f"the engine has no image {reference} after it was pulled")
    if not plan.artifact.digest:
        planning.check_is_function_image(reference, found)
    return str(found["Id"])


def _record_failure(engine: Engine, made: RevisionRecord, error: BaseException) -> None:
    """Note why the revision does not serve. The first line is the reason."""
    message = "the deploy was interrupted"
    if isinstance(error, FnbuildError):
        reason = error.message.removeprefix(not_ready_prefix(made))
        message = "\n".join(part for part in (reason, error.detail) if part)
    if isinstance(error, ConflictError | InputError):
        return  # nothing was tried
    try:
        records.record_revision(engine, made.with_failure(message))
    except FnbuildError as problem:
        if isinstance(error, FnbuildError):
            error.hint = f"{error.hint or ''}; it is not on record: {problem.message}".lstrip("; ")


def recreate_container(
    engine: Engine, known: FunctionObjects, made: RevisionRecord, progress: Progress
) -> str:
    """Make and start the container of the active revision, which somebody has removed; its id.

    It is the same revision: nothing new is recorded. The caller holds the function's lock.
    """
    image = engine.image(made.image_id) if made.image_id else None
    if image is None:
        raise revision_records.missing_code_error(known.key.name, made.config)
    _check_container_name(engine, known)
    hosts, _ = ports.publish_addresses(engine, made.function)
    place = _choose_placement(engine, known, made.function, hosts, image)
    if (engine.image(made.image) or {}).get("Id") == made.image_id:
        place = replace(place, image=made.image)
    return Switch(engine, replace(made, port=place.port), place, None, progress).make_again()


def rerun_revision(
    engine: Engine,
    known: FunctionObjects,
    recorded: RevisionRecord,
    source: RevisionSource,
    progress: Progress,
) -> tuple[str, ...]:
    """Run a recorded revision as a new one; the warnings of its plan."""
    if not recorded.image_id or engine.image(recorded.image_id) is None:
        raise revision_records.missing_code_error(recorded.key.name, recorded.config)
    artifact = Artifact("image", recorded.image, recorded.digest, id=recorded.image_id)
    planned = plan_deploy(engine, known, recorded.function, artifact, {"force": True})
    apply_plan(engine, known, planned, source, progress)
    return planned[0].warnings
