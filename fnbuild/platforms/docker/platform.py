"""The Docker platform: the implementation of the `Platform` protocol on a container engine."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from threading import Event
from typing import Any, Literal

from fnbuild.datadir import remove_lock
from fnbuild.errors import (
    ConfigError,
    ConflictError,
    FnbuildError,
    PreconditionError,
    UnavailableError,
    UsageError,
)
from fnbuild.function.types import Function, Metadata
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
    base,
    imported_code,
    revision_records,
)
from fnbuild.platforms.base import function_not_found
from fnbuild.platforms.docker import (
    connection,
    doctor,
    engine,
    function_state,
    image_code,
    inventory,
    logs,
    probes,
    records,
    recovery,
    restoration,
    rollout,
)
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.inventory import ChangeCounter, FunctionObjects
from fnbuild.platforms.docker.labels import DockerKey, key_of
from fnbuild.platforms.docker.leases import Lease
from fnbuild.platforms.docker.rollout import RevisionSource
from fnbuild.platforms.projects import members_to_delete
from fnbuild.platforms.revision_records import imported_artifact

_MAX_THREADS = 8
_PROJECT_LABEL = "nuclio.io/project-name"


class DockerPlatform:
    """Functions as containers, one each."""

    name = function_state.PLATFORM_NAME
    artifact_kind: Literal["folder", "image"] = "image"

    @cached_property
    def engine(self) -> Engine:
        """The engine, reached on first use."""
        return connection.connect()

    @cached_property
    def _noticing(self) -> ChangeCounter:
        return ChangeCounter(lambda: self.engine)

    # Deploying

    def plan(self, function: Function, artifact: Artifact, **options: Any) -> Plan:
        known = inventory.read_function(self.engine, key_of(function))
        return rollout.plan_deploy(self.engine, known, function, artifact, options)[0]

    @contextmanager
    def reserve(self, function: Function, progress: Progress) -> Iterator[Reservation]:
        with rollout.exclusive_change(self.engine, key_of(function), "deployed", progress) as known:
            yield Reservation(partial(self._apply, known.held))

    def apply(self, plan: Plan, progress: Progress) -> Deployment:
        with self.reserve(plan.function, progress) as reservation:
            return reservation.apply(plan, progress)

    def _apply(self, lease: Lease | None, plan: Plan, progress: Progress) -> Deployment:
        """Carry out a plan for a function that is reserved."""
        key = key_of(plan.function)
        rollout.pull_if_always(self.engine, plan, progress)
        # Containers may have come and gone since the plan, and during a build.
        known = inventory.read_function(self.engine, key)
        known.held = lease
        planned = rollout.plan_deploy(
            self.engine, known, plan.function, plan.artifact, plan.options
        )
        plan = planned[0]
        if plan.changes:
            rollout.apply_plan(self.engine, known, planned, RevisionSource(), progress)
        else:
            stays = "is still disabled" if plan.function.spec.disable else "runs"
            progress(f"nothing has changed, and the function {stays}")
        return self._shown(key, plan.warnings)

    def rollback(
        self,
        namespace: str,
        name: str,
        revision: int | None,
        progress: Progress,
        *,
        force_conflicts: bool = False,  # noqa: ARG002 - nobody else writes here
    ) -> Deployment:
        key = DockerKey(namespace, name)
        self._existing(key)
        with rollout.exclusive_change(self.engine, key, "rolled back", progress) as known:
            _check_not_foreign(known)
            if revision is None:
                served = (made for made in known.all if not made.failed)
                wanted = revision_records.rollback_target(name, known.active, served)
            else:
                wanted = records.find_revision(known, revision)
            progress(f"rolling back to the code and configuration of revision {wanted.number}")
            source = RevisionSource(wanted.source, f"rollback to revision {wanted.number}")
            warnings = rollout.rerun_revision(self.engine, known, wanted, source, progress)
            return self._shown(key, warnings)

    def redeploy(
        self,
        namespace: str,
        name: str,
        progress: Progress,
        *,
        force_conflicts: bool = False,  # noqa: ARG002
    ) -> Deployment:
        key = DockerKey(namespace, name)
        known = self._existing(key)
        if known.imported is not None and not known.all:
            found = imported_artifact(function_state.configuration_of(known))
            if found is not None:
                return self.apply(self.plan(*found), progress)
        with rollout.exclusive_change(self.engine, key, "redeployed", progress) as known:
            _check_not_foreign(known)
            recorded = known.active or next(iter(known.all), None)
            if recorded is None:
                raise revision_records.missing_code_error(
                    name, known.imported, imported_code.find(self.name, known.key)
                )
            source = RevisionSource(recorded.source, f"redeploy of revision {recorded.number}")
            warnings = rollout.rerun_revision(self.engine, known, recorded, source, progress)
            return self._shown(key, warnings)

    def store_imported(self, function: Function) -> Deployment:
        key = key_of(function)
        with rollout.exclusive_change(self.engine, key, "imported") as known:
            if known.containers or known.recorded:
                raise ConflictError(
                    f"there is a function {key.name} in namespace {key.namespace} already",
                    hint=f"delete it first: `fnbuild delete function {key.name}`",
                )
            records.record_import(self.engine, function)
            return self._shown(key)

    def functions_to_restore(self) -> list[base.FunctionKey]:
        return [*restoration.find_lapsed(self.engine)]

    def restore(
        self, progress: Progress, function: base.FunctionKey | None = None
    ) -> tuple[str, ...]:
        if function is None:
            return tuple(restoration.restore_all(self.engine, progress))
        came = restoration.restore_function(self.engine, DockerKey(*function), progress)
        return (function.name,) if came else ()

    # Looking

    def problems(self) -> list[str]:
        try:
            _ = self.engine.version
        except UnavailableError as error:
            return [f"{error.message}; {error.hint}" if error.hint else error.message]
        return []

    def examine(
        self,
        namespace: str,  # noqa: ARG002 - the engine is the same for all
        *,
        areas: Collection[str] = (),
        image: str = "",  # noqa: ARG002 - the engine that builds is the one that runs
        architecture: str = "",  # noqa: ARG002
    ) -> Iterator[Finding]:
        return doctor.examine(lambda: self.engine, areas)

    def deployments(self, namespace: str, project: str | None = None) -> list[Deployment]:
        known = inventory.list_functions(self.engine, namespace)
        if recovery.clean_up(self.engine, known):
            known = inventory.list_functions(self.engine, namespace)
        with ThreadPoolExecutor(_MAX_THREADS) as pool:
            found = list(pool.map(self._listed, known))
        return [one for one in found if project in (None, _project_of(one.function))]

    def _listed(self, known: FunctionObjects) -> Deployment:
        """The function, or why it cannot be shown: one must not hide the others."""
        try:
            return function_state.to_deployment(self.engine, known)
        except UnavailableError:
            raise
        except FnbuildError as error:
            name = Metadata(name=known.key.name, namespace=known.key.namespace)
            name.labels[_PROJECT_LABEL] = _project_of_objects(known)
            return Deployment(Function(metadata=name), self.name, "error", error.message)

    def deployment(self, namespace: str, name: str) -> Deployment:
        return self._shown(DockerKey(namespace, name))

    def _shown(self, key: DockerKey, warnings: tuple[str, ...] = ()) -> Deployment:
        shown = function_state.to_deployment(self.engine, self._existing(key))
        return replace(shown, warnings=(*warnings, *shown.warnings))

    def _existing(self, key: DockerKey) -> FunctionObjects:
        known = inventory.read_function(self.engine, key)
        if recovery.clean_up(self.engine, [known]):
            known = inventory.read_function(self.engine, key)
        if not known.there:
            there = [one.key for one in inventory.list_all_functions(self.engine) if one.there]
            raise function_not_found(*key, there)
        return known

    def with_secrets(self, deployment: Deployment) -> Function:
        return deployment.function

    def change_counter(self) -> int:
        return self._noticing.count()

    def reachable_url(self, deployment: Deployment) -> AbstractContextManager[str]:
        home = self.engine.home
        if home is None:
            return nullcontext(deployment.url)
        found = engine.reachable_address(home, deployment.internal_urls, deployment.external_urls)
        return nullcontext(f"http://{found}" if found else "")

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
        key = DockerKey(namespace, name)
        known = self._existing(key)
        if known.container is None and not follow:
            return revision_records.failure_log(known.all)

        def serving() -> str | None:
            known = inventory.read_function(self.engine, key)
            return known.container.id if known.container else None

        return logs.read_logs(
            self.engine, serving, follow=follow, since=since, tail=tail, until=until
        )

    def previous_logs(
        self,
        namespace: str,  # noqa: ARG002
        name: str,
        *,
        since: float | None = None,  # noqa: ARG002
        tail: int | None = None,  # noqa: ARG002
    ) -> Iterator[LogRecord]:
        raise UsageError(
            "Docker keeps one log of a container across restarts",
            hint=f"`fnbuild logs {name}` includes the lines from before the last restart",
        )

    def restarts(self, namespace: str) -> dict[str, Restarts]:
        restarts = {}
        for function in inventory.list_functions(self.engine, namespace):
            if (container := function.container) is not None:
                count = int((self.engine.container(container.id) or {}).get("RestartCount") or 0)
                # The engine does not keep the reason of the last end after a restart.
                if count:
                    restarts[function.key.name] = Restarts(count)
        return restarts

    def replica_names(self, namespace: str, name: str) -> list[str]:
        container = self._existing(DockerKey(namespace, name)).container
        return [container.name] if container else []

    def statistics(self, deployment: Deployment) -> dict[str, Statistics]:
        addresses = [one.rpartition(":")[0] for one in deployment.internal_urls]
        found = probes.query_statistics(self.engine, addresses)
        return {str(deployment.details["container_id"]): found} if found else {}

    def revisions(self, namespace: str, name: str) -> list[Revision]:
        return records.revision_history(self._existing(DockerKey(namespace, name)))

    def code_folder(self, namespace: str, name: str, revision: int | None = None) -> Path | None:
        known = self._existing(DockerKey(namespace, name))
        if revision is None:
            made = known.active or next(iter(known.all), None)
            if made is None:
                return imported_code.find(self.name, known.key)
        else:
            made = records.find_revision(known, revision)
        return image_code.extract_code(self.engine, made)

    # Removing

    def delete(self, namespace: str, name: str, *, image: bool = False) -> bool:
        """As the protocol says; with `image` the names of its images go as well, and what nothing
        else uses of them.
        """
        key = DockerKey(namespace, name)
        before = inventory.read_function(self.engine, key)
        if not (before.there or before.leases):
            return False
        with rollout.exclusive_change(self.engine, key, "deleted", wait=False) as known:
            _check_not_foreign(known)
            for one in known.containers:
                self.engine.stop(one.id)
            for made in known.all:
                # First what is on record: without its container it would count as lost.
                self.engine.remove_volume(made.key.record(made.number))
            for one in known.containers:
                self.engine.remove(one.id)
            for made in known.all:
                records.remove_revision(self.engine, made)
                if image:
                    records.untag_image(self.engine, made)
            records.remove_import(self.engine, key)
            if known.held is not None:
                known.held.finished()
            remove_lock(*key)
        return known.there

    # Leftovers

    def image_use(self, namespace: str) -> ImageUse:  # noqa: ARG002 - all are listed
        return records.image_use(self.engine)

    def leftovers(self) -> list[Leftover]:
        return recovery.find_leftovers(self.engine)

    def discard(self, leftover: Leftover) -> bool:
        return recovery.discard_leftover(self.engine, leftover)

    # Projects

    def projects(self, namespace: str) -> list[Project]:
        return records.list_projects(self.engine, namespace)

    def create_project(self, project: Project) -> bool:
        return records.create_project(self.engine, project)

    def update_project(self, project: Project) -> bool:
        return records.update_project(self.engine, project)

    def delete_project(self, namespace: str, name: str, *, cascade: bool) -> bool:
        functions = inventory.list_functions(self.engine, namespace)
        members = {one.key.name: one for one in functions if _project_of_objects(one) == name}
        doomed = members_to_delete(name, list(members), cascade=cascade)
        for member in doomed:
            _check_not_foreign(members[member])
        for member in doomed:
            self.delete(namespace, member)
        return records.delete_project(self.engine, namespace, name)


def _project_of_objects(known: FunctionObjects) -> str:
    """The project of a function, of one too whose configuration cannot be read."""
    try:
        return _project_of(function_state.configuration_of(known))
    except ConfigError:
        labels = known.containers[0].labels if known.containers else {}
        return labels.get(_PROJECT_LABEL, "default")


def _project_of(function: Function) -> str:
    return function.metadata.labels.get(_PROJECT_LABEL, "default")


def _check_not_foreign(known: FunctionObjects) -> None:
    """Leave to Nuclio what Nuclio has deployed, unless somebody deploys over it."""
    if known.foreign:
        name = known.key.name
        raise PreconditionError(
            f"{name} was deployed by Nuclio, which keeps records of its own",
            hint=f"use `nuctl` for it, or take it over: `fnbuild deploy {name} --path FOLDER`",
        )
