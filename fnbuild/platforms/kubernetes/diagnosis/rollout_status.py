"""The status of a rollout, derived from the Deployment, its pods and their events.

This module does not access the cluster; `queries` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fnbuild.function.types import Raw
from fnbuild.platforms.kubernetes import pod_status
from fnbuild.platforms.kubernetes.diagnosis import containers, rejections, scheduling
from fnbuild.platforms.kubernetes.diagnosis.containers import Observations
from fnbuild.platforms.kubernetes.labels import MANAGER
from fnbuild.platforms.kubernetes.pod_status import PodFinding, parse_timestamp
from fnbuild.platforms.processor_status import ProcessorStatus

_SCHEDULING_SECONDS = 15.0
"""The time after which an unschedulable pod counts as failed."""

_GRACE_SECONDS = 5.0
"""The same for rejected pods: a new namespace lacks its service account for a moment."""

_NODE_NAMES_HINT = "`kubectl get nodes` lists the names that spec.nodeName may have"
_MAX_NAMES = 5

_TEMPLATE_HASH = "pod-template-hash"


@dataclass(frozen=True, slots=True)
class RolloutStatus:
    """The status of a rollout.

    `messages` describe the progress in short sentences. `failure` is the reason why the rollout
    cannot succeed, with `hint` as its remedy; it is "" while it may. `pod` and `container` have a
    log with details, or are "".
    """

    ready: bool
    messages: tuple[str, ...] = ()
    failure: str = ""
    hint: str = ""
    pod: str = ""
    container: str = ""


def rollout_status(  # noqa: PLR0913, PLR0917 (independent observations)
    deployment: Raw,
    pods: Sequence[Raw],
    events: Sequence[Raw],
    now: float,
    nodes: list[Raw] | None = None,
    statuses: Mapping[str, ProcessorStatus] | None = None,
    absent: Mapping[str, PodFinding] | None = None,
) -> RolloutStatus:
    """Return the status of a Deployment's rollout; pods of older revisions do not count.

    `now` is in seconds since the epoch, by the cluster's clock. `nodes` add details to the
    scheduler's messages; None if they are unknown. `statuses` are the processors' reports and
    `absent` the missing objects that volumes need, by pod.
    """
    if is_rolled_out(deployment):
        return RolloutStatus(True)
    if _generation(deployment, "observedGeneration") < int(deployment["metadata"]["generation"]):
        return RolloutStatus(False, ("waiting for the cluster to process the change",))
    newest = newest_pods(deployment, pods)
    observations = Observations(
        events, now, nodes, statuses or {}, _last_applied(deployment), absent or {}
    )
    running = [pod for pod in newest if is_active(pod)]
    pod_findings = [
        (pod, finding)
        for pod in running
        if (finding := _pod_finding(pod, observations)) is not None
    ]
    rejection = _creation_failure(deployment, running, observations) or _paused_finding(deployment)
    evicted = _eviction_finding(newest)
    findings = [finding for finding in (rejection, evicted) if finding is not None] + [
        finding for _, finding in pod_findings
    ]
    fatal = next((finding for finding in findings if finding.fatal), None)
    telling = next(
        (
            (pod, finding)
            for pod, finding in pod_findings
            if finding.container and fatal in (None, finding)
        ),
        None,
    )
    messages = [] if rejection else _progress_messages(deployment, pods, newest, running)
    messages += [finding.text for finding in findings]
    return RolloutStatus(
        ready=False,
        messages=tuple(dict.fromkeys(messages)),
        failure=fatal.text if fatal else "",
        hint=fatal.hint if fatal else "",
        pod=telling[0]["metadata"]["name"] if telling else "",
        container=telling[1].container if telling else "",
    )


def is_rolled_out(deployment: Raw) -> bool:
    """Return True if all desired pods are new and available, and no old one is left.

    These are the criteria of `kubectl rollout status`.
    """
    status: Raw = deployment.get("status") or {}
    if _generation(deployment, "observedGeneration") < int(deployment["metadata"]["generation"]):
        return False
    updated, desired = int(status.get("updatedReplicas") or 0), desired_replicas(deployment)
    return (
        updated >= desired
        and int(status.get("replicas") or 0) <= updated
        and int(status.get("availableReplicas") or 0) >= updated
    )


def desired_replicas(deployment: Raw) -> int:
    return int(deployment["spec"].get("replicas", 1))


def get_condition(obj: Raw, kind: str) -> Raw:
    """Return the condition of a type from an object's status, or an empty mapping."""
    listed: list[Raw] = (obj.get("status") or {}).get("conditions") or []
    return next((condition for condition in listed if condition.get("type") == kind), {})


