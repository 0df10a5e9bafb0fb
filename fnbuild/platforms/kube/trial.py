"""A pod that proves that nodes can fetch an image. What it is to run does not matter: the cluster's
own words tell whether the image came.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from fnbuild.errors import FnbuildError, PreconditionError
from fnbuild.platforms import Finding
from fnbuild.platforms.cluster import kinds
from fnbuild.platforms.cluster.api import Cluster
from fnbuild.platforms.cluster.faults import ForbiddenError
from fnbuild.platforms.kube import pulling, refusals, scheduling
from fnbuild.platforms.kube.labels import MANAGED_BY, MANAGER
from fnbuild.platforms.kube.surroundings import PULL_SECRET
from fnbuild.spec.types import Raw

SECONDS = 60.0
"""How long a node may take for a few bytes."""

_AREA = "registry"
_LABEL = "fnbuild.io/doctor"
_UNSCHEDULED_SECONDS = 15.0
_ROUND_SECONDS = 1.0
# Before the image is there, a container is in one of these.
_BEFORE = ("", "ContainerCreating", "PodInitializing", *pulling.WAITING)


@dataclass(frozen=True, slots=True)
class Pull:
    """An image to be pulled by a pod of this name. `secret` has logins for it, "" for none."""

    image: str
    namespace: str
    name: str
    secret: str = ""


def findings(
    cluster: Cluster, namespace: str, image: str, over: threading.Event
) -> Iterator[Finding]:
    """Run it, tell what became of the pull, remove it. `over` ends the waiting early."""
    name = f"fnbuild-doctor-{secrets.token_hex(4)}"
    pull = Pull(image, namespace, name, _secret(cluster, namespace))
    try:
        cluster.create(pod(pull))
    except ForbiddenError as error:
        text = f"no pull was tried: {error.message}"
        yield Finding(_AREA, "skipped", text, error.grant)
        return
    except PreconditionError as error:
        refusal = refusals.refused(error.message, namespace)
        text = f"no pull was tried: {refusal.text}"
        yield Finding(_AREA, "skipped", text, refusal.hint or error.hint or "")
        return
    try:
        yield _outcome(cluster, pull, over)
    finally:
        with contextlib.suppress(FnbuildError):
            cluster.delete(kinds.POD, namespace, name)


def _secret(cluster: Cluster, namespace: str) -> str:
    """The secret with logins that functions get too; "" where there is none to be seen."""
    with contextlib.suppress(ForbiddenError):
        return PULL_SECRET if cluster.get(kinds.SECRET, namespace, PULL_SECRET) else ""
    return ""


def pod(pull: Pull) -> Raw:
    """The pod: it passes the strictest admission, and takes next to nothing."""
    amounts = {"cpu": "10m", "memory": "16Mi"}
    container: Raw = {
        "name": "pulled",
        "image": pull.image,
        "imagePullPolicy": "Always",
        "command": ["/fnbuild-doctor"],
        "resources": {"requests": amounts, "limits": amounts},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    spec: Raw = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": int(SECONDS) * 2,
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
    }
    if pull.secret:
        spec["imagePullSecrets"] = [{"name": pull.secret}]
    labels = {MANAGED_BY: MANAGER, _LABEL: "pull"}
    metadata = {"name": pull.name, "namespace": pull.namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _outcome(cluster: Cluster, pull: Pull, over: threading.Event) -> Finding:
    began = time.monotonic()
    unscheduled = ""
    while time.monotonic() - began < SECONDS and not over.is_set():
        watched = cluster.watch(
            kinds.POD, pull.namespace, fields=f"metadata.name={pull.name}", seconds=_ROUND_SECONDS
        )
        for _, seen in watched:
            if (judged := judge(seen, pull)) is not None:
                return judged
            unscheduled = _unscheduled(seen)
        if unscheduled and time.monotonic() - began > _UNSCHEDULED_SECONDS:
            text = f"no node takes a pod that pulls: {unscheduled}"
            return Finding(_AREA, "failure", text, "`kubectl describe nodes` says what they have")
    return Finding(
        _AREA,
        "failure",
        f"no node has pulled {pull.image} within {SECONDS:.0f} s",
        f"can nodes reach the registry? `kubectl get events -n {pull.namespace}` may say more",
    )


def judge(seen: Raw, pull: Pull) -> Finding | None:
    """What the pod's status says of the pull; None while that is open."""
    status = seen.get("status") or {}
    if status.get("phase") == "Failed" and not status.get("containerStatuses"):
        why = status.get("message") or status.get("reason") or "it does not say why"
        return Finding(_AREA, "failure", f"a node refused the pod that pulls: {why}")
    for container in status.get("containerStatuses") or []:
        state = container.get("state") or {}
        waiting = state.get("waiting") or {}
        reason = str(waiting.get("reason") or "")
        if reason in pulling.WAITING:
            message = str(waiting.get("message") or "")
            if reason == "ImagePullBackOff" and "ErrImagePull" not in message:
                # While it backs off it says nothing; the words come again with the next try.
                return None
            logins = (pull.secret,) if pull.secret else ()
            said = pulling.cannot_pull(
                pull.image, [message], secrets=logins, namespace=pull.namespace
            )
            return Finding(_AREA, "failure", said.text, said.hint)
        if container.get("imageID") or state.keys() - {"waiting"} or reason not in _BEFORE:
            node = (seen.get("spec") or {}).get("nodeName")
            return Finding(_AREA, "ok", f"node {node} pulls {pull.image.partition('@')[0]}")
    return None


def _unscheduled(seen: Raw) -> str:
    for condition in (seen.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return scheduling.unschedulable(str(condition.get("message") or ""), seen).text
    return ""
