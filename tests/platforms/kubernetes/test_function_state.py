"""The state of functions on the current cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fnbuild.platforms import Deployment
from fnbuild.platforms.kubeclient import connection, kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubernetes import function_state, inventory
from fnbuild.platforms.kubernetes.diagnosis.queries import failure_details
from fnbuild.platforms.kubernetes.labels import KubernetesKey
from fnbuild.platforms.kubernetes.manifests.rendering import render_manifests
from tests.cluster import RESOURCE_QUOTA, create, invoke, kubeconfig_of, node_address, own_namespace
from tests.engine import until
from tests.platforms.kubernetes import samples

pytestmark = pytest.mark.system

# The test machine may be busy.
SECONDS = 60.0

MISSING = "ValueError: the weights are missing"

_READ = ["get", "list"]
READER = [
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": _READ},
    {"apiGroups": [""], "resources": ["services", "configmaps", "pods"], "verbs": _READ},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
]
"""The permissions of a user who may read functions and little else."""


def apply_function(cluster: Cluster, namespace: str, name: str, image: str, **spec: Any) -> None:
    env = [{"name": key, "value": value} for key, value in spec.pop("env", {}).items()]
    function = samples.function(name, env=env, **spec)
    revision = samples.revision(function, image=image, pinned=image)
    for manifest in render_manifests(revision, samples.render_context(function)):
        cluster.apply({**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}})


@pytest.fixture(scope="module")
def shared_namespace(cluster: Cluster, image: str) -> Iterator[str]:
    """A namespace with healthy and broken functions."""
    with own_namespace(cluster) as namespace:
        apply_function(cluster, namespace, "well", image)
        apply_function(cluster, namespace, "raising", image, env={"FAULT": "raise"})
        apply_function(cluster, namespace, "hanging", image, env={"FAULT": "hang"})
        apply_function(cluster, namespace, "absent", "127.0.0.1:5000/fnbuild-test-none:1")
        apply_function(cluster, namespace, "zero", image, replicas=0)
        apply_function(cluster, namespace, "off", image, disable=True)
        yield namespace


def read_deployment(cluster: Cluster, namespace: str, name: str) -> Deployment:
    return function_state.to_deployment(
        cluster, inventory.read_function(cluster, KubernetesKey(namespace, name))
    )


def wait_until_settled(
    cluster: Cluster, namespace: str, name: str, condition: Callable[[Deployment], bool]
) -> Deployment:
    """Return the function once the condition is true for it."""
    deployments: list[Deployment] = []

    def is_settled() -> bool:
        deployments[:] = [read_deployment(cluster, namespace, name)]
        return condition(deployments[0])

    try:
        until(f"the state of {name}", is_settled, SECONDS)
    except pytest.fail.Exception as error:
        pytest.fail(f"{error}: {deployments}")
    return deployments[0]


def test_a_ready_function_has_addresses_and_pods(cluster: Cluster, shared_namespace: str) -> None:
    ready = wait_until_settled(
        cluster, shared_namespace, "well", lambda function: function.state == "ready"
    )
    service = cluster.get(kinds.SERVICE, shared_namespace, "nuclio-well")
    assert service is not None
    port = service["spec"]["ports"][0]["nodePort"]
    assert (ready.http_port, ready.revision, ready.replicas, ready.message) == (port, 7, (1, 1), "")
    address = f"{node_address(cluster)}:{port}"
    assert address in ready.external_urls
    assert ready.url == f"http://{ready.external_urls[0]}"
    assert invoke(address) == "hello"
    assert ready.internal_urls == (f"nuclio-well.{shared_namespace}.svc.cluster.local:8080",)
    details = ready.details
    assert (details["server"], details["service"]) == (cluster.server, "NodePort")
    (pod,) = details["pods"]
    assert pod["name"].startswith("nuclio-well-")
    assert (pod["state"], pod["restarts"], pod["current"]) == ("Ready", 0, True)


def test_a_failing_init_context_is_unhealthy(cluster: Cluster, shared_namespace: str) -> None:
    raising = wait_until_settled(
        cluster, shared_namespace, "raising", lambda function: function.state == "unhealthy"
    )
    first, *rest = raising.message.splitlines()
    assert first.startswith(MISSING)
    assert rest[0].startswith("Traceback")
    assert 'File "/opt/nuclio/main.py"' in raising.message
    assert raising.replicas == (0, 1)
    pod = raising.details["pods"][0]["name"]
    assert MISSING in failure_details(cluster, shared_namespace, pod)


def test_a_running_init_context_is_building(cluster: Cluster, shared_namespace: str) -> None:
    hanging = wait_until_settled(
        cluster,
        shared_namespace,
        "hanging",
        lambda function: function.message == "init_context is running",
    )
    assert hanging.state == "building"


def test_a_missing_image_is_unhealthy(cluster: Cluster, shared_namespace: str) -> None:
    absent = wait_until_settled(
        cluster, shared_namespace, "absent", lambda function: function.state == "unhealthy"
    )
    first, hint = absent.message.splitlines()
    assert "fnbuild-test-none:1" in first
    assert "-r REGISTRY" in hint


def test_scaled_down_and_disabled_functions_have_no_pods(
    cluster: Cluster, shared_namespace: str
) -> None:
    idle = read_deployment(cluster, shared_namespace, "zero")
    assert (idle.state, idle.replicas) == ("scaledToZero", (0, 0))
    idle = read_deployment(cluster, shared_namespace, "off")
    assert (idle.state, idle.replicas) == ("standby", (0, 0))


def test_all_functions_are_listed_with_their_state(cluster: Cluster, shared_namespace: str) -> None:
    for name, state in (("well", "ready"), ("raising", "unhealthy"), ("absent", "unhealthy")):
        wait_until_settled(
            cluster, shared_namespace, name, lambda function, state=state: function.state == state
        )
    functions = function_state.to_deployments(
        cluster, inventory.list_functions(cluster, shared_namespace)
    )
    assert {function.name: function.state for function in functions} == {
        "absent": "unhealthy",
        "hanging": "building",
        "off": "standby",
        "raising": "unhealthy",
        "well": "ready",
        "zero": "scaledToZero",
    }
    by_name = {function.name: function for function in functions}
    assert by_name["raising"].message.startswith(MISSING)
    assert "\nTraceback (most recent call last):\n" in by_name["raising"].message
    assert (
        by_name["well"].external_urls
        == read_deployment(cluster, shared_namespace, "well").external_urls
    )


def test_functions_are_read_with_few_permissions(
    cluster: Cluster, shared_namespace: str, tmp_path: Path
) -> None:
    """Without processors, events and nodes the log has the reason, and pods have the addresses."""
    wait_until_settled(
        cluster, shared_namespace, "raising", lambda function: function.state == "unhealthy"
    )
    wait_until_settled(
        cluster, shared_namespace, "well", lambda function: function.state == "ready"
    )
    file = kubeconfig_of(cluster, shared_namespace, "reader", READER, tmp_path / "config")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(file))
        restricted = connection.connect()
        raising = read_deployment(restricted, shared_namespace, "raising")
        assert raising.state == "unhealthy"
        assert raising.message.startswith(f"{MISSING}\nTraceback (most recent call last):\n")
        well = read_deployment(restricted, shared_namespace, "well")
        assert well.state == "ready"
        assert f"{node_address(cluster)}:{well.http_port}" == well.external_urls[0]
        functions = {
            function.name: function
            for function in function_state.to_deployments(
                restricted, inventory.list_functions(restricted, shared_namespace)
            )
        }
        assert (functions["raising"].state, functions["well"].state) == ("unhealthy", "ready")
        assert functions["well"].external_urls == well.external_urls


def test_configured_addresses_are_used(
    cluster: Cluster, shared_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUCTL_EXTERNAL_IP_ADDRESSES", "a.example.com, 2001:db8::1")
    well = read_deployment(cluster, shared_namespace, "well")
    port = well.http_port
    assert well.external_urls == (f"a.example.com:{port}", f"[2001:db8::1]:{port}")


def test_a_failed_revision_is_reported_while_the_old_one_serves(
    cluster: Cluster, namespace: str, image: str
) -> None:
    apply_function(cluster, namespace, "well", image)
    wait_until_settled(cluster, namespace, "well", lambda function: function.state == "ready")
    apply_function(cluster, namespace, "well", image, env={"FAULT": "raise"})
    deployment = wait_until_settled(
        cluster, namespace, "well", lambda function: function.state == "unhealthy"
    )
    first, second, *_ = deployment.message.splitlines()
    assert first.startswith(MISSING)
    assert second == "pods of an older revision go on serving"
    assert deployment.replicas == (1, 1)
    assert sorted(pod["current"] for pod in deployment.details["pods"]) == [False, True]


def test_a_terminating_pod_does_not_count(cluster: Cluster, namespace: str, image: str) -> None:
    """It continues to serve for some seconds, and is ready until then."""
    apply_function(cluster, namespace, "well", image)
    wait_until_settled(cluster, namespace, "well", lambda function: function.state == "ready")
    for pod in inventory.list_pods(cluster, KubernetesKey(namespace, "well")):
        cluster.delete(kinds.POD, namespace, pod["metadata"]["name"])
    deployment = wait_until_settled(
        cluster, namespace, "well", lambda function: function.replicas == (0, 1)
    )
    assert deployment.state == "building"


def test_a_missing_replica_is_reported(cluster: Cluster, namespace: str, image: str) -> None:
    """The quota refuses the second pod, and the first one continues to serve."""
    metadata = {"name": "small", "namespace": namespace}
    create(cluster, RESOURCE_QUOTA, metadata, spec={"hard": {"pods": "1"}})

    def is_counted() -> bool:
        quota = cluster.get(RESOURCE_QUOTA, namespace, "small") or {}
        return "used" in (quota.get("status") or {})

    # A quota has no effect before the first count of its controller.
    until("the quota's first count", is_counted, SECONDS)
    apply_function(cluster, namespace, "two", image, replicas=2)
    deployment = wait_until_settled(
        cluster,
        namespace,
        "two",
        lambda function: (function.state, function.replicas) == ("ready", (1, 2)),
    )
    assert "the quota small of namespace" in deployment.message
