"""The state of functions on the current cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fnbuild.platforms import Deployment
from fnbuild.platforms.kubeclient import connection, kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubernetes import inventory, view
from fnbuild.platforms.kubernetes.diagnosis.queries import failure_details
from fnbuild.platforms.kubernetes.labels import KubernetesKey
from fnbuild.platforms.kubernetes.manifests.rendering import render_manifests
from tests.cluster import RESOURCE_QUOTA, ask, create, kubeconfig_of, node_address, own_namespace
from tests.engine import until
from tests.platforms.kubernetes import samples

pytestmark = pytest.mark.system

# The machine that tests run on may have much else to do.
SECONDS = 60.0

MISSING = "ValueError: the weights are missing"

_READ = ["get", "list"]
READER = [
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": _READ},
    {"apiGroups": [""], "resources": ["services", "configmaps", "pods"], "verbs": _READ},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
]
"""What somebody may do who may see functions and little else."""


def applied(cluster: Cluster, namespace: str, name: str, image: str, **spec: Any) -> None:
    env = [{"name": key, "value": value} for key, value in spec.pop("env", {}).items()]
    one = samples.function(name, env=env, **spec)
    made = samples.revision(one, image=image, pinned=image)
    for manifest in render_manifests(made, samples.render_context(one)):
        cluster.apply({**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}})


@pytest.fixture(scope="module")
def place(cluster: Cluster, image: str) -> Iterator[str]:
    """A namespace with functions that are well, and others."""
    with own_namespace(cluster) as namespace:
        applied(cluster, namespace, "well", image)
        applied(cluster, namespace, "raising", image, env={"FAULT": "raise"})
        applied(cluster, namespace, "hanging", image, env={"FAULT": "hang"})
        applied(cluster, namespace, "absent", "127.0.0.1:5000/fnbuild-test-none:1")
        applied(cluster, namespace, "zero", image, replicas=0)
        applied(cluster, namespace, "off", image, disable=True)
        yield namespace


def shown(cluster: Cluster, namespace: str, name: str) -> Deployment:
    return view.view_function(
        cluster, inventory.read_function(cluster, KubernetesKey(namespace, name))
    )


def settled(
    cluster: Cluster, namespace: str, name: str, right: Callable[[Deployment], bool]
) -> Deployment:
    """The function once it is as wanted."""
    found: list[Deployment] = []

    def so() -> bool:
        found[:] = [shown(cluster, namespace, name)]
        return right(found[0])

    try:
        until(f"{name} as it ought to be", so, SECONDS)
    except pytest.fail.Exception as error:
        pytest.fail(f"{error}: {found}")
    return found[0]


def test_a_function_that_is_ready(cluster: Cluster, place: str) -> None:
    one = settled(cluster, place, "well", lambda one: one.state == "ready")
    service = cluster.get(kinds.SERVICE, place, "nuclio-well")
    assert service is not None
    port = service["spec"]["ports"][0]["nodePort"]
    assert (one.http_port, one.revision, one.replicas, one.message) == (port, 7, (1, 1), "")
    address = f"{node_address(cluster)}:{port}"
    assert address in one.external_urls
    assert one.url == f"http://{one.external_urls[0]}"
    assert ask(address) == "hello"
    assert one.internal_urls == (f"nuclio-well.{place}.svc.cluster.local:8080",)
    details = one.details
    assert (details["server"], details["service"]) == (cluster.server, "NodePort")
    (pod,) = details["pods"]
    assert pod["name"].startswith("nuclio-well-")
    assert (pod["state"], pod["restarts"], pod["current"]) == ("Ready", 0, True)


def test_an_init_context_that_raises(cluster: Cluster, place: str) -> None:
    one = settled(cluster, place, "raising", lambda one: one.state == "unhealthy")
    first, *rest = one.message.splitlines()
    assert first.startswith(MISSING)
    assert rest[0].startswith("Traceback")
    assert 'File "/opt/nuclio/main.py"' in one.message
    assert one.replicas == (0, 1)
    pod = one.details["pods"][0]["name"]
    assert MISSING in failure_details(cluster, place, pod)


def test_an_init_context_that_takes_its_time(cluster: Cluster, place: str) -> None:
    one = settled(cluster, place, "hanging", lambda one: one.message == "init_context is running")
    assert one.state == "building"


def test_an_image_that_is_not_there(cluster: Cluster, place: str) -> None:
    one = settled(cluster, place, "absent", lambda one: one.state == "unhealthy")
    first, hint = one.message.splitlines()
    assert "fnbuild-test-none:1" in first
    assert "-r REGISTRY" in hint


def test_nothing_runs_on_purpose(cluster: Cluster, place: str) -> None:
    one = shown(cluster, place, "zero")
    assert (one.state, one.replicas) == ("scaledToZero", (0, 0))
    one = shown(cluster, place, "off")
    assert (one.state, one.replicas) == ("standby", (0, 0))


def test_all_of_them(cluster: Cluster, place: str) -> None:
    for name, state in (("well", "ready"), ("raising", "unhealthy"), ("absent", "unhealthy")):
        settled(cluster, place, name, lambda one, state=state: one.state == state)
    found = view.view_functions(cluster, inventory.list_functions(cluster, place))
    assert {one.name: one.state for one in found} == {
        "absent": "unhealthy",
        "hanging": "building",
        "off": "standby",
        "raising": "unhealthy",
        "well": "ready",
        "zero": "scaledToZero",
    }
    by_name = {one.name: one for one in found}
    assert by_name["raising"].message.startswith(MISSING)
    assert "\nTraceback (most recent call last):\n" in by_name["raising"].message
    assert by_name["well"].external_urls == shown(cluster, place, "well").external_urls


def test_somebody_with_few_rights(cluster: Cluster, place: str, tmp_path: Path) -> None:
    """Without processors, events and nodes the log tells why, and pods where they are."""
    settled(cluster, place, "raising", lambda one: one.state == "unhealthy")
    settled(cluster, place, "well", lambda one: one.state == "ready")
    file = kubeconfig_of(cluster, place, "reader", READER, tmp_path / "config")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(file))
        narrow = connection.connect()
        raising = shown(narrow, place, "raising")
        assert raising.state == "unhealthy"
        assert raising.message.startswith(f"{MISSING}\nTraceback (most recent call last):\n")
        well = shown(narrow, place, "well")
        assert well.state == "ready"
        assert f"{node_address(cluster)}:{well.http_port}" == well.external_urls[0]
        found = {
            function.name: function
            for function in view.view_functions(narrow, _known(narrow, place))
        }
        assert (found["raising"].state, found["well"].state) == ("unhealthy", "ready")
        assert found["well"].external_urls == well.external_urls


def _known(cluster: Cluster, namespace: str) -> list[inventory.FunctionObjects]:
    return inventory.list_functions(cluster, namespace)


def test_addresses_that_somebody_gives(
    cluster: Cluster, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUCTL_EXTERNAL_IP_ADDRESSES", "a.example.com, 2001:db8::1")
    one = shown(cluster, place, "well")
    port = one.http_port
    assert one.external_urls == (f"a.example.com:{port}", f"[2001:db8::1]:{port}")


def test_a_revision_that_fails_beside_one_that_serves(
    cluster: Cluster, namespace: str, image: str
) -> None:
    applied(cluster, namespace, "well", image)
    settled(cluster, namespace, "well", lambda one: one.state == "ready")
    applied(cluster, namespace, "well", image, env={"FAULT": "raise"})
    one = settled(cluster, namespace, "well", lambda one: one.state == "unhealthy")
    first, second, *_ = one.message.splitlines()
    assert first.startswith(MISSING)
    assert second == "pods of an older revision go on serving"
    assert one.replicas == (1, 1)
    assert sorted(pod["current"] for pod in one.details["pods"]) == [False, True]


def test_a_pod_that_is_about_to_end_does_not_count(
    cluster: Cluster, namespace: str, image: str
) -> None:
    """It serves on for some seconds, and is ready as long."""
    applied(cluster, namespace, "well", image)
    settled(cluster, namespace, "well", lambda one: one.state == "ready")
    for pod in inventory.list_pods(cluster, KubernetesKey(namespace, "well")):
        cluster.delete(kinds.POD, namespace, pod["metadata"]["name"])
    gone = settled(cluster, namespace, "well", lambda one: one.replicas == (0, 1))
    assert gone.state == "building"


def test_one_of_two_replicas(cluster: Cluster, namespace: str, image: str) -> None:
    """A second pod finds no room; the first one goes on."""
    about = {"name": "small", "namespace": namespace}
    create(cluster, RESOURCE_QUOTA, about, spec={"hard": {"pods": "1"}})

    def counts() -> bool:
        quota = cluster.get(RESOURCE_QUOTA, namespace, "small") or {}
        return "used" in (quota.get("status") or {})

    # Before its controller has counted, a quota limits nothing.
    until("the quota's first count", counts, SECONDS)
    applied(cluster, namespace, "two", image, replicas=2)
    one = settled(
        cluster, namespace, "two", lambda one: (one.state, one.replicas) == ("ready", (1, 2))
    )
    assert "the quota small of namespace" in one.message
