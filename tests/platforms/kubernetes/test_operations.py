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
    around: dict[str, Any] | None = None, values: dict[str, Any] | None = None, **spec: Any
) -> dict[str, Raw]:
    """The manifests of a function by their kinds."""
    one = samples.function(**spec)
    made = samples.revision(one, **(values or {}))
    manifests = render_manifests(made, samples.render_context(one, **(around or {})))
    return {manifest["kind"]: manifest for manifest in manifests}


def template(**spec: Any) -> Raw:
    found: Raw = objects(**spec)["Deployment"]["spec"]["template"]
    return found


def hardened(**attributes: Any) -> Raw:
    return {"platform": {"attributes": {"hardened": True, **attributes}}}


def test_prometheus_finds_the_metrics() -> None:
    about, pod = template()["metadata"], template()["spec"]
    ports = {one["name"]: one["containerPort"] for one in pod["containers"][0]["ports"]}
    assert ports == {"http": 8080, "metrics": 8082}
    assert about["annotations"]["prometheus.io/port"] == "8082"
    assert pod["enableServiceLinks"] is False
    one = samples.function()
    one.metadata.annotations["prometheus.io/scrape"] = "false"
    [deployment] = [
        manifest
        for manifest in render_manifests(samples.revision(one), samples.render_context(one))
        if manifest["kind"] == "Deployment"
    ]
    given = deployment["spec"]["template"]["metadata"]["annotations"]
    assert given["prometheus.io/scrape"] == "false"


def test_a_pod_monitor_is_printed_when_asked_for() -> None:
    one = samples.function()
    made, around = samples.revision(one), samples.render_context(one)
    assert "PodMonitor" not in [manifest["kind"] for manifest in render_portable(made, around)]
    [monitor] = [
        manifest
        for manifest in render_portable(made, around, monitoring=True)
        if manifest["kind"] == "PodMonitor"
    ]
    assert monitor["spec"]["podMetricsEndpoints"] == [{"port": "metrics", "path": "/metrics"}]
    assert (
        monitor["spec"]["selector"]["matchLabels"].items()
        <= template()["metadata"]["labels"].items()
    )


def test_the_recommended_labels() -> None:
    def labels(**values: Any) -> dict[str, str]:
        found: dict[str, str] = objects(values=values)["Deployment"]["metadata"]["labels"]
        return {k.partition("/")[2]: v for k, v in found.items() if k.startswith("app.kubernetes")}

    assert labels() == {
        "name": "greeter",
        "instance": "nuclio-greeter",
        "version": "c0dec0dec0de",
        "component": "function",
        "part-of": "default",
        "managed-by": "fnbuild",
    }
    elsewhere = {"digest": "", "image": "registry.example.com:5000/greeter:1.4"}
    assert labels(**elsewhere)["version"] == "1.4"
    assert "version" not in labels(digest="", image="registry.example.com:5000/greeter")
    selector = objects()["Deployment"]["spec"]["selector"]["matchLabels"]
    assert not [key for key in selector if key.startswith("app.kubernetes.io/")]


@pytest.mark.parametrize("kind", [kinds.DISRUPTION_BUDGET, kinds.DISRUPTION_BUDGET_V1BETA1])
def test_several_replicas_have_a_disruption_budget(kind: Kind) -> None:
    found = objects({"budget": kind}, replicas=2)["PodDisruptionBudget"]
    assert (found["apiVersion"], found["spec"]["maxUnavailable"]) == (kind.api_version, 1)
    assert "PodDisruptionBudget" in objects(minReplicas=1, maxReplicas=3)
    for spec in ({}, {"replicas": 1}, {"replicas": 3, "disable": True}):
        assert "PodDisruptionBudget" not in objects(**spec)
    assert "PodDisruptionBudget" not in objects({"budget": None}, replicas=2)


def test_pods_spread_over_nodes_unless_the_function_places_them() -> None:
    [constraint] = template(replicas=2)["spec"]["topologySpreadConstraints"]
    assert constraint["topologyKey"] == "kubernetes.io/hostname"
    assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"
    assert template(replicas=1) == template(replicas=2)
    for spec in ({"affinity": {"podAntiAffinity": {}}}, {"nodeName": "one"}):
        assert "topologySpreadConstraints" not in template(replicas=2, **spec)["spec"]


