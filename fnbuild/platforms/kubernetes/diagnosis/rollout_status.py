"""The status of a rollout, derived from the Deployment, its pods and their events.

This module does not access the cluster; `queries` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fnbuild.function.types import Raw
from fnbuild.platforms.kubernetes import status
from fnbuild.platforms.kubernetes.diagnosis import containers, rejections, scheduling
from fnbuild.platforms.kubernetes.diagnosis.containers import Observations
from fnbuild.platforms.kubernetes.labels import MANAGER
from fnbuild.platforms.kubernetes.status import PodFinding, parse_timestamp
from fnbuild.platforms.processor_status import ProcessorStatus

_SCHEDULING_SECONDS = 15.0
"""Seconds until a pod that no node takes counts as one that none will take."""

_GRACE_SECONDS = 5.0
"""The same for what the cluster refuses: new namespaces lack their service account for a moment."""

_NODE_NAMES_HINT = "`kubectl get nodes` lists the names that spec.nodeName may have"
_MAX_NAMES = 5

_TEMPLATE_HASH = "pod-template-hash"


@dataclass(frozen=True, slots=True)
class RolloutStatus:
    """How far a rollout is.

    `words` say what is going on, one short sentence each; `failure` why it will not become ready,
    "" while it may, and `hint` what to do about that; `pod` and `container` are those whose log
    says more, "" when none does.
    """

    ready: bool
    words: tuple[str, ...] = ()
    failure: str = ""
    hint: str = ""
    pod: str = ""
    container: str = ""


def rollout_status(  # noqa: PLR0913, PLR0917 (each is a value of its own)
    deployment: Raw,
    pods: Sequence[Raw],
    events: Sequence[Raw],
    now: float,
    nodes: list[Raw] | None = None,
    statuses: Mapping[str, ProcessorStatus] | None = None,
    absent: Mapping[str, PodFinding] | None = None,
) -> RolloutStatus:
    """How far the newest revision of a Deployment is; pods of older ones do not count.

    `now` is in seconds since the epoch, by the cluster's clock. `nodes` make the scheduler's
    words clearer, None when they are unknown. `statuses` are what processors say, by pod, and
    `absent` what volumes need that is not there.
    """
    if is_rolled_out(deployment):
        return RolloutStatus(True)
    if _generation(deployment, "observedGeneration") < int(deployment["metadata"]["generation"]):
        return RolloutStatus(False, ("the cluster takes up the change",))
    newest = newest_pods(deployment, pods)
    look = Observations(events, now, nodes, statuses or {}, _last_applied(deployment), absent or {})
    running = [pod for pod in newest if is_active(pod)]
    found = [(pod, one) for pod in running if (one := _pod_finding(pod, look)) is not None]
    refusal = _creation_failure(deployment, running, look) or _paused_finding(deployment)
    evicted = _eviction_finding(newest)
    said = [one for one in (refusal, evicted) if one is not None] + [one for _, one in found]
    fatal = next((one for one in said if one.fatal), None)
    telling = next(
        ((pod, one) for pod, one in found if one.container and fatal in (None, one)), None
    )
    words = [] if refusal else _progress_messages(deployment, pods, newest, running)
    words += [one.text for one in said]
    return RolloutStatus(
        ready=False,
        words=tuple(dict.fromkeys(words)),
        failure=fatal.text if fatal else "",
        hint=fatal.hint if fatal else "",
        pod=telling[0]["metadata"]["name"] if telling else "",
        container=telling[1].container if telling else "",
    )


def is_rolled_out(deployment: Raw) -> bool:
    """Whether all wanted pods are new and available, and no old one is left, as
    `kubectl rollout status` sees it.
    """
    status: Raw = deployment.get("status") or {}
    if _generation(deployment, "observedGeneration") < int(deployment["metadata"]["generation"]):
        return False
    updated, wanted = int(status.get("updatedReplicas") or 0), desired_replicas(deployment)
    return (
        updated >= wanted
        and int(status.get("replicas") or 0) <= updated
        and int(status.get("availableReplicas") or 0) >= updated
    )


def desired_replicas(deployment: Raw) -> int:
    return int(deployment["spec"].get("replicas", 1))


def get_condition(one: Raw, kind: str) -> Raw:
    """A condition of an object's status by its type; empty when it has none."""
    listed: list[Raw] = (one.get("status") or {}).get("conditions") or []
    return next((each for each in listed if each.get("type") == kind), {})


