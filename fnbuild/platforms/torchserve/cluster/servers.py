"""The servers of a function: its pods, their tokens and their management APIs."""

from __future__ import annotations

from functools import partial

from fnbuild.names import FUNCTION_LABEL
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.commands import run_command
from fnbuild.platforms.kubeclient.objects import Pod
from fnbuild.platforms.torchserve.cluster.manifests import (
    APP_LABEL,
    CONTAINER,
    object_name,
    pod_command,
)
from fnbuild.platforms.torchserve.cluster.records import RevisionRecord
from fnbuild.platforms.torchserve.management import ManagementClient, ManagementReply

_MARGIN_SECONDS = 10.0


def list_pods(cluster: Cluster, record: RevisionRecord) -> list[Pod]:
    """Return the pods of the function, oldest first."""
    selector = f"{APP_LABEL}={object_name(record)},{FUNCTION_LABEL}={record.name}"
    pods = map(Pod, cluster.list(kinds.POD, record.namespace, labels=selector))
    return sorted(pods, key=lambda pod: (pod.created, pod.name))


def serving_pods(cluster: Cluster, record: RevisionRecord) -> list[Pod]:
    """Return the pods that get requests, oldest first."""
    return [pod for pod in list_pods(cluster, record) if pod.is_ready and pod.is_active]


def management_client(cluster: Cluster, record: RevisionRecord, pod: str) -> ManagementClient:
    """Return the management API of a pod. Its tokens stay in the pod."""
    return ManagementClient(partial(_send, cluster, record, pod), pod)


def inference_key(cluster: Cluster, record: RevisionRecord, pod: str) -> str:
    """Return the token of a pod's inference API; "" without tokens."""
    command = pod_command(record, "key")
    return run_command(cluster, record.namespace, pod, CONTAINER, command).decode()


def _send(  # noqa: PLR0913, PLR0917 (a pod and a request)
    cluster: Cluster, record: RevisionRecord, pod: str, method: str, path: str, seconds: float
) -> ManagementReply:
    command = pod_command(record, "send", method, path, str(seconds))
    output = run_command(
        cluster, record.namespace, pod, CONTAINER, command, seconds + _MARGIN_SECONDS
    )
    status, _, body = output.partition(b"\n")
    return ManagementReply(int(status), body)
