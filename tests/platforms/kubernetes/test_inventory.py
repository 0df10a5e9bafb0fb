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
from fnbuild.platforms.kubernetes import inventory, view
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
    """A namespace of this module's tests."""
    with own_namespace(cluster) as name:
        yield name


def applied(cluster: Cluster, namespace: str, name: str, image: str = "", **spec: Any) -> list[Raw]:
    """The objects of a function, without pods unless an image is given."""
    few = {"replicas": 1 if image else 0, "serviceType": "ClusterIP"}
    one = samples.function(name, **(few | spec))
    images = {"image": image, "pinned": image} if image else {}
    manifests = render_manifests(samples.revision(one, **images), samples.render_context(one))
    moved = [
        {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}
        for manifest in manifests
    ]
    return [cluster.apply(each) for each in moved]


def nuclios(name: str, config: str) -> Raw:
    """A Deployment as Nuclio's operator makes it."""
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


def made(cluster: Cluster, namespace: str, one: Raw) -> Raw:
    return cluster.create({**one, "metadata": {**one["metadata"], "namespace": namespace}})


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


def test_one_function_with_everything(cluster: Cluster, namespace: str) -> None:
    http = {"kind": "http", "attributes": {"ingresses": {"0": {"host": "a.b", "paths": ["/x"]}}}}
    more: dict[str, Any] = {"minReplicas": 1, "maxReplicas": 3, "replicas": None}
    applied(cluster, namespace, "whole", triggers={"web": http}, **more)
    objects = inventory.read_function(cluster, KubernetesKey(namespace, "whole"))
    assert objects.exists
    assert not objects.has_foreign_objects
    assert objects.revision is not None
    assert (objects.revision.number, objects.revision.function.metadata.name) == (7, "whole")
    for one, kind in (
        (objects.deployment, "Deployment"),
        (objects.service, "Service"),
        (objects.ingress, "Ingress"),
        (objects.hpa, "HorizontalPodAutoscaler"),
    ):
        assert one is not None
        assert (one["kind"], one["metadata"]["name"]) == (kind, "nuclio-whole")
    listed = {
        objects.key.name: objects for objects in inventory.list_functions(cluster, namespace)
    }["whole"]
    assert (listed.ingress is None, listed.service is None) == (False, False)


def test_nothing(cluster: Cluster, shared: str) -> None:
    objects = inventory.read_function(cluster, KubernetesKey(shared, "nothing"))
    assert objects == FunctionObjects(KubernetesKey(shared, "nothing"))
    assert not objects.exists
    assert not objects.has_foreign_objects


def test_what_nuclio_has_deployed_is_foreign(cluster: Cluster, shared: str) -> None:
    made(cluster, shared, nuclios("theirs", json.dumps({"handler": "main:handler"})))
    objects = inventory.read_function(cluster, KubernetesKey(shared, "theirs"))
    assert (objects.exists, objects.has_foreign_objects, objects.revision) == (True, True, None)
    assert objects.foreign_objects == ["Deployment nuclio-theirs"]
    assert objects.project == "cvat"
    assert "theirs" in {objects.key.name for objects in inventory.list_functions(cluster, shared)}
    shown = view.view_function(cluster, objects)
    assert (shown.state, shown.function.spec.handler) == ("scaledToZero", "main:handler")
    assert shown.function.metadata.labels["nuclio.io/project-name"] == "cvat"
    assert shown.details["deployed_by"] == "Nuclio"


def test_an_object_that_only_has_the_name(cluster: Cluster, shared: str) -> None:
    one = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "nuclio-strange"}}
    made(cluster, shared, one)
    objects = inventory.read_function(cluster, KubernetesKey(shared, "strange"))
    assert (objects.exists, objects.has_foreign_objects) == (False, True)
    assert "strange" not in {
        objects.key.name for objects in inventory.list_functions(cluster, shared)
    }


def test_an_imported_function(cluster: Cluster, shared: str) -> None:
    config = {"metadata": {"name": "brought"}, "spec": {"handler": "main:handler"}}
    made(cluster, shared, record("brought", "imported", {IMPORTED_KEY: json.dumps(config)}))
    objects = inventory.read_function(cluster, KubernetesKey(shared, "brought"))
    assert (objects.exists, objects.has_foreign_objects) == (True, False)
    shown = view.view_function(cluster, objects)
    assert (shown.state, shown.replicas, shown.url) == ("imported", (0, 0), "")
    assert shown.function.spec.handler == "main:handler"
    assert "brought" in {objects.key.name for objects in inventory.list_functions(cluster, shared)}


def test_a_deployment_that_was_removed(cluster: Cluster, shared: str) -> None:
    applied(cluster, shared, "removed")
    cluster.delete(kinds.DEPLOYMENT, shared, "nuclio-removed")

    def listed() -> Deployment:
        found = {objects.key.name: objects for objects in inventory.list_functions(cluster, shared)}
        return view.view_function(cluster, found["removed"])

    # There is no record of what was applied from a file.
    assert listed().state == "unhealthy"
    assert "`fnbuild delete function removed` removes it" in listed().message
    one = samples.function("removed", description="was here")
    texts = {"7": samples.revision(one).to_json()}
    made(cluster, shared, record("removed", "revisions", texts))
    assert listed().state == "unhealthy"
    assert "`fnbuild redeploy removed` creates it again" in listed().message
    assert listed().function.spec.description == "was here"


