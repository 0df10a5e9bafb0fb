"""The process platform as commands see it: `Platform`, on the store and the supervisor."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fnbuild.build import staging
from fnbuild.datadir import function_dir
from fnbuild.errors import (
    ConflictError,
    FnbuildError,
    PreconditionError,
    Report,
)
from fnbuild.platforms import (
    Artifact,
    Deployment,
    Finding,
    LogRecord,
    Plan,
    Progress,
    Project,
    Revision,
)
from fnbuild.platforms.process import (
    client,
    doctor,
    functionlog,
    planning,
    projects,
    records,
    revisions,
    view,
)
from fnbuild.platforms.process.layout import Key, launched
from fnbuild.platforms.process.status import listening_pid
from fnbuild.spec.reader import Loaded, from_raw
from fnbuild.spec.types import Function, to_dict
from fnbuild.store import FunctionRow, RevisionRow, Store

_ASKED_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Started:
    """What `up` did: how many functions ought to run, and the names of those that do not."""

    functions: int
    failed: tuple[str, ...] = ()


class ProcessPlatform:
    """Functions as supervised processes on this machine."""

    name = view.PLATFORM
    runs: Literal["folder", "image"] = "folder"

    # Deploying

    def plan(self, function: Function, artifact: Artifact, **options: Any) -> Plan:
        with Store.open() as store:
            return self._plan(store, function, artifact, options)

    def _plan(
        self, store: Store, function: Function, artifact: Artifact, options: dict[str, Any]
    ) -> Plan:
        row = store.function(*planning.key_of(function))
        active = records.active(store, row) if row else None
        runs = row is not None and view.live(row).state == "ready"
        current = planning.Current(row, active, runs)
        return planning.make(function, artifact, current, options)

    def apply(self, plan: Plan, progress: Progress) -> Deployment:
        key = planning.key_of(plan.function)
        with records.changing(key, "deploy", "deployed") as store:
            # Somebody may have deployed between the plan and the lock.
            plan = self._plan(store, plan.function, plan.artifact, plan.options)
            if plan.changes:
                self._deploy(key, plan, store, progress)
            else:
                stays = "is still disabled" if plan.function.spec.disable else "runs"
                progress(f"nothing has changed, and the function {stays}")
            return records.shown(store, key, plan.warnings)

    def _deploy(
        self,
        key: Key,
        plan: Plan,
        store: Store,
        progress: Progress,
        source: revisions.Source | None = None,
    ) -> None:
        made = revisions.make(key, plan.function, plan.artifact, store, progress)
        if source is not None:
            store.note(*key, made.number, source.revision, source.note)
        if plan.function.spec.disable:
            self._stand_by(key, made, store)
        else:
            self._switch(key, made, store, progress, overlap=bool(plan.options.get("overlap")))
        revisions.prune(key, store)

    def _switch(
        self, key: Key, made: RevisionRow, store: Store, progress: Progress, *, overlap: bool
    ) -> None:
        row = store.function(*key)
        if row is not None and row.revision == 0:
            # Nothing of it ever ran: until something does, the newest try is what it is.
            project = view.project_of(from_raw(made.config, key.name))
            store.update_function(
                *key, config=made.config, project=project, desired="running", state="building"
            )
        try:
            client.call(
                "switch",
                progress,
                namespace=key.namespace,
                name=key.name,
                revision=made.number,
                overlap=overlap,
            )
        except FnbuildError as error:
            records.settle(key, store, error)
            raise

    def _stand_by(self, key: Key, made: RevisionRow, store: Store) -> None:
        self._stop(key)
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

    def rollback(
        self,
        namespace: str,
        name: str,
        revision: int | None,
        progress: Progress,
        *,
        force_conflicts: bool = False,  # noqa: ARG002 - nobody else writes here
    ) -> Deployment:
        key = Key(namespace, name)
        with records.changing(key, "rollback", "rolled back") as store:
            wanted = records.revision_to_roll_to(store, key, revision)
            progress(f"rolling back to the code and configuration of revision {wanted.number}")
            source = revisions.Source(wanted.source, f"rollback to revision {wanted.number}")
            return self._run_again(key, wanted, store, progress, source)

    def redeploy(
        self,
        namespace: str,
        name: str,
        progress: Progress,
        *,
        force_conflicts: bool = False,  # noqa: ARG002
    ) -> Deployment:
        key = Key(namespace, name)
        with records.changing(key, "redeploy", "redeployed") as store:
            row = records.existing(store, key)
            recorded = records.active(store, row) or records.newest(store, key)
            if recorded is not None:
                source = revisions.Source(
                    recorded.source, f"redeploy of revision {recorded.number}"
                )
                return self._run_again(key, recorded, store, progress, source)
            return self._deploy_inline(key, row, store, progress)

    def _run_again(
        self,
        key: Key,
        recorded: RevisionRow,
        store: Store,
        progress: Progress,
        source: revisions.Source,
    ) -> Deployment:
        if not recorded.code.is_dir():
            raise PreconditionError(
                f"the code of revision {recorded.number} of {key.name} is no longer there",
                hint=f"deploy it from its folder: `fnbuild deploy {key.name} --path FOLDER`",
            )
        function = from_raw(recorded.config, f"{key.name} revision {recorded.number}")
        artifact = Artifact("folder", str(recorded.code), recorded.digest)
        plan = self._plan(store, function, artifact, {"force": True})
        self._deploy(key, plan, store, progress, source)
        return records.shown(store, key, plan.warnings)

    def _deploy_inline(
        self, key: Key, row: FunctionRow, store: Store, progress: Progress
    ) -> Deployment:
        """The first deploy of an imported function that carries its source code in itself."""
        function = from_raw(row.config, key.name)
        if not function.spec.build.function_source_code:
            raise PreconditionError(
                f"no code of {key.name} is recorded",
                hint=f"deploy it from its folder: `fnbuild deploy {key.name} --path FOLDER`",
            )
        folder = revisions.staging_folder()
        try:
            artifact = staging.stage(Loaded(function, Report(), folder, None, None, ""), folder)
            plan = self._plan(store, function, artifact, {"force": True})
            self._deploy(key, plan, store, progress)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return records.shown(store, key, plan.warnings)

    def store_imported(self, function: Function) -> Deployment:
        key = planning.key_of(function)
        with records.changing(key, "import", "imported") as store:
            row = store.function(*key)
            if row is not None and row.desired != "imported":
                raise ConflictError(
                    f"there is a function {key.name} in namespace {key.namespace} already",
                    hint=f"delete it first: `fnbuild delete function {key.name}`",
                )
            store.put_function(
                FunctionRow(
                    *key,
                    project=view.project_of(function),
                    desired="imported",
                    state="imported",
                    config=to_dict(function),
                )
            )
            return records.shown(store, key)

    # Looking

    def notices(self) -> list[str]:
        with Store.open() as store:
            return view.notices(store.functions())

    def examine(
        self,
        namespace: str,  # noqa: ARG002 - what it stands on is the same for all
        *,
        areas: Collection[str] = (),
        image: str = "",  # noqa: ARG002 - it runs folders
        architecture: str = "",  # noqa: ARG002
    ) -> Iterator[Finding]:
        return doctor.examine(areas)

    def deployments(self, namespace: str, project: str | None = None) -> list[Deployment]:
        with Store.open() as store, ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
            rows = [row for row in store.functions(namespace) if project in (None, row.project)]
            return list(
                pool.map(lambda row: view.deployment(row, records.active(store, row)), rows)
            )

    def deployment(self, namespace: str, name: str) -> Deployment:
        with Store.open() as store:
            return records.shown(store, Key(namespace, name))

    def revisions(self, namespace: str, name: str) -> list[Revision]:
        key = Key(namespace, name)
        with Store.open() as store:
            records.existing(store, key)
            return [records.shown_revision(row) for row in store.revisions(*key)]

    def source(self, namespace: str, name: str, revision: int | None = None) -> Path | None:
        key = Key(namespace, name)
        with Store.open() as store:
            row = records.existing(store, key)
            if revision is None:
                recorded = records.active(store, row) or records.newest(store, key)
            else:
                recorded = records.recorded(store, key, revision)
        return recorded.code if recorded is not None and recorded.code.is_dir() else None

    def reach(self, deployment: Deployment) -> AbstractContextManager[str]:
        return nullcontext(deployment.url)

    def logs(
        self,
        namespace: str,
        name: str,
        *,
        follow: bool = False,
        since: float | None = None,
        tail: int | None = None,
    ) -> Iterator[LogRecord]:
        key = Key(namespace, name)
        with Store.open() as store:
            records.existing(store, key)
        return functionlog.read(key.log, follow=follow, since=since, tail=tail)

    # Removing

    def delete(self, namespace: str, name: str, *, image: bool = False) -> bool:  # noqa: ARG002 - there are none here
        key = Key(namespace, name)
        with Store.open() as store:
            known = store.function(*key) is not None
        if not known and not function_dir(*key).is_dir():
            return False
        with records.changing(key, "delete", "deleted") as store:
            self._stop(key)
            found = store.delete_function(*key)
            shutil.rmtree(function_dir(*key), ignore_errors=True)
            revisions.prune_environments(store)
        return found

    def _stop(self, key: Key) -> None:
        """End the function's processors, if there are any."""
        runs = any(one == key and listening_pid(key.control(number)) for one, number in launched())
        if runs or client.hello() is not None:
            client.call("stop", namespace=key.namespace, name=key.name)

    # All functions

    def up(self, progress: Progress = client.quiet) -> Started:
        """Start the supervisor and every function that ought to run."""
        told = client.call("up", progress)
        return Started(int(told["functions"]), tuple(told["failed"]))

    def down(self, progress: Progress = client.quiet) -> int:
        """End every processor, then the supervisor; how many functions ran.

        They are started again by `up`.
        """
        runs = any(listening_pid(key.control(number)) for key, number in launched())
        if not runs and client.hello() is None:
            return 0
        client.ensure()
        supervisor = client.hello()
        stopped = int(client.call("down", progress)["functions"])
        if supervisor is not None:
            client.wait_until_gone(supervisor)
        return stopped

    # Projects

    def projects(self, namespace: str) -> list[Project]:
        with Store.open() as store:
            return projects.every(store, namespace)

    def create_project(self, project: Project) -> bool:
        with Store.open() as store:
            return projects.create(store, project)

    def delete_project(self, namespace: str, name: str, *, cascade: bool) -> bool:
        with Store.open() as store:
            members = projects.deletable(store, namespace, name, cascade=cascade)
            for member in members:
                self.delete(namespace, member)
            return store.delete_project(namespace, name)
