"""A pod beside those that serve, without a Service, for as long as it is needed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from fnbuild.builder.processor_settings import readiness_seconds
from fnbuild.errors import FnbuildError, NotReadyError
from fnbuild.function.types import Function
from fnbuild.platforms import Artifact, PlanOptions, Progress
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.objects import Pod
from fnbuild.platforms.kubeclient.port_forward import forward_port
from fnbuild.platforms.kubernetes import inventory
from fnbuild.platforms.kubernetes.diagnosis import queries
from fnbuild.platforms.kubernetes.labels import validated_key
from fnbuild.platforms.kubernetes.pod_status import PodFinding
from fnbuild.platforms.kubernetes.revision_record import RevisionRecord
from fnbuild.platforms.kubernetes.rollout import planning
from fnbuild.platforms.kubernetes.rollout.temporary_pods import (
    created_pod,
    delete_leftover_pods,
    temporary_pod,
)
from fnbuild.platforms.revision_records import failure_prefix

_POLL_SECONDS = 0.5
_MAX_SECONDS = 3600
"""The time after which a pod that was left by a killed command ends by itself."""


@contextmanager
def run_trial(
    cluster: Cluster, function: Function, artifact: Artifact, progress: Progress
) -> Iterator[str]:
    """Run an image in a pod, wait until it is ready, and provide its URL through a port forward.

    The pod ends with the block. The caller has reserved the function. Raises `NotReadyError`.
    """
    objects = inventory.read_function(cluster, validated_key(function))
    options = PlanOptions(force=True, show_conflicts=True)
    rollout_plan = planning.plan_rollout(cluster, objects, function, artifact, options)
    revision = rollout_plan.revision
    rollout_plan.secret_store.save(revision.labels())
    delete_leftover_pods(cluster, revision.key)
    seconds = readiness_seconds(revision.function)
    limit = {"activeDeadlineSeconds": int(seconds) + _MAX_SECONDS}
    pod = temporary_pod(revision.key, "trial", rollout_plan.deployment, limit)
    with created_pod(cluster, pod) as name:
        _PodReadiness(cluster, revision, name, progress).wait(seconds)
        with forward_port(cluster, revision.key.namespace, name) as url:
            yield url


@dataclass(slots=True)
class _PodReadiness:
    """A wait for one pod of a revision."""

    cluster: Cluster
    revision: RevisionRecord
    pod: str
    progress: Progress
    _last: PodFinding = field(default=PodFinding("its pod is being created"))

    def wait(self, seconds: float) -> None:
        """Return once the pod is ready. Raises `NotReadyError` with the reason if it is not."""
        deadline = time.monotonic() + seconds
        while (finding := self._query()) is not None:
            if finding.fatal:
                raise self._error(finding.text, finding.hint)
            if finding.text != self._last.text:
                self.progress(finding.text)
            self._last = finding
            if time.monotonic() > deadline:
                text = f"it is still starting after {seconds:g} seconds ({finding.text})"
                raise self._error(text, "see spec.readinessTimeoutSeconds")
            time.sleep(_POLL_SECONDS)

    def _query(self) -> PodFinding | None:
        live_pod = self.cluster.get(kinds.POD, self.revision.key.namespace, self.pod)
        if live_pod is None:
            return PodFinding("its pod was deleted", fatal=True)
        pod = Pod(live_pod)
        finding = queries.query_pod_finding(self.cluster, pod, time.time())
        if finding is not None and not pod.is_active:
            reason = pod.status.text("message") or finding.text
            return PodFinding(f"its pod has ended: {reason}", finding.hint, fatal=True)
        return finding

    def _error(self, text: str, hint: str) -> NotReadyError:
        key = self.revision.key
        detail = ""
        with suppress(FnbuildError):  # the reason is known even without details
            detail = queries.failure_details(self.cluster, key.namespace, self.pod)
        prefix = failure_prefix(self.revision.number, key.name)
        return NotReadyError(prefix + text, detail=detail or None, hint=hint or None)
