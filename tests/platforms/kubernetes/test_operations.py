"""Metrics, disruption budgets, network policies and recommended labels."""

from __future__ import annotations

from typing import Any

import pytest

from fnbuild.errors import InputError
from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.kinds import Kind
from fnbuild.platforms.kubernetes.manifests import network
from fnbuild.platforms.kubernetes.manifests.rendering import render_manifests, render_portable
from fnbuild.platforms.kubernetes.rollout.warnings import configuration_warnings
from tests.platforms.kubernetes import samples
from tests.platforms.kubernetes.author import Author

pytestmark = pytest.mark.system


def objects(
    context: dict[str, Any] | None = None, values: dict[str, Any] | None = None, **spec: Any
) -> dict[str, Raw]:
    """Return the manifests of a function by kind."""
    function = samples.function(**spec)
    revision = samples.revision(function, **(values or {}))
    manifests = render_manifests(revision, samples.render_context(function, **(context or {})))
    return {manifest["kind"]: manifest for manifest in manifests}


def template(**spec: Any) -> Raw:
    pod_template: Raw = objects(**spec)["Deployment"]["spec"]["template"]
    return pod_template


def hardened(**attributes: Any) -> Raw:
    return {"platform": {"attributes": {"hardened": True, **attributes}}}


def test_pods_are_annotated_for_prometheus() -> None:
    metadata, pod = template()["metadata"], template()["spec"]
    ports = {port["name"]: port["containerPort"] for port in pod["containers"][0]["ports"]}
    assert ports == {"http": 8080, "metrics": 8082}
    assert metadata["annotations"]["prometheus.io/port"] == "8082"
    assert pod["enableServiceLinks"] is False
    function = samples.function()
    function.metadata.annotations["prometheus.io/scrape"] = "false"
    [deployment] = [
        manifest
        for manifest in render_manifests(
            samples.revision(function), samples.render_context(function)
        )
        if manifest["kind"] == "Deployment"
    ]
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/scrape"] == "false"


def test_a_pod_monitor_is_rendered_on_request() -> None:
    function = samples.function()
    revision, context = samples.revision(function), samples.render_context(function)
    assert "PodMonitor" not in [manifest["kind"] for manifest in render_portable(revision, context)]
    [monitor] = [
        manifest
        for manifest in render_portable(revision, context, monitoring=True)
        if manifest["kind"] == "PodMonitor"
    ]
    assert monitor["spec"]["podMetricsEndpoints"] == [{"port": "metrics", "path": "/metrics"}]
    assert (
        monitor["spec"]["selector"]["matchLabels"].items()
        <= template()["metadata"]["labels"].items()
    )


def test_objects_have_the_recommended_labels() -> None:
    def labels(**values: Any) -> dict[str, str]:
        all_labels: dict[str, str] = objects(values=values)["Deployment"]["metadata"]["labels"]
        return {
            k.partition("/")[2]: v for k, v in all_labels.items() if k.startswith("app.kubernetes")
        }

    assert labels() == {
        "name": "greeter",
        "instance": "nuclio-greeter",
        "version": "c0dec0dec0de",
        "component": "function",
        "part-of": "default",
        "managed-by": "fnbuild",
    }
    image_only = {"digest": "", "image": "registry.example.com:5000/greeter:1.4"}
    assert labels(**image_only)["version"] == "1.4"
    assert "version" not in labels(digest="", image="registry.example.com:5000/greeter")
    selector = objects()["Deployment"]["spec"]["selector"]["matchLabels"]
    assert not [key for key in selector if key.startswith("app.kubernetes.io/")]


@pytest.mark.parametrize("kind", [kinds.DISRUPTION_BUDGET, kinds.DISRUPTION_BUDGET_V1BETA1])
def test_several_replicas_have_a_disruption_budget(kind: Kind) -> None:
    budget = objects({"budget_kind": kind}, replicas=2)["PodDisruptionBudget"]
    assert (budget["apiVersion"], budget["spec"]["maxUnavailable"]) == (kind.api_version, 1)
    assert "PodDisruptionBudget" in objects(minReplicas=1, maxReplicas=3)
    for spec in ({}, {"replicas": 1}, {"replicas": 3, "disable": True}):
        assert "PodDisruptionBudget" not in objects(**spec)
    assert "PodDisruptionBudget" not in objects({"budget_kind": None}, replicas=2)


def test_pods_spread_over_nodes_unless_the_function_places_them() -> None:
    [constraint] = template(replicas=2)["spec"]["topologySpreadConstraints"]
    assert constraint["topologyKey"] == "kubernetes.io/hostname"
    assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"
    assert template(replicas=1) == template(replicas=2)
    for spec in ({"affinity": {"podAntiAffinity": {}}}, {"nodeName": "one"}):
        assert "topologySpreadConstraints" not in template(replicas=2, **spec)["spec"]


def test_a_hardened_function_accepts_requests_from_selected_namespaces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def sources(**attributes: Any) -> Any:
        spec = objects(**hardened(**attributes))["NetworkPolicy"]["spec"]
        [rule] = spec["ingress"]
        return [
            peer.get("namespaceSelector", {"matchLabels": {"": "own"}})["matchLabels"].popitem()[1]
            for peer in rule.get("from", [])
        ]

    assert "NetworkPolicy" not in objects()
    assert sources() == ["own"]
    assert sources(allowFrom=["cvat", "ingress-nginx"]) == ["own", "cvat", "ingress-nginx"]
    assert sources(allowFrom="cvat, ingress-nginx") == ["own", "cvat", "ingress-nginx"]
    monkeypatch.setenv("FNBUILD_ALLOW_FROM", "monitoring")
    assert sources(allowFrom=["cvat"]) == ["own", "cvat", "monitoring"]
    assert sources(allowFrom=["*"]) == []
    with pytest.raises(InputError, match="allowFrom: 'Not One' is no namespace"):
        sources(allowFrom=["Not One"])


