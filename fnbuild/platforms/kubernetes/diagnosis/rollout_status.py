"""The status of a rollout, derived from the Deployment, its pods and their events.

This module does not access the cluster; `queries` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fnbuild.platforms.kubeclient.objects import (
    Condition,
    KubeDeployment,
    KubeEvent,
    Node,
    Pod,
)
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
    kube_deployment: KubeDeployment,
    pods: Sequence[Pod],
    events: Sequence[KubeEvent],
    now: float,
    nodes: list[Node] | None = None,
    statuses: Mapping[str, ProcessorStatus] | None = None,
    missing_references: Mapping[str, PodFinding] | None = None,
) -> RolloutStatus:
    """Return the status of a Deployment's rollout; pods of older revisions do not count.

    `now` is in seconds since the epoch, by the cluster's clock. `nodes` add details to the
    scheduler's messages; None if they are unknown. `statuses` are the processors' reports and
    `missing_references` the missing objects that volumes need, by pod.
    """
    if kube_deployment.is_rolled_out:
        return RolloutStatus(True)
    if not kube_deployment.is_observed:
        return RolloutStatus(False, ("waiting for the cluster to process the change",))
    newest = newest_pods(kube_deployment, pods)
    # By the cluster's clock.
    last_applied = parse_timestamp(kube_deployment.apply_entry(MANAGER).text("time")) or 0.0
    observations = Observations(
        events, now, nodes, statuses or {}, last_applied, missing_references or {}
    )
    running = [pod for pod in newest if pod.is_active]
    pod_findings = [
        (pod, finding)
        for pod in running
        # Without updated replicas, these pods are another revision's, whose template has the same
        # fields and more.
        if kube_deployment.updated_replicas
        and (finding := pod_finding(pod, observations)) is not None
    ]
    rejection = _creation_failure(kube_deployment, running, observations) or _paused_finding(
        kube_deployment
    )
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
    messages = [] if rejection else _progress_messages(kube_deployment, pods, newest, running)
    messages += [finding.text for finding in findings]
    return RolloutStatus(
        ready=False,
        messages=tuple(dict.fromkeys(messages)),
        failure=fatal.text if fatal else "",
        hint=fatal.hint if fatal else "",
        pod=telling[0].name if telling else "",
        container=telling[1].container if telling else "",
    )


def pods_of_template(kube_deployment: KubeDeployment, pods: Sequence[Pod]) -> list[Pod]:
    """Return the pods that match the Deployment's template."""
    template = kube_deployment.template
    return [pod for pod in pods if _is_subset(template, pod)]


