"""A platform of this machine that keeps its functions, revisions and projects in a `Store`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path

from fnbuild import trees
from fnbuild.builder import staging
from fnbuild.builder.artifact import Artifact
from fnbuild.datadir import function_dir, function_lock, other_holder
from fnbuild.errors import ConfigError, PreconditionError, Report
from fnbuild.function.reader import LoadedFunction, function_from_dict
from fnbuild.function.types import Function, to_dict
from fnbuild.names import DEFAULT_PROJECT
from fnbuild.platforms import function_log, imported_code
from fnbuild.platforms.base import Deployment, FunctionKey, Project, Revision, placeholder_function
from fnbuild.platforms.errors import function_exists_error, function_not_found_error
from fnbuild.platforms.logs import ALL_RECORDS, LogOptions, LogRecord
from fnbuild.platforms.plans import NO_OPTIONS, Change, Manifest, Plan, PlanOptions, make_change
from fnbuild.platforms.projects import members_to_delete, with_default_project
from fnbuild.platforms.protocol import Platform
from fnbuild.platforms.revision_records import (
    RevisionHistory,
    RevisionOrigin,
    missing_code_error,
)
from fnbuild.platforms.settings import restart_policy
from fnbuild.progress import Progress
from fnbuild.store import FunctionRow, ProjectRow, RevisionRow, Store

_CONCURRENT_PROBES = 8


def active_revision(store: Store, row: FunctionRow | None) -> RevisionRow | None:
    if row is None or not row.revision:
        return None
    return store.revision(row.namespace, row.name, row.revision)


def function_change(row: FunctionRow | None, function: Function) -> Change:
    """Return the change of the configuration; a status differs without being a change."""
    before = _without_status(row.config) if row is not None else None
    return make_change(
        f"function {function.metadata.name}", before, _without_status(to_dict(function))
    )


def _without_status(manifest: Manifest) -> Manifest:
    return {key: value for key, value in manifest.items() if key != "status"}


def activate_standby(store: Store, function: Function, revision: RevisionRow) -> None:
    """Record that the revision is active, and that the function does not run."""
    store.activate_revision(
        *FunctionKey.of(function),
        revision.number,
        desired="stopped",
        state="standby",
        message="",
        config=revision.config,
        project=function.project,
    )


def should_run(row: FunctionRow) -> bool:
    """Return True if the function should run without a request to start it.

    Users set the state `stopped` and the restart policy; only `up` overrides them.
    """
    if row.desired != "running" or row.revision == 0 or row.state == "stopped":
        return False
    return restart_policy(function_from_dict(row.config, row.name)).name != "no"


def to_revision(row: RevisionRow) -> Revision:
    function = function_from_dict(row.config, f"{row.name} revision {row.number}")
    message = ": ".join(part for part in (row.note, row.message) if part)
    return Revision(row.number, row.created, row.state, row.digest, function, message)


class StoredPlatform(Platform):
    """Base of platforms whose records are in a store."""

    artifact_kind = "folder"
    needs_running_service = False

    # The parts of a platform

    @abstractmethod
    def open_store(self) -> Store:
        """Open the records."""

    @abstractmethod
    def to_deployment(self, row: FunctionRow, revision: RevisionRow | None) -> Deployment:
        """Return a function with its current state; `revision` is the active one."""

    @abstractmethod
    def plan_in(
        self, store: Store, function: Function, artifact: Artifact, options: PlanOptions
    ) -> Plan:
        """Return the changes that a deploy would make."""

    @abstractmethod
    def deploy_in(
        self,
        store: Store,
        plan: Plan,
        progress: Progress,
        origin: RevisionOrigin | None = None,
    ) -> None:
        """Make and run a revision while the lock is held.

        `origin` is the revision whose code it is, if any.
        """

    # Records

    def folder_key(self, key: FunctionKey) -> FunctionKey:
        """Return the key of the function's folder in the data directory."""
        return key

    def lock(self, key: FunctionKey, participle: str) -> AbstractContextManager[None]:
        """Hold the function's lock, or raise `BusyError`."""
        return function_lock(*self.folder_key(key), participle)

    @contextmanager
    def locked_store(
        self, key: FunctionKey, participle: str, *, must_exist: bool = False
    ) -> Iterator[Store]:
        """Provide the store while the function is locked."""
        with self.open_store() as store:
            if must_exist:
                self.require_function(store, key)
            with self.lock(key, participle):
                yield store

    def require_function(self, store: Store, key: FunctionKey) -> FunctionRow:
        """Return the function's record; raise `NotFoundError` if there is none."""
        row = store.function(*key)
        if row is None:
            keys = [(row.namespace, row.name) for row in store.functions()]
            raise function_not_found_error(*key, keys)
        return row

    def _history(self, store: Store, key: FunctionKey) -> RevisionHistory[RevisionRow]:
        active = active_revision(store, self.require_function(store, key))
        return RevisionHistory(key.name, store.revisions(*key), active)

    def _load(self, store: Store, key: FunctionKey, warnings: tuple[str, ...] = ()) -> Deployment:
        """Return the function; `warnings` are those of its plan."""
        row = self.require_function(store, key)
        deployment = self._to_deployment(store, row)
        return replace(deployment, warnings=(*warnings, *deployment.warnings))

    def _to_deployment(self, store: Store, row: FunctionRow) -> Deployment:
        deployment = self.to_deployment(row, active_revision(store, row))
        holder = other_holder(*self.folder_key(FunctionKey(row.namespace, row.name)))
        change = f"being {holder.what} by {holder}" if holder is not None else ""
        return deployment.with_ongoing_change(change)

    # Deploys

    def plan(
        self, function: Function, artifact: Artifact, options: PlanOptions = NO_OPTIONS
    ) -> Plan:
        with self.open_store() as store:
            return self.plan_in(store, function, artifact, options)

    def apply_in(self, store: Store, plan: Plan, progress: Progress) -> Deployment:
        """Apply a plan, unless nothing has changed, while the lock is held."""
        # Another deploy may have finished between the plan and the lock.
        plan = self.plan_in(store, plan.function, plan.artifact, plan.options)
        if plan.effective_changes:
            self.deploy_in(store, plan, progress)
        else:
            progress(plan.unchanged_message)
        return self._load(store, FunctionKey.of(plan.function), plan.warnings)

    def rollback(
        self,
        namespace: str,
        name: str,
        revision: int | None,
        progress: Progress,
        *,
        force_conflicts: bool = False,  # noqa: ARG002 - there are no other clients
    ) -> Deployment:
        key = FunctionKey(namespace, name)
        with self.locked_store(key, "rolled back", must_exist=True) as store:
            selected = self._history(store, key).choose_for_rollback(revision, progress)
            return self._run_again(store, key, selected, progress)

    def redeploy(
        self,
        namespace: str,
        name: str,
        progress: Progress,
        *,
        force_conflicts: bool = False,  # noqa: ARG002
    ) -> Deployment:
        key = FunctionKey(namespace, name)
        with self.locked_store(key, "redeployed", must_exist=True) as store:
            selected = self._history(store, key).choose_for_redeploy()
            if selected is not None:
                return self._run_again(store, key, selected, progress)
            return self._deploy_imported(store, key, progress)

    def _run_again(
        self,
        store: Store,
        key: FunctionKey,
        selected: tuple[RevisionRow, RevisionOrigin],
        progress: Progress,
    ) -> Deployment:
        """Run a recorded revision again as a new revision."""
        recorded, origin = selected
        if not recorded.code.is_dir():
            raise PreconditionError(
                f"the code of revision {recorded.number} of {key.name} is no longer there",
                hint=f"deploy it from its folder: `fnbuild deploy {key.name} --path FOLDER`",
            )
        function = function_from_dict(recorded.config, f"{key.name} revision {recorded.number}")
        artifact = Artifact("folder", str(recorded.code), recorded.digest)
        plan = self.plan_in(store, function, artifact, PlanOptions(force=True))
        self.deploy_in(store, plan, progress, origin)
        return self._load(store, key, plan.warnings)

    def _deploy_imported(self, store: Store, key: FunctionKey, progress: Progress) -> Deployment:
        """Deploy an imported function for the first time, from its inline source or its folder."""
        function = function_from_dict(self.require_function(store, key).config, key.name)
        code = imported_code.find(self.name, key)
        if code is None and not function.spec.build.function_source_code:
            raise missing_code_error(key.name, None)
        folder = staging.new_staging_folder()
        try:
            loaded = LoadedFunction(function, Report(), code or folder, None, None, "")
            artifact = staging.stage(loaded, folder)
            plan = self.plan_in(store, function, artifact, PlanOptions(force=True))
            self.deploy_in(store, plan, progress)
        finally:
            trees.try_remove(folder)
        imported_code.remove(self.name, key)
        return self._load(store, key, plan.warnings)

    def store_imported(self, function: Function) -> Deployment:
        key = FunctionKey.of(function)
        with self.locked_store(key, "imported") as store:
            row = store.function(*key)
            if row is not None and row.desired != "imported":
                raise function_exists_error(key)
            store.put_function(
                FunctionRow(
                    *key,
                    project=function.project,
                    desired="imported",
                    state="imported",
                    config=to_dict(function),
                )
            )
            return self._load(store, key)

    # Queries

    def deployments(self, namespace: str, project: str | None = None) -> list[Deployment]:
        with self.open_store() as store, ThreadPoolExecutor(_CONCURRENT_PROBES) as pool:
            rows = [row for row in store.functions(namespace) if project in (None, row.project)]
            return list(pool.map(partial(self._try_deployment, store), rows))

    def _try_deployment(self, store: Store, row: FunctionRow) -> Deployment:
        """Return the function; one with an invalid record must not hide the others."""
        try:
            return self._to_deployment(store, row)
        except ConfigError as error:
            function = placeholder_function((row.namespace, row.name), row.project)
            return Deployment(function, self.name, "error", error.message)

    def deployment(self, namespace: str, name: str) -> Deployment:
        with self.open_store() as store:
            return self._load(store, FunctionKey(namespace, name))

    def revisions(self, namespace: str, name: str) -> list[Revision]:
        key = FunctionKey(namespace, name)
        with self.open_store() as store:
            self.require_function(store, key)
            return [to_revision(row) for row in store.revisions(*key)]

    def code_folder(self, namespace: str, name: str, revision: int | None = None) -> Path | None:
        key = FunctionKey(namespace, name)
        with self.open_store() as store:
            history = self._history(store, key)
            recorded = history.latest if revision is None else history.find(revision)
        if recorded is None:
            return imported_code.find(self.name, key)
        return recorded.code if recorded.code.is_dir() else None

    def change_counter(self) -> int:
        return self._watched_store.change_counter

    @cached_property
    def _watched_store(self) -> Store:
        """The store, kept open so that its change counter goes on."""
        return self.open_store()

    def logs(
        self, namespace: str, name: str, options: LogOptions = ALL_RECORDS
    ) -> Iterator[LogRecord]:
        key = FunctionKey(namespace, name)
        with self.open_store() as store:
            self.require_function(store, key)
        return function_log.read(function_dir(*self.folder_key(key)) / "log.jsonl", options)

    def replica_names(self, namespace: str, name: str) -> list[str]:
        with self.open_store() as store:
            row = self.require_function(store, FunctionKey(namespace, name))
        return [name] if row.desired == "running" and row.revision else []

    # Projects

    def projects(self, namespace: str) -> list[Project]:
        with self.open_store() as store:
            recorded = [Project(**asdict(row)) for row in store.projects(namespace)]
        return with_default_project(namespace, recorded)

    def create_project(self, project: Project) -> bool:
        if project.name == DEFAULT_PROJECT:
            return False
        with self.open_store() as store:
            return store.add_project(ProjectRow(**asdict(project)))

    def update_project(self, project: Project) -> bool:
        row = ProjectRow(**asdict(project))
        with self.open_store() as store:
            if project.name == DEFAULT_PROJECT:
                store.add_project(row)
            return store.update_project(row)

    def delete_project(self, namespace: str, name: str, *, cascade: bool) -> bool:
        with self.open_store() as store:
            functions = [row.name for row in store.functions(namespace) if row.project == name]
            for member in members_to_delete(name, functions, cascade=cascade):
                self.delete(namespace, member)
            return store.delete_project(namespace, name)
