"""Manifests: relations between values that the golden files do not show."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fnbuild.errors import InputError
from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient.kinds import CRON_JOB, HPA_V1, HPA_V2
from fnbuild.platforms.kubernetes.manifests.rendering import render_manifests
from fnbuild.runtime.access.credentials import VARIABLE
from tests.platforms.kubernetes import samples

DEFAULT_SECURITY_CONTEXT = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["NET_RAW"]},
}


def objects(
    context: dict[str, Any] | None = None, values: dict[str, Any] | None = None, **spec: Any
) -> dict[str, Raw]:
    """Return the specs of a function's manifests by kind."""
    function = samples.function(**spec)
    manifests = render_manifests(
        samples.revision(function, **(values or {})),
        samples.render_context(function, **(context or {})),
    )
    return {manifest["kind"]: manifest["spec"] for manifest in manifests}


def pod(**spec: Any) -> Raw:
    pod_spec: Raw = objects(**spec)["Deployment"]["template"]["spec"]
    return pod_spec


def http(**attributes: Any) -> Raw:
    return {"web": {"kind": "http", "attributes": attributes}}


@pytest.mark.parametrize(
    ("spec", "minimum", "maximum"),
    [
        ({}, 1, 1),
        ({"replicas": 0}, 0, 0),
        ({"replicas": 3, "maxReplicas": 9}, 3, 3),
        ({"minReplicas": 2}, 2, 2),
        ({"maxReplicas": 4}, 4, 4),
        ({"minReplicas": 0, "maxReplicas": 1}, 1, 1),
        ({"minReplicas": 0, "maxReplicas": 4}, 1, 4),
        ({"minReplicas": 2, "maxReplicas": 4}, 2, 4),
        ({"minReplicas": 2, "maxReplicas": 4, "disable": True}, 0, 0),
        ({"replicas": 3, "disable": True}, 0, 0),
    ],
)
def test_replicas_and_autoscaler_follow_the_limits(spec: Raw, minimum: int, maximum: int) -> None:
    manifests = objects(**spec)
    if minimum == maximum:
        assert manifests["Deployment"]["replicas"] == minimum
        assert "HorizontalPodAutoscaler" not in manifests
        return
    assert "replicas" not in manifests["Deployment"]
    scaler = manifests["HorizontalPodAutoscaler"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (minimum, maximum)
    for live, expected in ((0, minimum), (3, 3), (99, maximum)):
        updated = objects({"replicas": live}, **spec)
        assert updated["Deployment"]["replicas"] == expected


def test_the_autoscaler_is_rendered_for_each_version() -> None:
    spec = {"minReplicas": 1, "maxReplicas": 2}
    old = objects({"hpa_kind": HPA_V1}, **spec)["HorizontalPodAutoscaler"]
    assert old["targetCPUUtilizationPercentage"] == 75
    new = objects({"hpa_kind": HPA_V2}, targetCPU=50, **spec)["HorizontalPodAutoscaler"]
    target = {"type": "Utilization", "averageUtilization": 50}
    assert new["metrics"] == [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    metrics = [{"metricName": "x", "sourceType": "Pods", "threshold": 1}]
    with pytest.raises(InputError, match="the cluster scales by CPU alone"):
        objects({"hpa_kind": HPA_V1}, autoScaleMetrics=metrics, **spec)
    metrics = [{"metricName": "x", "sourceType": "Nothing", "threshold": 1}]
    with pytest.raises(InputError, match="'Nothing' is no source of the metric 'x'"):
        objects({"hpa_kind": HPA_V2}, autoScaleMetrics=metrics, **spec)


@pytest.mark.parametrize(
    ("spec", "live", "port"),
    [
        ({}, 0, None),
        ({}, 30123, 30123),
        ({"triggers": http(port=31000)}, 30123, 31000),
        ({"triggers": http(port=8070)}, 30123, 30123),
        ({"triggers": http(port=8070)}, 0, None),
        ({"serviceType": "ClusterIP"}, 30123, None),
        ({"serviceType": "LoadBalancer"}, 30123, 30123),
        ({"triggers": http(disablePortPublishing=True)}, 30123, None),
        ({"serviceType": "NodePort", "triggers": http(serviceType="ClusterIP")}, 30123, None),
    ],
)
def test_the_node_port_is_kept_or_set(spec: Raw, live: int, port: int | None) -> None:
    service = objects({"node_port": live}, **spec)["Service"]
    assert service["ports"][0].get("nodePort") == port


def test_an_unknown_service_type_is_refused() -> None:
    with pytest.raises(InputError, match="'ExternalName' is no type of service"):
        objects(serviceType="ExternalName")


def test_gpu_functions_are_recreated() -> None:
    gpu = {"limits": {"nvidia.com/gpu": "1"}}
    rolling = {"maxUnavailable": 0, "maxSurge": "25%"}
    assert objects()["Deployment"]["strategy"]["rollingUpdate"] == rolling
    assert objects(resources=gpu)["Deployment"]["strategy"] == {"type": "Recreate"}
    overlap = objects(values={"overlap": True}, resources=gpu)["Deployment"]["strategy"]
    assert overlap["rollingUpdate"] == rolling


def test_recreated_pods_end_without_delay() -> None:
    def seconds(**spec: Any) -> tuple[float, int]:
        template = objects(**spec)["Deployment"]["template"]
        processor = json.loads(template["metadata"]["annotations"]["fnbuild.io/processor"])
        return processor["linger"], template["spec"]["terminationGracePeriodSeconds"]

    linger, stop = seconds()
    assert seconds(deploymentStrategy={"type": "Recreate"}) == (1, stop - linger + 1)
    # It is decided during the rollout if the next pod with a GPU starts while the old one runs.
    gpu = {"limits": {"nvidia.com/gpu": "1"}}
    assert seconds(resources=gpu) == seconds(resources=gpu, values={"overlap": True})
    assert seconds(resources=gpu) == (linger, stop)


def test_settings_of_other_objects_restart_no_pods() -> None:
    before = objects()["Deployment"]["template"]
    specs: list[Raw] = [
        {"replicas": 3},
        {"disable": True},
        {"serviceType": "ClusterIP"},
        {"readinessTimeoutSeconds": 120},
    ]
    for spec in specs:
        assert objects(**spec)["Deployment"]["template"] == before
    plain = objects(triggers=http())["Deployment"]["template"]
    for attributes in ({"port": 31000}, {"serviceType": "ClusterIP"}, {"ingresses": {"a": {}}}):
        assert objects(triggers=http(**attributes))["Deployment"]["template"] == plain


def test_the_image_and_its_pull_policy() -> None:
    image, pinned = samples.IMAGE.format("greeter"), samples.PINNED.format("greeter")
    for values, spec, runs, policy in (
        ({}, {}, pinned, "IfNotPresent"),
        ({"pinned": ""}, {}, image, "Always"),
        ({"pinned": "", "image": pinned}, {}, pinned, "IfNotPresent"),
        ({}, {"imagePullPolicy": "Never"}, pinned, "Never"),
    ):
        template = objects(values=values, **spec)["Deployment"]["template"]
        container = template["spec"]["containers"][0]
        assert (container["image"], container["imagePullPolicy"]) == (runs, policy)


def test_the_pull_secret_of_the_function_takes_precedence() -> None:
    def secrets(context: Raw, **spec: Any) -> Any:
        return objects(context, **spec)["Deployment"]["template"]["spec"].get("imagePullSecrets")

    assert secrets({}) is None
    assert secrets({"pull_secret": "registry-credentials"}) == [{"name": "registry-credentials"}]
    assert secrets({"pull_secret": "other"}, imagePullSecrets="mine") == [{"name": "mine"}]


@pytest.mark.parametrize(
    ("limits", "requests", "expected"),
    [
        ({}, {}, {"cpu": "25m", "memory": "1Mi"}),
        ({"memory": "1Gi"}, {"cpu": "2"}, {"cpu": "2", "memory": "1Mi"}),
        ({"cpu": "10m", "memory": "1Gi"}, {}, {"memory": "1Mi"}),
        ({"cpu": "25m"}, {}, {"cpu": "25m", "memory": "1Mi"}),
    ],
)
def test_requests_have_defaults(limits: Raw, requests: Raw, expected: Raw) -> None:
    spec = pod(resources={"limits": limits, "requests": requests})
    resources = spec["containers"][0]["resources"]
    assert resources["requests"] == expected
    assert resources.get("limits", {}) == limits


def test_the_grace_period_follows_the_slowest_trigger() -> None:
    assert pod()["terminationGracePeriodSeconds"] == 5 + 60 + 5
    slow = {"web": {"kind": "http", "workerTerminationTimeout": "90.5s"}}
    assert pod(triggers=slow)["terminationGracePeriodSeconds"] == 101


def test_values_of_the_function_override_hardening() -> None:
    hardened: Raw = {"platform": {"attributes": {"hardened": "true"}}}
    explicit = {"seccompProfile": {"type": "Unconfined"}, "runAsUser": 0}
    assert pod(securityContext=explicit)["securityContext"] == explicit
    assert pod(securityContext=explicit, **hardened)["securityContext"] == explicit
    user = pod(securityContext={"runAsUser": 5}, **hardened)["securityContext"]
    assert (user["runAsUser"], user["runAsNonRoot"]) == (5, True)
    volume_source = {"name": "v", "emptyDir": {"medium": "Memory"}}
    volumes = [{"volume": volume_source, "volumeMount": {"name": "v", "mountPath": "/tmp"}}]
    names = [volume["name"] for volume in pod(volumes=volumes, **hardened)["volumes"]]
    assert names == ["v", "processor-config-volume"]


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({}, DEFAULT_SECURITY_CONTEXT),
        ({"runAsUser": 1}, DEFAULT_SECURITY_CONTEXT | {"runAsUser": 1}),
        ({"privileged": True}, {"privileged": True}),
        ({"capabilities": {"add": ["SYS_ADMIN"]}}, {"capabilities": {"add": ["SYS_ADMIN"]}}),
    ],
)
def test_sidecars_are_hardened(context: Raw, expected: Raw) -> None:
    side = {"name": "side", "image": "a", "securityContext": context}
    assert pod(sidecars=[side])["containers"][1]["securityContext"] == expected


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ({"volume": {"emptyDir": {}}, "volumeMount": {"mountPath": "/a"}}, "needs a name"),
        ({"volume": {"name": "a", "emptyDir": {}}, "volumeMount": {"name": "a"}}, "mountPath"),
        (
            {
                "volume": {"name": "one", "emptyDir": {}},
                "volumeMount": {"name": "one", "mountPath": "/b"},
            },
            "'one' is another volume already",
        ),
        (
            {
                "volume": {"name": "processor-config-volume", "emptyDir": {}},
                "volumeMount": {"name": "processor-config-volume", "mountPath": "/b"},
            },
            "is another volume already",
        ),
    ],
)
def test_invalid_volumes_are_refused(item: Raw, text: str) -> None:
    claim = {"name": "one", "persistentVolumeClaim": {"claimName": "one"}}
    first = {"volume": claim, "volumeMount": {"name": "one", "mountPath": "/one"}}
    with pytest.raises(InputError, match=text):
        pod(volumes=[first, item])


