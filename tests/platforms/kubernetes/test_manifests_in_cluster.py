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


def moved(manifest: Raw, namespace: str) -> Raw:
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}


def deployed(cluster: Cluster, namespace: str, name: str, **spec: Any) -> dict[str, Raw]:
    """What the cluster has by kind once a function is applied there. Without pods it is quick."""
    one = samples.function(name, **({"replicas": 0} | spec))
    manifests = render_manifests(samples.revision(one), samples.render_context(one))
    return {manifest["kind"]: cluster.apply(moved(manifest, namespace)) for manifest in manifests}


def test_the_cluster_takes_all_of_them(cluster: Cluster, namespace: str) -> None:
    """By a dry run, which checks everything but what only admission of pods tells."""
    some = [one for path in GOLDEN.glob("*.yaml") for one in yaml.safe_load_all(path.read_text())]

    def refused(manifest: Raw) -> str:
        if not cluster.serves(kinds.kind_of(manifest)):
            return ""
        try:
            after = cluster.apply(moved(manifest, namespace), dry_run=True)
        except FnbuildError as error:
            return f"{manifest['kind']} {manifest['metadata']['name']}: {error.message}"
        return "" if after["kind"] == manifest["kind"] else f"it became a {after['kind']}"

    with ThreadPoolExecutor(8) as pool:
        assert [text for text in pool.map(refused, some) if text] == []
    assert len(some) > 2 * len(list(GOLDEN.iterdir()))


def test_applied_twice_nothing_changes(cluster: Cluster, namespace: str) -> None:
    first = deployed(cluster, namespace, "twice")
    again = deployed(cluster, namespace, "twice")
    assert first["Service"]["metadata"] == again["Service"]["metadata"]
    # Its controller writes into the Deployment; what is asked for counts its generations.
    assert again["Deployment"]["metadata"]["generation"] == 1


def test_a_node_port_stays_and_goes(cluster: Cluster, namespace: str) -> None:
    def port(**spec: Any) -> int:
        service = deployed(cluster, namespace, "ports", **spec)["Service"]
        return int(service["spec"]["ports"][0].get("nodePort") or 0)

    given = port()
    assert given
    assert port(env=[{"name": "A", "value": "b"}]) == given
    assert port(serviceType="ClusterIP") == 0
    assert port(serviceType="LoadBalancer") > 0


def test_what_a_function_gave_up_is_gone(cluster: Cluster, namespace: str) -> None:
    """Also what the API server keeps in older fields, and what it fills in by itself."""
    rich = {
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
    plain = deployed(cluster, namespace, "plain")
    before = deployed(cluster, namespace, "rich", **rich)
    assert before["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    after = deployed(cluster, namespace, "rich")
    for found in (plain, after):
        for one in found["Deployment"]["spec"]["template"]["spec"]["containers"]:
            del one["env"]
    assert after["Deployment"]["spec"]["strategy"] == plain["Deployment"]["spec"]["strategy"]
    pods = [found["Deployment"]["spec"]["template"]["spec"] for found in (plain, after)]
    for pod in pods:
        pod["containers"][0]["image"] = ""
        [constraint] = pod["topologySpreadConstraints"]
        del constraint["labelSelector"]  # names the function
    assert pods[0] == pods[1]
    assert [one["name"] for one in after["Service"]["spec"]["ports"]] == ["http"]
