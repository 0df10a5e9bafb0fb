"""Deploys: plan the changes, make a new revision and switch to it."""

from __future__ import annotations

from pathlib import Path

from fnbuild import trees
from fnbuild.builder import interpreter, requirements, staging
from fnbuild.errors import FnbuildError, PreconditionError, Report
from fnbuild.function.reader import LoadedFunction, function_from_dict
from fnbuild.function.types import Function, to_dict
from fnbuild.platforms import (
    Artifact,
    Change,
    Deployment,
    FunctionKey,
    Manifest,
    Plan,
    PlanOptions,
    Progress,
    imported_code,
)
from fnbuild.platforms.addresses import listen_hosts
from fnbuild.platforms.base import REVISION_TARGET, make_change, with_new_revision
from fnbuild.platforms.process import (
    function_state,
    layout,
    records,
    revisions,
    supervisor_client,
)
from fnbuild.platforms.process.isolation import is_interpreter_accessible
from fnbuild.platforms.process.layout import control_socket, launched_processors
from fnbuild.platforms.process.processor_client import listening_pid
from fnbuild.platforms.process.processor_config import platform_warnings
from fnbuild.platforms.revision_records import RevisionOrigin, missing_code_error
from fnbuild.platforms.settings import (
    listen_setting,
    needs_gpu,
    requested_port,
    restart_policy,
    with_listen,
)
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
    active = records.active_revision(store, row) if row else None
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
        make_change(
            f"function {function.metadata.name}",
            _without_status(row.config) if row else None,
            _without_status(to_dict(function)),
        ),
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


def _without_status(manifest: Manifest) -> Manifest:
    """Remove the status, which differs between deploys without being a change."""
    return {key: value for key, value in manifest.items() if key != "status"}


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


def apply(store: Store, planned: Plan, progress: Progress) -> Deployment:
    """Apply a plan, unless nothing has changed. The caller holds the function's lock."""
    key = FunctionKey.of(planned.function)
    # Another deploy may have finished between the plan and the lock.
    planned = plan(store, planned.function, planned.artifact, planned.options)
    if planned.effective_changes:
        deploy(key, planned, store, progress)
    else:
        progress(planned.unchanged_message)
    return records.load_deployment(store, key, planned.warnings)


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
        _activate_standby(key, revision, store)
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


def _activate_standby(key: FunctionKey, revision: RevisionRow, store: Store) -> None:
    stop_processors(key)
    project = function_from_dict(revision.config, key.name).project
    store.activate_revision(
        *key,
        revision.number,
        desired="stopped",
        state="standby",
        message="",
        config=revision.config,
        project=project,
    )


def rerun_revision(
    key: FunctionKey,
    recorded: RevisionRow,
    origin: RevisionOrigin,
    store: Store,
    progress: Progress,
) -> Deployment:
    """Run a recorded revision again as a new revision."""
    if not recorded.code.is_dir():
        raise PreconditionError(
            f"the code of revision {recorded.number} of {key.name} is no longer there",
            hint=f"deploy it from its folder: `fnbuild deploy {key.name} --path FOLDER`",
        )
    function = function_from_dict(recorded.config, f"{key.name} revision {recorded.number}")
    artifact = Artifact("folder", str(recorded.code), recorded.digest)
    planned = plan(store, function, artifact, PlanOptions(force=True))
    deploy(key, planned, store, progress, origin)
    return records.load_deployment(store, key, planned.warnings)


def deploy_imported(key: FunctionKey, store: Store, progress: Progress) -> Deployment:
    """Deploy an imported function for the first time, from its inline source or its folder."""
    function = function_from_dict(records.require_function(store, key).config, key.name)
    code = imported_code.find(function_state.PLATFORM_NAME, key)
    if code is None and not function.spec.build.function_source_code:
        raise missing_code_error(key.name, None)
    folder = revisions.new_staging_folder()
    try:
        loaded = LoadedFunction(function, Report(), code or folder, None, None, "")
        artifact = staging.stage(loaded, folder)
        planned = plan(store, function, artifact, PlanOptions(force=True))
        deploy(key, planned, store, progress)
    finally:
        trees.try_remove(folder)
    imported_code.remove(function_state.PLATFORM_NAME, key)
    return records.load_deployment(store, key, planned.warnings)


def stop_processors(key: FunctionKey) -> None:
    """Stop the function's processors, if there are any."""
    runs = any(
        other == key and listening_pid(control_socket(key, number))
        for other, number in launched_processors()
    )
    if runs or supervisor_client.running_supervisor() is not None:
        supervisor_client.call("stop", namespace=key.namespace, name=key.name)
