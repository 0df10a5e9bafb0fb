"""Execution of a rollout: from the serving revision to the next one, and back if that fails.

The Deployment is changed first. The Service, if it exists, and all other objects follow when the
new pods are ready, so that a failed revision has changed nothing but the Deployment.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from fnbuild.errors import ConflictError, FnbuildError, NotFoundError, NotReadyError
from fnbuild.platforms import Manifest, Progress
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubernetes import endpoints, inventory, records
from fnbuild.platforms.kubernetes import labels as own
from fnbuild.platforms.kubernetes.diagnosis.rollout_status import is_rolled_out
from fnbuild.platforms.kubernetes.labels import KubernetesKey, RevisionRecord
from fnbuild.platforms.kubernetes.leases import FunctionLease
from fnbuild.platforms.kubernetes.manifests.rendering import render_manifests
from fnbuild.platforms.kubernetes.rollout.import_check import ImportCheck, delete_leftover_pods
from fnbuild.platforms.kubernetes.rollout.live_objects import (
    list_cron_jobs,
    object_identity,
    read_policies,
)
from fnbuild.platforms.kubernetes.rollout.planning import RolloutPlan
from fnbuild.platforms.kubernetes.rollout.readiness import ReadinessWait, failure_prefix
from fnbuild.platforms.kubernetes.rollout.server_side_apply import apply_manifest
from fnbuild.platforms.kubernetes.secret_store import SecretStore, has_references

# How long pods that serve take to be the only ones again.
_SETTLING_SECONDS = 10.0
_MAX_THREADS = 6


def record_active_revision(claim: FunctionLease) -> RevisionRecord | None:
    """Put on record what runs, if it is not; the revision to go back to, None when there is none.

    A deploy that was killed has left a Deployment that no record knows of: it counts as one that
    served when its pods are ready, as a failure when not.
    """
    active, deployment = records.active_revision(claim.known), claim.known.deployment
    if active is not None and deployment is not None:
        known = claim.made.get(active.number)
        if is_rolled_out(deployment):
            claim.add(active)
            return active
        if known is None:
            claim.add(active.with_failure(records.INTERRUPTED))
        elif not known.failed:
            return known
    served = (made for made in claim.made.values() if not made.failed)
    return max(served, key=lambda made: made.number, default=None)


def delete_function(cluster: Cluster, claim: FunctionLease) -> None:
    """Delete everything of a function that is there; its pods end behind this call.

    What only some functions have goes first, the Deployment last: who may not delete one of them
    has lost nothing.
    """
    known, namespace = claim.known, claim.known.key.namespace
    configs = [made.config for made in (*claim.made.values(), known.made) if made is not None]
    if claim.imported:
        configs.append(json.loads(claim.imported))
    delete_leftover_pods(cluster, known.key)
    crons, jobs = list_cron_jobs(cluster, known.key)
    extras = [(kinds.INGRESS, known.ingress), (kinds.HPA_V1, known.hpa)]
    extras += [(crons, one) for one in jobs]
    extras += [(kinds.kind_of(one), one) for one in read_policies(cluster, known.key).objects]
    for some in (extras, [(kinds.SERVICE, known.service)], [(kinds.DEPLOYMENT, known.deployment)]):
        there = [(kind, str(one["metadata"]["name"])) for kind, one in some if one is not None]
        with ThreadPoolExecutor(_MAX_THREADS) as pool:
            list(pool.map(lambda one: cluster.delete(one[0], namespace, one[1]), there))
    needed = any(has_references(config, known.key.name) for config in configs)
    SecretStore(cluster, known.key).delete(needed=needed)
    claim.forget = True


@dataclass(slots=True)
class Rollout:
    """One revision about to run. `previous` is the one to go back to."""

    cluster: Cluster
    claim: FunctionLease
    planned: RolloutPlan
    previous: RevisionRecord | None
    progress: Progress
    _applied: bool = False

    def run(self) -> None:
        """Raises `NotReadyError` or what the cluster refuses; the previous revision serves then."""
        if self.planned.plan.refusal is not None:
            raise self.planned.plan.refusal
        made = self.planned.made
        self.progress(f"making revision {made.number}")
        try:
            self._begin()
            ReadinessWait(self.cluster, made, self.progress).until_ready()
        except BaseException as error:
            self._failed(error)
            raise
        self.claim.add(made)
        self._finish()

    def _begin(self) -> None:
        for manifest in self.planned.wanted:
            if manifest["kind"] == "Service" and self.claim.known.service is None:
                self._apply([manifest])
        self._rehearse()
        # From here on it may have changed, whatever is heard of it.
        self._applied = True
        apply_manifest(self.cluster, self.planned.deployment, force=self.planned.forces)

    def _rehearse(self) -> None:
        """Find out what can be found out while the pods still serve that are to end first."""
        live = self.claim.known.deployment
        if self.planned.way != "gap" or live is None:
            return
        if not (live.get("status") or {}).get("availableReplicas"):
            return
        made = self.planned.made
        try:
            ImportCheck(self.cluster, made, self.planned.deployment, self.progress).run()
        except NotReadyError as error:
            self._record(error)
            if self.previous is not None:
                self._add(error, f"revision {self.previous.number} goes on serving")
            raise

    def _finish(self) -> None:
        """Bring everything else in line with the revision that serves."""
        rest = [
            one for one in self.planned.wanted if one["kind"] != "Deployment" and self._differs(one)
        ]
        try:
            self._apply(rest)
            for one in self.planned.unwanted:
                kind, name = object_identity(one)
                self.progress(f"removing {kind.lower()} {name}")
                namespace = self.planned.known.key.namespace
                self.cluster.delete(kinds.kind_of(one), namespace, name)
            if self.planned.provisional:
                # Now nobody else decides how many pods there are, and the old pods are gone.
                apply_manifest(self.cluster, _deployment_of(self.planned.wanted), force=True)
        except FnbuildError as error:
            self._add(error, f"revision {self.planned.made.number} serves; deploy again to end it")
            raise

    def _differs(self, manifest: Manifest) -> bool:
        made_already = manifest["kind"] == "Service" and self.claim.known.service is None
        return not made_already and self.planned.changes(manifest)

    def _apply(self, some: Iterable[Manifest]) -> None:
        forces = self.planned.forces
        with ThreadPoolExecutor(_MAX_THREADS) as pool:
            for one in pool.map(lambda one: self.cluster.apply(one, force=forces), some):
                if one["kind"] == "Service":
                    self.claim.node_port = endpoints.node_port(one)

    # Back

    def _failed(self, error: BaseException) -> None:
        """Note why the revision does not serve, and bring back what did."""
        if not self._applied:
            return
        if isinstance(error, ConflictError | NotFoundError) or not self._ours():
            return  # it is somebody else's by now, or nothing was changed
        self._record(error)
        if self.planned.plan.options.keep_failed:
            number = self.planned.made.number
            self._add(error, f"revision {number} stays in the cluster, as `--keep-failed` asks")
            return
        if self.previous is None:
            return
        try:
            self._back_to(self.previous, error)
        except FnbuildError as problem:
            number = self.previous.number
            self._add(error, f"revision {number} could not be brought back: {problem.message}")

    def _ours(self) -> bool:
        """Whether the Deployment is the one that was applied."""
        key = self.planned.known.key
        try:
            live = self.cluster.get(kinds.DEPLOYMENT, key.namespace, key.object)
        except FnbuildError:
            return True  # going back finds out
        current = RevisionRecord.of_deployment(live) if live is not None else None
        return current is not None and current.number == self.planned.made.number

    def _back_to(self, previous: RevisionRecord, error: BaseException) -> None:
        self.progress(f"going back to revision {previous.number}")
        deployment = _deployment_of(render_manifests(previous, self.planned.around))
        # What somebody else has changed meanwhile must not keep the function down.
        live = apply_manifest(self.cluster, deployment, force=True)
        if previous.function.spec.disable:
            return
        if int((live.get("status") or {}).get("availableReplicas") or 0):
            self._add(error, f"revision {previous.number} goes on serving")
            with suppress(FnbuildError):  # the failed pods may take their time
                ReadinessWait(self.cluster, previous, _no_progress).until_ready(
                    seconds=_SETTLING_SECONDS
                )
        else:
            if isinstance(error, FnbuildError):
                ReadinessWait(self.cluster, previous, self.progress).until_ready()
            self._add(error, f"revision {previous.number} starts again")

    def _record(self, error: BaseException) -> None:
        """The first line of a failure is the reason."""
        made = self.planned.made
        message = "the deploy was interrupted"
        if isinstance(error, FnbuildError):
            reason = error.message.removeprefix(failure_prefix(made))
            message = "\n".join(part for part in (reason, error.detail) if part)
        self.claim.add(made.with_failure(message))

    def _add(self, error: BaseException, words: str) -> None:
        if isinstance(error, FnbuildError):
            error.hint = f"{words}; {error.hint}" if error.hint else words


def _deployment_of(some: Iterable[Manifest]) -> Manifest:
    return next(one for one in some if one["kind"] == "Deployment")


def _no_progress(_: str) -> None:
    """What serves all the time has nothing to say."""


def delete_idle_replica_sets(cluster: Cluster, key: KubernetesKey) -> None:
    """Remove ReplicaSets without pods, whose templates may hold values that belong in a Secret.

    Without the right to do so, they stay until the cluster removes all but the newest.
    """
    selector = f"{inventory.FUNCTIONS_SELECTOR},{own.FUNCTION}={key.name}"
    with suppress(FnbuildError):
        for replica_set in cluster.list(kinds.REPLICA_SET, key.namespace, labels=selector):
            if not replica_set["spec"].get("replicas"):
                name = str(replica_set["metadata"]["name"])
                cluster.delete(kinds.REPLICA_SET, key.namespace, name)
