"""Execution of a rollout: from the serving revision to the next one, and back if that fails.

The Deployment is changed first. The Service, if it exists, and all other objects follow when the
new pods are ready, so that a failed revision has changed nothing but the Deployment.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from fnbuild.errors import ConflictError, FnbuildError, NotFoundError, NotReadyError
from fnbuild.function.types import Raw
from fnbuild.platforms import Manifest, Progress
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import FIELD_MANAGER, Cluster
from fnbuild.platforms.kubeclient.manifests import object_identity
from fnbuild.platforms.kubeclient.secret_store import SecretStore, has_references
from fnbuild.platforms.kubernetes import endpoints, records
from fnbuild.platforms.kubernetes.labels import KubernetesKey
from fnbuild.platforms.kubernetes.leases import FunctionLease
from fnbuild.platforms.kubernetes.manifests import keda, scaling
from fnbuild.platforms.kubernetes.manifests.rendering import render_manifests
from fnbuild.platforms.kubernetes.revision_record import RevisionRecord
from fnbuild.platforms.kubernetes.rollout.import_check import HandlerImportCheck
from fnbuild.platforms.kubernetes.rollout.live_objects import (
    list_cron_jobs,
    read_keda,
    read_policies,
)
from fnbuild.platforms.kubernetes.rollout.planning import RolloutPlan, deployment_of
from fnbuild.platforms.kubernetes.rollout.readiness import ReadinessWait
from fnbuild.platforms.kubernetes.rollout.server_side_apply import apply_manifest
from fnbuild.platforms.kubernetes.rollout.temporary_pods import delete_leftover_pods
from fnbuild.platforms.revision_records import failure_text

# Owns what differs during a rollout only: KEDA's pause, and the pod that proves a revision.
_ROLLOUT_MANAGER = f"{FIELD_MANAGER}-rollout"

# The time until the failed pods are gone after a rollback.
_SETTLING_SECONDS = 10.0
_MAX_THREADS = 6


def record_applied_revision(lease: FunctionLease) -> RevisionRecord | None:
    """Record the applied revision if necessary; return the revision for a rollback, or None.

    The Deployment of a killed deploy has no record yet. It is recorded as a success if its pods are
    ready, and as a failure otherwise.
    """
    applied, kube_deployment = records.applied_revision(lease.objects), lease.objects.deployment
    if applied is not None and kube_deployment is not None:
        recorded = lease.revisions.get(applied.number)
        if kube_deployment.is_rolled_out:
            lease.record_revision(applied)
            return applied
        if recorded is None:
            lease.record_revision(applied.with_failure(records.INTERRUPTED))
        elif not recorded.failed:
            return recorded
    served = (revision for revision in lease.revisions.values() if not revision.failed)
    return max(served, key=lambda revision: revision.number, default=None)


def delete_function(cluster: Cluster, lease: FunctionLease) -> None:
    """Delete the objects of a function; its pods terminate after this call.

    Optional objects are deleted first and the Deployment last, so that a missing permission is
    detected while the function still serves.
    """
    objects, namespace = lease.objects, lease.objects.key.namespace
    configs = lease.configs()
    if lease.imported_config:
        configs.append(json.loads(lease.imported_config))
    delete_leftover_pods(cluster, objects.key)
    cron_kind, jobs = list_cron_jobs(cluster, objects.key)
    extras = [(kinds.INGRESS, objects.ingress), (kinds.HPA_V1, objects.hpa)]
    extras += [(cron_kind, obj) for obj in jobs]
    extras += [(kinds.kind_of(obj), obj) for obj in read_policies(cluster, objects.key).objects]
    extras += [(kinds.kind_of(obj), obj) for obj in read_keda(cluster, objects.key).objects]
    for group in (
        extras,
        [(kinds.SERVICE, objects.service)],
        [(kinds.DEPLOYMENT, objects.deployment)],
    ):
        existing = [(kind, str(obj["metadata"]["name"])) for kind, obj in group if obj is not None]
        with ThreadPoolExecutor(_MAX_THREADS) as pool:
            list(pool.map(lambda obj: cluster.delete(obj[0], namespace, obj[1]), existing))
    needed = any(has_references(config, objects.key.name) for config in configs)
    SecretStore(cluster, objects.key).delete(needed=needed)
    lease.delete_record = True


@dataclass(slots=True)
class Rollout:
    """The rollout of a revision. `previous` is the one to roll back to."""

    cluster: Cluster
    lease: FunctionLease
    plan: RolloutPlan
    previous: RevisionRecord | None
    progress: Progress
    _applied: bool = False

    def run(self) -> None:
        """Roll out the revision, or roll back to the previous one and raise the error."""
        if self.plan.plan.refusal is not None:
            raise self.plan.plan.refusal
        revision = self.plan.revision
        self.progress(f"making revision {revision.number}")
        with self._paused_keda():
            self._run(revision)

    @contextmanager
    def _paused_keda(self) -> Iterator[None]:
        """Keep KEDA from ending the pods that prove the revision; start one if there is none."""
        live, scaled_object = self.lease.objects.deployment, self.plan.scaled_object
        if scaled_object is None:
            yield
            return
        paused = _partial(scaled_object, annotations={keda.PAUSED_ANNOTATION: "true"})
        self.cluster.apply(paused, force=True, manager=_ROLLOUT_MANAGER)
        try:
            maximum = scaling.replica_bounds(self.plan.revision.function)[1]
            if live is not None and not live.desired_replicas and maximum:
                self.progress("starting a pod, because KEDA had ended all")
                single = _partial(live) | {"spec": {"replicas": 1}}
                self.cluster.apply(single, force=True, manager=_ROLLOUT_MANAGER)
            yield
        finally:
            with suppress(NotFoundError):  # an obsolete one was deleted
                self._resume_keda(scaled_object)

    def _resume_keda(self, scaled_object: Raw) -> None:
        kind, namespace = kinds.SCALED_OBJECT, self.plan.objects.key.namespace
        if self.cluster.get(kind, namespace, scaled_object["metadata"]["name"]) is not None:
            self.cluster.apply(_partial(scaled_object), force=True, manager=_ROLLOUT_MANAGER)

    def _run(self, revision: RevisionRecord) -> None:
        try:
            self._start()
            ReadinessWait(self.cluster, revision, self.progress).until_ready()
        except BaseException as error:
            self._handle_failure(error)
            raise
        self.lease.record_revision(revision)
        self._finish()

    def _start(self) -> None:
        for manifest in self.plan.manifests:
            if self._is_service(manifest) and self.lease.objects.service is None:
                self._apply([manifest])
        self._check_import()
        # From here on, the Deployment may have changed even if the request fails.
        self._applied = True
        apply_manifest(self.cluster, self.plan.deployment, force=self.plan.force_conflicts)

    def _check_import(self) -> None:
        """Check the import before a replacement with a gap, while the old pods still serve."""
        live = self.lease.objects.deployment
        if self.plan.mode != "gap" or live is None:
            return
        if not (live.get("status") or {}).get("availableReplicas"):
            return
        revision = self.plan.revision
        try:
            HandlerImportCheck(self.cluster, revision, self.plan.deployment, self.progress).run()
        except NotReadyError as error:
            self._record_failure(error)
            if self.previous is not None:
                self._add_hint(error, f"revision {self.previous.number} goes on serving")
            raise

    def _finish(self) -> None:
        """Apply the other objects and delete the obsolete ones."""
        outdated = [
            manifest
            for manifest in self.plan.manifests
            if manifest["kind"] != "Deployment" and self._is_outdated(manifest)
        ]
        # KEDA reads the route when the ScaledObject appears, and refuses the latter while another
        # autoscaler is there.
        last = [obj for obj in outdated if obj["kind"] == kinds.SCALED_OBJECT.name]
        try:
            self._apply(manifest for manifest in outdated if manifest not in last)
            for manifest in self.plan.obsolete:
                kind, name = object_identity(manifest)
                self.progress(f"removing {kind.lower()} {name}")
                namespace = self.plan.objects.key.namespace
                self.cluster.delete(kinds.kind_of(manifest), namespace, name)
            self._apply(last)
            if self.plan.needs_second_apply:
                # The obsolete autoscaler is deleted, and the old pods are gone.
                apply_manifest(self.cluster, deployment_of(self.plan.manifests), force=True)
        except FnbuildError as error:
            self._add_hint(
                error, f"revision {self.plan.revision.number} serves; deploy again to end it"
            )
            raise

    def _is_outdated(self, manifest: Manifest) -> bool:
        is_applied = self._is_service(manifest) and self.lease.objects.service is None
        return not is_applied and self.plan.is_changed(manifest)

    def _is_service(self, manifest: Manifest) -> bool:
        """Return True for the function's own Service, and not for that of a proxy."""
        name = self.plan.objects.key.object_name
        return object_identity(manifest) == (kinds.SERVICE.name, name)

    def _apply(self, manifests: Iterable[Manifest]) -> None:
        forces = self.plan.force_conflicts
        with ThreadPoolExecutor(_MAX_THREADS) as pool:
            for manifest in pool.map(
                lambda manifest: self.cluster.apply(manifest, force=forces), manifests
            ):
                if self._is_service(manifest):
                    self.lease.node_port = endpoints.node_port(manifest)

    # Back

    def _handle_failure(self, error: BaseException) -> None:
        """Record the failure, and roll back to the previous revision."""
        if not self._applied:
            return
        if isinstance(error, ConflictError | NotFoundError) or not self._is_current():
            return  # another deploy has taken over, or nothing was changed
        self._record_failure(error)
        if self.plan.plan.options.keep_failed:
            number = self.plan.revision.number
            self._add_hint(
                error, f"revision {number} stays in the cluster, as `--keep-failed` asks"
            )
            return
        if self.previous is None:
            return
        try:
            self._roll_back(self.previous, error)
        except FnbuildError as problem:
            number = self.previous.number
            self._add_hint(error, f"revision {number} could not be brought back: {problem.message}")

    def _is_current(self) -> bool:
        """Return True if the Deployment is still the applied one."""
        key = self.plan.objects.key
        try:
            live = self.cluster.get(kinds.DEPLOYMENT, key.namespace, key.object_name)
        except FnbuildError:
            return True  # the rollback will tell
        current = RevisionRecord.from_deployment(live)
        return current is not None and current.number == self.plan.revision.number

    def _roll_back(self, previous: RevisionRecord, error: BaseException) -> None:
        self.progress(f"going back to revision {previous.number}")
        manifest = deployment_of(render_manifests(previous, self.plan.context))
        # Concurrent changes by other managers must not prevent the rollback.
        live = apply_manifest(self.cluster, manifest, force=True)
        if previous.function.spec.disable:
            return
        if int((live.get("status") or {}).get("availableReplicas") or 0):
            self._add_hint(error, f"revision {previous.number} goes on serving")
            with suppress(FnbuildError):  # the failed pods may take longer to terminate
                ReadinessWait(self.cluster, previous, _no_progress).until_ready(
                    seconds=_SETTLING_SECONDS
                )
        else:
            if isinstance(error, FnbuildError):
                ReadinessWait(self.cluster, previous, self.progress).until_ready()
            self._add_hint(error, f"revision {previous.number} starts again")

    def _record_failure(self, error: BaseException) -> None:
        """Record a failure, with its reason in the first line."""
        revision = self.plan.revision
        message = failure_text(revision.number, revision.key.name, error)
        self.lease.record_revision(revision.with_failure(message))

    def _add_hint(self, error: BaseException, text: str) -> None:
        if isinstance(error, FnbuildError):
            error.hint = f"{text}; {error.hint}" if error.hint else text


def _partial(obj: Raw, **metadata: Raw) -> Manifest:
    """Return a manifest that names an object and sets nothing but these fields of its metadata."""
    names = {key: obj["metadata"][key] for key in ("name", "namespace")}
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": names | metadata}


def _no_progress(_: str) -> None:
    """Ignore progress messages of a revision that keeps serving."""


def delete_idle_replica_sets(cluster: Cluster, key: KubernetesKey) -> None:
    """Remove ReplicaSets without pods, whose templates may hold values that belong in a Secret.

    Without the right to do so, they stay until the cluster removes all but the newest.
    """
    with suppress(FnbuildError):
        for replica_set in cluster.list(kinds.REPLICA_SET, key.namespace, labels=key.selector):
            if not replica_set["spec"].get("replicas"):
                name = str(replica_set["metadata"]["name"])
                cluster.delete(kinds.REPLICA_SET, key.namespace, name)
