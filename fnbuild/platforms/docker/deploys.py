"""Deploying on an engine: from a plan to the container that serves, with everything on record."""

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
from fnbuild.platforms import Artifact, Plan, Progress, revision_records
from fnbuild.platforms.docker import leases, planning, ports, records, recovery, view
from fnbuild.platforms.docker.containers import Place, network_names
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.faults import Missing, PortTakenError
from fnbuild.platforms.docker.inventory import Known
from fnbuild.platforms.docker.labels import Key, Made
from fnbuild.platforms.docker.readiness import opening
from fnbuild.platforms.docker.switch import Switch
from fnbuild.platforms.docker.volumes import missing
from fnbuild.platforms.leases import local_owner
from fnbuild.platforms.settings import needs_gpu, requested_port
from fnbuild.spec.types import Function, Raw

# How many free ports are tried that somebody takes before the container has it.
_PORTS_TRIED = 5


@dataclass(frozen=True, slots=True)
class Source:
    """The revision whose code and configuration another one runs again, and the note of that.

    A new one has no other: 0.
    """

    revision: int = 0
    note: str = ""


@contextmanager
def changing(
    engine: Engine,
    key: Key,
    participle: str,
    progress: Progress = lambda _: None,
    *,
    wait: bool = True,
) -> Iterator[Known]:
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


def plan(
    engine: Engine, known: Known, function: Function, artifact: Artifact, options: dict[str, Any]
) -> tuple[Plan, Place]:
    """What would change, and where the container would be."""
    function = planning.with_options(function, artifact, options)
    _refuse_stranger(engine, known)
    image = engine.image(artifact.id or artifact.reference) or {}
    if not artifact.digest:
        planning.refuse_other_program(artifact.reference, image)
    hosts, warnings = ports.hosts(engine, function)
    if engine.local:
        warnings += missing(function)
    if known.foreign:
        warnings += (
            "Nuclio has deployed this function: its container is replaced, and Nuclio's dashboard"
            " may still show what it remembers",
        )
    container = known.container
    around = planning.Surroundings(
        known=known,
        well=container is not None and view.live(engine, known).state == "ready",
        image_id=str(image.get("Id", "")),
        networks=frozenset(engine.networks()),
        hosts=hosts,
        warnings=warnings,
    )
    place = _place(engine, known, function, hosts, image)
    return planning.make(function, artifact, around, place, options), place


def _refuse_stranger(engine: Engine, known: Known) -> None:
    """Touch no container that has the function's name and is none of Nuclio's or fnbuild's."""
    if any(one.name == known.key.container for one in known.containers):
        return
    if engine.container(known.key.container) is not None:
        raise ConflictError(
            f"there is a container {known.key.container}, which neither fnbuild nor Nuclio made",
            hint=f"rename it (`docker rename {known.key.container} NAME`) or remove it, or give the"
            " function another name",
        )


def _place(
    engine: Engine, known: Known, function: Function, hosts: tuple[str, ...], image: Raw
) -> Place:
    port = 0
    if ports.published(function):
        port = ports.choose(engine, known.key, function, hosts, known.port)
    return Place(
        port=port,
        hosts=hosts if port else (),
        owner=local_owner(),
        image_user=str((image.get("Config") or {}).get("User") or ""),
        log_driver=str(engine.info.get("LoggingDriver") or ""),
        networks=network_names(function),
    )


def deploy(
    engine: Engine, known: Known, planned: tuple[Plan, Place], source: Source, progress: Progress
) -> None:
    """Run what is planned and record how that went. The caller holds the function's lock."""
    plan, place = planned
    image = _image(engine, plan, progress)
    if (engine.image(plan.artifact.reference) or {}).get("Id") == image:
        place = replace(place, image=plan.artifact.reference)
    made = planning.revision(known, plan.function, plan.artifact, image)
    made = replace(made, source=source.revision or made.number, note=source.note)
    progress(f"making revision {made.number}")
    drawn = bool(place.port) and not (requested_port(plan.function) or known.port)
    tries = _PORTS_TRIED if drawn else 1
    while True:
        made, tries = replace(made, port=place.port), tries - 1
        try:
            _switch(Switch(engine, made, place, known.container, progress, known.held), plan)
            break
        except BaseException as error:
            if isinstance(error, PortTakenError) and tries:
                progress(f"{error.message} by now, so it is another one")
                port = ports.choose(engine, known.key, plan.function, place.hosts, 0)
                place = replace(place, port=port)
                continue
            _record_failure(engine, made, error)
            raise
    records.add_serving(engine, made)


def _switch(switch: Switch, plan: Plan) -> None:
    function = plan.function
    try:
        if function.spec.disable:
            switch.stand_by()
        else:
            switch.run(prove=bool(plan.options.get("overlap")) or not needs_gpu(function))
    except Missing as error:
        if switch.lease is not None:
            switch.lease.check()
        raise ConflictError(
            f"the deploy of {function.metadata.name} was overtaken: somebody else has removed its"
            f" container ({error})",
            hint=f"`fnbuild get function {function.metadata.name}` shows what serves",
        ) from error


def pull(engine: Engine, plan: Plan, progress: Progress) -> None:
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


def _image(engine: Engine, plan: Plan, progress: Progress) -> str:
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
        planning.refuse_other_program(reference, found)
    return str(found["Id"])


def _record_failure(engine: Engine, made: Made, error: BaseException) -> None:
    """Note why the revision does not serve. The first line is the reason."""
    message = "the deploy was interrupted"
    if isinstance(error, FnbuildError):
        reason = error.message.removeprefix(opening(made))
        message = "\n".join(part for part in (reason, error.detail) if part)
    if isinstance(error, ConflictError | InputError):
        return  # nothing was tried
    try:
        records.add(engine, made.with_failure(message))
    except FnbuildError as problem:
        if isinstance(error, FnbuildError):
            error.hint = f"{error.hint or ''}; it is not on record: {problem.message}".lstrip("; ")


def make_again(engine: Engine, known: Known, made: Made, progress: Progress) -> str:
    """Make and start the container of the active revision, which somebody has removed; its id.

    It is the same revision: nothing new is recorded. The caller holds the function's lock.
    """
    image = engine.image(made.image_id) if made.image_id else None
    if image is None:
        raise revision_records.missing_code_error(known.key.name, made.config)
    _refuse_stranger(engine, known)
    hosts, _ = ports.hosts(engine, made.function)
    place = _place(engine, known, made.function, hosts, image)
    if (engine.image(made.image) or {}).get("Id") == made.image_id:
        place = replace(place, image=made.image)
    return Switch(engine, replace(made, port=place.port), place, None, progress).make_again()


def run_again(
    engine: Engine, known: Known, recorded: Made, source: Source, progress: Progress
) -> tuple[str, ...]:
    """Run a recorded revision as a new one; the warnings of its plan."""
    if not recorded.image_id or engine.image(recorded.image_id) is None:
        raise revision_records.missing_code_error(recorded.key.name, recorded.config)
    artifact = Artifact("image", recorded.image, recorded.digest, id=recorded.image_id)
    planned = plan(engine, known, recorded.function, artifact, {"force": True})
    deploy(engine, known, planned, source, progress)
    return planned[0].warnings
