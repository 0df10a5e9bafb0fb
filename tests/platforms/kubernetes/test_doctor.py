"""Doctor on the current cluster, and on recorded unhealthy ones."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from fnbuild.function.types import Raw
from fnbuild.platforms import Finding, lookup
from fnbuild.platforms.kubeclient import connection, kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.objects import KubeObject, Node, Pod
from fnbuild.platforms.kubernetes.doctor import checks, image_pull, nodes
from fnbuild.platforms.kubernetes.doctor.permissions import KEDA_PERMISSIONS
from tests.cluster import kubeconfig_of, require_local_node
from tests.engine import (
    EngineResources,
    Registry,
    call,
    free_port,
    registry,
    require_program,
    until,
)

pytestmark = pytest.mark.system


def examine(namespace: str, *areas: str, image: str = "", architecture: str = "") -> list[Finding]:
    return list(checks.examine(connection.connect, namespace, areas, image, architecture))


def in_area(findings: list[Finding], area: str) -> list[Finding]:
    return [finding for finding in findings if finding.area == area]


# The cluster as a whole


def test_a_healthy_cluster_has_no_failures(cluster: Cluster, cluster_namespace: str) -> None:
    architecture = cluster.list(kinds.NODE, None)[0]["status"]["nodeInfo"]["architecture"]
    findings = list(lookup("kube").examine(cluster_namespace, architecture=architecture))
    assert not [finding for finding in findings if finding.state == "failure"], findings
    server, namespace = in_area(findings, "kubeconfig")
    assert cluster.version in server.message
    assert cluster.context in server.message
    assert cluster_namespace in namespace.message
    assert [finding.state for finding in in_area(findings, "rights")] == ["ok"]
    assert any(architecture in finding.message for finding in in_area(findings, "nodes"))
    assert [finding.state for finding in in_area(findings, "clock")] == ["ok", "ok"]
    assert {"gpu", "storage", "node-ports"} <= {finding.area for finding in findings}


def test_a_missing_namespace_is_a_failure(cluster: Cluster) -> None:
    findings = examine(
        "fnbuild-test-nowhere", "kubeconfig", "registry", image="registry.example/one:1"
    )
    assert [(finding.area, finding.state) for finding in findings] == [
        ("kubeconfig", "ok"),
        ("kubeconfig", "failure"),
        ("registry", "skipped"),
    ]
    assert findings[1].remedy.startswith("`kubectl create namespace fnbuild-test-nowhere`")


def test_a_missing_kubeconfig_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    (finding,) = examine("nuclio")
    assert (finding.area, finding.state) == ("kubeconfig", "failure")
    assert str(tmp_path / "none") in finding.message
    assert "KUBECONFIG" in finding.remedy
    assert examine("nuclio", "disk") == []


def test_an_unreachable_server_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    file = tmp_path / "config"
    config = {
        "current-context": "gone",
        "contexts": [{"name": "gone", "context": {"cluster": "gone", "user": "gone"}}],
        "clusters": [{"name": "gone", "cluster": {"server": f"https://127.0.0.1:{port}"}}],
        "users": [{"name": "gone", "user": {"token": "swordfish"}}],
    }
    file.write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(file))
    (finding,) = examine("nuclio")
    assert finding.state == "failure"
    assert f"127.0.0.1:{port}" in finding.message
    assert str(file) in finding.message
    assert "swordfish" not in finding.message + finding.remedy


# Permissions


def test_missing_permissions_are_listed_with_commands_that_grant_them(
    cluster: Cluster, cluster_namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubectl = require_program("kubectl")
    # Other tests may install its definitions at any time.
    of_keda = {permission.resource for permission in KEDA_PERMISSIONS}
    rules: list[Raw] = [
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["services", "configmaps"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["pods", "pods/log", "events"], "verbs": ["*"]},
    ]
    file = kubeconfig_of(cluster, cluster_namespace, "intern", rules, tmp_path / "config")
    kubeconfig = os.environ.get("KUBECONFIG", "")
    monkeypatch.setenv("KUBECONFIG", str(file))

    findings = examine(cluster_namespace)
    by_resource = {
        finding.message.split(" in ")[0].split()[-1]: finding
        for finding in in_area(findings, "rights")
    }
    denied = by_resource.pop("deployments.apps")
    assert denied.state == "failure"
    assert "may not create, patch, delete" in denied.message
    assert cluster_namespace in denied.message
    assert {finding.state for finding in by_resource.values()} == {"warning"}
    assert {
        "horizontalpodautoscalers.autoscaling",
        "ingresses.networking.k8s.io",
        "cronjobs.batch",
        "poddisruptionbudgets.policy",
        "networkpolicies.networking.k8s.io",
        "replicasets.apps",
        "secrets",
        "pods/proxy",
        "pods/portforward",
        "pods/exec",
        "persistentvolumeclaims",
        "persistentvolumes",
        "storageclasses.storage.k8s.io",
        "serviceaccounts",
        "nodes",
    } == by_resource.keys() - of_keda
    # An unreadable resource is no failure of the cluster.
    assert [finding.state for finding in in_area(findings, "nodes")] == ["skipped"]
    assert not [
        finding for finding in findings if finding.state == "failure" and finding.area != "rights"
    ]
    # The remedy is listed only once.
    for results in (findings, examine(cluster_namespace, "nodes", "gpu", "node-ports")):
        assert (
            sum("-list-nodes" in item.remedy or "fnbuild-nodes" in item.remedy for item in results)
            == 1
        )

    # The remedies do what they promise.
    monkeypatch.setenv("KUBECONFIG", kubeconfig)
    (command,) = re.findall(r"`(kubectl [^`]+)`", denied.remedy)
    assert f"--serviceaccount={cluster_namespace}:intern" in command
    subprocess.run([kubectl, *shlex.split(command)[1:]], check=True, capture_output=True)
    monkeypatch.setenv("KUBECONFIG", str(file))

    def is_granted() -> bool:
        missing = in_area(examine(cluster_namespace, "rights"), "rights")
        resources = {finding.message.split(" in ")[0].split()[-1] for finding in missing}
        return resources - of_keda == {
            "nodes",
            "persistentvolumes",
            "storageclasses.storage.k8s.io",
        }

    until("the permissions", is_granted)


def test_missing_optional_permissions_are_warnings(
    cluster: Cluster, cluster_namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verbs = ["get", "list", "create", "patch", "update", "delete"]
    rules: list[Raw] = [
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": verbs},
        {"apiGroups": [""], "resources": ["services", "configmaps", "pods"], "verbs": verbs},
    ]
    file = kubeconfig_of(cluster, cluster_namespace, "still", rules, tmp_path / "config")
    monkeypatch.setenv("KUBECONFIG", str(file))
    findings = examine(cluster_namespace, "rights")
    assert {finding.state for finding in findings} == {"warning"}
    watch_findings = [finding for finding in findings if "may not watch" in finding.message]
    assert [finding.message.partition(" watch ")[2].split()[0] for finding in watch_findings] == [
        "deployments.apps",
        "pods",
    ]
    assert all("once a second instead" in finding.message for finding in watch_findings)
    (secret,) = (finding for finding in findings if "may not get secrets" in finding.message)
    assert "registry-credentials" in secret.message
    (claim,) = (item for item in findings if "may not get persistentvolumeclaims" in item.message)
    assert "`model upload`" in claim.message


# Image pulls


@pytest.fixture
def near(cluster: Cluster) -> None:
    require_local_node(cluster)


def push_image(resources: EngineResources, folder: Path, name: str, server: Registry) -> str:
    """Push an image without a program to the registry, and remove it from the engine."""
    folder.mkdir()
    (folder / "made").write_text(resources.token + name)
    local = resources.build(folder, "FROM scratch\nCOPY made /made\n", name)
    reference = resources.image(f"{name}-pushed", f"{server.address}/")
    call(resources.engine, "tag", local, reference)
    call(resources.engine, "push", reference)
    call(resources.engine, "rmi", local, reference)
    return reference


@pytest.fixture
def login(tmp_path: Path) -> Iterator[Registry]:
    """A registry that requires a login."""
    with registry(tmp_path, free_port(), login=True) as server:
        yield server


def pull(cluster: Cluster, namespace: str, image: str) -> Finding:
    (finding,) = image_pull.check_pull(cluster, namespace, image, threading.Event())
    return finding


@pytest.mark.usefixtures("near")
def test_pull_errors_of_the_cluster_are_explained(
    cluster: Cluster,
    cluster_namespace: str,
    resources: EngineResources,
    login: Registry,
    tmp_path: Path,
) -> None:
    with registry(tmp_path, free_port()) as server:
        existing = push_image(resources, tmp_path / "good", "good", server)
        unreachable = f"127.0.0.1:{free_port()}"
        images = (
            existing,
            f"{server.address}/fnbuild-test-missing-{resources.token}:1",
            f"{unreachable}/fnbuild-test/one:1",
            f"{login.address}/fnbuild-test/one:1",
        )
        with ThreadPoolExecutor(len(images)) as pool:
            results = pool.map(lambda image: pull(cluster, cluster_namespace, image), images)
            ok, missing, silent, closed = results
    assert ok.state == "ok", ok
    assert missing.state == "failure"
    assert "has no image" in missing.message
    assert silent.state == "failure"
    assert f"cannot reach the registry {unreachable}" in silent.message
    assert closed.state == "failure"
    assert "requires a login" in closed.message
    assert "fnbuild create registry-secret --platform kube" in closed.remedy
    assert all(finding.remedy for finding in (missing, silent, closed))
    until("the end of the pods", lambda: not _pods(cluster, cluster_namespace))


def _pods(cluster: Cluster, namespace: str) -> list[Raw]:
    return [
        pod
        for pod in cluster.list(kinds.POD, namespace)
        if "deletionTimestamp" not in pod["metadata"]
    ]


@pytest.fixture
def docker_config(login: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A Docker configuration with the login of that registry; the engine's client uses it too."""
    pair = base64.b64encode(f"{login.user}:{login.password}".encode()).decode()
    config = json.dumps({"auths": {login.address: {"auth": pair}}})
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_text(config)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return config