def test_a_hardened_function_with_a_node_port_is_a_warning() -> None:
    def policy_warnings(**spec: Any) -> list[str]:
        function = samples.function(**spec)
        return [text for text in configuration_warnings(function) if "network policy" in text]

    [text] = policy_warnings(**hardened())
    assert "its NodePort port may not be reached" in text
    assert "--allow-from" in text
    assert policy_warnings(serviceType="ClusterIP", **hardened()) == []
    assert policy_warnings(**hardened(allowFrom="*")) == []
    assert network.network_warnings(samples.function()) == []
    unhardened = samples.function(platform={"attributes": {"allowFrom": ["cvat"]}})
    [text] = network.network_warnings(unhardened)
    assert "has no effect" in text
    assert "--hardened" in text


def test_capabilities_are_dropped() -> None:
    def dropped_capabilities(**spec: Any) -> Any:
        context = template(**spec)["spec"]["containers"][0]["securityContext"]
        return context["capabilities"]["drop"]

    assert dropped_capabilities() == ["NET_RAW"]
    assert dropped_capabilities(**hardened()) == ["ALL"]


def test_autoscaled_functions_have_requests() -> None:
    def requests(**spec: Any) -> Any:
        return template(**spec)["spec"]["containers"][0]["resources"]["requests"]

    def warned(**spec: Any) -> bool:
        warnings = configuration_warnings(samples.function(**spec))
        return any("compares CPU usage with spec.resources.requests" in text for text in warnings)

    scaled = {"minReplicas": 1, "maxReplicas": 3, "targetCPU": 60}
    minimum = {"cpu": "25m", "memory": "1Mi"}
    assert (requests(), warned()) == (minimum, False)
    assert (requests(targetCPU=60), warned(targetCPU=60)) == (minimum, False)
    assert requests(**scaled) == {"cpu": "500m", "memory": "256Mi"}
    assert warned(**scaled)
    resources = {"requests": {"cpu": "2", "memory": "1Gi"}}
    assert requests(resources=resources, **scaled) == resources["requests"]
    assert not warned(resources=resources, **scaled)
    # Kubernetes uses a limit as the request if there is no request.
    limits = {"limits": {"cpu": "200m"}}
    assert requests(resources=limits, **scaled) == {"memory": "256Mi"}


def test_the_class_of_an_ingress_is_an_annotation_on_old_clusters() -> None:
    attributes = {"ingressClassName": "nginx", "ingresses": {"a": {"host": "a.com"}}}
    spec = {"triggers": {"web": {"kind": "http", "attributes": attributes}}}
    new = objects(**spec)["Ingress"]
    assert new["spec"]["ingressClassName"] == "nginx"
    old = objects({"has_ingress_class": False}, **spec)["Ingress"]
    assert "ingressClassName" not in old["spec"]
    assert old["metadata"]["annotations"]["kubernetes.io/ingress.class"] == "nginx"


def test_budget_and_policy_are_created_and_removed_as_needed(author: Author, image: str) -> None:
    cluster = author.platform.cluster
    budget = kinds.DISRUPTION_BUDGET
    if not cluster.serves(budget):
        budget = kinds.DISRUPTION_BUDGET_V1BETA1

    def existing() -> list[bool]:
        object_kinds = (budget, kinds.NETWORK_POLICY)
        name = "nuclio-greeter"
        return [cluster.get(kind, author.namespace, name) is not None for kind in object_kinds]

    author.run(image, replicas=2)
    assert existing() == [True, False]
    author.run(image, replicas=2)
    assert author.progress[-1] == "nothing has changed, and the function runs"
    names = {pod["name"] for pod in author.deployment().details["pods"]}
    author.run(image, replicas=1)
    assert existing() == [False, False]
    assert {pod["name"] for pod in author.deployment().details["pods"] if pod["current"]} <= names
    stopped = {"replicas": 0}  # the image of the tests needs root
    author.run(image, **stopped, **hardened())
    assert existing() == [False, True]
    author.run(image, **stopped)
    assert existing() == [False, False]
    author.run(image, replicas=2)
    author.run(image, name="other", **stopped, **hardened())
    author.platform.delete(author.namespace, "greeter")
    author.platform.delete(author.namespace, "other")
    assert cluster.list(budget, author.namespace) == []
    assert cluster.list(kinds.NETWORK_POLICY, author.namespace) == []


def test_a_deployment_of_an_earlier_release_is_taken_over(author: Author, image: str) -> None:
    """Its selector cannot change, and lacks labels of later releases."""
    plan = author.plan(image)
    deployment = next(manifest for manifest in plan.manifests if manifest["kind"] == "Deployment")
    for metadata in (deployment["metadata"], deployment["spec"]["template"]["metadata"]):
        metadata["labels"] = {
            key: text
            for key, text in metadata["labels"].items()
            if not key.startswith("app.kubernetes.io/") or key.endswith("/managed-by")
        }
    del deployment["spec"]["revisionHistoryLimit"]
    author.platform.cluster.apply(deployment)
    author.run(image)
    live = author.live_deployment()
    assert live["spec"]["revisionHistoryLimit"] == 2
    assert live["metadata"]["labels"]["app.kubernetes.io/name"] == "greeter"
    assert author.deployment().state == "ready"