def test_a_first_deploy_that_failed(cluster: Cluster, shared: str) -> None:
    one = samples.revision(samples.function("failed")).with_failure("no weights")
    made(cluster, shared, record("failed", "revisions", {"7": one.to_json()}))
    shown = view.view_function(
        cluster, inventory.read_function(cluster, KubernetesKey(shared, "failed"))
    )
    assert (shown.state, shown.message) == ("error", "no weights")


def test_a_first_deploy_under_way(cluster: Cluster, shared: str) -> None:
    claim = json.dumps({"owner": "machine", "until": time.time() + 60})
    made(cluster, shared, record("first", "revisions", {}, claim))
    objects = inventory.read_function(cluster, KubernetesKey(shared, "first"))
    assert view.view_function(cluster, objects).state == "building"
    assert not objects.is_leased(time.time() + 61)


def test_a_function_that_somebody_else_changes(cluster: Cluster, namespace: str) -> None:
    said = {"owner": "there:/data", "participle": "rolled back", "until": time.time() + 60}
    applied(cluster, namespace, "old")
    made(cluster, namespace, record("old", "changing", {}, json.dumps(said)))
    coming = {"spec": {"description": "it comes"}}
    data = {"wanted": json.dumps(coming)}
    made(cluster, namespace, record("new", "changing", data, json.dumps(said)))
    made(cluster, namespace, record("dead", "changing", data, json.dumps(said | {"until": 1})))
    for one in ("dead", "new", "old"):
        objects = inventory.read_function(cluster, KubernetesKey(namespace, one))
        [listed] = [
            function
            for function in view.view_functions(
                cluster, inventory.list_functions(cluster, namespace)
            )
            if function.name == one
        ]
        for shown in (listed, view.view_function(cluster, objects)):
            if one == "dead":
                assert (shown.state, shown.changing) == ("error", "")
                assert "its first deploy was interrupted" in shown.message
            else:
                assert shown.state == "building"
                assert shown.message == "it is being rolled back from there:/data"
            if one != "old":
                assert shown.function.spec.description == "it comes"


@pytest.mark.parametrize("config", ["no JSON", "7", '{"spec": [1]}', '{"spec": {"env": 7}}'])
def test_one_strange_function_hides_no_other(cluster: Cluster, namespace: str, config: str) -> None:
    applied(cluster, namespace, "well")
    made(cluster, namespace, nuclios("strange", config))
    ours = nuclios("ours", config)
    ours["metadata"]["labels"] |= {"app.kubernetes.io/managed-by": "fnbuild"}
    made(cluster, namespace, ours)
    made(cluster, namespace, record("brought", "imported", {IMPORTED_KEY: config}))
    shown = view.view_functions(cluster, inventory.list_functions(cluster, namespace))
    assert [one.name for one in shown] == ["brought", "ours", "strange", "well"]
    assert {one.name: one.state for one in shown}["well"] == "scaledToZero"
    assert shown[2].function.metadata.labels["nuclio.io/project-name"] == "cvat"


def test_everywhere(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    applied(cluster, namespace, "found")
    assert KubernetesKey(namespace, "found") in inventory.list_all_keys(cluster)
    rule = {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list"]}
    file = kubeconfig_of(cluster, namespace, "reader", [rule], tmp_path / "config")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(file))
        assert inventory.list_all_keys(connection.connect()) == []


def test_many_functions_are_listed_quickly(cluster: Cluster, namespace: str, image: str) -> None:
    """In less than 1 s, of which the command line needs a part, one that is broken among them."""
    for name in ("well", "better"):
        applied(cluster, namespace, name, image)
    broken = [{"name": "FAULT", "value": "raise"}]
    applied(cluster, namespace, "broken", image, env=broken)

    def make(number: int) -> None:
        for one in applied(cluster, namespace, f"f-{number}", description="a" * 2000):
            assert one["metadata"]["namespace"] == namespace

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(make, range(MANY)))
    times: list[float] = []
    states: dict[str, str] = {}

    def listed() -> bool:
        started = time.monotonic()
        shown = view.view_functions(cluster, inventory.list_functions(cluster, namespace))
        times.append(time.monotonic() - started)
        states.update({one.name: one.state for one in shown})
        return {"well": "ready", "better": "ready", "broken": "unhealthy"}.items() <= states.items()

    until("two that are ready, and one that is not", listed)
    assert Counter(states.values())["scaledToZero"] == MANY
    # A machine that is busy may take longer, but not each time.
    del times[:-1]
    while min(times) >= 0.7 and len(times) < 30:
        listed()
    assert min(times) < 0.7


def test_what_is_asked_of_the_cluster(
    cluster: Cluster, shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many functions there are: pods, events and nodes only where somebody needs them."""
    for name in ("a", "b"):
        applied(cluster, shared, name)
    asked: list[str] = []
    really = cluster.list

    def listing(kind: Kind, namespace: str | None, **more: Any) -> list[Raw]:
        asked.append(kind.name)
        return really(kind, namespace, **more)

    monkeypatch.setattr(cluster, "list", listing)
    view.view_functions(cluster, inventory.list_functions(cluster, shared))
    assert sorted(asked) == ["ConfigMap", "Deployment", "Ingress", "Service"]