@pytest.mark.usefixtures("near")
def test_the_pull_secret_of_the_namespace_is_used(
    cluster_namespace: str,
    cluster: Cluster,
    resources: EngineResources,
    docker_config: str,
    tmp_path: Path,
) -> None:
    (address,) = json.loads(docker_config)["auths"]
    image = push_image(resources, tmp_path / "image", "secret", Registry(address))
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "registry-credentials", "namespace": cluster_namespace},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(docker_config.encode()).decode()},
    }
    cluster.create(secret)
    assert pull(cluster, cluster_namespace, image).state == "ok"


def test_the_pull_check_is_skipped_without_permission_to_create_pods(
    cluster: Cluster, cluster_namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = kubeconfig_of(cluster, cluster_namespace, "guest", [], tmp_path / "config")
    monkeypatch.setenv("KUBECONFIG", str(file))
    findings = examine(cluster_namespace, "registry", image="127.0.0.1:5000/one:1")
    assert [finding.state for finding in findings] == ["skipped"]
    assert "create pods" in findings[0].message
    assert "kubectl create role" in findings[0].remedy


def test_a_cancelled_pull_check_leaves_no_pod(cluster: Cluster, cluster_namespace: str) -> None:
    cancelled = threading.Event()
    cancelled.set()
    image = "registry.invalid/fnbuild-test/one:1"
    list(image_pull.check_pull(cluster, cluster_namespace, image, cancelled))
    assert _pods(cluster, cluster_namespace) == []


# Nodes


def node(name: str, *, ready: str = "True", arch: str = "amd64", **more: Raw) -> Node:
    return Node(
        metadata={"name": name, "labels": more.get("labels", {})},
        spec=more.get("spec", {}),
        status={
            "nodeInfo": {"architecture": arch},
            "capacity": more.get("gpus", {}),
            "allocatable": more.get("free", more.get("gpus", {})),
            "conditions": [
                {"type": "Ready", "status": ready, "message": "kubelet stopped posting"},
                {"type": "DiskPressure", "status": more.get("disk", "False")},
            ],
        },
    )


GPUS = {"nvidia.com/gpu": "2"}


@pytest.mark.parametrize(
    ("node_list", "states", "message"),
    [
        ([node("a"), node("b")], ["ok"], "2 nodes ready: a, b"),
        ([], ["failure"], "no node"),
        ([node("a", ready="Unknown")], ["failure"], "not ready: kubelet stopped posting"),
        ([node("a"), node("b", ready="False")], ["ok", "warning"], "node b is not ready"),
        ([node("a", spec={"unschedulable": True})], ["failure"], "closed to new pods"),
        ([node("a", disk="True")], ["ok", "warning"], "short of disk"),
    ],
)
def test_the_readiness_of_nodes_is_checked(
    node_list: list[Raw], states: list[str], message: str
) -> None:
    findings = list(nodes.check_readiness(node_list))
    assert [finding.state for finding in findings] == states
    assert message in findings[-1].message
    assert all(finding.remedy for finding in findings if finding.state != "ok")


def test_images_for_another_architecture_are_found() -> None:
    assert [finding.state for finding in nodes.check_architecture([node("a")], "amd64")] == ["ok"]
    (finding,) = nodes.check_architecture([node("a", arch="arm64")], "amd64")
    assert (finding.state, "exec format error" in finding.message) == ("failure", True)
    assert "--platform linux/arm64" in finding.remedy
    (finding,) = nodes.check_architecture([node("a"), node("b", arch="arm64")], "amd64")
    assert (finding.state, "b is arm64" in finding.message) == ("warning", True)


@pytest.mark.parametrize(
    ("gpu_node", "state", "message"),
    [
        (node("a"), "ok", "no node offers nvidia.com/gpu"),
        (node("a", gpus=GPUS), "ok", "node a offers 2 nvidia.com/gpu"),
        (node("a", gpus=GPUS, free={"nvidia.com/gpu": "1"}), "warning", "offers 1"),
        (node("a", labels={"gpu": "true"}), "warning", "no device plugin answers on node a"),
        (node("a", labels={"gpu": "false"}), "ok", "no node offers"),
        (node("a", labels={"nvidia.com/gpu.present": "true"}), "warning", "gpu.present=true"),
    ],
)
def test_gpus_of_nodes_are_checked(gpu_node: Raw, state: str, message: str) -> None:
    (finding,) = nodes.check_gpus([gpu_node], [])
    assert (finding.state, message in finding.message) == (state, True), finding
    assert bool(finding.remedy) == (state != "ok")


def test_the_device_plugin_is_checked() -> None:
    def plugin(ready: int) -> KubeObject:
        metadata = {"name": "nvidia-device-plugin-daemonset", "namespace": "kube-system"}
        status = {"desiredNumberScheduled": 2, "numberReady": ready}
        return KubeObject(metadata=metadata, status=status)

    assert nodes.is_device_plugin(plugin(1))
    assert not nodes.is_device_plugin(KubeObject(metadata={"name": "kube-proxy"}))
    assert [finding.state for finding in nodes.check_gpus([node("a", gpus=GPUS)], [plugin(2)])] == [
        "ok",
        "ok",
    ]
    warning = list(nodes.check_gpus([node("a", gpus=GPUS)], [plugin(1)]))[-1]
    assert (warning.state, "1 of 2 nodes" in warning.message) == ("warning", True)


def test_clocks_of_nodes_are_checked() -> None:
    def lease(seconds: int) -> KubeObject:
        renewed = f"2026-01-01T00:{seconds // 60:02}:{seconds % 60:02}.000000Z"
        return KubeObject(metadata={"name": "a"}, spec={"renewTime": renewed})

    now = 1767225600.0 + 600
    assert [finding.state for finding in checks.check_node_clocks([lease(592)], now)] == ["ok"]
    (ahead,) = checks.check_node_clocks([lease(660)], now)
    assert (ahead.state, "60 s ahead" in ahead.message) == ("warning", True)
    (behind,) = checks.check_node_clocks([lease(300)], now)
    assert (behind.state, "300 s ago" in behind.message) == ("warning", True)
    assert list(checks.check_node_clocks([], now)) == []


# Node ports


def at(address: str) -> Node:
    addresses = [{"type": "Hostname", "address": "a"}, {"type": "InternalIP", "address": address}]
    return Node(metadata={"name": "a"}, status={"addresses": addresses})


def test_node_ports_are_probed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        service = KubeObject(metadata={"name": "nuclio-one"}, spec={"ports": [{"nodePort": port}]})
        (finding,) = nodes.check_node_ports([at("127.0.0.1")], [service])
    assert (finding.state, f"port {port} of nuclio-one" in finding.message) == ("ok", True)
    (finding,) = nodes.check_node_ports([at("127.0.0.1")], [service])
    assert (finding.state, "no function there answers" in finding.message) == ("ok", True)
    metadata = {"metadata": {"name": "nuclio-one"}}
    unready = KubeObject(metadata, subsets=[{"notReadyAddresses": [{"ip": "10.0.0.7"}]}])
    (finding,) = nodes.check_node_ports([at("127.0.0.1")], [service], [unready])
    assert (finding.state, "no function there answers" in finding.message) == ("ok", True)
    ready = KubeObject(metadata, subsets=[{"addresses": [{"ip": "10.0.0.7"}]}])
    (finding,) = nodes.check_node_ports([at("127.0.0.1")], [service], [ready])
    assert finding.state == "warning"
    assert f"port {port} of nuclio-one does not answer" in finding.message
    assert "kube-proxy" in finding.remedy
    (finding,) = nodes.check_node_ports([at("127.0.0.1")], [])
    assert (finding.state, "no function to be called" in finding.message) == ("ok", True)


def test_unreachable_nodes_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        # A listener with a full queue drops connections, as a firewall does.
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        monkeypatch.setattr(nodes, "_PROBED_PORT", full.getsockname()[1])
        (finding,) = nodes.check_node_ports([at("127.0.0.1")], [])
    assert (finding.state, "127.0.0.1 is silent" in finding.message) == ("warning", True)
    assert "30000-32767" in finding.remedy
    assert [finding.state for finding in nodes.check_node_ports([], [])] == ["skipped"]


@pytest.mark.parametrize(
    ("state", "image_id", "expected"),
    [
        ({"waiting": {"reason": "ContainerCreating"}}, "", None),
        ({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling"}}, "", None),
        (
            {"waiting": {"reason": "ErrImagePull", "message": "dial tcp: i/o timeout"}},
            "",
            "failure",
        ),
        ({"waiting": {"reason": "RunContainerError"}}, "", "ok"),
        ({"terminated": {"reason": "ContainerCannotRun"}}, "", "ok"),
        ({"waiting": {"reason": "CreateContainerError"}}, "sha256:1", "ok"),
    ],
)
def test_the_status_of_a_pod_shows_the_result_of_a_pull(
    state: Raw, image_id: str, expected: str | None
) -> None:
    test_pod = Pod(
        metadata={"name": "one", "namespace": "ns"},
        spec={"nodeName": "a"},
        status={"containerStatuses": [{"state": state, "imageID": image_id}]},
    )
    finding = image_pull.pull_finding(
        test_pod, image_pull.PullCheck("registry.example/one:1", "ns", "one")
    )
    assert (finding and finding.state) == expected


def test_a_pod_refused_by_its_node_is_a_failure() -> None:
    test_pod = Pod(status={"phase": "Failed", "reason": "OutOfcpu", "message": "not enough cpu"})
    finding = image_pull.pull_finding(
        test_pod, image_pull.PullCheck("registry.example/one:1", "ns", "one")
    )
    assert finding is not None
    assert (finding.state, "not enough cpu" in finding.message) == ("failure", True)
