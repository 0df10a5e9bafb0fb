"""What a deploy on the process platform does: a new revision, and the switch to it."""

from __future__ import annotations

from typing import Any

from fnbuild import trees
from fnbuild.builder import staging
from fnbuild.errors import FnbuildError, PreconditionError, Report
from fnbuild.platforms import Artifact, Deployment, Plan, Progress, imported_code
from fnbuild.platforms.process import client, downs, planning, records, revisions, view
from fnbuild.platforms.process.layout import Key, launched
from fnbuild.platforms.process.status import listening_pid
from fnbuild.spec.reader import Loaded, from_raw
from fnbuild.spec.types import Function
from fnbuild.store import FunctionRow, RevisionRow, Store


def plan(store: Store, function: Function, artifact: Artifact, options: dict[str, Any]) -> Plan:
    """The plan against what is on record and runs now."""
    row = store.function(*planning.key_of(function))
    active = records.active(store, row) if row else None
    runs = row is not None and view.live(row).state == "ready"
    current = planning.Current(row, active, runs)
    return planning.make(function, artifact, current, options)


def apply(store: Store, planned: Plan, progress: Progress) -> Deployment:
    """Carry out a plan, unless nothing has changed. The caller holds the function's lock."""
    key = planning.key_of(planned.function)
    # Another deploy may have ended between the plan and the lock.
    planned = plan(store, planned.function, planned.artifact, planned.options)
    if planned.changes:
        deploy(key, planned, store, progress)
    else:
        stays = "is still disabled" if planned.function.spec.disable else "runs"
        progress(f"nothing has changed, and the function {stays}")
    return records.shown(store, key, planned.warnings)


def deploy(
    key: Key,
    planned: Plan,
    store: Store,
    progress: Progress,
    source: revisions.Source | None = None,
) -> None:
    """Make the revision and switch to it; `source` is the one that it runs again."""
    began = downs.last()
    made = revisions.make(key, planned.function, planned.artifact, store, progress)
    if source is not None:
        store.note(*key, made.number, source.revision, source.note)
    if planned.function.spec.disable:
        _stand_by(key, made, store)
    else:
        overlap = bool(planned.options.get("overlap"))
        _switch(key, made, store, progress, began=began, overlap=overlap)
    revisions.prune(key, store)


def _switch(  # noqa: PLR0913 - what the supervisor is told
    key: Key, made: RevisionRow, store: Store, progress: Progress, *, began: int, overlap: bool
) -> None:
    row = store.function(*key)
    if row is not None and row.revision == 0:
        # Nothing of it ever ran: until something does, the newest try is what it is.
        project = view.project_of(from_raw(made.config, key.name))
        store.update_function(
            *key, config=made.config, project=project, desired="running", state="building"
        )
    try:
        downs.check(began, key.name)  # here too, or a supervisor would be started to refuse it
        client.call(
            "switch",
            progress,
            namespace=key.namespace,
            name=key.name,
            revision=made.number,
            began=began,
            overlap=overlap,
        )
    except FnbuildError as error:
        records.settle(key, store, error)
        raise


def _stand_by(key: Key, made: RevisionRow, store: Store) -> None:
    stop(key)
    project = view.project_of(from_raw(made.config, key.name))
    store.activate(
        *key,
        made.number,
        desired="stopped",
        state="standby",
        message="",
        config=made.config,
        project=project,
    )


def run_again(
    key: Key,
    recorded: RevisionRow,
    store: Store,
    progress: Progress,
    source: revisions.Source,
) -> Deployment:
    """Run a recorded revision as a new one."""
    if not recorded.code.is_dir():
        raise PreconditionError(
            f"the code of revision {recorded.number} of {key.name} is no longer there",
            hint=f"deploy it from its folder: `fnbuild deploy {key.name} --path FOLDER`",
        )
    function = from_raw(recorded.config, f"{key.name} revision {recorded.number}")
    artifact = Artifact("folder", str(recorded.code), recorded.digest)
    made = plan(store, function, artifact, {"force": True})
    deploy(key, made, store, progress, source)
    return records.shown(store, key, made.warnings)


def deploy_inline(key: Key, row: FunctionRow, store: Store, progress: Progress) -> Deployment:
    """Deploy an imported function for the first time, from its inline source or its folder."""
    function = from_raw(row.config, key.name)
    code = imported_code.find("process", key)
    if code is None and not function.spec.build.function_source_code:
        raise PreconditionError(
            f"no code of {key.name} is recorded",
            hint=f"deploy it from its folder: `fnbuild deploy {key.name} --path FOLDER`",
        )
    folder = revisions.staging_folder()
    try:
        loaded = Loaded(function, Report(), code or folder, None, None, "")
        artifact = staging.stage(loaded, folder)
        made = plan(store, function, artifact, {"force": True})
        deploy(key, made, store, progress)
    finally:
        trees.discard(folder)
    imported_code.drop("process", key)
    return records.shown(store, key, made.warnings)


def stop(key: Key) -> None:
    """End the function's processors, if there are any."""
    runs = any(one == key and listening_pid(key.control(number)) for one, number in launched())
    if runs or client.hello() is not None:
        client.call("stop", namespace=key.namespace, name=key.name)
