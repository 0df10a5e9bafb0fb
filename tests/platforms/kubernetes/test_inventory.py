"""The inventory of a cluster: own and foreign functions, with few requests."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fnbuild.function.types import Raw
from fnbuild.platforms import Deployment
from fnbuild.platforms.kubeclient import connection, kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.kinds import Kind
from fnbuild.platforms.kubernetes import function_state, inventory
from fnbuild.platforms.kubernetes.inventory import IMPORTED_KEY, FunctionObjects
from fnbuild.platforms.kubernetes.labels import KubernetesKey
from fnbuild.platforms.kubernetes.manifests.rendering import render_manifests
from tests.cluster import kubeconfig_of, own_namespace
from tests.engine import until
from tests.platforms.kubernetes import samples

pytestmark = pytest.mark.system

MANY = 50


@pytest.fixture(scope="module")
def shared(cluster: Cluster) -> Iterator[str]:
    """A namespace for the tests of this module."""
    with own_namespace(cluster) as name:
        yield name


def apply_function(
    cluster: Cluster, namespace: str, name: str, image: str = "", **spec: Any
) -> list[Raw]:
    """Apply the objects of a function, without pods unless an image is given."""
    defaults = {"replicas": 1 if image else 0, "serviceType": "ClusterIP"}
    sample = samples.function(name, **(defaults | spec))
    images = {"image": image, "pinned": image} if image else {}
    manifests = render_manifests(samples.revision(sample, **images), samples.render_context(sample))
    relocated = [
        {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}
        for manifest in manifests
    ]
    return [cluster.apply(each) for each in relocated]


def nuclio_deployment(name: str, config: str) -> Raw:
    """Return a Deployment as Nuclio's operator creates it."""
    labels = {
        "nuclio.io/class": "function",
        "nuclio.io/app": "functionres",
        "nuclio.io/function-name": name,
        "nuclio.io/function-version": "latest",
        "nuclio.io/project-name": "cvat",
    }
    containers = [{"name": "nuclio", "image": "registry.example.com/theirs:latest"}]
    annotations = {"nuclio.io/function-config": config}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"nuclio-{name}", "labels": labels, "annotations": annotations},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": containers},
            },
        },
    }


def create_object(cluster: Cluster, namespace: str, manifest: Raw) -> Raw:
    return cluster.create(
        {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}
    )


def record(name: str, kind: str, data: dict[str, str], claim: str = "") -> Raw:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": f"nuclio-{name}",
            "labels": {"app.kubernetes.io/managed-by": "fnbuild", "fnbuild.io/record": kind},
            "annotations": {"fnbuild.io/deploying": claim} if claim else {},
        },
        "data": data,
    }


def test_all_objects_of_a_function_are_read(cluster: Cluster, namespace: str) -> None:
    http = {"kind": "http", "attributes": {"ingresses": {"0": {"host": "a.b", "paths": ["/x"]}}}}
    options: dict[str, Any] = {"minReplicas": 1, "maxReplicas": 3, "replicas": None}
    apply_function(cluster, namespace, "whole", triggers={"web": http}, **options)
    objects = inventory.read_function(cluster, KubernetesKey(namespace, "whole"))
    assert objects.exists
    assert not objects.has_unmanaged_objects
    assert objects.applied_revision is not None
    assert (objects.applied_revision.number, objects.applied_revision.function.metadata.name) == (
        7,
        "whole",
    )
    for live_object, kind in (
        (objects.deployment, "Deployment"),
        (objects.service, "Service"),
        (objects.ingress, "Ingress"),
        (objects.hpa, "HorizontalPodAutoscaler"),
    ):
        assert live_object is not None
        assert (live_object["kind"], live_object["metadata"]["name"]) == (kind, "nuclio-whole")
    listed = {
        objects.key.name: objects for objects in inventory.list_functions(cluster, namespace)
    }["whole"]
    assert (listed.ingress is None, listed.service is None) == (False, False)


def test_a_missing_function_has_no_objects(cluster: Cluster, shared: str) -> None:
    objects = inventory.read_function(cluster, KubernetesKey(shared, "nothing"))
    assert objects == FunctionObjects(KubernetesKey(shared, "nothing"))
    assert not objects.exists
    assert not objects.has_unmanaged_objects