def test_a_hardened_function_is_called_from_chosen_namespaces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def sources(**attributes: Any) -> Any:
        spec = objects(**hardened(**attributes))["NetworkPolicy"]["spec"]
        [rule] = spec["ingress"]
        return [
            one.get("namespaceSelector", {"matchLabels": {"": "own"}})["matchLabels"].popitem()[1]
            for one in rule.get("from", [])
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


def test_a_hardened_function_with_a_node_port_says_who_may_not_reach_it() -> None:
    def warned(**spec: Any) -> list[str]:
        one = samples.function(**spec)
        return [text for text in configuration_warnings(one) if "network policy" in text]

    [text] = warned(**hardened())
    assert "its NodePort port may not be reached" in text
    assert "--allow-from" in text
    assert warned(serviceType="ClusterIP", **hardened()) == []
    assert warned(**hardened(allowFrom="*")) == []
    assert network.network_warnings(samples.function()) == []
    open_one = samples.function(platform={"attributes": {"allowFrom": ["cvat"]}})
    [text] = network.network_warnings(open_one)
    assert "has no effect" in text
    assert "--hardened" in text


def test_capabilities() -> None:
    def dropped(**spec: Any) -> Any:
        context = template(**spec)["spec"]["containers"][0]["securityContext"]
        return context["capabilities"]["drop"]

    assert dropped() == ["NET_RAW"]
    assert dropped(**hardened()) == ["ALL"]


def test_requests_that_an_autoscaler_can_compare_with() -> None:
    def requests(**spec: Any) -> Any:
        return template(**spec)["spec"]["containers"][0]["resources"]["requests"]

    def warned(**spec: Any) -> bool:
        some = configuration_warnings(samples.function(**spec))
        return any("compares CPU usage with spec.resources.requests" in text for text in some)

    scaled = {"minReplicas": 1, "maxReplicas": 3, "targetCPU": 60}
    least = {"cpu": "25m", "memory": "1Mi"}
    assert (requests(), warned()) == (least, False)
    assert (requests(targetCPU=60), warned(targetCPU=60)) == (least, False)
    assert requests(**scaled) == {"cpu": "500m", "memory": "256Mi"}
    assert warned(**scaled)
    given = {"requests": {"cpu": "2", "memory": "1Gi"}}
    assert requests(resources=given, **scaled) == given["requests"]
    assert not warned(resources=given, **scaled)
    # Kubernetes takes a limit for the request where there is none.
    limits = {"limits": {"cpu": "200m"}}
    assert requests(resources=limits, **scaled) == {"memory": "256Mi"}


def test_the_class_of_an_ingress_where_there_is_no_field_for_it() -> None:
    attributes = {"ingressClassName": "nginx", "ingresses": {"a": {"host": "a.com"}}}
    spec = {"triggers": {"web": {"kind": "http", "attributes": attributes}}}
    new = objects(**spec)["Ingress"]
    assert new["spec"]["ingressClassName"] == "nginx"
    old = objects({"ingress_class": False}, **spec)["Ingress"]
    assert "ingressClassName" not in old["spec"]
    assert old["metadata"]["annotations"]["kubernetes.io/ingress.class"] == "nginx"


def test_budget_and_policy_come_and_go_with_what_they_are_for(author: Author, image: str) -> None:
    cluster = author.platform.cluster
    budget = kinds.DISRUPTION_BUDGET
    if not cluster.serves(budget):
        budget = kinds.DISRUPTION_BUDGET_V1BETA1

    def there() -> list[bool]:
        some = (budget, kinds.NETWORK_POLICY)
        name = "nuclio-greeter"
        return [cluster.get(kind, author.namespace, name) is not None for kind in some]

    author.run(image, replicas=2)
    assert there() == [True, False]
    author.run(image, replicas=2)
    assert author.progress[-1] == "nothing has changed, and the function runs"
    names = {pod["name"] for pod in author.shown().details["pods"]}
    author.run(image, replicas=1)
    assert there() == [False, False]
    assert {pod["name"] for pod in author.shown().details["pods"] if pod["current"]} <= names
    off = {"replicas": 0}  # the image of the tests needs root
    author.run(image, **off, **hardened())
    assert there() == [False, True]
    author.run(image, **off)
    assert there() == [False, False]
    author.run(image, replicas=2)
    author.run(image, name="other", **off, **hardened())
    author.platform.delete(author.namespace, "greeter")
    author.platform.delete(author.namespace, "other")
    assert cluster.list(budget, author.namespace) == []
    assert cluster.list(kinds.NETWORK_POLICY, author.namespace) == []


def test_a_deployment_of_an_earlier_release_is_taken_over(author: Author, image: str) -> None:
    """Its selector cannot change, and has none of the labels that came later."""
    plan = author.planned(image)
    deployment = next(manifest for manifest in plan.manifests if manifest["kind"] == "Deployment")
    for one in (deployment["metadata"], deployment["spec"]["template"]["metadata"]):
        one["labels"] = {
            key: text
            for key, text in one["labels"].items()
            if not key.startswith("app.kubernetes.io/") or key.endswith("/managed-by")
        }
    del deployment["spec"]["revisionHistoryLimit"]
    author.platform.cluster.apply(deployment)
    author.run(image)
    live = author.live()
    assert live["spec"]["revisionHistoryLimit"] == 2
    assert live["metadata"]["labels"]["app.kubernetes.io/name"] == "greeter"
    assert author.shown().state == "ready"
