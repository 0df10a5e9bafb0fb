"""A real Kubernetes cluster for tests: the current one, with temporary namespaces and images.

All objects of a test are in a namespace of its own, which is deleted after the test. Nothing else
is touched because the cluster is shared.
"""

from __future__ import annotations

import base64
import functools
import http.client
import json
import secrets
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fnbuild.builder import sdk
from fnbuild.deploy import artifacts
from fnbuild.errors import FnbuildError
from fnbuild.function import reader
from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient import connection, kinds
from fnbuild.platforms.kubeclient.cluster import FIELD_MANAGER, Cluster
from fnbuild.platforms.kubeclient.errors import RequestSubject
from fnbuild.platforms.kubeclient.kinds import Kind
from fnbuild.platforms.kubeclient.objects import Pod
from fnbuild.platforms.kubeclient.transport import ApiRequest
from fnbuild.platforms.kubernetes.rollout.capacity import pod_gpus
from tests import locks
from tests.engine import engine_resources, require_engine, require_image, until

MERGE = "application/merge-patch+json"

SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
RESOURCE_QUOTA = Kind("v1", "ResourceQuota", "resourcequotas")
JOB = Kind("batch/v1", "Job", "jobs")
ROLE = Kind("rbac.authorization.k8s.io/v1", "Role", "roles")
ROLE_BINDING = Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings")

_FUNCTION = """\
metadata:
  name: greeter
spec:
  handler: main:handler
  runtime: python:3.11
  build:
    image: {image}
    noBaseImagesPull: true
"""

_CODE = """\
def handler(context, event):
    context.logger.info_with("asked", path=event.path)
    return "hello"
"""


@functools.cache
def _find_cluster() -> Cluster | str:
    try:
        cluster = connection.connect()
        assert cluster.version
        if not cluster.is_allowed("create", kinds.NAMESPACE, ""):
            return f"the tests may not make namespaces in {cluster.server}"
    except FnbuildError as error:
        return f"no cluster: {error.message}"
    return cluster


def require_cluster() -> Cluster:
    """Return the cluster of the current kubeconfig, or skip the test with the reason."""
    cluster = _find_cluster()
    if isinstance(cluster, str):
        pytest.skip(cluster)
    return cluster


@contextmanager
def own_namespace(cluster: Cluster) -> Iterator[str]:
    """Yield a new namespace, and delete it after the block without waiting."""
    name = f"fnbuild-test-{secrets.token_hex(4)}"
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    try:
        # Pods need the account, which the cluster creates a little later.
        until(
            f"the account of namespace {name}",
            lambda: (
                bool((cluster.get(SERVICE_ACCOUNT, name, "default") or {}).get("secrets"))
                or not _has_token_secrets(cluster)
            ),
        )
        yield name
    finally:
        _delete(cluster, name)


def create(cluster: Cluster, kind: Kind, metadata: Raw, **parts: Any) -> bool:
    """Create an object of a kind that fnbuild does not manage; return False if it exists.

    `parts` are its top-level keys except the metadata.
    """
    body = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, **parts}
    request = ApiRequest("POST", kind.path(metadata.get("namespace")), {}, body)
    status, answer = cluster.transport.request(request)
    assert status in (201, 409), answer.decode()
    return status == 201


def merge_patch(cluster: Cluster, kind: Kind, namespace: str, name: str, body: Raw) -> Raw:
    """Apply a JSON merge patch (RFC 7386), by fnbuild's field manager, and return the object."""
    query = {"fieldManager": FIELD_MANAGER}
    request = ApiRequest("PATCH", kind.path(namespace, name), query, body, MERGE)
    return cluster.transport.request_json(request, RequestSubject("patch", kind, namespace, name))


def _has_token_secrets(cluster: Cluster) -> bool:
    """Return True if accounts automatically get a secret with a token, as up to Kubernetes 1.23."""
    return int(cluster.version.split(".")[1].rstrip("+")) < 24


def _delete(cluster: Cluster, namespace: str) -> None:
    cluster.delete(kinds.NAMESPACE, "", namespace)
    # Nothing new can be created now, and pods of a test need no graceful end.
    for pod in cluster.list(kinds.POD, namespace):
        path = kinds.POD.path(namespace, pod["metadata"]["name"])
        cluster.transport.request(ApiRequest("DELETE", path, {}, {"gracePeriodSeconds": 1}))