def test_functions_of_nuclio_are_foreign(cluster: Cluster, shared: str) -> None:
    create_object(
        cluster, shared, nuclio_deployment("theirs", json.dumps({"handler": "main:handler"}))
    )
    objects = inventory.read_function(cluster, KubernetesKey(shared, "theirs"))
    assert (objects.exists, objects.has_unmanaged_objects, objects.applied_revision) == (
        True,
        True,
        None,
    )
    assert objects.unmanaged_objects == ["Deployment nuclio-theirs"]
    assert objects.project == "cvat"
    assert "theirs" in {objects.key.name for objects in inventory.list_functions(cluster, shared)}
    deployment = function_state.to_deployment(cluster, objects)
    assert (deployment.state, deployment.function.spec.handler) == ("scaledToZero", "main:handler")
    assert deployment.function.metadata.labels["nuclio.io/project-name"] == "cvat"
    assert deployment.details["deployed_by"] == "Nuclio"


def test_an_unrelated_object_with_the_name_is_foreign(cluster: Cluster, shared: str) -> None:
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "nuclio-strange"}}
    create_object(cluster, shared, config_map)
    objects = inventory.read_function(cluster, KubernetesKey(shared, "strange"))
    assert (objects.exists, objects.has_unmanaged_objects) == (False, True)
    assert "strange" not in {
        objects.key.name for objects in inventory.list_functions(cluster, shared)
    }


def test_an_imported_function_is_listed(cluster: Cluster, shared: str) -> None:
    config = {"metadata": {"name": "brought"}, "spec": {"handler": "main:handler"}}
    create_object(
        cluster, shared, record("brought", "imported", {IMPORTED_KEY: json.dumps(config)})
    )
    objects = inventory.read_function(cluster, KubernetesKey(shared, "brought"))
    assert (objects.exists, objects.has_unmanaged_objects) == (True, False)
    deployment = function_state.to_deployment(cluster, objects)
    assert (deployment.state, deployment.replicas, deployment.url) == ("imported", (0, 0), "")
    assert deployment.function.spec.handler == "main:handler"
    assert "brought" in {objects.key.name for objects in inventory.list_functions(cluster, shared)}


def test_a_removed_deployment_is_reported(cluster: Cluster, shared: str) -> None:
    apply_function(cluster, shared, "removed")
    cluster.delete(kinds.DEPLOYMENT, shared, "nuclio-removed")

    def read_removed() -> Deployment:
        functions = {
            objects.key.name: objects for objects in inventory.list_functions(cluster, shared)
        }
        return function_state.to_deployment(cluster, functions["removed"])

    # Manifests that were applied from a file have no record.
    assert read_removed().state == "unhealthy"
    assert "`fnbuild delete function removed` removes it" in read_removed().message
    function = samples.function("removed", description="was here")
    data = {"7": samples.revision(function).to_json()}
    create_object(cluster, shared, record("removed", "revisions", data))
    assert read_removed().state == "unhealthy"
    assert "`fnbuild redeploy removed` creates it again" in read_removed().message
    assert read_removed().function.spec.description == "was here"


def test_a_failed_first_deploy_is_listed_with_its_reason(cluster: Cluster, shared: str) -> None:
    failed = samples.revision(samples.function("failed")).with_failure("no weights")
    create_object(cluster, shared, record("failed", "revisions", {"7": failed.to_json()}))
    deployment = function_state.to_deployment(
        cluster, inventory.read_function(cluster, KubernetesKey(shared, "failed"))
    )
    assert (deployment.state, deployment.message) == ("error", "no weights")


def test_a_running_first_deploy_is_listed(cluster: Cluster, shared: str) -> None:
    claim = json.dumps({"owner": "machine", "until": time.time() + 60})
    create_object(cluster, shared, record("first", "revisions", {}, claim))
    objects = inventory.read_function(cluster, KubernetesKey(shared, "first"))
    assert function_state.to_deployment(cluster, objects).state == "building"
    assert not objects.is_leased(time.time() + 61)