def _generation(deployment: Raw, name: str) -> int:
    return int((deployment.get("status") or {}).get(name) or 0)


def pods_of_template(deployment: Raw, pods: Sequence[Raw]) -> list[Raw]:
    """Return the pods that have everything of the Deployment's template."""
    return [pod for pod in pods if _is_subset(deployment["spec"]["template"], pod)]


def newest_pods(deployment: Raw, pods: Sequence[Raw]) -> list[Raw]:
    """The pods of the Deployment's newest ReplicaSet, the oldest first.

    They are told by the template, which has everything that tells revisions apart: who watches a
    rollout need not ask for ReplicaSets, which carry a whole template each.
    """
    template: Raw = deployment["spec"]["template"]
    alike = pods_of_template(deployment, pods)
    if not alike:
        # Admission may have changed them, such as their images: then the newest that look like it,
        # unless the cluster says that it has made none.
        look = {"metadata": template["metadata"]}
        made = (deployment.get("status") or {}).get("updatedReplicas")
        alike = [pod for pod in pods if made and _is_subset(look, pod)]
    # Those of a revision that has the same and more are alike as well: the least are its own.
    least = min(map(_size, alike), default=0)
    newest = max((pod for pod in alike if _size(pod) == least), key=_creation_time, default=None)
    if newest is None:
        return []
    mark = _labels(newest).get(_TEMPLATE_HASH)
    return sorted(
        (pod for pod in alike if _labels(pod).get(_TEMPLATE_HASH) == mark), key=_creation_time
    )


def _is_subset(part: Any, whole: Any) -> bool:
    """Whether everything in `part` is in `whole`, which may have more: what admission adds."""
    if isinstance(part, dict):
        known = whole if isinstance(whole, dict) else {}
        return all(_is_subset(value, known.get(key)) for key, value in part.items())
    if isinstance(part, list):
        others = whole if isinstance(whole, list) else []
        return all(any(_is_subset(one, other) for other in others) for one in part)
    return bool(part == whole) or part is None


def _size(pod: Raw) -> int:
    """How much somebody has asked of a pod; which node it has is not among it."""
    spec = {key: value for key, value in pod["spec"].items() if key != "nodeName"}
    return _count_values([pod["metadata"].get("annotations"), _labels(pod), spec])


def _count_values(some: Any) -> int:
    if isinstance(some, dict):
        return sum(map(_count_values, some.values()))
    return sum(map(_count_values, some)) if isinstance(some, list) else 1


def _creation_time(pod: Raw) -> str:
    return str(pod["metadata"].get("creationTimestamp") or "")


def _labels(pod: Raw) -> dict[str, str]:
    return pod["metadata"].get("labels") or {}


