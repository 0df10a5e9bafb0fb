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
from fnbuild.platforms.kubeclient.errors import RequestInfo
from fnbuild.platforms.kubeclient.kinds import Kind
from fnbuild.platforms.kubeclient.objects import Pod
from fnbuild.platforms.kubeclient.transport import ApiCall
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
def _answering() -> Cluster | str:
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
    found = _answering()
    if isinstance(found, str):
        pytest.skip(found)
    return found


@contextmanager
def own_namespace(cluster: Cluster) -> Iterator[str]:
    """Yield a new namespace, and delete it after the block without waiting."""
    name = f"fnbuild-test-{secrets.token_hex(4)}"
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    try:
        # Pods need the account, which the cluster makes a little later.
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


def create(cluster: Cluster, kind: Kind, about: Raw, **parts: Any) -> bool:
    """Make an object of a kind that fnbuild never makes; False when there is one of that name.

    `about` is its metadata, `parts` is all else of it.
    """
    body = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": about, **parts}
    call = ApiCall("POST", kind.path(about.get("namespace")), {}, body)
    status, answer = cluster.transport.request(call)
    assert status in (201, 409), answer.decode()
    return status == 201


def merge_patch(cluster: Cluster, kind: Kind, namespace: str, name: str, body: Raw) -> Raw:
    """Apply a JSON merge patch (RFC 7386), by fnbuild's field manager, and return the object."""
    query = {"fieldManager": FIELD_MANAGER}
    call = ApiCall("PATCH", kind.path(namespace, name), query, body, MERGE)
    return cluster.transport.request_json(call, RequestInfo("patch", kind, namespace, name))


def _has_token_secrets(cluster: Cluster) -> bool:
    """Whether accounts get a secret with a token by themselves, as they did up to 1.23."""
    return int(cluster.version.split(".")[1].rstrip("+")) < 24


def _delete(cluster: Cluster, namespace: str) -> None:
    cluster.delete(kinds.NAMESPACE, "", namespace)
    # From here on nothing new is made in it, and pods of a test need not end well.
    for pod in cluster.list(kinds.POD, namespace):
        path = kinds.POD.path(namespace, pod["metadata"]["name"])
        cluster.transport.request(ApiCall("DELETE", path, {}, {"gracePeriodSeconds": 1}))


@contextmanager
def function_image(folder: Path, code: str = _CODE) -> Iterator[str]:
    """The image of a small function, in the engine from which the node takes its images.

    A pod has to say `imagePullPolicy: IfNotPresent` or `Never` to get it without a push.
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
    """The address of a node, as pods and this machine reach it."""
    for node in cluster.list(kinds.NODE, None):
        for address in node["status"].get("addresses") or []:
            if address["type"] == "InternalIP":
                return str(address["address"])
    pytest.skip("no node of the cluster tells its address")


@contextmanager
def gpus_alone(cluster: Cluster) -> Iterator[None]:
    """Keep the GPUs of the nodes to one test: those of other test processes wait."""
    with locks.exclusive("gpus"):
        until("the end of all other pods with a GPU", lambda: not gpus_in_use(cluster))
        yield


def gpus_in_use(cluster: Cluster) -> int:
    """Return the number of GPUs that running pods hold."""
    pods = cluster.list(kinds.POD, None, fields="status.phase=Running")
    return sum(pod_gpus(Pod(pod)) for pod in pods)


def require_local_node(cluster: Cluster) -> None:
    """A node is this machine, so that it finds registries on the loopback; else skip the test."""
    with socket.socket() as probe:
        try:
            probe.bind((node_address(cluster), 0))
        except OSError:
            pytest.skip("no node of the cluster is this machine, whose registries are its own")


def ask(address: str, path: str = "/", *, seconds: float = 120.0) -> str:
    """The body of the first 200 answer at `host:port`: a node port lags the Ready condition."""
    found: list[str] = []
    last = ["nobody answered"]

    def answered() -> bool:
        # A connection that was opened too early may hang for good.
        connection = http.client.HTTPConnection(address, timeout=min(5.0, seconds))
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            text = reply.read().decode(errors="replace")
        except OSError as error:
            last[0] = str(error)
            return False
        finally:
            connection.close()
        if reply.status == 200:
            found.append(text)
        last[0] = f"{reply.status} {text}"
        return bool(found)

    try:
        until(f"an answer at {address}{path}", answered, seconds)
    except pytest.fail.Exception as error:
        pytest.fail(f"{error}: {last[0]}")
    return found[0]


def authority_of(cluster: Cluster) -> bytes:
    """Return the PEM certificates that the cluster's own is checked against."""
    tls = cluster.transport.access.tls
    certificates = tls.get_ca_certs(binary_form=True) if tls is not None else []
    return "".join(map(ssl.DER_cert_to_PEM_cert, certificates)).encode()


def kubeconfig_of(
    cluster: Cluster, namespace: str, account: str, rules: list[Raw], file: Path
) -> Path:
    """Make an account that may do what the rules (of RBAC) say, and write a kubeconfig of it."""
    about = {"name": account, "namespace": namespace}
    create(cluster, SERVICE_ACCOUNT, about)
    if rules:
        create(cluster, ROLE, about, rules=rules)
        role = {"apiGroup": ROLE.group, "kind": ROLE.name, "name": account}
        subjects = [{"kind": SERVICE_ACCOUNT.name, **about}]
        create(cluster, ROLE_BINDING, about, subjects=subjects, roleRef=role)
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
    """A token of the account: a secret of its own, which every version of Kubernetes fills."""
    name = f"{account}-token"
    about = {
        "name": name,
        "namespace": namespace,
        "annotations": {"kubernetes.io/service-account.name": account},
    }
    kind = "kubernetes.io/service-account-token"
    cluster.create({"apiVersion": "v1", "kind": "Secret", "metadata": about, "type": kind})

    def data() -> Raw:
        return (cluster.get(kinds.SECRET, namespace, name) or {}).get("data") or {}

    until(f"the token of {account}", lambda: "token" in data())
    return base64.b64decode(data()["token"]).decode()