@contextmanager
def function_image(folder: Path, code: str = _CODE) -> Iterator[str]:
    """Build the image of a small function in the engine of the node.

    Pods can use it without a push if their `imagePullPolicy` is `IfNotPresent` or `Never`.
    """
    engine = require_engine()
    require_image(engine)
    with engine_resources(engine) as names, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FNBUILD_DATA_DIR", str(folder / "data"))
        sdk.ensure_sdk((3, 11, 0))
        image = names.image("cluster", tag="latest")
        source = folder / "greeter"
        source.mkdir()
        (source / "function.yaml").write_text(_FUNCTION.format(image=image.partition(":")[0]))
        (source / "main.py").write_text(code)
        artifacts.build_image(reader.load_function(source), engine, lambda _: None)
        yield image


def node_address(cluster: Cluster) -> str:
    """Return the address at which pods and this machine reach a node."""
    for node in cluster.list(kinds.NODE, None):
        for address in node["status"].get("addresses") or []:
            if address["type"] == "InternalIP":
                return str(address["address"])
    pytest.skip("no node of the cluster has an address")


@contextmanager
def gpus_alone(cluster: Cluster) -> Iterator[None]:
    """Reserve the GPUs of the nodes for one test; other test processes wait."""
    with locks.exclusive("gpus"):
        until("the end of all other pods with a GPU", lambda: not gpus_in_use(cluster))
        yield


def gpus_in_use(cluster: Cluster) -> int:
    """Return the number of GPUs that running pods hold."""
    pods = cluster.list(kinds.POD, None, fields="status.phase=Running")
    return sum(pod_gpus(Pod(pod)) for pod in pods)


def require_local_node(cluster: Cluster) -> None:
    """Skip the test unless a node is this machine, which has the registries on the loopback."""
    with socket.socket() as probe:
        try:
            probe.bind((node_address(cluster), 0))
        except OSError:
            pytest.skip("no node of the cluster is this machine, whose registries are its own")


def invoke(address: str, path: str = "/", *, seconds: float = 120.0) -> str:
    """Return the body of the first response with status 200 at `host:port`.

    A node port may be available a little later than the Ready condition.
    """
    bodies: list[str] = []
    last_error = ["no answer"]

    def is_answered() -> bool:
        # A connection that was opened too early may hang for good.
        connection = http.client.HTTPConnection(address, timeout=min(5.0, seconds))
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            text = reply.read().decode(errors="replace")
        except OSError as error:
            last_error[0] = str(error)
            return False
        finally:
            connection.close()
        if reply.status == 200:
            bodies.append(text)
        last_error[0] = f"{reply.status} {text}"
        return bool(bodies)

    try:
        until(f"an answer at {address}{path}", is_answered, seconds)
    except pytest.fail.Exception as error:
        pytest.fail(f"{error}: {last_error[0]}")
    return bodies[0]


def authority_of(cluster: Cluster) -> bytes:
    """Return the PEM certificates that the cluster's own is checked against."""
    tls = cluster.transport.access.tls
    certificates = tls.get_ca_certs(binary_form=True) if tls is not None else []
    return "".join(map(ssl.DER_cert_to_PEM_cert, certificates)).encode()


def kubeconfig_of(
    cluster: Cluster, namespace: str, account: str, rules: list[Raw], file: Path
) -> Path:
    """Create an account with the RBAC rules, and write a kubeconfig for it."""
    metadata = {"name": account, "namespace": namespace}
    create(cluster, SERVICE_ACCOUNT, metadata)
    if rules:
        create(cluster, ROLE, metadata, rules=rules)
        role = {"apiGroup": ROLE.group, "kind": ROLE.name, "name": account}
        subjects = [{"kind": SERVICE_ACCOUNT.name, **metadata}]
        create(cluster, ROLE_BINDING, metadata, subjects=subjects, roleRef=role)
    entry: Raw = {"server": cluster.server}
    if authority := authority_of(cluster):
        entry["certificate-authority-data"] = base64.b64encode(authority).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": account,
        "clusters": [{"name": "tests", "cluster": entry}],
        "users": [{"name": account, "user": {"token": _token(cluster, namespace, account)}}],
        "contexts": [
            {
                "name": account,
                "context": {"cluster": "tests", "user": account, "namespace": namespace},
            }
        ],
    }
    file.write_text(json.dumps(config))
    file.chmod(0o600)
    return file


def _token(cluster: Cluster, namespace: str, account: str) -> str:
    """Return a token of the account from a new secret, which every version of Kubernetes fills."""
    name = f"{account}-token"
    metadata = {
        "name": name,
        "namespace": namespace,
        "annotations": {"kubernetes.io/service-account.name": account},
    }
    kind = "kubernetes.io/service-account-token"
    cluster.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind})

    def data() -> Raw:
        return (cluster.get(kinds.SECRET, namespace, name) or {}).get("data") or {}

    until(f"the token of {account}", lambda: "token" in data())
    return base64.b64decode(data()["token"]).decode()
