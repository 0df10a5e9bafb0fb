"""Deploys on this machine: the plan, the archive, the switch of the server, and the records."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from itertools import zip_longest
from pathlib import Path

from fnbuild import trees
from fnbuild.bridges.torchserve.export import (
    ExportOptions,
    config_warnings,
    export_function,
    next_version,
)
from fnbuild.bridges.torchserve.model_store import CONFIG_PATH, STORE_NAME, apply_retention
from fnbuild.bridges.torchserve.server_config import CONFIG_NAME
from fnbuild.builder import staging
from fnbuild.errors import ConflictError, FnbuildError, NotReadyError, PreconditionError, StoreError
from fnbuild.function.reader import function_from_dict
from fnbuild.function.secrets import secret_variables
from fnbuild.function.sleep_settings import IDLE_TIMEOUT, sleep_settings
from fnbuild.function.torchserve_settings import torchserve_settings
from fnbuild.function.types import Function, Raw, to_dict
from fnbuild.platforms import Artifact, Change, FunctionKey, Plan, PlanOptions, Progress
from fnbuild.platforms.addresses import LOOPBACK
from fnbuild.platforms.plans import REVISION_TARGET, make_change, with_new_revision
from fnbuild.platforms.revision_records import RevisionOrigin, failure_prefix, failure_text
from fnbuild.platforms.settings import warnings_without_cluster
from fnbuild.platforms.stored_platform import activate_standby, active_revision, function_change
from fnbuild.platforms.torchserve import layout
from fnbuild.platforms.torchserve.configuration import (
    ServerPorts,
    served_model,
    server_config,
    tree_config,
    tree_models,
    tree_warnings,
)
from fnbuild.platforms.torchserve.layout import StoreFolder, archive_name, server_of
from fnbuild.platforms.torchserve.rollout import Rollout
from fnbuild.platforms.torchserve.server import (
    LocalServer,
    ServerState,
    check_ports,
    find_python,
    free_ports,
    ports_of,
)
from fnbuild.runtime.torchserve import BUSY_LOCK_VARIABLE
from fnbuild.store import RevisionDraft, RevisionRow, Store

PLATFORM_NAME = "torchserve"
_KEPT_REVISIONS = 10


# Plans


def plan(store: Store, function: Function, artifact: Artifact, options: PlanOptions) -> Plan:
    """Return the changes that a deploy would make."""
    options.require_supported(PLATFORM_NAME, frozenset({"force"}))
    settings = torchserve_settings(function)
    ignored: Raw = {IDLE_TIMEOUT: sleep_settings(function).idle_timeout}
    warnings = artifact.warnings + warnings_without_cluster(function, PLATFORM_NAME, ignored, ())
    if not settings.tokens:
        warnings += ("without tokens, every user of this machine can call and scale the model",)
    if settings.model_tree:
        warnings += tree_warnings(Path(artifact.reference))
    else:
        warnings += config_warnings(function, Path(artifact.reference))
    key = FunctionKey.of(function)
    row = store.function(*key)
    active = active_revision(store, row)
    before, code = {"code": active.digest} if active else None, {"code": artifact.digest}
    changes: tuple[Change, ...] = (
        function_change(row, function),
        make_change(REVISION_TARGET, before, code),
    )
    unchanged = all(change.verb == "keep" for change in changes) and not options.force
    runs = row is not None and row.desired == "running" and server_of(key).is_kept
    if not (unchanged and (runs or function.spec.disable)):
        changes = with_new_revision(changes)
    return Plan(function, artifact, changes, warnings, options)


# Changes


def deploy(
    store: Store, plan: Plan, progress: Progress, origin: RevisionOrigin | None = None
) -> None:
    """Make a revision and let the server serve it; `origin` is the revision that runs again."""
    function, key = plan.function, FunctionKey.of(plan.function)
    python = find_python(torchserve_settings(function).python, function.spec.runtime)
    folder, source = layout.store_folder(function), Path(plan.artifact.reference)
    _require_own_store(store, key, folder)
    active = active_revision(store, store.function(*key))
    # That of the version that is served now is packed again, for new workers.
    is_recorded = source.parent == layout.code_root(key) and (
        active is None or source != active.code
    )
    try:
        with ExitStack() as undo:
            code = _take_back(folder, source, undo) if is_recorded else None
            if code is None:
                code = _pack(function, source, folder, progress)
                undo.callback((folder.archives / archive_name(code)).unlink, missing_ok=True)
                staging.take_code(source, code)
            config = to_dict(function)
            draft = RevisionDraft(plan.artifact.digest, config, python, code=str(code))
            revision = store.add_revision(*key, draft)
            if origin is not None:
                store.record_origin(*key, revision.number, origin.revision, origin.note)
            _activate(store, function, revision, active, progress)
            undo.pop_all()
    except OSError as error:
        raise StoreError(
            f"cannot write {error.filename or folder.root}: {error.strerror}",
            hint="free some space, or name another `store` that you may write to",
        ) from error
    _tidy(store, function, code, progress)


def _take_back(folder: StoreFolder, code: Path, undo: ExitStack) -> Path | None:
    """Return recorded code if its archive is in the store, or was in the backup."""
    tree, name = folder.tree, archive_name(code)
    is_stored = name in tree.archives()
    if not is_stored and name in tree.backups():
        tree.restore(name)
        undo.callback(tree.back_up, name)
        is_stored = True
    return code if is_stored or (code / CONFIG_PATH).exists() else None


def _pack(function: Function, source: Path, folder: StoreFolder, progress: Progress) -> Path:
    """Pack the code as an archive of the store; return the folder for its code.

    The archives of a tree are those in its folder.
    """
    key, name = FunctionKey.of(function), function.metadata.name
    codes = layout.code_root(key)
    # The code of failed deploys has the name of an archive that is gone.
    version = next_version(name, folder.archives, codes, stored=folder.tree.backups())
    code = codes / f"{name}_{version}"
    if torchserve_settings(function).model_tree:
        return code
    options = ExportOptions(export_path=folder.archives, model_name=code.name, version=version)
    exported = export_function(function, source, options, progress)
    for warning in exported.warnings:
        progress(f"warning: {warning}")
    return code


def _require_own_store(store: Store, key: FunctionKey, folder: StoreFolder) -> None:
    """Raise `ConflictError` if another function has the same model store, or one around it."""
    for row in store.functions():
        other = FunctionKey(row.namespace, row.name)
        try:
            used = layout.store_folder(function_from_dict(row.config, row.name))
        except FnbuildError:
            continue  # an import, whose configuration no deploy has checked
        if other != key and used.overlaps(folder):
            raise ConflictError(
                f"the model store {folder.root} belongs to the function {other}",
                hint="a server loads all archives of its store: name another folder, as in"
                f" `spec.platform.attributes.torchserve.store: {used.root}/{key.name}`",
            )


def _activate(
    store: Store,
    function: Function,
    revision: RevisionRow,
    before: RevisionRow | None,
    progress: Progress,
) -> None:
    """Let the server serve the revision, and record the result."""
    key = FunctionKey.of(function)
    if before is None:
        # The newest attempt is shown as the function until one has served.
        store.update_function(*key, config=revision.config, project=function.project)
    if function.spec.disable:
        server_of(key).stop()
        activate_standby(store, function, revision)
        return
    try:
        rollout = _rollout(function, revision, before, progress)
        rollout.run()
    except BaseException as error:
        if isinstance(error, NotReadyError):
            error.message = failure_prefix(revision.number, key.name) + error.message
        text = failure_text(revision.number, key.name, error)
        store.fail_revision(*key, revision.number, text)
        if before is None:
            store.update_function(*key, desired="running", state="error", message=text)
        raise
    store.activate_revision(
        *key,
        revision.number,
        desired="running",
        state="ready",
        message="",
        http_port=rollout.target.config.port("inference_address"),
        config=revision.config,
        project=function.project,
    )
    rollout.finish()


def _rollout(
    function: Function, revision: RevisionRow, before: RevisionRow | None, progress: Progress
) -> Rollout:
    server = server_of(FunctionKey.of(function))
    previous = server.state if before is not None else None
    target = _new_state(function, revision, server, previous)
    if server.process is None:
        server.stop()  # its processes, if it has lost its launcher
    used = ports_of(previous.config) if previous is not None and server.process else []
    check_ports(set(ports_of(target.config)) - set(used))
    return Rollout(function, server, target, previous, progress)


def _new_state(
    function: Function, revision: RevisionRow, server: LocalServer, previous: ServerState | None
) -> ServerState:
    """Return the state for a revision; ports that are not set stay, or are free ones."""
    name, code, settings = function.metadata.name, revision.code, torchserve_settings(function)
    chosen = (settings.ports.inference, settings.ports.management, settings.ports.metrics)
    present = ports_of(previous.config) if previous else free_ports(len(ServerPorts._fields))
    ports = ServerPorts(*(port or other for port, other in zip_longest(chosen, present)))
    if settings.model_tree:
        path, archives = server.folder / CONFIG_NAME, code / STORE_NAME
        models, config = tree_models(name, code), tree_config(function, code, ports, LOOPBACK)
    else:
        store = layout.store_folder(function)
        path, archives = store.config, store.archives
        models = (served_model(function, archive_name(code)),)
        config = server_config(function, models[0], ports, str(archives), LOOPBACK)
    variables = dict(secret_variables(revision.config))
    variables |= {BUSY_LOCK_VARIABLE: str(server.folder / "busy.lock")}
    return ServerState(
        python=revision.interpreter,
        config_path=str(path),
        store=str(archives),
        log=str(server.log),
        variables=variables,
        config=config,
        models=models,
    )


def resume(revision: RevisionRow, progress: Progress) -> None:
    """Start the server of the active revision again."""
    server = server_of(FunctionKey(revision.namespace, revision.name))
    if (state := server.state) is None:
        hint = f"`fnbuild redeploy {revision.name}` makes it again"
        raise PreconditionError(f"the server of {revision.name} was removed", hint=hint)
    function = function_from_dict(revision.config, revision.name)
    Rollout(function, server, state, None, progress).resume()


def _tidy(store: Store, function: Function, served: Path, progress: Progress) -> None:
    """Move old archives to the backup, and remove old revisions with their code."""
    key, keep = FunctionKey.of(function), torchserve_settings(function).keep
    try:
        tree = layout.store_folder(function).tree
        moved = apply_retention(tree, key.name, keep, [archive_name(served)])
    except FnbuildError as error:
        moved = []
        progress(f"warning: old archives stay in the store: {error.message}")
    for name in moved:
        progress(f"moved {name} to the backup")
        with suppress(FnbuildError):  # a server that loads all archives has it as a model
            server_of(key).management.unregister(name.removesuffix(".mar"), "")
    store.prune_revisions(*key, max(_KEPT_REVISIONS, keep))
    folders = {revision.code for revision in store.revisions(*key)}
    for code in layout.code_root(key).iterdir():
        if code not in folders:
            trees.try_remove(code)