def newest_pods(kube_deployment: KubeDeployment, pods: Sequence[Pod]) -> list[Pod]:
    """Return the pods of the Deployment's newest ReplicaSet, oldest first.

    They are identified by the template instead of the ReplicaSets, which would have to be read and
    contain a whole template each.
    """
    matching = pods_of_template(kube_deployment, pods)
    if not matching:
        # Admission may have changed the pods' specs, such as images. Then compare the metadata,
        # unless the status says that there are no new pods.
        template = {"metadata": kube_deployment.template.metadata}
        updated = kube_deployment.updated_replicas
        matching = [pod for pod in pods if updated and _is_subset(template, pod)]
    # Pods of a revision with additional fields match as well: the smallest ones are the newest's.
    smallest = min(map(_size, matching), default=0)
    candidates = [pod for pod in matching if _size(pod) == smallest]
    if not candidates:
        return []
    template_hash = max(candidates, key=lambda pod: pod.created).labels.get(_TEMPLATE_HASH)
    return sorted(
        (pod for pod in matching if pod.labels.get(_TEMPLATE_HASH) == template_hash),
        key=lambda pod: pod.created,
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


def _size(pod: Pod) -> int:
    """Return the number of values that define a pod, without its node."""
    spec = {key: value for key, value in pod.spec.items() if key != "nodeName"}
    return _count_values([pod.metadata.get("annotations"), pod.labels, spec])


def _count_values(values: Any) -> int:
    if isinstance(values, dict):
        return sum(map(_count_values, values.values()))
    return sum(map(_count_values, values)) if isinstance(values, list) else 1


def _progress_messages(
    kube_deployment: KubeDeployment, pods: Sequence[Pod], newest: list[Pod], running: list[Pod]
) -> list[str]:
    """Return messages about the numbers of pods."""
    desired = kube_deployment.desired_replicas
    ready = sum(pod.is_ready for pod in running)
    names = {pod.name for pod in newest}
    old = [pod for pod in pods if pod.name not in names]
    ending = [pod for pod in pods if pod.is_terminating]
    messages = []
    if desired > 1:
        messages.append(f"{ready} of {desired} replicas ready")
    if not running and (old or ending) and kube_deployment.recreates_pods:
        several = len({pod.name for pod in [*old, *ending]}) > 1
        messages.append(f"waiting for the old pod{'s' if several else ''} to end")
    elif old and ready >= desired:
        messages.append("the new replicas are ready, the old ones end")
    elif not running and desired:
        messages.append("its pod is being created")
    return messages


def _creation_failure(
    kube_deployment: KubeDeployment, running: list[Pod], observations: Observations
) -> PodFinding | None:
    """Explain why no pods are created; `running` are those of the newest ReplicaSet.

    The condition may still be about an older ReplicaSet.
    """
    failed = kube_deployment.condition("ReplicaFailure")
    if not failed.is_true:
        return None
    if running:
        template_hash = f"-{running[0].labels.get(_TEMPLATE_HASH)}-"
        of_older = template_hash not in rejections.rejected_pod(failed.message, template_hash)
        if of_older or len(running) >= kube_deployment.desired_replicas:
            return None
    finding = rejections.explain_pod_rejection(failed.message, kube_deployment.namespace)
    return finding.with_fatal(fatal=_has_lasted(failed.last_transition, observations))


def _paused_finding(kube_deployment: KubeDeployment) -> PodFinding | None:
    if not kube_deployment.spec.get("paused"):
        return None
    target = f"deployment/{kube_deployment.name} -n {kube_deployment.namespace}"
    resume = f"`kubectl rollout resume {target}`"
    return PodFinding("the rollout is paused", f"{resume} goes on with it", fatal=True)


def _has_lasted(since: str, observations: Observations, patience: float = _GRACE_SECONDS) -> bool:
    """Return True if a condition has lasted longer than `patience` since the last change."""
    began = parse_timestamp(since)
    return began is not None and observations.now - max(began, observations.since) >= patience


def _eviction_finding(newest: list[Pod]) -> PodFinding | None:
    evicted = [pod for pod in newest if pod.reason == "Evicted"]
    if not evicted:
        return None
    why = (evicted[-1].status.text("message") or "the node is short of something").strip(" .")
    hint = "`kubectl describe nodes` shows what they are short of; see spec.resources, spec.volumes"
    return PodFinding(f"its pod was evicted: {why[:1].lower()}{why[1:]}", hint, len(evicted) > 1)


def pod_finding(pod: Pod, observations: Observations) -> PodFinding | None:
    """Explain why a pod is not ready; None if it is."""
    if pod.is_ready:
        return None
    if finding := _lost_node_finding(pod, observations.nodes) or _kubelet_finding(
        pod, observations
    ):
        return finding
    scheduled = pod.condition("PodScheduled")
    if scheduled.status == "False":
        return _scheduling_finding(pod, scheduled, observations)
    if not pod.node_name:
        return PodFinding("waiting for a node")
    return containers.container_finding(pod, observations)


def _scheduling_finding(pod: Pod, scheduled: Condition, observations: Observations) -> PodFinding:
    if scheduled.reason == "SchedulingGated":
        return PodFinding("its pod is held back by scheduling gates")
    finding = scheduling.explain_unschedulable(scheduled.message, pod, observations.nodes)
    grows = any(event.reason == "TriggeredScaleUp" for event in observations.events_of(pod))
    if grows:
        return PodFinding(f"{finding.text}; the cluster adds a node")
    is_claim_missing = scheduling.is_claim_missing(scheduled.message)
    patience = _GRACE_SECONDS if is_claim_missing else _SCHEDULING_SECONDS
    return finding.with_fatal(fatal=_has_lasted(scheduled.last_transition, observations, patience))


def _kubelet_finding(pod: Pod, observations: Observations) -> PodFinding | None:
    """Explain a pod that waits for its kubelet: one with a node name bypasses the scheduler."""
    name = pod.node_name
    if not name or pod.start_time or pod.status.get("conditions"):
        return None
    if observations.nodes is None:
        finding = PodFinding(f"no kubelet takes the pod on node {name}", _NODE_NAMES_HINT)
        return finding.with_fatal(fatal=_has_lasted(pod.created, observations, _SCHEDULING_SECONDS))
    names = [node.name for node in observations.nodes]
    if name in names:
        return PodFinding(f"waiting for node {name} to take the pod")
    shown = ", ".join(names[:_MAX_NAMES]) + (", …" if len(names) > _MAX_NAMES else "")
    finding = PodFinding(f"there is no node {name}", f"spec.nodeName has to be one of: {shown}")
    return finding.with_fatal(fatal=_has_lasted(pod.created, observations))


def _lost_node_finding(pod: Pod, nodes: list[Node] | None) -> PodFinding | None:
    name = pod.node_name
    lost_nodes = {node.name for node in nodes or [] if not node.is_ready}
    if pod.reason != "NodeLost" and pod.phase != "Unknown" and name not in lost_nodes:
        return None
    return PodFinding(f"its node {name} does not answer", f"`kubectl describe node {name}`")
