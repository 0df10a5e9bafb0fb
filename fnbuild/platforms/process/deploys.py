"""Deploys: plan the changes, make a new revision and switch to it."""

from __future__ import annotations

from pathlib import Path

from fnbuild.builder import interpreter, requirements
from fnbuild.errors import FnbuildError
from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function
from fnbuild.platforms import Artifact, Change, FunctionKey, Manifest, Plan, PlanOptions, Progress
from fnbuild.platforms.addresses import listen_hosts
from fnbuild.platforms.plans import REVISION_TARGET, make_change, with_new_revision
from fnbuild.platforms.process import function_state, layout, records, revisions, supervisor_client
from fnbuild.platforms.process.isolation import is_interpreter_accessible
from fnbuild.platforms.process.layout import control_socket, launched_processors
from fnbuild.platforms.process.processor_client import listening_pid
from fnbuild.platforms.process.processor_config import platform_warnings
from fnbuild.platforms.revision_records import RevisionOrigin
from fnbuild.platforms.settings import (
    listen_setting,
    needs_gpu,
    requested_port,
    restart_policy,
    with_listen,
)
from fnbuild.platforms.stored_platform import activate_standby, active_revision, function_change
from fnbuild.store import FunctionRow, RevisionRow, Store

_PLAN_OPTIONS = frozenset({"force", "overlap", "listen"})


def plan(store: Store, function: Function, artifact: Artifact, options: PlanOptions) -> Plan:
    """Compare the function and its artifact with the recorded and running state.

    Raises `UsageError` for an unsupported option, and `InputError` for an unsupported value.
    """
    options.require_supported(function_state.PLATFORM_NAME, _PLAN_OPTIONS)
    if options.listen:
        function = with_listen(function, options.listen)
    restart_policy(function)
    row = store.function(*FunctionKey.of(function))
    active = active_revision(store, row)
    runs = row is not None and function_state.live_state(row).state == "ready"
    required = requirements.collect_requirements(function, Path(artifact.reference))
    python = interpreter.choose_interpreter(function, is_interpreter_accessible)
    _, listen_warnings = listen_hosts(listen_setting(function))
    warnings = [
        *artifact.warnings,
        *([python.warning] if python.warning else []),
        *platform_warnings(function, required),
        *listen_warnings,
    ]
    after = {"code": artifact.digest, "python": python.path, "packages": list(required.packages)}
    before = _active_manifest(active, after) if active else None
    changes: tuple[Change, ...] = (
        function_change(row, function),
        make_change(REVISION_TARGET, before, after),
        _port_change(row, requested_port(function)),
    )
    unchanged = all(change.verb == "keep" for change in changes) and not options.force
    if unchanged and (runs or function.spec.disable):
        processor = Change("keep", "processor")
    else:
        processor = _processor_change(function, active if runs else None, options)
    if processor.verb != "keep":
        changes = with_new_revision(changes)
    return Plan(
        function, artifact, (*changes, processor), tuple(warnings), options, required.ignored
    )


def _active_manifest(active: RevisionRow, after: Manifest) -> Manifest:
    # The interpreter of an environment is not recorded.
    python = after["python"] if active.environment else active.interpreter
    try:
        function = function_from_dict(active.config, f"{active.name} revision {active.number}")
        packages = list(requirements.collect_requirements(function, active.code).packages)
    except FnbuildError:
        packages = after["packages"]  # its code was modified, which the digest shows
    return {"code": active.digest, "python": python, "packages": packages}


def _port_change(row: FunctionRow | None, requested: int) -> Change:
    current = row.http_port if row else 0
    before = {"port": current} if current else None
    return make_change("port", before, {"port": requested or current or "a free one"})


def _processor_change(
    function: Function, active: RevisionRow | None, options: PlanOptions
) -> Change:
    if function.spec.disable:
        return Change("delete" if active else "keep", "processor")
    if active is None:
        return Change("create", "processor", None, {"order": "start"})
    recreate = needs_gpu(function) and not options.overlap
    order = "stop the old one, then start" if recreate else "start, then drain the old one"
    return Change("replace", "processor", None, {"order": order})


def deploy(
    key: FunctionKey,
    planned: Plan,
    store: Store,
    progress: Progress,
    origin: RevisionOrigin | None = None,
) -> None:
    """Make a revision and switch to it; `origin` is the revision that it runs again, if any."""
    previous_down = layout.last_down()
    revision = revisions.make_revision(key, planned.function, planned.artifact, store, progress)
    if origin is not None:
        store.record_origin(*key, revision.number, origin.revision, origin.note)
    if planned.function.spec.disable:
        stop_processors(key)
        activate_standby(store, planned.function, revision)
    else:
        overlap = planned.options.overlap
        _switch_to(key, revision, store, progress, previous_down=previous_down, overlap=overlap)
    revisions.prune_revisions(key, store)


def _switch_to(  # noqa: PLR0913 - the arguments of the request
    key: FunctionKey,
    revision: RevisionRow,
    store: Store,
    progress: Progress,
    *,
    previous_down: int,
    overlap: bool,
) -> None:
    row = store.function(*key)
    if row is not None and row.revision == 0:
        # No revision has run yet: the newest attempt is shown as the function.
        project = function_from_dict(revision.config, key.name).project
        store.update_function(
            *key, config=revision.config, project=project, desired="running", state="building"
        )
    try:
        layout.check_no_down_since(
            previous_down, key.name
        )  # otherwise a supervisor would be started only to refuse
        supervisor_client.call(
            "switch",
            progress,
            namespace=key.namespace,
            name=key.name,
            revision=revision.number,
            began=previous_down,
            overlap=overlap,
        )
    except FnbuildError as error:
        records.fail_unfinished(key, store, error)
        raise


def stop_processors(key: FunctionKey) -> None:
    """Stop the function's processors, if there are any."""
    runs = any(
        other == key and listening_pid(control_socket(key, number))
        for other, number in launched_processors()
    )
    if runs or supervisor_client.running_supervisor() is not None:
        supervisor_client.call("stop", namespace=key.namespace, name=key.name)
