"""Read and write a claim through a short-lived pod that mounts it."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import requests

from fnbuild.errors import (
    FnbuildError,
    InputError,
    NotFoundError,
    NotReadyError,
    PlatformError,
    UnavailableError,
)
from fnbuild.function.types import Raw
from fnbuild.models.listing import StoredFile
from fnbuild.models.local_files import LocalFile
from fnbuild.models.upload import CountBytes
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster, if_allowed
from fnbuild.platforms.kubeclient.objects import KubeEvent, Pod
from fnbuild.platforms.kubeclient.port_forward import forward_port
from fnbuild.progress import Progress
from fnbuild.runtime.storage import claim_server

_MOUNT = "/mnt/claim"
_DEFAULT_IMAGE = "python:3.11"
_PULL_SECRET = "registry-credentials"  # noqa: S105 - a name
_START_SECONDS = 300.0
_ANSWER_SECONDS = 30.0
_WATCH_SECONDS = 5.0
_MAX_POD_SECONDS = 24 * 3600
_BLOCK_SIZE = 8 << 20
_TIMEOUT = (30, 600)
_ATTEMPTS = 5
_FAILURES = (
    "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull",
    "CreateContainerConfigError", "CreateContainerError", "RunContainerError",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ClaimFolder:
    """A folder of a claim; `path` is relative, "" for its root."""

    namespace: str
    claim: str
    path: str = ""


@contextlib.contextmanager
def open_claim(  # noqa: PLR0913
    cluster: Cluster,
    folder: ClaimFolder,
    image: str,
    progress: Progress,
    *,
    write: bool,
    user: int | None = None,
) -> Iterator[ClaimConnection]:
    """Run a pod with the claim during the block. `image` needs a python3; `user` is not its own.

    A claim that another pod has mounted is mounted on the same node. Raises `NotFoundError` for a
    missing claim, and `NotReadyError` with the reason if the pod does not start.
    """
    claim = cluster.get(kinds.VOLUME_CLAIM, folder.namespace, folder.claim)
    if claim is None:
        raise NotFoundError(
            f"there is no claim {folder.claim} in namespace {folder.namespace}",
            hint=f"`fnbuild create volume {folder.claim} --size 10Gi` creates one",
        )
    if write and claim["spec"].get("accessModes") == ["ReadOnlyMany"]:
        raise InputError(
            f"the claim {folder.claim} is only for reading",
            hint="fill the volume through a claim with ReadWriteOnce",
        )
    node = _mounting_node(cluster, folder)
    name = f"fnbuild-claim-{secrets.token_hex(4)}"
    manifest = _pod_manifest(cluster, folder, name, image, node)
    if user is not None:
        manifest["spec"]["securityContext"]["runAsUser"] = user
    location = f" on node {node}, which has the claim" if node else ""
    progress(f"starting pod {name} of {image}{location}")
    cluster.create(manifest)
    try:
        _wait_until_running(cluster, folder, name)
        with forward_port(cluster, folder.namespace, name, claim_server.PORT) as address:
            connection = ClaimConnection(address)
            connection.wait()
            yield connection
    finally:
        with contextlib.suppress(FnbuildError):
            cluster.delete(kinds.POD, folder.namespace, name)


def claim_image(cluster: Cluster, folder: ClaimFolder) -> str:
    """Return the image of a function that uses the claim; without one, a plain one of Python."""
    for pod in _mounting_pods(cluster, folder):
        if "nuclio.io/function-name" in pod.labels and pod.containers:
            return pod.containers[0].image
    return _DEFAULT_IMAGE


def function_image(cluster: Cluster, namespace: str, name: str) -> str:
    """Return the image of a deployed function. Raises `NotFoundError` without a pod of it."""
    pods = cluster.list(kinds.POD, namespace, labels=f"nuclio.io/function-name={name}")
    for pod in map(Pod, pods):
        if pod.containers:
            return pod.containers[0].image
    raise NotFoundError(
        f"function {name} has no pod in namespace {namespace}", hint="`--image` names an image"
    )


def _mounting_pods(cluster: Cluster, folder: ClaimFolder) -> Iterator[Pod]:
    for pod in map(Pod, cluster.list(kinds.POD, folder.namespace)):
        claims = [
            volume.section("persistentVolumeClaim").text("claimName")
            for volume in pod.spec.items_of("volumes")
        ]
        if folder.claim in claims and not pod.has_ended:
            yield pod


def _mounting_node(cluster: Cluster, folder: ClaimFolder) -> str:
    """Return the node of a pod that has mounted the claim, which others may not be able to."""
    return next((pod.node_name for pod in _mounting_pods(cluster, folder) if pod.node_name), "")


def _pod_manifest(cluster: Cluster, folder: ClaimFolder, name: str, image: str, node: str) -> Raw:
    source = Path(claim_server.__file__).read_text()
    container: Raw = {
        "name": "claim",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", source, f"{_MOUNT}/{folder.path}"],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False},
        "volumeMounts": [{"name": "claim", "mountPath": _MOUNT}],
    }
    spec: Raw = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": _MAX_POD_SECONDS,
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": folder.claim}}],
    }
    if node:
        spec["nodeName"] = node
    secret = if_allowed(lambda: cluster.get(kinds.SECRET, folder.namespace, _PULL_SECRET), None)
    if secret is not None:
        spec["imagePullSecrets"] = [{"name": _PULL_SECRET}]
    labels = {"app.kubernetes.io/managed-by": "fnbuild", "fnbuild.io/claim": folder.claim[:63]}
    metadata = {"name": name, "namespace": folder.namespace, "labels": labels}
    return kinds.POD.manifest(metadata, spec=spec)


def _wait_until_running(cluster: Cluster, folder: ClaimFolder, name: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        reason = _watch_start(cluster, folder, name)
        if reason:
            raise NotReadyError(
                f"the pod for the claim {folder.claim} does not start: {reason}",
                hint="`--image` names an image with python3 that the nodes can pull",
            )
        if reason is not None:
            return
    reason = _last_event(cluster, folder.namespace, name) or "its node does not say why"
    raise NotReadyError(f"the pod for the claim {folder.claim} does not start: {reason}")


def _watch_start(cluster: Cluster, folder: ClaimFolder, name: str) -> str | None:
    """Return "" if the pod runs, why it does not start, or None if both are unknown yet."""
    watched = cluster.watch(
        kinds.POD, folder.namespace, fields=f"metadata.name={name}", seconds=_WATCH_SECONDS
    )
    for _, watched_object in watched:
        pod = Pod(watched_object)
        if any(status.is_running for status in pod.container_statuses):
            return ""
        if reason := _start_failure(pod):
            return reason
    return None


def _start_failure(pod: Pod) -> str:
    if pod.has_ended:
        ends = [status.termination for status in pod.container_statuses if status.termination]
        return (ends[0].message or ends[0].reason if ends else pod.reason) or "it has ended"
    for status in pod.container_statuses:
        if status.waiting.text("reason") in _FAILURES:
            return status.waiting.text("message") or status.waiting.text("reason")
    return ""


def _last_event(cluster: Cluster, namespace: str, name: str) -> str:
    events = if_allowed(
        lambda: cluster.list(kinds.EVENT, namespace, fields=f"involvedObject.name={name}"), []
    )
    messages = [KubeEvent(event).message for event in events]
    return messages[-1] if messages else ""


class ClaimConnection:
    """A claim's folder as its pod serves it; a target of uploads."""

    def __init__(self, address: str):
        self._address = address
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy to this machine

    def wait(self) -> None:
        """Wait until the pod answers."""
        deadline = time.monotonic() + _ANSWER_SECONDS
        while True:
            try:
                self._request("GET", "/part", {"path": "x"})
            except UnavailableError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return

    def files(self) -> list[StoredFile]:
        """Return all files of the folder."""
        return [StoredFile(path, size) for path, size in self._request("GET", "/files", {})]

    def stored_sha256(self, file: LocalFile) -> str:
        return str(self._request("GET", "/sha256", {"path": file.path}))

    def store(self, file: LocalFile, sha256: str, count: CountBytes) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                self._send(file, count)
                self._request("POST", "/complete", {"path": file.path, "sha256": sha256})
            except (UnavailableError, _OtherContentError):
                # The pod has what arrived; the part of another version has been removed.
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                return

    def paths(self) -> list[str]:
        return [file.path for file in self.files()]

    def move(self, path: str, target: str) -> None:
        """Move a file. Raises `PlatformError` if it does not exist, or the target does."""
        self._request("POST", "/move", {"path": path, "target": target})

    def remove(self, path: str) -> None:
        """Remove a file, and what was uploaded of it; it need not exist."""
        self._request("DELETE", "/file", {"path": path})

    def _send(self, file: LocalFile, count: CountBytes) -> None:
        offset = int(self._request("GET", "/part", {"path": file.path}))
        if offset > file.size:
            offset = 0
        with file.source.open("rb") as source:
            source.seek(offset)
            while chunk := source.read(_BLOCK_SIZE):
                query = {"path": file.path, "offset": str(offset)}
                offset = int(self._request("PUT", "/part", query, chunk))
                count(len(chunk))

    def _request(self, method: str, path: str, query: dict[str, str], body: bytes = b"") -> Any:
        url = f"{self._address}{path}?{urlencode(query)}"
        try:
            response = self._session.request(method, url, data=body or None, timeout=_TIMEOUT)
        except requests.RequestException as error:
            raise UnavailableError(
                f"the pod of the claim does not answer: {type(error).__name__}", hint="try again"
            ) from error
        value = json.loads(response.content)
        if response.status_code == 409:
            raise _OtherContentError(f"the claim has other content: {value}", hint="try again")
        if response.status_code != 200:
            raise PlatformError(
                f"the claim cannot be used: {value}",
                hint="check its free space, and the rights of the image's user",
            )
        return value


class _OtherContentError(PlatformError):
    """The uploaded content has another hash than the file."""
