"""The Kubernetes platform: the implementation of the `Platform` protocol."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from threading import Event
from typing import Literal

from fnbuild.errors import ConflictError, FnbuildError, UsageError
from fnbuild.function.reader import function_from_dict
from fnbuild.function.secrets import secret_variables
from fnbuild.function.types import Function, to_dict
from fnbuild.platforms import (
    NO_OPTIONS,
    Artifact,
    Deployment,
    Finding,
    ImageUse,
    Leftover,
    LogRecord,
    Plan,
    PlanOptions,
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
from fnbuild.platforms.kubeclient import connection, kinds, logs
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.errors import ForbiddenError
from fnbuild.platforms.kubernetes import endpoints, images, inventory, leases, records, view
from fnbuild.platforms.kubernetes.diagnosis import containers, queries
from fnbuild.platforms.kubernetes.doctor import checks
from fnbuild.platforms.kubernetes.inventory import FunctionObjects
from fnbuild.platforms.kubernetes.labels import (
    KubernetesKey,
    RevisionRecord,
    key_of,
    recorded_config,
    timestamp,
)
from fnbuild.platforms.kubernetes.leases import FunctionLease
from fnbuild.platforms.kubernetes.rollout import execution, planning
from fnbuild.platforms.kubernetes.rollout.execution import Rollout
from fnbuild.platforms.kubernetes.rollout.planning import Rerun, RolloutPlan
from fnbuild.platforms.kubernetes.secret_store import SecretStore
from fnbuild.platforms.projects import members_to_delete
from fnbuild.platforms.revision_records import imported_artifact


class KubernetesPlatform:
    """Functions as Deployments, one each."""

    name = view.PLATFORM
    artifact_kind: Literal["folder", "image"] = "image"

    @cached_property
    def cluster(self) -> Cluster:
        """The cluster, reached on first use."""
        return connection.connect()

    # Deploying

    def plan(
        self, function: Function, artifact: Artifact, options: PlanOptions = NO_OPTIONS
    ) -> Plan:
        known = inventory.read_function(self.cluster, key_of(function))
        planned = planning.plan_rollout(
            self.cluster, known, function, artifact, options, preview=True
        )
        return planned.plan

    @contextmanager
    def reserve(
        self,
        function: Function,
        progress: Progress,  # noqa: ARG002
    ) -> Iterator[Reservation]:
        with leases.hold_lease(self.cluster, key_of(function), "deployed", function) as claim:
            yield Reservation(partial(self._apply, claim))

    def apply(self, plan: Plan, progress: Progress) -> Deployment:
        with self.reserve(plan.function, progress) as reservation:
            return reservation.apply(plan, progress)

    def _apply(self, claim: FunctionLease, plan: Plan, progress: Progress) -> Deployment:
        """Carry out a plan for a function that is claimed."""
        claim.refresh()
        previous = execution.record_active_revision(claim)
        # The function may have changed since the plan, and during a build.
        planned = planning.plan_rollout(
            self.cluster, claim.known, plan.function, plan.artifact, plan.options
        )
        if planned.plan.effective_changes:
            self._roll_out(claim, planned, previous, progress)
        else:
            progress(planning.unchanged_message(plan))
            planned.secrets.save(planned.made.labels())
            claim.save()
        return self._deployed(planned)

    def _roll_out(
        self,
        claim: FunctionLease,
        planned: RolloutPlan,
        previous: RevisionRecord | None,
        progress: Progress,
    ) -> None:
        """Run a new revision, record the outcome, and remove what leaves the history."""
        running = claim.known.made
        earlier = [made.config for made in (*claim.made.values(), running) if made is not None]
        migrated = {
            number: replace(made, config=planned.secrets.referring(made.config))
            for number, made in claim.made.items()
        }
        # A reference is valid only once its value is stored.
        planned.secrets.save(planned.made.labels())
        claim.made.update(migrated)
        try:
            Rollout(self.cluster, claim, planned, previous, progress).run()
        except FnbuildError:
            with suppress(FnbuildError):  # the reason of the failure comes first
                images.remove_retired_builds(self.cluster, claim.save(), progress)
            raise
        images.remove_retired_builds(self.cluster, claim.save(), progress)
        recorded = [made.config for made in claim.made.values()]
        planned.secrets.prune([*recorded, planned.made.config], earlier)
        if any(any(secret_variables(config)) for config in earlier):
            execution.delete_idle_replica_sets(self.cluster, claim.known.key)

    def rollback(
        self,
        namespace: str,
        name: str,
        revision: int | None,
        progress: Progress,
        *,
        force_conflicts: bool = False,
    ) -> Deployment:
        key = KubernetesKey(namespace, name)
        known = self._own(key)
        if revision is None:
            served = (made for made in records.all_revisions(known) if not made.failed)
            wanted = revision_records.rollback_target(name, records.active_revision(known), served)
        else:
            wanted = records.find_revision(known, revision)
        progress(f"rolling back to the code and configuration of revision {wanted.number}")
        note = f"rollback to revision {wanted.number}"
        again = Rerun(wanted.source, note, wanted.stamp, wanted.overlap)
        return self._run_again(
            wanted, "rolled back", again, progress, force_conflicts=force_conflicts
        )

    def redeploy(
        self, namespace: str, name: str, progress: Progress, *, force_conflicts: bool = False
    ) -> Deployment:
        key = KubernetesKey(namespace, name)
        known = self._own(key)
        recorded = records.active_revision(known) or next(iter(records.all_revisions(known)), None)
        if recorded is None:
            return self._run_imported(known, progress, force_conflicts=force_conflicts)
        note = f"redeploy of revision {recorded.number}"
        again = Rerun(recorded.source, note, timestamp(), recorded.overlap)
        return self._run_again(
            recorded, "redeployed", again, progress, force_conflicts=force_conflicts
        )

    def _run_imported(
        self, known: FunctionObjects, progress: Progress, *, force_conflicts: bool
    ) -> Deployment:
        imported = (
            None if known.imported is None else imported_artifact(records.read_configuration(known))
        )
        if imported is None:
            raise revision_records.missing_code_error(
                known.key.name, known.imported, imported_code.find(self.name, known.key)
            )
        return self.apply(
            self.plan(*imported, PlanOptions(force_conflicts=force_conflicts)), progress
        )

    def _run_again(
        self,
        wanted: RevisionRecord,
        participle: str,
        again: Rerun,
        progress: Progress,
        *,
        force_conflicts: bool,
    ) -> Deployment:
        """Run a recorded revision as a new one."""
        key, function = wanted.key, wanted.function
        options = PlanOptions(force_conflicts=force_conflicts)
        artifact = Artifact("image", wanted.image, wanted.digest, pinned=wanted.pinned)
        with leases.hold_lease(self.cluster, key, participle) as claim:
            previous = execution.record_active_revision(claim)
            planned = planning.plan_rollout(
                self.cluster, claim.known, function, artifact, options, again
            )
            self._roll_out(claim, planned, previous, progress)
        return self._deployed(planned)

    def _deployed(self, planned: RolloutPlan) -> Deployment:
        shown = self._shown(planned.known.key)
        if planned.plan.effective_changes:
            endpoints.wait_for_new_pods(self.cluster, shown)
        return replace(shown, warnings=(*planned.plan.warnings, *shown.warnings))

    def store_imported(self, function: Function) -> Deployment:
        key = key_of(function)
        with leases.hold_lease(self.cluster, key, "imported") as claim:
            if claim.known.deployment is not None or claim.made:
                raise ConflictError(
                    f"there is a function {key.name} in namespace {key.namespace} already",
                    hint=f"delete it first: `fnbuild delete function {key.name}`",
                )
            store = SecretStore(self.cluster, key)
            config = store.referring(recorded_config(function))
            store.save(function.metadata.labels)
            claim.add_import(config)
        return self._shown(key)

    def functions_to_restore(self) -> list[base.FunctionKey]:
        return []  # the cluster restarts functions itself

    def restore(
        self,
        progress: Progress,  # noqa: ARG002
        function: base.FunctionKey | None = None,  # noqa: ARG002
    ) -> tuple[str, ...]:
        return ()

    def with_secrets(self, deployment: Deployment) -> Function:
        metadata = deployment.function.metadata
        store = SecretStore(self.cluster, KubernetesKey(metadata.namespace, metadata.name))
        return function_from_dict(store.revealed(to_dict(deployment.function)), deployment.name)

    # Looking

    def problems(self) -> list[str]:
        try:
            _ = self.cluster.version
        except FnbuildError as error:
            return [f"{error.message}; {error.hint}" if error.hint else error.message]
        return []

    def examine(
        self,
        namespace: str,
        *,
        areas: Collection[str] = (),
        image: str = "",
        architecture: str = "",
    ) -> Iterator[Finding]:
        return checks.examine(lambda: self.cluster, namespace, areas, image, architecture)

    def deployments(self, namespace: str, project: str | None = None) -> list[Deployment]:
        known = inventory.list_functions(self.cluster, namespace)
        if not known:
            inventory.require_namespace(self.cluster, namespace)
        wanted = [function for function in known if project in (None, function.project)]
        return view.view_functions(self.cluster, wanted)

    def deployment(self, namespace: str, name: str) -> Deployment:
        return self._shown(KubernetesKey(namespace, name))

    def _shown(self, key: KubernetesKey) -> Deployment:
        return view.view_function(self.cluster, self._existing(key))

    def _own(self, key: KubernetesKey) -> FunctionObjects:
        """Return an existing function; raise if another tool manages it."""
        known = self._existing(key)
        leases.require_managed(known)
        return known

    def _existing(self, key: KubernetesKey) -> FunctionObjects:
        known = inventory.read_function(self.cluster, key)
        if not known.there:
            raise function_not_found(*key, inventory.list_all_keys(self.cluster))
        return known

    def change_counter(self) -> int:
        return 0

    def reachable_url(self, deployment: Deployment) -> AbstractContextManager[str]:
        return endpoints.reach_function(self.cluster, deployment)

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
        key = KubernetesKey(namespace, name)
        known = self._existing(key)

        def pods() -> list[str]:
            return self._pods(key)

        if not follow and not pods():
            return revision_records.failure_log(records.all_revisions(known))
        return logs.read_logs(
            self.cluster, namespace, pods, follow=follow, since=since, tail=tail, until=until
        )

    def previous_logs(
        self,
        namespace: str,
        name: str,
        *,
        since: float | None = None,
        tail: int | None = None,
    ) -> Iterator[LogRecord]:
        key = KubernetesKey(namespace, name)
        self._existing(key)
        return logs.read_previous_logs(
            self.cluster, namespace, self._pods(key), since=since, tail=tail
        )

    def restarts(self, namespace: str) -> dict[str, Restarts]:
        try:
            pods = self.cluster.list(kinds.POD, namespace, labels=inventory.FUNCTIONS_SELECTOR)
        except ForbiddenError:  # restarts are additional information
            return {}
        return containers.restarts_by_function(pods)

    def replica_names(self, namespace: str, name: str) -> list[str]:
        self._existing(KubernetesKey(namespace, name))
        return self._pods(KubernetesKey(namespace, name))

    def statistics(self, deployment: Deployment) -> dict[str, Statistics]:
        metadata = deployment.function.metadata
        key = KubernetesKey(metadata.namespace, metadata.name)
        return queries.query_statistics(self.cluster, key.namespace, self._pods(key))

    def _pods(self, key: KubernetesKey) -> list[str]:
        return [str(pod["metadata"]["name"]) for pod in inventory.list_pods(self.cluster, key)]

    def revisions(self, namespace: str, name: str) -> list[Revision]:
        return records.revision_history(self._existing(KubernetesKey(namespace, name)))

    def code_folder(self, namespace: str, name: str, revision: int | None = None) -> Path | None:
        """Return None for a deployed function: its code is in the image, which is in a registry."""
        known = self._existing(KubernetesKey(namespace, name))
        if revision is not None:
            records.find_revision(known, revision)
        elif known.deployment is None:
            return imported_code.find(self.name, known.key)
        return None

    # Removing

    def delete(self, namespace: str, name: str, *, image: bool = False) -> bool:
        if image:
            raise UsageError(
                "images in a registry are not removed from here",
                hint="leave out `--image`; `fnbuild prune --platform kube -r REGISTRY` removes what"
                " nothing needs",
            )
        key = KubernetesKey(namespace, name)
        if not inventory.read_function(self.cluster, key).there:
            return False
        with leases.hold_lease(self.cluster, key, "deleted") as claim:
            execution.delete_function(self.cluster, claim)
        return True

    def image_use(self, namespace: str) -> ImageUse:  # noqa: ARG002 - all are listed
        return images.image_use(self.cluster)

    def leftovers(self) -> list[Leftover]:
        return []  # the cluster removes leftover pods itself

    def discard(self, leftover: Leftover) -> bool:  # noqa: ARG002
        return False

    # Projects

    def projects(self, namespace: str) -> list[Project]:
        return records.list_projects(self.cluster, namespace)

    def create_project(self, project: Project) -> bool:
        return records.add_project(self.cluster, project)

    def update_project(self, project: Project) -> bool:
        return records.update_project(self.cluster, project)

    def delete_project(self, namespace: str, name: str, *, cascade: bool) -> bool:
        members = {
            one.key.name: one
            for one in inventory.list_functions(self.cluster, namespace)
            if one.project == name
        }
        doomed = members_to_delete(name, list(members), cascade=cascade)
        for member in doomed:
            leases.require_managed(members[member])
        for member in doomed:
            self.delete(namespace, member)
        return records.delete_project(self.cluster, namespace, name)
