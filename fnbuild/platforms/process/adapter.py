"""The process platform as commands see it: `Platform`, on the store and the supervisor."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from threading import Event
from typing import Any, Literal

from fnbuild import trees
from fnbuild.datadir import function_dir
from fnbuild.errors import (
    ConfigError,
    ConflictError,
    NotReadyError,
    UsageError,
)
from fnbuild.platforms import (
    Artifact,
    Deployment,
    Finding,
    ImageUse,
    Leftover,
    LogRecord,
    Plan,
    Progress,
    Project,
    Reservation,
    Restarts,
    Revision,
    Statistics,
    imported_code,
    keys,
)
from fnbuild.platforms.process import (
    client,
    deploys,
    doctor,
    downs,
    foreground,
    functionlog,
    planning,
    projects,
    records,
    revisions,
    view,
)
from fnbuild.platforms.process.configuration import isolated_users
from fnbuild.platforms.process.layout import Key, launched
from fnbuild.platforms.process.status import Unreachable, listening_pid, read
from fnbuild.platforms.statistics import parsed
from fnbuild.spec.types import Function, Metadata, to_dict
from fnbuild.store import FunctionRow, Store

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
            return deploys.plan(store, function, artifact, options)

    @contextmanager
    def reserve(
        self,
        function: Function,
        progress: Progress,  # noqa: ARG002
    ) -> Iterator[Reservation]:
        with records.changing(planning.key_of(function), "deployed") as store:
            # What cannot succeed is reported before the build.
            isolated_users()
            client.hello()
            yield Reservation(partial(deploys.apply, store))

    def apply(self, plan: Plan, progress: Progress) -> Deployment:
        with self.reserve(plan.function, progress) as reservation:
            return reservation.apply(plan, progress)

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
        with records.changing(key, "rolled back", known=True) as store:
            wanted = records.revision_to_roll_to(store, key, revision)
            progress(f"rolling back to the code and configuration of revision {wanted.number}")
            source = revisions.Source(wanted.source, f"rollback to revision {wanted.number}")
            return deploys.run_again(key, wanted, store, progress, source)

    def redeploy(
        self,
        namespace: str,
        name: str,
        progress: Progress,
        *,
        force_conflicts: bool = False,  # noqa: ARG002
    ) -> Deployment:
        key = Key(namespace, name)
        with records.changing(key, "redeployed", known=True) as store:
            row = records.existing(store, key)
            recorded = records.active(store, row) or records.newest(store, key)
            if recorded is not None:
                source = revisions.Source(
                    recorded.source, f"redeploy of revision {recorded.number}"
                )
                return deploys.run_again(key, recorded, store, progress, source)
            return deploys.deploy_inline(key, row, store, progress)

    def store_imported(self, function: Function) -> Deployment:
        key = planning.key_of(function)
        with records.changing(key, "imported") as store:
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
            every = store.functions(namespace)
            rows = [row for row in every if project in (None, row.project)]
            deployed = list(pool.map(lambda row: self._listed(store, row), rows))
        names = {row.name for row in every}
        running = foreground.deployments(namespace, self.name, project)
        combined = [
            *deployed,
            *(deployment for deployment in running if deployment.name not in names),
        ]
        return sorted(combined, key=lambda deployment: deployment.name)

    def _listed(self, store: Store, row: FunctionRow) -> Deployment:
        """The function, or why it cannot be shown: one must not hide the others."""
        try:
            return view.deployment(row, records.active(store, row))
        except ConfigError as error:
            labels = {view.PROJECT: row.project}
            name = Metadata(name=row.name, namespace=row.namespace, labels=labels)
            return Deployment(Function(metadata=name), self.name, "error", error.message)

    def deployment(self, namespace: str, name: str) -> Deployment:
        key = Key(namespace, name)
        with Store.open() as store:
            if store.function(*key) is None and (record := foreground.find(key)) is not None:
                return foreground.deployment(record, self.name)
            return records.shown(store, key)

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
                if recorded is None:
                    return imported_code.find(self.name, key)
            else:
                recorded = records.recorded(store, key, revision)
        return recorded.code if recorded is not None and recorded.code.is_dir() else None

    def with_secrets(self, deployment: Deployment) -> Function:
        return deployment.function

    def changes(self) -> int:
        return self._watched.version + foreground.version()

    @cached_property
    def _watched(self) -> Store:
        """The store, open for as long as somebody watches it."""
        return Store.open()

    def reach(self, deployment: Deployment) -> AbstractContextManager[str]:
        return nullcontext(deployment.url)

    def logs(  # noqa: PLR0913 - what a log can be asked for
        self,
        namespace: str,
        name: str,
        *,
        follow: bool = False,
        since: float | None = None,
        tail: int | None = None,
        until: Event | None = None,
    ) -> Iterator[LogRecord]:
        key = Key(namespace, name)
        with Store.open() as store:
            records.existing(store, key)
        return functionlog.read(key.log, follow=follow, since=since, tail=tail, until=until)

    def previous_logs(
        self,
        namespace: str,  # noqa: ARG002
        name: str,
        *,
        since: float | None = None,  # noqa: ARG002
        tail: int | None = None,  # noqa: ARG002
    ) -> Iterator[LogRecord]:
        raise UsageError(
            "the log of a process goes on when it is started again: there is only one",
            hint=f"`fnbuild logs {name}` has what was written before, too",
        )

    def restarts(self, namespace: str) -> dict[str, Restarts]:  # noqa: ARG002
        return {}  # the state says why a processor was started again

    def replicas(self, namespace: str, name: str) -> list[str]:
        with Store.open() as store:
            row = records.existing(store, Key(namespace, name))
        return [name] if row.desired == "running" and row.revision else []

    def statistics(self, deployment: Deployment) -> dict[str, Statistics]:
        metadata, number = deployment.function.metadata, deployment.revision
        control = Key(metadata.namespace, metadata.name).control(number)
        try:
            found = parsed(read(control, "/metrics").decode())
        except (Unreachable, UnicodeDecodeError):
            return {}
        return {f"{metadata.name} {number}": found} if found else {}

    # Removing

    def delete(self, namespace: str, name: str, *, image: bool = False) -> bool:  # noqa: ARG002 - there are none here
        key = Key(namespace, name)
        with Store.open() as store:
            known = store.function(*key) is not None
        if not known:
            foreground.refuse(key)
            if not function_dir(*key).is_dir():
                return False
        with records.changing(key, "deleted") as store:
            deploys.stop(key)
            found = store.delete_function(*key)
            trees.discard(function_dir(*key))
            revisions.prune_environments(store)
        return found

    # All functions

    def lapsed(self) -> list[keys.Key]:
        with Store.open() as store:
            return [*view.lapsed(store.functions())]

    def restore(self, progress: Progress, function: keys.Key | None = None) -> tuple[str, ...]:
        if view.is_ending():
            return ()
        if function is None:
            missed = {one.name for one in self.lapsed()}
            return tuple(one for one in client.call("restore", progress)["ready"] if one in missed)
        with records.held(Key(*function), "started again") as row:
            if not view.ought_to_run(row):
                return ()
        told = client.call("restore", progress, namespace=row.namespace, name=row.name)
        if told["functions"] and not told["ready"]:
            now = self.deployment(*function)
            raise NotReadyError(
                f"{row.name} was started, but is {now.state}",
                detail=now.message or None,
                hint=f"`fnbuild logs {row.name}` shows what it said",
            )
        return tuple(told["ready"])

    def up(self, progress: Progress = client.quiet) -> Started:
        """Start the supervisor and every function that ought to run."""
        told = client.call("up", progress)
        return Started(int(told["functions"]), tuple(told["failed"]))

    def down(self, progress: Progress = client.quiet) -> int:
        """End every processor, then the supervisor; how many functions ran.

        They are started again by `up`. What a change that is under way was about to start stays
        down, too.
        """
        downs.mark()
        runs = any(listening_pid(key.control(number)) for key, number in launched())
        if not runs and client.hello() is None:
            return 0
        client.ensure()
        supervisor = client.hello()
        stopped = int(client.call("down", progress)["functions"])
        if supervisor is not None:
            client.wait_until_gone(supervisor)
        return stopped

    # What nobody needs

    def image_use(self, namespace: str) -> ImageUse:  # noqa: ARG002 - it runs folders
        return ImageUse()

    def leftovers(self) -> list[Leftover]:
        with Store.open() as store:
            return revisions.leftovers(store)

    def discard(self, leftover: Leftover) -> bool:
        with Store.open() as store:
            return revisions.discard(store, leftover)

    # Projects

    def projects(self, namespace: str) -> list[Project]:
        with Store.open() as store:
            return projects.every(store, namespace)

    def create_project(self, project: Project) -> bool:
        with Store.open() as store:
            return projects.create(store, project)

    def update_project(self, project: Project) -> bool:
        with Store.open() as store:
            return projects.update(store, project)

    def delete_project(self, namespace: str, name: str, *, cascade: bool) -> bool:
        with Store.open() as store:
            members = projects.deletable(store, namespace, name, cascade=cascade)
            for member in members:
                self.delete(namespace, member)
            return store.delete_project(namespace, name)