def _generation(deployment: Raw, name: str) -> int:
    return int((deployment.get("status") or {}).get(name) or 0)


def pods_of_template(deployment: Raw, pods: Sequence[Raw]) -> list[Raw]:
    """Return the pods that match the Deployment's template."""
    return [pod for pod in pods if _is_subset(deployment["spec"]["template"], pod)]


def newest_pods(deployment: Raw, pods: Sequence[Raw]) -> list[Raw]:
    """Return the pods of the Deployment's newest ReplicaSet, oldest first.

    They are identified by the template instead of the ReplicaSets, which would have to be read and
    contain a whole template each.
    """
    template: Raw = deployment["spec"]["template"]
    matching = pods_of_template(deployment, pods)
    if not matching:
        # Admission may have changed the pods' specs, such as images. Then compare the metadata,
        # unless the status says that there are no new pods.
        template_metadata = {"metadata": template["metadata"]}
        updated = (deployment.get("status") or {}).get("updatedReplicas")
        matching = [pod for pod in pods if updated and _is_subset(template_metadata, pod)]
    # Pods of a revision with additional fields match as well: the smallest ones are the newest's.
    smallest = min(map(_size, matching), default=0)
    newest = max(
        (pod for pod in matching if _size(pod) == smallest), key=_creation_time, default=None
    )
    if newest is None:
        return []
    template_hash = _labels(newest).get(_TEMPLATE_HASH)
    return sorted(
        (pod for pod in matching if _labels(pod).get(_TEMPLATE_HASH) == template_hash),
        key=_creation_time,
    )


def _is_subset(subset: Any, whole: Any) -> bool:
    """Return True if `whole` includes `subset`; admission may have added more."""
    if isinstance(subset, dict):
        mapping = whole if isinstance(whole, dict) else {}
        return all(_is_subset(value, mapping.get(key)) for key, value in subset.items())
    if isinstance(subset, list):
        items = whole if isinstance(whole, list) else []
        return all(any(_is_subset(item, candidate) for candidate in items) for item in subset)
    return bool(subset == whole) or subset is None


def _size(pod: Raw) -> int:
    """Return the number of values that define a pod, without its node."""
    spec = {key: value for key, value in pod["spec"].items() if key != "nodeName"}
    return _count_values([pod["metadata"].get("annotations"), _labels(pod), spec])


def _count_values(values: Any) -> int:
    if isinstance(values, dict):
        return sum(map(_count_values, values.values()))
    return sum(map(_count_values, values)) if isinstance(values, list) else 1


def _creation_time(pod: Raw) -> str:
    return str(pod["metadata"].get("creationTimestamp") or "")


def _labels(pod: Raw) -> dict[str, str]:
    return pod["metadata"].get("labels") or {}


