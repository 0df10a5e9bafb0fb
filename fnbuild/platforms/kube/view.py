"""A function as it is right now: what its Deployment, its Service and its pods say."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from fnbuild.builder.processor_settings import readiness_seconds
from fnbuild.errors import FnbuildError, UnavailableError
from fnbuild.platforms import Deployment, FunctionState
from fnbuild.platforms.cluster import kinds
from fnbuild.platforms.cluster.api import Cluster
from fnbuild.platforms.kube import (
    addresses,
    asking,
    claims,
    findings,
    inventory,
    podstates,
    reasons,
    records,
)
from fnbuild.platforms.kube import labels as own
from fnbuild.platforms.kube.asking import last_words
from fnbuild.platforms.kube.configuration import function_of, unread
from fnbuild.platforms.kube.inventory import Known
from fnbuild.platforms.kube.labels import Made
from fnbuild.platforms.kube.reasons import Standing
from fnbuild.platforms.processor_status import ProcessorStatus
from fnbuild.platforms.settings import gpu_limit
from fnbuild.spec.types import Function, Raw

PLATFORM = "kube"

_ASKED_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class _Live:
    state: FunctionState
    message: str = ""


@dataclass(frozen=True, slots=True)
class _Look:
    """What was asked about one function; `pods` are None where nobody needed them."""

    cluster: Cluster
    hosts: tuple[str, ...] = ()
    pods: list[Raw] | None = None
    standing: Standing | None = None
    statuses: dict[str, ProcessorStatus] = field(default_factory=dict)


def deployment(cluster: Cluster, known: Known) -> Deployment:
    """The function as the platform protocol shows it, with its pods."""
    if known.deployment is None:
        return _shown(known, _Look(cluster, addresses.hosts(cluster, [known])))
    pods = inventory.pods(cluster, known.key)
    hosts = addresses.hosts(cluster, [known], pods)
    newest = reasons.of_newest(known.deployment, pods)
    said = asking.statuses_of(cluster, newest) if inventory.ours(known.deployment) else {}
    standing = asking.standing(cluster, known.deployment, pods, time.time(), said)
    return _shown(known, _Look(cluster, hosts, pods, standing, said))


def deployments(cluster: Cluster, known: list[Known]) -> list[Deployment]:
    """Functions of one namespace, in the same order. One that cannot be shown hides no other.

    Pods are looked at only when some function is not fully available.
    """
    unsettled = [one for one in known if one.deployment and not _settled(one.deployment)]
    looks = _looks(cluster, unsettled) if unsettled else {}
    pods = [pod for look in looks.values() for pod in look.pods or ()]
    hosts = addresses.hosts(cluster, known, pods)
    plain = _Look(cluster)

    def listed(one: Known) -> Deployment:
        return _listed(one, replace(looks.get(one.key.name, plain), hosts=hosts))

    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        return list(pool.map(listed, known))


def _settled(deployment: Raw) -> bool:
    return reasons.rolled_out(deployment) or not reasons.wanted_replicas(deployment)


def _looks(cluster: Cluster, unsettled: list[Known]) -> dict[str, _Look]:
    """What is to be known of functions that are not fully available, by name."""
    namespace = unsettled[0].key.namespace
    pods, events, nodes = inventory.together(
        lambda: cluster.list(kinds.POD, namespace, labels=inventory.OF_FUNCTIONS),
        lambda: asking.warnings(cluster, namespace),
        lambda: asking.nodes_of(cluster),
    )
    by_name: dict[str, list[Raw]] = {one.key.name: [] for one in unsettled}
    for pod in pods or []:
        by_name.get(inventory.labels_of(pod).get(own.FUNCTION, ""), []).append(pod)
    ours = [one.key.name for one in unsettled if inventory.ours(one.deployment)]
    said = asking.statuses_of(
        cluster, [pod for name in ours for pod in by_name[name] if not podstates.is_ready(pod)]
    )
    found = {}
    for one in unsettled:
        if one.deployment is not None:
            mine = by_name[one.key.name]
            standing = reasons.standing(
                one.deployment, mine, events or [], time.time(), nodes, statuses=said
            )
            found[one.key.name] = _Look(cluster, pods=mine, standing=standing)
    return found


def _listed(known: Known, look: _Look) -> Deployment:
    try:
        return _shown(known, look)
    except UnavailableError:
        raise
    except FnbuildError as error:
        return Deployment(unread(known), PLATFORM, "error", error.message)


def _shown(known: Known, look: _Look) -> Deployment:
    made = known.made
    function = made.function if made else function_of(known)
    now = _live(known, function, look)
    wanted = reasons.wanted_replicas(known.deployment) if known.deployment else 0
    # More than are wanted are on their way out, and may be gone before somebody asks them.
    available = min(_available(known.deployment or {}), wanted)
    warnings = [text for one in look.statuses.values() for text in one.warnings]
    return Deployment(
        function=function,
        platform=PLATFORM,
        state=now.state,
        message=_lines(*_changed(known, made), now.message),
        revision=made.number if made else 0,
        http_port=addresses.node_port(known.service),
        internal_urls=addresses.inside(known),
        external_urls=addresses.outside(known, look.hosts),
        replicas=(available, wanted),
        details=_details(known, made, function, look),
        warnings=tuple(dict.fromkeys(warnings)),
    ).with_change(claims.change_of(known))


def _live(known: Known, function: Function, look: _Look) -> _Live:
    deployment = known.deployment
    if deployment is None:
        return _without_deployment(known)
    if not reasons.wanted_replicas(deployment):
        return _Live("standby") if function.spec.disable else _Live("scaledToZero")
    standing = look.standing
    if standing is None or standing.ready:
        return _Live("ready", "; ".join(_losses(look.statuses)))
    now = _not_all(deployment, standing, look, readiness_seconds(function))
    if now.state == "unhealthy" and records.never_served(known):
        return replace(now, state="error")
    return now


def _without_deployment(known: Known) -> _Live:
    if known.claimed(time.time()):
        return _Live("building", "its first deploy is under way")
    if known.imported is not None:
        return _Live("imported")
    newest = next(iter(records.revisions(known)), None)
    if newest is None:
        gone = f"`fnbuild delete function {known.key.name}` removes it"
        if known.wanted is not None:
            return _Live("error", f"its first deploy was interrupted; deploy it again, or {gone}")
        return _Live("unhealthy", f"nothing is left of it but its service; {gone}")
    if newest.failed:
        return _Live("error", newest.failure)
    again = f"`fnbuild redeploy {known.key.name}` makes it again"
    return _Live("unhealthy", f"its Deployment was removed; {again}")


def _losses(statuses: dict[str, ProcessorStatus]) -> list[str]:
    return [f"{pod}: {one.lost_workers}" for pod, one in statuses.items() if one.lost_workers]


def _not_all(deployment: Raw, standing: Standing, look: _Look, patience: float) -> _Live:
    """The state of a function that is on its way, or has lost some of its pods.

    `patience` is how long its pods may take to become ready, in seconds.
    """
    newest = [pod for pod in look.pods or [] if reasons.active(pod)]
    newest = reasons.of_newest(deployment, newest)
    # A pod that is about to end is ready until it does.
    serving = bool(_available(deployment)) and any(podstates.is_ready(pod) for pod in newest)
    if standing.failure:
        if serving:
            return _Live("ready", _lines(*standing.words))
        old = "pods of an older revision go on serving" if _available(deployment) else ""
        words = ""
        if standing.container:
            namespace = deployment["metadata"]["namespace"]
            words = last_words(look.cluster, namespace, standing.pod, standing.container)
        return _Live("unhealthy", _lines(standing.failure, standing.hint, old, words))
    words = "; ".join(standing.words)
    progressing: Raw = reasons.condition(deployment, "Progressing")
    if serving and progressing.get("reason") == "NewReplicaSetAvailable":
        return _Live("ready", words)
    over = progressing.get("status") == "False" or not _young(newest, patience)
    if over and not _available(deployment):
        return _Live("unhealthy", words)
    return _Live("building", words)


def _young(pods: Sequence[Raw], patience: float) -> bool:
    """Whether one of the pods may still become ready by itself, or they are yet to be made."""
    made = (findings.seconds(pod["metadata"].get("creationTimestamp")) for pod in pods)
    return not pods or any(one is not None and time.time() - one < patience for one in made)


def _available(deployment: Raw) -> int:
    return int((deployment.get("status") or {}).get("availableReplicas") or 0)


def _changed(known: Known, made: Made | None) -> list[str]:
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


def _lines(*parts: str) -> str:
    return "\n".join(part for part in parts if part)


def _details(known: Known, made: Made | None, function: Function, look: _Look) -> dict[str, Any]:
    cluster = look.cluster
    details: dict[str, Any] = {"server": cluster.server, "context": cluster.context}
    if made is not None:
        details |= {"image": made.image, "pinned": made.pinned, "digest": made.digest}
    elif known.deployment is not None:
        details["image"] = own.image_of(known.deployment)
    if known.service is not None:
        details["service"] = known.service["spec"].get("type", "ClusterIP")
    if known.foreign and known.deployment is not None and made is None:
        details["deployed_by"] = _maker(known.deployment)
    if count := gpu_limit(function):
        details["gpu"] = count
    if known.hpa is not None:
        details["autoscaling"] = _autoscaling(known.hpa)
    if look.pods is not None:
        details["pods"] = _pods(look.pods, known.deployment or {})
    return {key: value for key, value in details.items() if value}


def _maker(deployment: Raw) -> str:
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
    newest = {pod["metadata"]["name"] for pod in reasons.of_newest(deployment, pods)}
    return [
        {
            "name": pod["metadata"]["name"],
            "state": podstates.state_of(pod),
            "current": pod["metadata"]["name"] in newest,
            "node": pod["spec"].get("nodeName", ""),
            "restarts": podstates.restarts_of(pod),
            "started": (pod.get("status") or {}).get("startTime", ""),
        }
        for pod in pods
    ]
