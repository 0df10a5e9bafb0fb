"""A function as it is right now: what its Deployment, its Service and its pods say."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from fnbuild.builder.processor_settings import readiness_seconds
from fnbuild.errors import FnbuildError, UnavailableError
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import Deployment, FunctionState
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubernetes import endpoints, inventory, leases, records, status
from fnbuild.platforms.kubernetes import labels as own
from fnbuild.platforms.kubernetes.diagnosis import queries, rollout_status
from fnbuild.platforms.kubernetes.diagnosis.queries import failure_details
from fnbuild.platforms.kubernetes.diagnosis.rollout_status import RolloutStatus
from fnbuild.platforms.kubernetes.inventory import FunctionObjects
from fnbuild.platforms.kubernetes.labels import RevisionRecord
from fnbuild.platforms.kubernetes.records import read_configuration, unreadable_function
from fnbuild.platforms.processor_status import ProcessorStatus
from fnbuild.platforms.settings import gpu_limit

PLATFORM = "kube"

_MAX_THREADS = 8


@dataclass(frozen=True, slots=True)
class _StateMessage:
    state: FunctionState
    message: str = ""


@dataclass(frozen=True, slots=True)
class _Observed:
    """What was asked about one function; `pods` are None where nobody needed them."""

    cluster: Cluster
    hosts: tuple[str, ...] = ()
    pods: list[Raw] | None = None
    standing: RolloutStatus | None = None
    statuses: dict[str, ProcessorStatus] = field(default_factory=dict)


def view_function(cluster: Cluster, known: FunctionObjects) -> Deployment:
    """The function as the platform protocol shows it, with its pods."""
    if known.deployment is None:
        return _view(known, _Observed(cluster, endpoints.node_hosts(cluster, [known])))
    pods = inventory.list_pods(cluster, known.key)
    hosts = endpoints.node_hosts(cluster, [known], pods)
    newest = rollout_status.newest_pods(known.deployment, pods)
    said = queries.query_statuses(cluster, newest) if inventory.is_managed(known.deployment) else {}
    standing = queries.query_rollout_status(cluster, known.deployment, pods, time.time(), said)
    return _view(known, _Observed(cluster, hosts, pods, standing, said))


def view_functions(cluster: Cluster, known: list[FunctionObjects]) -> list[Deployment]:
    """Functions of one namespace, in the same order. One that cannot be shown hides no other.

    Pods are looked at only when some function is not fully available.
    """
    unsettled = [one for one in known if one.deployment and not _is_settled(one.deployment)]
    looks = _observe(cluster, unsettled) if unsettled else {}
    pods = [pod for look in looks.values() for pod in look.pods or ()]
    hosts = endpoints.node_hosts(cluster, known, pods)
    plain = _Observed(cluster)

    def listed(one: FunctionObjects) -> Deployment:
        return _view_listed(one, replace(looks.get(one.key.name, plain), hosts=hosts))

    with ThreadPoolExecutor(_MAX_THREADS) as pool:
        return list(pool.map(listed, known))


def _is_settled(deployment: Raw) -> bool:
    return rollout_status.is_rolled_out(deployment) or not rollout_status.desired_replicas(
        deployment
    )


def _observe(cluster: Cluster, unsettled: list[FunctionObjects]) -> dict[str, _Observed]:
    """What is to be known of functions that are not fully available, by name."""
    namespace = unsettled[0].key.namespace
    pods, events, nodes = inventory.run_concurrently(
        lambda: cluster.list(kinds.POD, namespace, labels=inventory.FUNCTIONS_SELECTOR),
        lambda: queries.list_warning_events(cluster, namespace),
        lambda: queries.list_nodes(cluster),
    )
    by_name: dict[str, list[Raw]] = {one.key.name: [] for one in unsettled}
    for pod in pods or []:
        by_name.get(inventory.labels_of(pod).get(own.FUNCTION, ""), []).append(pod)
    ours = [one.key.name for one in unsettled if inventory.is_managed(one.deployment)]
    said = queries.query_statuses(
        cluster, [pod for name in ours for pod in by_name[name] if not status.is_pod_ready(pod)]
    )
    found = {}
    for one in unsettled:
        if one.deployment is not None:
            mine = by_name[one.key.name]
            standing = rollout_status.rollout_status(
                one.deployment, mine, events or [], time.time(), nodes, statuses=said
            )
            found[one.key.name] = _Observed(cluster, pods=mine, standing=standing)
    return found


def _view_listed(known: FunctionObjects, look: _Observed) -> Deployment:
    try:
        return _view(known, look)
    except UnavailableError:
        raise
    except FnbuildError as error:
        return Deployment(unreadable_function(known), PLATFORM, "error", error.message)


def _view(known: FunctionObjects, look: _Observed) -> Deployment:
    made = known.made
    function = made.function if made else read_configuration(known)
    now = _current_state(known, function, look)
    wanted = rollout_status.desired_replicas(known.deployment) if known.deployment else 0
    # More than are wanted are on their way out, and may be gone before somebody asks them.
    available = min(_available(known.deployment or {}), wanted)
    warnings = [text for one in look.statuses.values() for text in one.warnings]
    return Deployment(
        function=function,
        platform=PLATFORM,
        state=now.state,
        message=_join_lines(*_drift(known, made), now.message),
        revision=made.number if made else 0,
        http_port=endpoints.node_port(known.service),
        internal_urls=endpoints.internal_addresses(known),
        external_urls=endpoints.external_addresses(known, look.hosts),
        replicas=(available, wanted),
        details=_details(known, made, function, look),
        warnings=tuple(dict.fromkeys(warnings)),
    ).with_change(leases.current_change(known))


def _current_state(known: FunctionObjects, function: Function, look: _Observed) -> _StateMessage:
    deployment = known.deployment
    if deployment is None:
        return _without_deployment(known)
    if not rollout_status.desired_replicas(deployment):
        return _StateMessage("standby") if function.spec.disable else _StateMessage("scaledToZero")
    standing = look.standing
    if standing is None or standing.ready:
        return _StateMessage("ready", "; ".join(_worker_losses(look.statuses)))
    now = _partial_state(deployment, standing, look, readiness_seconds(function))
    if now.state == "unhealthy" and records.never_served(known):
        return replace(now, state="error")
    return now


def _without_deployment(known: FunctionObjects) -> _StateMessage:
    if known.claimed(time.time()):
        return _StateMessage("building", "its first deploy is under way")
    if known.imported is not None:
        return _StateMessage("imported")
    newest = next(iter(records.all_revisions(known)), None)
    if newest is None:
        gone = f"`fnbuild delete function {known.key.name}` removes it"
        if known.wanted is not None:
            return _StateMessage(
                "error", f"its first deploy was interrupted; deploy it again, or {gone}"
            )
        return _StateMessage("unhealthy", f"nothing is left of it but its service; {gone}")
    if newest.failed:
        return _StateMessage("error", newest.failure)
    again = f"`fnbuild redeploy {known.key.name}` makes it again"
    return _StateMessage("unhealthy", f"its Deployment was removed; {again}")


def _worker_losses(statuses: dict[str, ProcessorStatus]) -> list[str]:
    return [f"{pod}: {one.lost_workers}" for pod, one in statuses.items() if one.lost_workers]


def _partial_state(
    deployment: Raw, standing: RolloutStatus, look: _Observed, patience: float
) -> _StateMessage:
    """The state of a function that is on its way, or has lost some of its pods.

    `patience` is how long its pods may take to become ready, in seconds.
    """
    newest = [pod for pod in look.pods or [] if rollout_status.is_active(pod)]
    newest = rollout_status.newest_pods(deployment, newest)
    # A pod that is about to end is ready until it does.
    serving = bool(_available(deployment)) and any(status.is_pod_ready(pod) for pod in newest)
    if standing.failure:
        if serving:
            return _StateMessage("ready", _join_lines(*standing.words))
        old = "pods of an older revision go on serving" if _available(deployment) else ""
        words = ""
        if standing.container:
            namespace = deployment["metadata"]["namespace"]
            words = failure_details(look.cluster, namespace, standing.pod, standing.container)
        return _StateMessage("unhealthy", _join_lines(standing.failure, standing.hint, old, words))
    words = "; ".join(standing.words)
    progressing: Raw = rollout_status.get_condition(deployment, "Progressing")
    if serving and progressing.get("reason") == "NewReplicaSetAvailable":
        return _StateMessage("ready", words)
    over = progressing.get("status") == "False" or not _may_become_ready(newest, patience)
    if over and not _available(deployment):
        return _StateMessage("unhealthy", words)
    return _StateMessage("building", words)


def _may_become_ready(pods: Sequence[Raw], patience: float) -> bool:
    """Whether one of the pods may still become ready by itself, or they are yet to be made."""
    made = (status.parse_timestamp(pod["metadata"].get("creationTimestamp")) for pod in pods)
    return not pods or any(one is not None and time.time() - one < patience for one in made)


def _available(deployment: Raw) -> int:
    return int((deployment.get("status") or {}).get("availableReplicas") or 0)


def _drift(known: FunctionObjects, made: RevisionRecord | None) -> list[str]:
    """What somebody has changed by other means: the function is not what its revision was."""
    if made is None or known.deployment is None:
        return []
    again, found = f"`fnbuild redeploy {known.key.name}", []
    runs = own.image_of(known.deployment)
    if runs != made.runs:
        what = f"revision {made.number}" if made.number else "its configuration"
        found.append(
            f"the container runs {runs}, which is not what {what} runs: somebody has changed it;"
            f" {again} --force-conflicts` puts {made.runs} back"
        )
    if known.service is None:
        found.append(f"its service was removed; {again}` makes it again")
    return found


def _join_lines(*parts: str) -> str:
    return "\n".join(part for part in parts if part)


def _details(
    known: FunctionObjects, made: RevisionRecord | None, function: Function, look: _Observed
) -> dict[str, Any]:
    cluster = look.cluster
    details: dict[str, Any] = {"server": cluster.server, "context": cluster.context}
    if made is not None:
        details |= {"image": made.image, "pinned": made.pinned, "digest": made.digest}
    elif known.deployment is not None:
        details["image"] = own.image_of(known.deployment)
    if known.service is not None:
        details["service"] = known.service["spec"].get("type", "ClusterIP")
    if known.foreign and known.deployment is not None and made is None:
        details["deployed_by"] = _managing_tool(known.deployment)
    if count := gpu_limit(function):
        details["gpu"] = count
    if known.hpa is not None:
        details["autoscaling"] = _autoscaling(known.hpa)
    if look.pods is not None:
        details["pods"] = _pods(look.pods, known.deployment or {})
    return {key: value for key, value in details.items() if value}


def _managing_tool(deployment: Raw) -> str:
    return inventory.labels_of(deployment).get(own.MANAGED_BY) or "Nuclio"


def _autoscaling(hpa: Raw) -> Raw:
    spec, status = hpa["spec"], hpa.get("status") or {}
    return {
        "min": spec.get("minReplicas", 1),
        "max": spec.get("maxReplicas"),
        "current": status.get("currentReplicas", 0),
        "wanted": status.get("desiredReplicas", 0),
    }


def _pods(pods: Sequence[Raw], deployment: Raw) -> list[Raw]:
    newest = {pod["metadata"]["name"] for pod in rollout_status.newest_pods(deployment, pods)}
    return [
        {
            "name": pod["metadata"]["name"],
            "state": status.pod_state(pod),
            "current": pod["metadata"]["name"] in newest,
            "node": pod["spec"].get("nodeName", ""),
            "restarts": status.restart_count(pod),
            "started": (pod.get("status") or {}).get("startTime", ""),
        }
        for pod in pods
    ]