def test_a_change_by_another_client_is_reported(cluster: Cluster, namespace: str) -> None:
    lease = {"owner": "there:/data", "participle": "rolled back", "until": time.time() + 60}
    apply_function(cluster, namespace, "old")
    create_object(cluster, namespace, record("old", "changing", {}, json.dumps(lease)))
    config = {"spec": {"description": "it comes"}}
    data = {"wanted": json.dumps(config)}
    create_object(cluster, namespace, record("new", "changing", data, json.dumps(lease)))
    create_object(
        cluster, namespace, record("dead", "changing", data, json.dumps(lease | {"until": 1}))
    )
    for name in ("dead", "new", "old"):
        objects = inventory.read_function(cluster, KubernetesKey(namespace, name))
        [listed] = [
            function
            for function in function_state.to_deployments(
                cluster, inventory.list_functions(cluster, namespace)
            )
            if function.name == name
        ]
        for deployment in (listed, function_state.to_deployment(cluster, objects)):
            if name == "dead":
                assert (deployment.state, deployment.ongoing_change) == ("error", "")
                assert "its first deploy was interrupted" in deployment.message
            else:
                assert deployment.state == "building"
                assert deployment.message == "it is being rolled back from there:/data"
            if name != "old":
                assert deployment.function.spec.description == "it comes"


@pytest.mark.parametrize("config", ["no JSON", "7", '{"spec": [1]}', '{"spec": {"env": 7}}'])
def test_a_malformed_function_does_not_hide_others(
    cluster: Cluster, namespace: str, config: str
) -> None:
    apply_function(cluster, namespace, "well")
    create_object(cluster, namespace, nuclio_deployment("strange", config))
    managed = nuclio_deployment("ours", config)
    managed["metadata"]["labels"] |= {"app.kubernetes.io/managed-by": "fnbuild"}
    create_object(cluster, namespace, managed)
    create_object(cluster, namespace, record("brought", "imported", {IMPORTED_KEY: config}))
    deployments = function_state.to_deployments(
        cluster, inventory.list_functions(cluster, namespace)
    )
    assert [function.name for function in deployments] == ["brought", "ours", "strange", "well"]
    assert {function.name: function.state for function in deployments}["well"] == "scaledToZero"
    assert deployments[2].function.metadata.labels["nuclio.io/project-name"] == "cvat"


def test_functions_of_all_namespaces_are_listed(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    apply_function(cluster, namespace, "found")
    assert KubernetesKey(namespace, "found") in inventory.list_all_keys(cluster)
    rule = {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list"]}
    file = kubeconfig_of(cluster, namespace, "reader", [rule], tmp_path / "config")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(file))
        assert inventory.list_all_keys(connection.connect()) == []


def test_many_functions_are_listed_quickly(cluster: Cluster, namespace: str, image: str) -> None:
    """The list takes less than 1 s, also with a broken function."""
    for name in ("well", "better"):
        apply_function(cluster, namespace, name, image)
    broken = [{"name": "FAULT", "value": "raise"}]
    apply_function(cluster, namespace, "broken", image, env=broken)

    def create_function(number: int) -> None:
        for item in apply_function(cluster, namespace, f"f-{number}", description="a" * 2000):
            assert item["metadata"]["namespace"] == namespace

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(create_function, range(MANY)))
    times: list[float] = []
    states: dict[str, str] = {}

    def all_have_settled() -> bool:
        started = time.monotonic()
        deployments = function_state.to_deployments(
            cluster, inventory.list_functions(cluster, namespace)
        )
        times.append(time.monotonic() - started)
        states.update({function.name: function.state for function in deployments})
        return {"well": "ready", "better": "ready", "broken": "unhealthy"}.items() <= states.items()

    until("the states of the three functions", all_have_settled)
    assert Counter(states.values())["scaledToZero"] == MANY
    # A busy machine may take longer, but not each time.
    del times[:-1]
    while min(times) >= 0.7 and len(times) < 30:
        all_have_settled()
    assert min(times) < 0.7


def test_listing_sends_few_requests(
    cluster: Cluster, shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of requests does not depend on the number of functions.

    Pods, events and nodes are only read if they are needed.
    """
    for name in ("a", "b"):
        apply_function(cluster, shared, name)
    kinds_read: list[str] = []
    list_objects = cluster.list

    def record_kind(kind: Kind, namespace: str | None, **more: Any) -> list[Raw]:
        kinds_read.append(kind.name)
        return list_objects(kind, namespace, **more)

    monkeypatch.setattr(cluster, "list", record_kind)
    function_state.to_deployments(cluster, inventory.list_functions(cluster, shared))
    assert sorted(kinds_read) == ["ConfigMap", "Deployment", "Ingress", "Service"]
