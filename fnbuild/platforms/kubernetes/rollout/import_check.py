"""The check that the handler can be imported, in a pod, before the serving pods are stopped.

It is the new revision's pod without the GPU, probes and sidecars, and it runs `processor
--check-import`. A certain failure ends the deploy while the old revision still serves: code that
cannot be imported, an image that no node can pull, a missing Secret. In all other cases, such as a
node without room for the pod, the rollout decides. As a side effect, the node has pulled the image
before the rollout.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

from fnbuild.builder.processor_settings import readiness_seconds
from fnbuild.errors import FnbuildError, NotReadyError
from fnbuild.function.quantities import parse_quantity
from fnbuild.function.types import Raw
from fnbuild.platforms import Manifest, Progress
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.objects import Pod
from fnbuild.platforms.kubernetes.diagnosis import containers, queries
from fnbuild.platforms.kubernetes.labels import CONTAINER
from fnbuild.platforms.kubernetes.revision_record import RevisionRecord
from fnbuild.platforms.kubernetes.rollout.temporary_pods import (
    created_pod,
    delete_leftover_pods,
    temporary_pod,
)
from fnbuild.platforms.processor_status import HandlerImportVerdict, inconclusive_check_message
from fnbuild.platforms.revision_records import failure_prefix
from fnbuild.platforms.settings import GPU_RESOURCE

COMMAND = ("processor", "--check-import")

_REQUESTS = {"cpu": "25m", "memory": "64Mi"}
_UNSCHEDULED_SECONDS = 5.0
_PAUSE_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class HandlerImportCheck:
    """The check of one revision, made from the Deployment that is about to be applied."""

    cluster: Cluster
    revision: RevisionRecord
    deployment: Manifest
    progress: Progress

    def run(self) -> None:
        """Run the check, and return unless it proves that the revision cannot start.

        Raises `NotReadyError` with the handler's own error if it cannot be imported.
        """
        delete_leftover_pods(self.cluster, self.revision.key)
        self.progress("importing the handler in a pod without a GPU, while the old revision serves")
        with contextlib.ExitStack() as stack:
            pod = import_check_pod(self.revision, self.deployment)
            try:
                name = stack.enter_context(created_pod(self.cluster, pod))
            except FnbuildError as error:
                self._report_undecided(error.message)
                return
            self._watch_pod(self.revision.key.namespace, name)

    def _watch_pod(self, namespace: str, name: str) -> None:
        seconds = readiness_seconds(self.revision.function)
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            live_pod = self.cluster.get(kinds.POD, namespace, name)
            if live_pod is None:
                self._report_undecided("the pod was deleted")
                return
            pod = Pod(live_pod)
            if self._has_ended(pod) or self._is_stuck(pod, passed):
                return
            time.sleep(_PAUSE_SECONDS)
        self._report_undecided(f"it took longer than {seconds:g} s")

    def _has_ended(self, pod: Pod) -> bool:
        """Return True if the pod has ended. Raises `NotReadyError` if the import failed."""
        if not pod.has_ended:
            return False
        ends = (item.termination for item in pod.container_statuses if item.name == CONTAINER)
        end = next(ends, None)
        verdict = HandlerImportVerdict.parse((end.message if end else "").encode())
        verdict.raise_if_failed(self.revision.number, self.revision.key.name)
        if verdict.verdict == "unknown":
            self._report_undecided(pod.status.text("message") or verdict.reason)
        return True

    def _is_stuck(self, pod: Pod, passed: float) -> bool:
        """Return True if the pod will not be scheduled.

        Raises `NotReadyError` if the revision's own pods could not start either.
        """
        if not pod.node_name:
            if passed > _UNSCHEDULED_SECONDS:
                scheduled = pod.condition("PodScheduled")
                self._report_undecided(scheduled.message or "no node takes the pod")
            return passed > _UNSCHEDULED_SECONDS
        events = queries.list_events(self.cluster, [pod])
        obstacle = containers.container_finding(
            pod, containers.Observations(events, time.time(), None, {})
        )
        if obstacle.fatal:
            text = failure_prefix(self.revision.number, self.revision.key.name) + obstacle.text
            raise NotReadyError(text, hint=obstacle.hint or None)
        return False

    def _report_undecided(self, reason: str) -> None:
        self.progress(inconclusive_check_message(reason))


def import_check_pod(revision: RevisionRecord, deployment: Manifest) -> Raw:
    """Return the pod, made from the template of the Deployment."""
    spec: Raw = deployment["spec"]["template"]["spec"]
    container = next(
        container for container in spec["containers"] if container["name"] == CONTAINER
    )
    container = {
        **{key: value for key, value in container.items() if not key.endswith("Probe")},
        "args": list(COMMAND),
    }
    container.pop("ports", None)
    changes = {
        "containers": [_without_gpu(container)],
        "restartPolicy": "Never",
        "activeDeadlineSeconds": int(readiness_seconds(revision.function)) + 60,
    }
    if spec.get("initContainers"):
        changes["initContainers"] = list(map(_without_gpu, spec["initContainers"]))
    return temporary_pod(revision.key, "import-check", deployment, changes)


def _without_gpu(container: Raw) -> Raw:
    """Return the container without a GPU and with minimal requests.

    The node of the pod that serves may have little room left.
    """
    limits = dict((container.get("resources") or {}).get("limits") or {})
    limits.pop(GPU_RESOURCE, None)
    requests = {
        name: amount
        for name, amount in _REQUESTS.items()
        if name not in limits or parse_quantity(amount) <= parse_quantity(str(limits[name]))
    }
    return {**container, "resources": {"limits": limits, "requests": requests}}