@pytest.mark.parametrize(
    ("uri", "volume", "mount"),
    [
        (
            "pvc://claim/a/b/",
            {"persistentVolumeClaim": {"claimName": "claim", "readOnly": True}},
            {"mountPath": "/mnt/models", "subPath": "a/b", "readOnly": True},
        ),
        ("s3://bucket/a", {"emptyDir": {}}, {"mountPath": "/mnt/models"}),
    ],
)
def test_a_model_has_a_volume(uri: str, volume: Raw, mount: Raw) -> None:
    rendered = pod(env=[{"name": "STORAGE_URI", "value": uri}])
    assert {"name": "fnbuild-model", **volume} in rendered["volumes"]
    mounts = rendered["containers"][0]["volumeMounts"]
    assert {"name": "fnbuild-model", **mount} in mounts


def test_a_model_in_the_image_or_in_an_own_volume_has_none() -> None:
    item = {
        "volume": {"name": "mine", "emptyDir": {}},
        "volumeMount": {"name": "mine", "mountPath": "/mnt/models"},
    }
    for uri, volumes in (("file:///models", []), ("s3://bucket/a", [item])):
        rendered = pod(env=[{"name": "STORAGE_URI", "value": uri}], volumes=volumes)
        assert "fnbuild-model" not in [volume["name"] for volume in rendered["volumes"]]
    with pytest.raises(InputError, match="only KServe can mount the image oci://a/b"):
        pod(env=[{"name": "STORAGE_URI", "value": "oci://a/b"}])