def is_active(pod: Raw) -> bool:
    """Whether the pod has not ended and is not about to."""
    ended = (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded")
    return not ended and "deletionTimestamp" not in pod["metadata"]


def _progress_messages(
    deployment: Raw, pods: Sequence[Raw], newest: list[Raw], running: list[Raw]
) -> list[str]:
    """What the numbers of pods say."""
    wanted = desired_replicas(deployment)
    ready = sum(status.is_pod_ready(pod) for pod in running)
    names = {pod["metadata"]["name"] for pod in newest}
    old = [pod for pod in pods if pod["metadata"]["name"] not in names]
    ending = [pod for pod in pods if "deletionTimestamp" in pod["metadata"]]
    words = []
    if wanted > 1:
        words.append(f"{ready} of {wanted} replicas ready")
    if not running and (old or ending) and _recreates(deployment):
        several = len({pod["metadata"]["name"] for pod in [*old, *ending]}) > 1
        words.append(f"waiting for the old pod{'s' if several else ''} to end")
    elif old and ready >= wanted:
        words.append("the new replicas are ready, the old ones end")
    elif not running and wanted:
        words.append("its pod is being created")
    return words


def _recreates(deployment: Raw) -> bool:
    return (deployment["spec"].get("strategy") or {}).get("type") == "Recreate"


def _last_applied(deployment: Raw) -> float:
    """When fnbuild has changed it last, by the cluster's clock; 0 when nobody knows."""
    for one in deployment["metadata"].get("managedFields") or []:
        if one.get("manager") == MANAGER and one.get("operation") == "Apply":
            return parse_timestamp(one.get("time")) or 0.0
    return 0.0


def _creation_failure(deployment: Raw, running: list[Raw], look: Observations) -> PodFinding | None:
    """Why the cluster does not make the pods at all; `running` are those of the newest ReplicaSet.

    The Deployment goes on telling of an older ReplicaSet until the newest one has something to say.
    """
    failed = get_condition(deployment, "ReplicaFailure")
    if failed.get("status") != "True":
        return None
    message, namespace = str(failed.get("message") or ""), str(deployment["metadata"]["namespace"])
    if running:
        mark = f"-{_labels(running[0]).get(_TEMPLATE_HASH)}-"
        of_older = mark not in rejections.rejected_pod(message, mark)
        if of_older or len(running) >= desired_replicas(deployment):
            return None
    found = rejections.explain_pod_rejection(message, namespace)
    return found.become(fatal=_has_lasted(failed.get("lastTransitionTime"), look))


def _paused_finding(deployment: Raw) -> PodFinding | None:
    if not deployment["spec"].get("paused"):
        return None
    name, namespace = deployment["metadata"]["name"], deployment["metadata"]["namespace"]
    resume = f"`kubectl rollout resume deployment/{name} -n {namespace}`"
    return PodFinding("the rollout is paused", f"{resume} goes on with it", fatal=True)


def _has_lasted(since: str | None, look: Observations, patience: float = _GRACE_SECONDS) -> bool:
    """Whether something has been so for long; what was so before the last change starts anew."""
    began = parse_timestamp(since)
    return began is not None and look.now - max(began, look.since) >= patience


def _eviction_finding(newest: list[Raw]) -> PodFinding | None:
    some = [pod for pod in newest if (pod.get("status") or {}).get("reason") == "Evicted"]
    if not some:
        return None
    why = str(some[-1]["status"].get("message") or "the node is short of something").strip(" .")
    hint = "`kubectl describe nodes` shows what they are short of; see spec.resources, spec.volumes"
    return PodFinding(f"its pod was evicted: {why[:1].lower()}{why[1:]}", hint, len(some) > 1)


def _pod_finding(pod: Raw, look: Observations) -> PodFinding | None:
    """What keeps one pod from being ready; None when nothing does."""
    if status.is_pod_ready(pod):
        return None
    if found := _lost_node_finding(pod, look.nodes) or _kubelet_finding(pod, look):
        return found
    scheduled = get_condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return _scheduling_finding(pod, scheduled, look)
    if not pod["spec"].get("nodeName"):
        return PodFinding("waiting for a node")
    return containers.container_finding(pod, look)


def _scheduling_finding(pod: Raw, scheduled: Raw, look: Observations) -> PodFinding:
    if scheduled.get("reason") == "SchedulingGated":
        return PodFinding("its pod is held back by scheduling gates")
    message = str(scheduled.get("message") or "")
    found = scheduling.explain_unschedulable(message, pod, look.nodes)
    grows = any(event.get("reason") == "TriggeredScaleUp" for event in look.of(pod))
    if grows:
        return PodFinding(f"{found.text}; the cluster adds a node")
    patience = _GRACE_SECONDS if scheduling.is_claim_missing(message) else _SCHEDULING_SECONDS
    return found.become(fatal=_has_lasted(scheduled.get("lastTransitionTime"), look, patience))


def _kubelet_finding(pod: Raw, look: Observations) -> PodFinding | None:
    """A pod that names its node passes the scheduler by, and waits there for the kubelet alone."""
    name, status = pod["spec"].get("nodeName"), pod.get("status") or {}
    if not name or status.get("startTime") or status.get("conditions"):
        return None
    if look.nodes is None:
        found = PodFinding(f"no kubelet takes the pod on node {name}", _NODE_NAMES_HINT)
        return found.become(fatal=_has_lasted(_creation_time(pod), look, _SCHEDULING_SECONDS))
    names = [str(node["metadata"]["name"]) for node in look.nodes]
    if name in names:
        return PodFinding(f"waiting for node {name} to take the pod")
    shown = ", ".join(names[:_MAX_NAMES]) + (", …" if len(names) > _MAX_NAMES else "")
    found = PodFinding(f"there is no node {name}", f"spec.nodeName has to be one of: {shown}")
    return found.become(fatal=_has_lasted(_creation_time(pod), look))


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


def summary(words: Sequence[str]) -> str:
    """The sentences as one."""
    return "; ".join(words)
