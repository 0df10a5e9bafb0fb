"""Execution of a plan: apply, wait until KServe serves the new revision, and back if it fails."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

from fnbuild.builder.processor_settings import readiness_seconds
from fnbuild.function.kserve_settings import kserve_settings
from fnbuild.platforms import Plan, PlanOptions, Progress
from fnbuild.platforms.kserve import inventory, service_status
from fnbuild.platforms.kserve.inventory import FunctionObjects
from fnbuild.platforms.kserve.planning import (
    ServicePlan,
    field_manager,
    plan_deploy,
    render,
    stable_revision,
)
from fnbuild.platforms.kserve.records import RECORDS, FunctionLease
from fnbuild.platforms.kserve.revision_record import RevisionRecord
from fnbuild.platforms.kserve.service_status import InferenceService
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import FIELD_MANAGER, Cluster
from fnbuild.platforms.kubeclient.manifests import without_server_fields
from fnbuild.platforms.kubeclient.objects import Pod
from fnbuild.platforms.kubeclient.pod_failures import Failure
from fnbuild.platforms.kubeclient.revision_rollout import RevisionRollout, end_deletion
from fnbuild.platforms.revision_records import RevisionOrigin

_POLL_SECONDS = 0.5
# The time that KServe and the scheduler need in addition to the function's readiness.
_MARGIN_SECONDS = 60.0


def apply_plan(cluster: Cluster, lease: FunctionLease, plan: Plan, progress: Progress) -> None:
    """Carry out a plan while the lease is held."""
    # The function may have changed since the plan, and during a build.
    planned = plan_deploy(cluster, lease.record, plan.function, plan.artifact, plan.options)
    if planned.plan.effective_changes:
        Rollout(cluster, lease, planned, progress).run()
    else:
        progress(plan.unchanged_message)


def rerun_revision(  # noqa: PLR0913, PLR0917 (the revision, its origin, options)
    cluster: Cluster,
    lease: FunctionLease,
    target: RevisionRecord,
    origin: RevisionOrigin,
    options: PlanOptions,
    progress: Progress,
) -> None:
    """Run a recorded revision as a new one."""
    planned = plan_deploy(cluster, lease.record, target.function, target.artifact, options, origin)
    Rollout(cluster, lease, planned, progress).run()


class Rollout(RevisionRollout[RevisionRecord]):
    """The rollout of a planned revision."""

    def __init__(
        self, cluster: Cluster, lease: FunctionLease, planned: ServicePlan, progress: Progress
    ):
        super().__init__(
            cluster, lease, planned.record, planned.plan, planned.secret_store, progress
        )
        self._planned = planned

    def list_pods(self) -> list[Pod]:
        return inventory.list_pods(self.cluster, self._objects)

    def bring_up(self) -> None:
        planned = self._planned
        forces = planned.plan.options.force_conflicts
        applied = self.cluster.apply(planned.manifest, force=forces, manager=planned.manager)
        if planned.is_service:
            self._wait_until_ready(int(applied["metadata"].get("generation") or 0))

    def finish(self, previous: RevisionRecord | None) -> None:
        if previous is not None and not _is_same_object(previous, self.record):
            remove_objects(self.cluster, previous)

    @property
    def _objects(self) -> FunctionObjects:
        """The function as it will be: its record has the planned revision."""
        return FunctionObjects(RECORDS.with_applied(self.record))

    def _wait_until_ready(self, generation: int) -> None:
        record, function = self.record, self.record.function
        if function.spec.disable:
            return
        name = self._objects.service_name
        seconds = readiness_seconds(function) + _MARGIN_SECONDS
        deadline = time.monotonic() + seconds
        while True:
            live = self.cluster.get(kinds.INFERENCE_SERVICE, record.namespace, name)
            service = InferenceService(live or {})
            is_current = service.metadata.number("generation") >= generation
            if live is not None and is_current:
                deployments = inventory.list_deployments(self.cluster, self._objects)
                if service_status.is_rolled_out(service, deployments):
                    return
                observed = service.failure if service.is_observed else None
                if (failure := self.lasting_failure(observed)) is not None:
                    raise self.not_ready_error(failure)
                self.report(service.unready_conditions)
            if time.monotonic() > deadline:
                reasons = self._reasons(service)
                raise self.not_ready_error(
                    Failure(f"it is not ready after {seconds:.0f} s: {reasons}")
                )
            time.sleep(_POLL_SECONDS)

    def _reasons(self, service: InferenceService) -> str:
        """Return what KServe and the scheduler wait for."""
        reasons = [*service.unready_conditions, *self.unscheduled_reasons()]
        return "; ".join(dict.fromkeys(reasons)) or "KServe reports no condition"

    def restore(self, previous: RevisionRecord) -> None:
        if not _is_same_object(previous, self.record):
            remove_objects(self.cluster, self.record)
        settings = kserve_settings(previous.function)
        stable = stable_revision(self.lease.record, settings)
        manifest = render(previous, replace(self._planned.context, stable=stable))
        self.cluster.apply(manifest, force=True, manager=field_manager(previous))

    def remove(self) -> None:
        """Remove what the deploy has created; an object from a file gets its fields back."""
        live, manager = self._planned.live, self._planned.manager
        if live is None or manager != FIELD_MANAGER:
            remove_objects(self.cluster, self.record)
        else:
            self.cluster.apply(without_server_fields(live, ()), force=True, manager=manager)


def _is_same_object(revision: RevisionRecord, other: RevisionRecord) -> bool:
    """Return True if both revisions are one object, which the later one changes."""
    return _object_location(revision) == _object_location(other)


def _object_location(record: RevisionRecord) -> tuple[kinds.Kind, str]:
    """Return the kind and the name of the object of a revision."""
    settings = kserve_settings(record.function)
    kind = kinds.INFERENCE_SERVICE
    if (runtime := settings.serving_runtime) is not None:
        kind = kinds.CLUSTER_SERVING_RUNTIME if runtime.cluster else kinds.SERVING_RUNTIME
    return kind, settings.inference_service or record.name


def remove_objects(cluster: Cluster, record: RevisionRecord) -> None:
    """Remove the object of a revision; of a transformer, its part of another function's service."""
    kind, name = _object_location(record)
    runtime = kserve_settings(record.function).serving_runtime
    if runtime is not None and inventory.read_runtime(cluster, record.key, runtime) is None:
        return
    if name == record.name:
        cluster.delete(kind, record.namespace, name)
    elif cluster.get(kind, record.namespace, name) is not None:
        # An apply without fields removes those that the transformer has contributed.
        part = kind.manifest({"name": name, "namespace": record.namespace})
        cluster.apply(part, manager=field_manager(record))


def delete_function(cluster: Cluster, lease: FunctionLease, objects: FunctionObjects) -> None:
    """Delete the objects of a function, and wait until its pods are gone."""
    if (revision := objects.described_by) is not None:
        remove_objects(cluster, revision)
    end_deletion(cluster, lease, RECORDS, partial(inventory.list_pods, cluster, objects))