def test_cron_jobs_are_enabled_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    trigger = {"kind": "cron", "attributes": {"schedule": "@daily"}}
    triggers = {"web": {"kind": "http"}, "night": trigger}
    assert "CronJob" not in objects(triggers=triggers)
    monkeypatch.setenv("NUCLIO_CRON_TRIGGER_CREATION_MODE", "kube")
    manifests = objects({"cron_job_kind": CRON_JOB}, triggers=triggers)
    assert manifests["CronJob"]["schedule"] == "@daily"
    platform = {"attributes": {"cronTriggerCreationMode": "processor"}}
    assert "CronJob" not in objects(triggers=triggers, platform=platform)
    assert "CronJob" not in objects()
    trigger["attributes"] = {"schedule": "1 2 3"}
    with pytest.raises(InputError, match="'1 2 3' is no schedule"):
        objects(triggers=triggers)
    with pytest.raises(InputError, match="it has no http trigger"):
        objects(triggers={"night": trigger}, disableDefaultHTTPTrigger=True)


def test_host_templates_of_ingresses_are_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def host(**ingress: Any) -> Any:
        spec = objects(triggers=http(ingresses={"a": ingress}))["Ingress"]
        return spec["rules"][0].get("host")

    assert host(host="a.com", hostTemplate="{{ .Name }}.com") == "a.com"
    assert host(hostTemplate="{{.Name}}.{{ .Namespace }}.com") == "greeter.fnbuild-test.com"
    long = "{{ .Name }}" + "-x" * 30 + ".com"
    shortened = host(hostTemplate=long)
    assert shortened == host(hostTemplate=long)
    assert len(shortened.partition(".")[0]) in (62, 63)
    assert host(hostTemplate=long, hostTemplateRandomCharsLength=-1).startswith("greeter-x-x")
    with pytest.raises(InputError, match=r"ingresses\.a\.hostTemplate: .* cannot be filled in"):
        host(hostTemplate="{{ .Nothing }}.com")
    with pytest.raises(InputError, match="refers to the default, which is not set"):
        host(hostTemplate="@nuclio.fromDefault")
    monkeypatch.setenv("NUCLIO_DASHBOARD_HTTP_INGRESS_HOST_TEMPLATE", "{{ .ProjectName }}.org")
    assert host(hostTemplate="@nuclio.fromDefault") == "default.org"


