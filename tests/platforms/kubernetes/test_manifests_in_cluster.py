"""A real API server accepts all manifests, also as updates of one another."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from fnbuild.errors import FnbuildError
from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubernetes.manifests.rendering import render_manifests
from tests.cluster import own_namespace
from tests.platforms.kubernetes import samples

pytestmark = pytest.mark.system

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    with own_namespace(cluster) as name:
        yield name


def in_namespace(manifest: Raw, namespace: str) -> Raw:
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}


def apply_function(cluster: Cluster, namespace: str, name: str, **spec: Any) -> dict[str, Raw]:
    """Apply a function without pods, and return the live objects by kind."""
    sample = samples.function(name, **({"replicas": 0} | spec))
    manifests = render_manifests(samples.revision(sample), samples.render_context(sample))
    return {
        manifest["kind"]: cluster.apply(in_namespace(manifest, namespace)) for manifest in manifests
    }


def test_the_cluster_accepts_all_golden_manifests(cluster: Cluster, namespace: str) -> None:
    """The dry run checks everything except the admission of pods."""
    manifests = [
        manifest
        for path in GOLDEN.glob("*.yaml")
        for manifest in yaml.safe_load_all(path.read_text())
    ]

    def refusal(manifest: Raw) -> str:
        if not cluster.serves(kinds.kind_of(manifest)):
            return ""
        try:
            after = cluster.apply(in_namespace(manifest, namespace), dry_run=True)
        except FnbuildError as error:
            return f"{manifest['kind']} {manifest['metadata']['name']}: {error.message}"
        return "" if after["kind"] == manifest["kind"] else f"it became a {after['kind']}"

    with ThreadPoolExecutor(8) as pool:
        assert [text for text in pool.map(refusal, manifests) if text] == []
    assert len(manifests) > 2 * len(list(GOLDEN.iterdir()))


def test_a_second_apply_changes_nothing(cluster: Cluster, namespace: str) -> None:
    first = apply_function(cluster, namespace, "twice")
    second = apply_function(cluster, namespace, "twice")
    assert first["Service"]["metadata"] == second["Service"]["metadata"]
    # The controller changes the Deployment's status, but only a changed spec has a new generation.
    assert second["Deployment"]["metadata"]["generation"] == 1


def test_a_node_port_is_kept_until_the_service_type_changes(
    cluster: Cluster, namespace: str
) -> None:
    def port(**spec: Any) -> int:
        service = apply_function(cluster, namespace, "ports", **spec)["Service"]
        return int(service["spec"]["ports"][0].get("nodePort") or 0)

    first_port = port()
    assert first_port
    assert port(env=[{"name": "A", "value": "b"}]) == first_port
    assert port(serviceType="ClusterIP") == 0
    assert port(serviceType="LoadBalancer") > 0


def test_the_node_port_for_grpc_is_kept_and_removed_with_the_protocol(
    cluster: Cluster, namespace: str
) -> None:
    def ports(*protocols: str, **spec: Any) -> dict[str, int]:
        trigger = {"kind": "http", "attributes": {"protocols": list(protocols)}}
        service = apply_function(cluster, namespace, "grpc", triggers={"web": trigger}, **spec)
        return {port["name"]: port["nodePort"] for port in service["Service"]["spec"]["ports"]}

    first = ports("v2", "grpc")
    assert sorted(first) == ["grpc", "http"]
    assert ports("v2", "grpc", env=[{"name": "A", "value": "b"}]) == first
    assert ports("v2") == {"http": first["http"]}


def test_removed_settings_are_removed_from_the_cluster(cluster: Cluster, namespace: str) -> None:
    """This includes deprecated fields and defaults of the API server."""
    many_settings = {
        "serviceAccount": "reader",
        "hostIPC": True,
        "nodeSelector": {"a": "b"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "priorityClassName": "system-node-critical",
        "securityContext": {"runAsUser": 1000},
        "imagePullSecrets": "mine",
        "resources": {"limits": {"nvidia.com/gpu": "1", "memory": "1Gi"}},
        "env": [{"name": "A", "value": "b"}],
        "sidecars": [{"name": "side", "image": "a", "ports": [{"name": "p", "containerPort": 1}]}],
        "initContainers": [{"name": "first", "image": "a"}],
        "volumes": [
            {
                "volume": {"name": "v", "emptyDir": {}},
                "volumeMount": {"name": "v", "mountPath": "/v"},
            }
        ],
    }
    plain = apply_function(cluster, namespace, "plain")
    before = apply_function(cluster, namespace, "rich", **many_settings)
    assert before["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    after = apply_function(cluster, namespace, "rich")
    for live_objects in (plain, after):
        for container in live_objects["Deployment"]["spec"]["template"]["spec"]["containers"]:
            del container["env"]
    assert after["Deployment"]["spec"]["strategy"] == plain["Deployment"]["spec"]["strategy"]
    pods = [live["Deployment"]["spec"]["template"]["spec"] for live in (plain, after)]
    for pod in pods:
        pod["containers"][0]["image"] = ""
        [constraint] = pod["topologySpreadConstraints"]
        del constraint["labelSelector"]  # names the function
    assert pods[0] == pods[1]
    assert [port["name"] for port in after["Service"]["spec"]["ports"]] == ["http"]