def is_active(pod: Raw) -> bool:
    """Return True if the pod has not ended and is not terminating."""
    ended = (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded")
    return not ended and "deletionTimestamp" not in pod["metadata"]


def _progress_messages(
    deployment: Raw, pods: Sequence[Raw], newest: list[Raw], running: list[Raw]
) -> list[str]:
    """Return messages about the numbers of pods."""
    desired = desired_replicas(deployment)
    ready = sum(pod_status.is_pod_ready(pod) for pod in running)
    names = {pod["metadata"]["name"] for pod in newest}
    old = [pod for pod in pods if pod["metadata"]["name"] not in names]
    ending = [pod for pod in pods if "deletionTimestamp" in pod["metadata"]]
    messages = []
    if desired > 1:
        messages.append(f"{ready} of {desired} replicas ready")
    if not running and (old or ending) and _recreates(deployment):
        several = len({pod["metadata"]["name"] for pod in [*old, *ending]}) > 1
        messages.append(f"waiting for the old pod{'s' if several else ''} to end")
    elif old and ready >= desired:
        messages.append("the new replicas are ready, the old ones end")
    elif not running and desired:
        messages.append("its pod is being created")
    return messages


def _recreates(deployment: Raw) -> bool:
    return (deployment["spec"].get("strategy") or {}).get("type") == "Recreate"


def _last_applied(deployment: Raw) -> float:
    """Return the time of fnbuild's last apply, by the cluster's clock; 0 if it is unknown."""
    for entry in deployment["metadata"].get("managedFields") or []:
        if entry.get("manager") == MANAGER and entry.get("operation") == "Apply":
            return parse_timestamp(entry.get("time")) or 0.0
    return 0.0


def _creation_failure(
    deployment: Raw, running: list[Raw], observations: Observations
) -> PodFinding | None:
    """Explain why no pods are created; `running` are those of the newest ReplicaSet.

    The condition may still be about an older ReplicaSet.
    """
    failed = get_condition(deployment, "ReplicaFailure")
    if failed.get("status") != "True":
        return None
    message, namespace = str(failed.get("message") or ""), str(deployment["metadata"]["namespace"])
    if running:
        template_hash = f"-{_labels(running[0]).get(_TEMPLATE_HASH)}-"
        of_older = template_hash not in rejections.rejected_pod(message, template_hash)
        if of_older or len(running) >= desired_replicas(deployment):
            return None
    finding = rejections.explain_pod_rejection(message, namespace)
    return finding.with_fatal(fatal=_has_lasted(failed.get("lastTransitionTime"), observations))


def _paused_finding(deployment: Raw) -> PodFinding | None:
    if not deployment["spec"].get("paused"):
        return None
    name, namespace = deployment["metadata"]["name"], deployment["metadata"]["namespace"]
    resume = f"`kubectl rollout resume deployment/{name} -n {namespace}`"
    return PodFinding("the rollout is paused", f"{resume} goes on with it", fatal=True)


def _has_lasted(
    since: str | None, observations: Observations, patience: float = _GRACE_SECONDS
) -> bool:
    """Return True if a condition has lasted longer than `patience` since the last change."""
    began = parse_timestamp(since)
    return began is not None and observations.now - max(began, observations.since) >= patience


def _eviction_finding(newest: list[Raw]) -> PodFinding | None:
    evicted = [pod for pod in newest if (pod.get("status") or {}).get("reason") == "Evicted"]
    if not evicted:
        return None
    why = str(evicted[-1]["status"].get("message") or "the node is short of something").strip(" .")
    hint = "`kubectl describe nodes` shows what they are short of; see spec.resources, spec.volumes"
    return PodFinding(f"its pod was evicted: {why[:1].lower()}{why[1:]}", hint, len(evicted) > 1)


def _pod_finding(pod: Raw, observations: Observations) -> PodFinding | None:
    """Explain why a pod is not ready; None if it is."""
    if pod_status.is_pod_ready(pod):
        return None
    if finding := _lost_node_finding(pod, observations.nodes) or _kubelet_finding(
        pod, observations
    ):
        return finding
    scheduled = get_condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return _scheduling_finding(pod, scheduled, observations)
    if not pod["spec"].get("nodeName"):
        return PodFinding("waiting for a node")
    return containers.container_finding(pod, observations)


def _scheduling_finding(pod: Raw, scheduled: Raw, observations: Observations) -> PodFinding:
    if scheduled.get("reason") == "SchedulingGated":
        return PodFinding("its pod is held back by scheduling gates")
    message = str(scheduled.get("message") or "")
    finding = scheduling.explain_unschedulable(message, pod, observations.nodes)
    grows = any(event.get("reason") == "TriggeredScaleUp" for event in observations.events_of(pod))
    if grows:
        return PodFinding(f"{finding.text}; the cluster adds a node")
    patience = _GRACE_SECONDS if scheduling.is_claim_missing(message) else _SCHEDULING_SECONDS
    return finding.with_fatal(
        fatal=_has_lasted(scheduled.get("lastTransitionTime"), observations, patience)
    )


def _kubelet_finding(pod: Raw, observations: Observations) -> PodFinding | None:
    """Explain a pod that waits for its kubelet: one with a node name bypasses the scheduler."""
    name, status = pod["spec"].get("nodeName"), pod.get("status") or {}
    if not name or status.get("startTime") or status.get("conditions"):
        return None
    if observations.nodes is None:
        finding = PodFinding(f"no kubelet takes the pod on node {name}", _NODE_NAMES_HINT)
        return finding.with_fatal(
            fatal=_has_lasted(_creation_time(pod), observations, _SCHEDULING_SECONDS)
        )
    names = [str(node["metadata"]["name"]) for node in observations.nodes]
    if name in names:
        return PodFinding(f"waiting for node {name} to take the pod")
    shown = ", ".join(names[:_MAX_NAMES]) + (", …" if len(names) > _MAX_NAMES else "")
    finding = PodFinding(f"there is no node {name}", f"spec.nodeName has to be one of: {shown}")
    return finding.with_fatal(fatal=_has_lasted(_creation_time(pod), observations))


def _lost_node_finding(pod: Raw, nodes: list[Raw] | None) -> PodFinding | None:
    name = pod["spec"].get("nodeName")
    status: Raw = pod.get("status") or {}
    gone = status.get("reason") == "NodeLost" or status.get("phase") == "Unknown"
    for node in nodes or []:
        if node["metadata"]["name"] == name:
            gone = gone or get_condition(node, "Ready").get("status") != "True"
    if not gone:
        return None
    return PodFinding(f"its node {name} does not answer", f"`kubectl describe node {name}`")