def test_the_class_of_ingresses_is_selected(monkeypatch: pytest.MonkeyPatch) -> None:
    def ingress_class(annotations: Raw | None = None, **attributes: Any) -> Any:
        triggers = http(ingresses={"a": {"host": "a.com"}}, **attributes)
        triggers["web"]["annotations"] = annotations or {}
        return objects(triggers=triggers)["Ingress"].get("ingressClassName")

    assert ingress_class() is None
    assert ingress_class(ingressClassName="nginx") == "nginx"
    monkeypatch.setenv("FNBUILD_INGRESS_CLASS", "traefik")
    assert ingress_class() == "traefik"
    assert ingress_class(ingressClassName="nginx") == "nginx"
    # Kubernetes accepts only one of the two.
    assert ingress_class({"kubernetes.io/ingress.class": "older"}) is None


def test_a_function_that_serves_grpc_has_a_second_named_port() -> None:
    manifests = objects(triggers=http(protocols=["v1", "grpc"]))
    (_, grpc) = manifests["Service"]["ports"]
    assert grpc == {"name": "grpc", "protocol": "TCP", "port": 8081, "targetPort": 8081}
    (container,) = manifests["Deployment"]["template"]["spec"]["containers"]
    assert {"name": "grpc", "containerPort": 8081, "protocol": "TCP"} in container["ports"]
    assert [port["name"] for port in objects()["Service"]["ports"]] == ["http"]


def test_credentials_are_in_a_secret_alone() -> None:
    """The pods and the CronJobs refer to the Secret; annotations have digests of tokens only."""
    reference = {"secretKeyRef": {"name": "nuclio-fn.env", "key": "credentials"}}
    token = {"name": "ci", "sha256": "0" * 64}
    triggers = {
        "web": {
            "kind": "http",
            "attributes": {"authenticationMode": "api", "authentication": {"tokens": [token]}},
        },
        "daily": {"kind": "cron", "attributes": {"schedule": "@daily"}},
    }
    spec: Raw = {
        "triggers": triggers,
        "platform": {"attributes": {"cronTriggerCreationMode": "kube"}},
        "env": [{"name": VARIABLE, "valueFrom": reference}, {"name": "OTHER", "value": "1"}],
    }
    manifests = objects({"cron_job_kind": CRON_JOB}, **spec)
    variable = {"name": VARIABLE, "valueFrom": reference}
    [container] = manifests["CronJob"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [variable]
    [pod] = manifests["Deployment"]["template"]["spec"]["containers"]
    assert variable in pod["env"]
    del spec["env"]
    manifests = objects({"cron_job_kind": CRON_JOB}, **spec)
    [container] = manifests["CronJob"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert "env" not in container
