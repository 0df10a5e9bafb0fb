"""The objects by which KEDA scales a function to zero."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from fnbuild.errors import InputError
from fnbuild.function.types import Function, Raw
from fnbuild.platforms.kubeclient.kinds import HTTP_SCALED_OBJECT, INTERCEPTOR_ROUTE, Kind
from fnbuild.platforms.kubernetes.manifests.rendering import render_manifests
from fnbuild.platforms.kubernetes.rollout.warnings import zero_replicas_warnings
from tests.platforms.crds import schema_errors
from tests.platforms.kubernetes import samples

FEATURE = Path(__file__).parent / "features" / "scale-to-zero.yaml"
ZERO = {"minReplicas": 0, "maxReplicas": 1}


def rendered(function: Function, route_kind: Kind | None = INTERCEPTOR_ROUTE) -> dict[str, Raw]:
    """Return the manifests by kind, and the proxy Service as `proxy`."""
    context = samples.render_context(function, route_kind=route_kind)
    manifests = render_manifests(samples.revision(function), context)
    return {
        "proxy" if manifest["metadata"]["name"].endswith("-proxy") else manifest["kind"]: manifest
        for manifest in manifests
    }


@pytest.mark.parametrize("kind", [INTERCEPTOR_ROUTE, HTTP_SCALED_OBJECT])
def test_the_objects_are_valid_for_keda(kind: Kind) -> None:
    objects = rendered(samples.load(FEATURE), kind)
    assert schema_errors(objects["ScaledObject"]) == []
    assert schema_errors(objects[kind.name]) == []
    [trigger] = objects["ScaledObject"]["spec"]["triggers"]
    route = objects[kind.name]["metadata"]["name"]
    assert route in trigger["metadata"].values()
    assert "HorizontalPodAutoscaler" not in objects
    assert "replicas" not in objects["Deployment"]["spec"]


def test_rules_that_old_api_servers_ignore_are_checked() -> None:
    objects = rendered(samples.load(FEATURE))
    scaled_object = deepcopy(objects["ScaledObject"])
    scaled_object["spec"]["minReplicaCount"] = 3
    [error] = schema_errors(scaled_object)
    assert "minReplicaCount must be less than or equal to maxReplicaCount" in error
    route = deepcopy(objects["InterceptorRoute"])
    route["spec"]["target"]["portName"] = "http"
    route["spec"]["scalingMetric"] = {}
    errors = "\n".join(schema_errors(route))
    assert "exactly one of 'port' or 'portName' must be set" in errors
    assert "at least one of 'concurrency' or 'requestRate' must be set" in errors


def test_requests_of_an_ingress_and_of_pods_go_to_the_interceptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FNBUILD_KEDA_NAMESPACE", "autoscaling")
    objects = rendered(samples.load(FEATURE))
    [path] = objects["Ingress"]["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"]["service"]["name"] == objects["proxy"]["metadata"]["name"]
    target = objects["proxy"]["spec"]["externalName"]
    assert target == "keda-add-ons-http-interceptor-proxy.autoscaling.svc.cluster.local"
    [rule] = objects["InterceptorRoute"]["spec"]["rules"]
    assert "segmenter.example.com" in rule["hosts"]
    assert "nuclio-segmenter-proxy.fnbuild-test.svc.cluster.local" in rule["hosts"]
    [ingress] = objects["NetworkPolicy"]["spec"]["ingress"]
    names = [peer.get("namespaceSelector", {}).get("matchLabels") for peer in ingress["from"]]
    assert {"kubernetes.io/metadata.name": "autoscaling"} in names


def test_the_proxy_is_not_listed_as_a_function() -> None:
    assert "nuclio.io/class" not in rendered(samples.load(FEATURE))["proxy"]["metadata"]["labels"]


def test_the_concurrency_is_what_the_workers_of_a_pod_handle() -> None:
    def target(**trigger: Any) -> int:
        web = {"kind": "http", **trigger}
        objects = rendered(samples.function(triggers={"web": web}, **ZERO))
        return objects["InterceptorRoute"]["spec"]["scalingMetric"]["concurrency"]["targetValue"]

    assert target() == 1
    assert target(numWorkers=3) == 3
    assert target(numWorkers=2, batch={"mode": "enable", "batchSize": 4}) == 8


@pytest.mark.parametrize(
    "spec",
    [{"minReplicas": 1, "maxReplicas": 2}, {**ZERO, "replicas": 1}, {**ZERO, "disable": True}],
)
def test_other_functions_have_no_objects_of_keda(spec: Raw) -> None:
    assert (
        not {"ScaledObject", "InterceptorRoute", "proxy"}
        & rendered(samples.function(**spec)).keys()
    )


def test_without_keda_one_pod_stays() -> None:
    objects = rendered(samples.function(**ZERO), None)
    assert objects["Deployment"]["spec"]["replicas"] == 1
    assert not {"ScaledObject", "proxy"} & objects.keys()


def test_a_name_without_room_for_the_suffix_is_refused() -> None:
    with pytest.raises(InputError, match="too long for a function that KEDA scales") as failure:
        rendered(samples.function("a" * 52, **ZERO))
    assert failure.value.hint == "use up to 50 characters, or minReplicas 1"


def test_warnings_name_what_starts_no_pod() -> None:
    def warnings(route_kind: Kind | None = INTERCEPTOR_ROUTE, **spec: Any) -> str:
        function = samples.function(**ZERO, **spec)
        context = samples.render_context(function, route_kind=route_kind)
        return "\n".join(zero_replicas_warnings(function, context))

    assert "requests to its NodePort port start no pod" in warnings()
    assert not warnings(serviceType="ClusterIP")
    cron = {"every": {"kind": "cron", "attributes": {"interval": "1m"}}}
    assert "cron triggers do not run" in warnings(triggers=cron)


def test_without_keda_the_workers_sleep_inside_the_pod() -> None:
    def warning(**spec: Any) -> str:
        function = samples.function(**ZERO, **spec)
        [text] = zero_replicas_warnings(function, samples.render_context(function, route_kind=None))
        return text

    assert "minReplicas 0 counts as 1: nothing wakes a function here" in warning()
    assert "`--idle-timeout 10m`" in warning()
    window = {"scaleResources": [{"metricName": "requests", "windowSize": "2m", "threshold": 0}]}
    text = warning(scaleToZero=window)
    assert "KEDA with its HTTP add-on is not in this cluster" in text
    assert text.endswith("the pod stays, and its workers sleep after 120 s without a request")
