"""Execution of a plan: apply, wait until KServe serves the new revision, and back if it fails."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field, replace

from fnbuild.builder.processor_settings import readiness_seconds
from fnbuild.errors import FnbuildError, NotReadyError
from fnbuild.function.kserve_settings import kserve_settings
from fnbuild.platforms import Manifest, Plan, PlanOptions, Progress
from fnbuild.platforms.kserve import inventory, service_status
from fnbuild.platforms.kserve.inventory import FunctionObjects
from fnbuild.platforms.kserve.planning import (
    ServicePlan,
    field_manager,
    plan_deploy,
    render,
    secret_store,
    stable_revision,
)
from fnbuild.platforms.kserve.records import FunctionLease, FunctionRecord
from fnbuild.platforms.kserve.revision_record import RevisionRecord
from fnbuild.platforms.kserve.service_status import Failure, InferenceService
from fnbuild.platforms.kubeclient import kinds, logs
from fnbuild.platforms.kubeclient.cluster import FIELD_MANAGER, Cluster, if_allowed
from fnbuild.platforms.kubeclient.manifests import without_server_fields
from fnbuild.platforms.kubeclient.objects import Pod
from fnbuild.platforms.revision_records import RevisionOrigin, failure_prefix, failure_text

_POLL_SECONDS = 0.5
# The time that KServe and the scheduler need in addition to the function's readiness.
_MARGIN_SECONDS = 60.0
_DELETE_SECONDS = 60.0
_INTERRUPTED = "its deploy was interrupted"
# A container may fail once while its neighbours start.
_FAILURE_SECONDS = 3.0


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


@dataclass(slots=True)
class Rollout:
    """The rollout of a planned revision."""

    cluster: Cluster
    lease: FunctionLease
    planned: ServicePlan
    progress: Progress
    _old_pods: set[str] = field(default_factory=set)
    _messages: set[str] = field(default_factory=set)
    _first_failure: float = 0.0

    def run(self) -> None:
        """Roll out the revision, or go back to the serving one and raise the error."""
        record, lease = self.planned.record, self.lease
        previous = lease.record.serving
        for text in self.planned.plan.explanations:
            self.progress(text)
        self.progress(f"making revision {record.number}")
        earlier = lease.configs()
        # A reference is valid only once its value is stored.
        self.planned.secret_store.save({})
        self._old_pods = {pod.name for pod in self._pods()}
        # If this process is killed, the record still leads to the objects.
        lease.add_revision(record.with_failure(_INTERRUPTED), applied=False)
        lease.save()
        try:
            applied = self._apply(self.planned.manifest, self.planned.manager)
            if self.planned.is_service:
                self._wait_until_ready(int(applied["metadata"].get("generation") or 0))
        except BaseException as error:
            self._handle_failure(error, previous)
            raise
        lease.add_revision(record, applied=True)
        lease.save()
        if previous is not None and not _is_same_object(previous, record):
            remove_objects(self.cluster, previous)
        self.planned.secret_store.prune([*lease.configs()], earlier)

    def _apply(self, manifest: Manifest, manager: str) -> Manifest:
        forces = self.planned.plan.options.force_conflicts
        return self.cluster.apply(manifest, force=forces, manager=manager)

    @property
    def _objects(self) -> FunctionObjects:
        """The function as it will be: its record has the planned revision."""
        return FunctionObjects(FunctionRecord.with_applied(self.planned.record))

    def _pods(self) -> list[Pod]:
        return if_allowed(lambda: inventory.list_pods(self.cluster, self._objects), [])

    def _wait_until_ready(self, generation: int) -> None:
        record, function = self.planned.record, self.planned.record.function
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
                if (failure := self._failure(service)) is not None:
                    raise self._not_ready_error(failure)
                self._report(service)
            if time.monotonic() > deadline:
                reasons = self._reasons(service)
                raise self._not_ready_error(
                    Failure(f"it is not ready after {seconds:.0f} s: {reasons}")
                )
            time.sleep(_POLL_SECONDS)

    def _reasons(self, service: InferenceService) -> str:
        """Return what KServe and the scheduler wait for."""
        conditions = [pod.condition("PodScheduled") for pod in self._pods()]
        unscheduled = [item.message for item in conditions if item.status == "False"]
        reasons = [*service.unready_conditions, *unscheduled]
        return "; ".join(dict.fromkeys(reasons)) or "KServe reports no condition"

    def _failure(self, service: InferenceService) -> Failure | None:
        """Return a failure that lasts, or None."""
        if self.planned.record.function.spec.wait_readiness_timeout_before_failure:
            return None
        new_pods = [pod for pod in self._pods() if pod.name not in self._old_pods]
        failure = service_status.pod_failure(new_pods)
        if failure is None and service.is_observed:
            failure = service.failure
        if failure is None:
            self._first_failure = 0.0
            return None
        self._first_failure = self._first_failure or time.monotonic()
        lasts = time.monotonic() - self._first_failure >= _FAILURE_SECONDS
        return failure if lasts else None

    def _not_ready_error(self, failure: Failure) -> NotReadyError:
        record, detail = self.planned.record, None
        if failure.container:
            output = logs.failure_output(
                self.cluster, record.namespace, failure.pod, failure.container
            )
            detail = output or None
        message = failure_prefix(record.number, record.name) + failure.text
        return NotReadyError(message, detail=detail, hint=failure.hint or None)

    def _report(self, service: InferenceService) -> None:
        """Report what KServe waits for, each message once."""
        for text in service.unready_conditions:
            if text not in self._messages:
                self._messages.add(text)
                self.progress(text)

    # Back

    def _handle_failure(self, error: BaseException, previous: RevisionRecord | None) -> None:
        """Record the failure, and leave nothing half-created in the cluster."""
        record = self.planned.record
        message = failure_text(record.number, record.name, error)
        if self.planned.plan.options.keep_failed:
            self.lease.add_revision(record.with_failure(message), applied=True)
            self._add_hint(error, f"revision {record.number} stays, as `--keep-failed` asks")
            return
        self.lease.add_revision(record.with_failure(message), applied=False)
        try:
            if previous is None:
                self._restore_unrecorded()
            else:
                self.progress(f"going back to revision {previous.number}")
                self._restore(previous)
                self._add_hint(error, f"revision {previous.number} goes on serving")
        except FnbuildError as problem:
            self._add_hint(error, f"its objects could not be restored: {problem.message}")

    def _restore(self, previous: RevisionRecord) -> None:
        if not _is_same_object(previous, self.planned.record):
            remove_objects(self.cluster, self.planned.record)
        settings = kserve_settings(previous.function)
        stable = stable_revision(self.lease.record, settings)
        manifest = render(previous, replace(self.planned.context, stable=stable))
        self.cluster.apply(manifest, force=True, manager=field_manager(previous))

    def _restore_unrecorded(self) -> None:
        """Remove what the deploy has created; an object from a file gets its fields back."""
        live, manager = self.planned.live, self.planned.manager
        if live is None or manager != FIELD_MANAGER:
            remove_objects(self.cluster, self.planned.record)
        else:
            self.cluster.apply(without_server_fields(live, ()), force=True, manager=manager)

    def _add_hint(self, error: BaseException, text: str) -> None:
        if isinstance(error, FnbuildError):
            error.hint = f"{text}; {error.hint}" if error.hint else text


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
    deadline = time.monotonic() + _DELETE_SECONDS
    while inventory.list_pods(cluster, objects) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    with suppress(FnbuildError):  # without secrets, the right to delete them may be missing
        secret_store(cluster, objects.key).delete(needed=False)
    lease.delete_record = True
