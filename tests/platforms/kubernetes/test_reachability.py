"""Connections to functions: despite proxies that accept every connection, and from a pod."""

from __future__ import annotations

import http.server
import json
import site
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import fnbuild
from fnbuild.errors import NotReadyError
from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from tests.cluster import kubeconfig_of, require_local_node
from tests.engine import free_port, until
from tests.platforms.kubernetes.author import Author

pytestmark = pytest.mark.system

_READ = ["get", "list"]
READER: list[Raw] = [
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": _READ},
    {"apiGroups": [""], "resources": ["services", "configmaps", "pods"], "verbs": _READ},
]


class _Refusing(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def proxy() -> Iterator[str]:
    """A server that accepts every connection and answers every request with 404."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_an_accepting_proxy_is_not_used_as_the_function(
    author: Author, image: str, proxy: str
) -> None:
    deployment = author.run(image)
    (reachable,) = deployment.external_urls[:1]
    with author.platform.reachable_url(
        replace(deployment, external_urls=(proxy, reachable))
    ) as url:
        assert url == f"http://{reachable}"
    with author.platform.reachable_url(replace(deployment, external_urls=(proxy,))) as url:
        assert url not in (f"http://{proxy}", "")
        with urllib.request.urlopen(url, timeout=60) as reply:
            assert reply.read() == b"hello"


def test_a_forwarded_port_leads_to_the_function(author: Author, image: str) -> None:
    deployment = author.run(image, env={"WORD": "forwarded"})
    port = free_port()
    with author.platform.forward_port(deployment, port, 8080) as url:
        assert url == f"http://127.0.0.1:{port}"
        with urllib.request.urlopen(url, timeout=30) as reply:
            assert reply.read() == b"forwarded"
    stopped = author.run(image, env={"WORD": "forwarded"}, disable=True)
    until(
        "the end of the pods",
        lambda: not author.platform.replica_names(author.namespace, "greeter"),
    )
    with pytest.raises(NotReadyError, match="greeter has no pod that is ready"):
        author.platform.forward_port(stopped, 0, 8080)


def test_fnbuild_runs_in_a_pod_with_few_permissions(
    author: Author, image: str, cluster: Cluster, tmp_path: Path
) -> None:
    """In a pod, functions are called by their name in the cluster."""
    require_local_node(cluster)
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the tests' own Python packages are not for Python 3.11, which the pod has")
    deployment = author.run(image)
    kubeconfig_of(cluster, author.namespace, "insider", READER, tmp_path / "config")
    command_lines = {
        "get": ["get", "functions", "-o", "json"],
        "invoke": ["invoke", deployment.name],
    }
    cluster.create(_pod(author.namespace, command_lines))
    pod_status: Raw = {}

    def ended() -> bool:
        pod = cluster.get(kinds.POD, author.namespace, "insider") or {}
        pod_status.clear()
        pod_status.update(pod.get("status") or {})
        return pod_status.get("phase") in ("Succeeded", "Failed")

    until("the end of the pod", ended, 180)
    outputs = {name: _log(cluster, author.namespace, name) for name in command_lines}
    assert pod_status["phase"] == "Succeeded", outputs
    status = json.loads(outputs["get"])["status"]
    assert status["externalInvocationUrls"] == [f"{pod_status['hostIP']}:{deployment.http_port}"]
    assert outputs["invoke"] == "hello"


def _log(cluster: Cluster, namespace: str, container: str) -> str:
    lines = cluster.logs(namespace, "insider", container=container)
    return "\n".join(line.decode() for _, line in lines)


def _pod(namespace: str, command_lines: dict[str, list[str]]) -> Raw:
    """Return a pod with a container for each command line, with this fnbuild and its packages."""
    folders = [str(Path(fnbuild.__file__).parent.parent), *site.getsitepackages()]
    mounts = [
        {"name": f"folder-{number}", "mountPath": folder, "readOnly": True}
        for number, folder in enumerate(folders)
    ]
    volumes = [
        {"name": mount["name"], "hostPath": {"path": mount["mountPath"]}} for mount in mounts
    ]
    env = {
        "PYTHONPATH": ":".join(folders),
        "PYTHONDONTWRITEBYTECODE": "1",
        "FNBUILD_DATA_DIR": "/tmp/data",
        "FNBUILD_PLATFORM": "kube",
        "NUCTL_NAMESPACE": namespace,
    }
    containers = [
        {
            "name": name,
            "image": "python:3.11",
            "imagePullPolicy": "IfNotPresent",
            "command": ["python3", "-m", "fnbuild", *arguments],
            "env": [{"name": key, "value": value} for key, value in env.items()],
            "volumeMounts": mounts,
        }
        for name, arguments in command_lines.items()
    ]
    spec = {
        "serviceAccountName": "insider",
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "containers": containers,
        "volumes": volumes,
    }
    metadata = {"name": "insider", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
