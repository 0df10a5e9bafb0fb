"""The check that nodes can pull an image, made with a pod.

The pod's command does not matter: the kubelet's status tells whether the image was pulled.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from fnbuild.errors import FnbuildError, ForbiddenError, PreconditionError
from fnbuild.function.types import Raw
from fnbuild.platforms import Finding
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.objects import Pod
from fnbuild.platforms.kubernetes.diagnosis import image_pulls, rejections, scheduling
from fnbuild.platforms.kubernetes.inventory import default_pull_secret
from fnbuild.platforms.kubernetes.labels import DOCTOR, MANAGED_BY, MANAGER

TIMEOUT_SECONDS = 60.0
"""The time limit for pulling a tiny image."""

_AREA = "registry"
_UNSCHEDULED_SECONDS = 15.0
_WATCH_SECONDS = 1.0
# The reasons of a container whose image has not been pulled yet.
_WAITING_REASONS = ("", "ContainerCreating", "PodInitializing", *image_pulls.PULL_FAILURES)


@dataclass(frozen=True, slots=True)
class PullCheck:
    """The pull of an image by a pod of this name; `secret` is the pull secret or ""."""

    image: str
    namespace: str
    name: str
    secret: str = ""


def check_pull(
    cluster: Cluster, namespace: str, image: str, stopped: threading.Event
) -> Iterator[Finding]:
    """Run the pod, yield the result of the pull, and delete the pod; `stopped` ends the wait."""
    name = f"fnbuild-doctor-{secrets.token_hex(4)}"
    pull = PullCheck(image, namespace, name, default_pull_secret(cluster, namespace))
    try:
        cluster.create(pull_pod(pull))
    except ForbiddenError as error:
        text = f"no pull was tried: {error.message}"
        yield Finding(_AREA, "skipped", text, error.grant)
        return
    except PreconditionError as error:
        refusal = rejections.explain_pod_rejection(error.message, namespace)
        text = f"no pull was tried: {refusal.text}"
        yield Finding(_AREA, "skipped", text, refusal.hint or error.hint or "")
        return
    try:
        yield _wait_for_pull(cluster, pull, stopped)
    finally:
        with contextlib.suppress(FnbuildError):
            cluster.delete(kinds.POD, namespace, name)


def pull_pod(pull: PullCheck) -> Raw:
    """Return the pod, which satisfies the strictest admission and requests minimal resources."""
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
        "activeDeadlineSeconds": int(TIMEOUT_SECONDS) * 2,
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
    labels = {MANAGED_BY: MANAGER, DOCTOR: "pull"}
    metadata = {"name": pull.name, "namespace": pull.namespace, "labels": labels}
    return kinds.POD.manifest(metadata, spec=spec)


def _wait_for_pull(cluster: Cluster, pull: PullCheck, stopped: threading.Event) -> Finding:
    began = time.monotonic()
    unscheduled = ""
    while time.monotonic() - began < TIMEOUT_SECONDS and not stopped.is_set():
        watched = cluster.watch(
            kinds.POD, pull.namespace, fields=f"metadata.name={pull.name}", seconds=_WATCH_SECONDS
        )
        for _, watched_object in watched:
            pod = Pod(watched_object)
            if (finding := pull_finding(pod, pull)) is not None:
                return finding
            unscheduled = _scheduling_problem(pod)
        if unscheduled and time.monotonic() - began > _UNSCHEDULED_SECONDS:
            text = f"no node takes a pod that pulls: {unscheduled}"
            return Finding(_AREA, "failure", text, "`kubectl describe nodes` says what they have")
    return Finding(
        _AREA,
        "failure",
        f"no node has pulled {pull.image} within {TIMEOUT_SECONDS:.0f} s",
        f"can nodes reach the registry? `kubectl get events -n {pull.namespace}` may say more",
    )


def pull_finding(pod: Pod, pull: PullCheck) -> Finding | None:
    """Return the result of the pull from the pod's status, or None while it is open."""
    statuses = pod.container_statuses
    if pod.phase == "Failed" and not statuses:
        why = pod.status.text("message") or pod.reason or "it does not say why"
        return Finding(_AREA, "failure", f"a node refused the pod that pulls: {why}")
    for status in statuses:
        reason = status.waiting.text("reason")
        if reason in image_pulls.PULL_FAILURES:
            message = status.waiting.text("message")
            if reason == "ImagePullBackOff" and "ErrImagePull" not in message:
                # The back-off message has no reason; it comes again with the next attempt.
                return None
            logins = (pull.secret,) if pull.secret else ()
            failure = image_pulls.explain_pull_failure(
                pull.image, [message], secrets=logins, namespace=pull.namespace
            )
            return Finding(_AREA, "failure", failure.text, failure.hint)
        has_left_waiting = status.section("state").keys() - {"waiting"}
        if status.get("imageID") or has_left_waiting or reason not in _WAITING_REASONS:
            return Finding(
                _AREA, "ok", f"node {pod.node_name} pulls {pull.image.partition('@')[0]}"
            )
    return None


def _scheduling_problem(pod: Pod) -> str:
    scheduled = pod.condition("PodScheduled")
    if scheduled.status != "False":
        return ""
    return scheduling.explain_unschedulable(scheduled.message, pod).text
