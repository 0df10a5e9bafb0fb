"""InferenceServices of functions: KServe's schema and rules accept them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fnbuild.platforms.kserve.admission import manifest_warnings, service_problems
from fnbuild.platforms.kserve.pod_fields import Mode
from fnbuild.platforms.kserve.service_manifest import ServiceContext, render_service
from tests.platforms.crds import schema_errors
from tests.platforms.kserve.samples import SKLEARN, function, revision, service

FULL = function(
    "detector",
    {
        "containerConcurrency": 4,
        "batcher": {"maxBatchSize": 8, "maxLatency": 200},
        "logger": {"url": "http://sink.example.com"},
    },
    env=[{"name": "THRESHOLD", "value": "0.5"}],
    minReplicas=1,
    maxReplicas=3,
    eventTimeout="90s",
    serviceAccount="models",
    nodeSelector={"gpu": "true"},
    resources={"limits": {"nvidia.com/gpu": "1", "memory": "4Gi"}},
    tolerations=[{"key": "gpu", "operator": "Exists"}],
    volumes=[
        {
            "volume": {"name": "weights", "persistentVolumeClaim": {"claimName": "weights"}},
            "volumeMount": {"name": "weights", "mountPath": "/weights"},
        }
    ],
)


SAMPLES = {
    "custom predictor": function(),
    "all settings": FULL,
    "model": function("iris", {"model": SKLEARN}),
    "model with a runtime": function(
        "iris",
        {"model": {**SKLEARN, "version": "1", "runtime": "sk", "protocolVersion": "v2"}},
        env=[{"name": "PREDICT_PROBA", "value": "True"}],
        resources={"limits": {"cpu": "500m"}},
    ),
    "model in described storage": function(
        "iris", {"model": {"format": "sklearn", "storage": {"key": "lake", "path": "iris"}}}
    ),
    "transformer beside a model": function(
        "mobilenet",
        {
            "component": "transformer",
            "model": {"format": "tensorflow", "storageUri": "pvc://claim/dir", "minReplicas": 1},
        },
    ),
    "transformer beside an image": function(
        "mobilenet", {"component": "transformer", "predictorImage": "predictor:1"}
    ),
    "pair": function("mobilenet", {"component": "pair"}),
    "own model": function("mobilenet", {"model": {"storageUri": "pvc://claim/dir/"}}),
    "gRPC": function(
        triggers={"http": {"kind": "http", "attributes": {"protocols": ["v2", "grpc"]}}}
    ),
    "disabled": function(disable=True),
}  # fmt: skip


@pytest.mark.parametrize("mode", ["Standard", "Knative"])
@pytest.mark.parametrize("name", SAMPLES)
def test_manifests_pass_the_schema_and_the_rules(name: str, mode: Mode) -> None:
    manifest = service(SAMPLES[name], mode)
    assert schema_errors(manifest) == []
    assert list(map(str, service_problems(manifest, mode))) == []


def test_manifests_of_another_functions_transformer_pass_the_schema_in_part() -> None:
    manifest = service(
        function("prepare", {"component": "transformer", "inferenceService": "mobilenet"})
    )
    assert manifest["metadata"] == {"name": "mobilenet", "namespace": "fnbuild-test"}
    assert list(manifest["spec"]) == ["transformer"]
    complete = {**manifest, "spec": {**manifest["spec"], "predictor": {"minReplicas": 1}}}
    assert schema_errors(complete) == []


def test_the_schema_refuses_unknown_fields_and_numbers_as_quantities() -> None:
    manifest = service(function())
    manifest["spec"]["predictor"]["replicas"] = 1
    [container] = manifest["spec"]["predictor"]["containers"]
    container["resources"] = {"limits": {"cpu": 0.5}}
    text = "\n".join(schema_errors(manifest))
    assert "replicas" in text
    assert "0.5" in text


def container_of(manifest: dict[str, Any], component: str = "predictor") -> dict[str, Any]:
    [container] = manifest["spec"][component]["containers"]
    return container


def test_custom_predictors_are_told_their_model_name() -> None:
    container = container_of(service(function("mobilenet")))
    assert container["name"] == "kserve-container"
    assert container["args"] == ["--model_name=mobilenet"]
    # Arguments replace the command of an image.
    assert container["command"] == ["/usr/local/bin/processor"]


def test_the_model_name_of_the_trigger_goes_before_that_of_the_function() -> None:
    triggers = {"http": {"kind": "http", "attributes": {"model": "cats"}}}
    assert container_of(service(function(triggers=triggers)))["args"] == ["--model_name=cats"]


def test_another_argument_with_the_same_beginning_does_not_replace_the_model_name() -> None:
    settings: dict[str, Any] = {"args": ["--model_name_or_path=/mnt/models"]}
    expected = ["--model_name=greeter", "--model_name_or_path=/mnt/models"]
    assert container_of(service(function(kserve=settings)))["args"] == expected
    # The controller would leave it out.
    settings |= {"component": "transformer", "inferenceService": "mobilenet"}
    manifest = service(function("prepare", settings))
    assert container_of(manifest, "transformer")["args"][0] == "--model_name=mobilenet"
    settings["args"] = ["--model_name", "own"]
    manifest = service(function("prepare", settings))
    assert container_of(manifest, "transformer")["args"] == ["--model_name", "own"]


@pytest.mark.parametrize("arguments", [[], ["tritonserver", "--model-store=/mnt/models"]])
def test_nothing_is_added_to_the_arguments_of_an_existing_image(arguments: list[str]) -> None:
    image = function(kserve={"args": arguments})
    assert container_of(service(image, digest=""))["args"] == arguments
    beside = {"component": "transformer", "predictorImage": "p:1", "model": {"args": arguments}}
    manifest = service(function(kserve=beside))
    assert container_of(manifest)["args"] == arguments
    assert list(manifest_warnings(manifest)) == []
    # Without a list, the server is taken for one of KServe's kind.
    assert container_of(service(function(), digest=""))["args"] == ["--model_name=greeter"]


def test_a_server_of_kserves_kind_without_its_model_name_has_a_warning() -> None:
    image = function(kserve={"args": ["--http_port=8080"]})
    [warning] = manifest_warnings(service(image, digest=""))
    assert (warning.place, warning.remedy) == (
        "spec.predictor.containers[0].args",
        "add `--model_name=greeter`",
    )
    assert list(manifest_warnings(service(image))) == []


def test_the_controller_names_the_model_and_the_predictor_of_transformers() -> None:
    manifest = service(SAMPLES["transformer beside a model"])
    assert container_of(manifest, "transformer")["args"] == []
    assert manifest["spec"]["predictor"] == {
        "minReplicas": 1,
        "model": {"modelFormat": {"name": "tensorflow"}, "storageUri": "pvc://claim/dir"},
    }


def test_transformers_of_v2_predictors_get_the_protocol_as_argument_and_variable() -> None:
    model = {"format": "onnx", "storageUri": "s3://bucket/m", "protocolVersion": "v2"}
    manifest = service(function("m", {"component": "transformer", "model": model}))
    container = container_of(manifest, "transformer")
    assert container["args"] == ["--predictor_protocol=v2"]
    assert {"name": "PROTOCOL", "value": "v2"} in container["env"]


def test_readiness_waits_for_the_model_and_not_for_the_port() -> None:
    built = container_of(service(function()))
    assert built["readinessProbe"]["httpGet"] == {"path": "/__internal/health", "port": 8080}
    foreign = function(kserve={"readinessPath": "/v1/models/x"})
    probe = container_of(service(foreign, digest=""))["readinessProbe"]
    assert probe["httpGet"]["path"] == "/v1/models/x"
    # Another server may have another path, so KServe's own probe of the port remains.
    assert "readinessProbe" not in container_of(service(function(), digest=""))


def test_the_model_of_a_function_is_fetched_by_its_storage_uri() -> None:
    container = container_of(service(SAMPLES["own model"]))
    assert {"name": "STORAGE_URI", "value": "pvc://claim/dir/"} in container["env"]


def test_variables_of_the_function_are_not_set_twice() -> None:
    uri = "pvc://claim/dir/"
    env = [{"name": "STORAGE_URI", "value": uri}]
    container = container_of(service(function(kserve={"model": {"storageUri": uri}}, env=env)))
    assert [item for item in container["env"] if item["name"] == "STORAGE_URI"] == env
    model = {"format": "onnx", "storageUri": uri, "protocolVersion": "v2"}
    env = [{"name": "PROTOCOL", "value": "v2"}]
    transformer = function(kserve={"component": "transformer", "model": model}, env=env)
    container = container_of(service(transformer), "transformer")
    assert [item for item in container["env"] if item["name"] == "PROTOCOL"] == env


def test_the_configuration_of_the_processor_is_a_variable_without_secrets() -> None:
    secret = function(env=[{"name": "API_KEY", "value": "swordfish"}])
    [text] = [
        item["value"]
        for item in container_of(service(secret))["env"]
        if item["name"] == "FNBUILD_PROCESSOR"
    ]
    assert json.loads(text)["handler"] == "main:handler"
    assert "swordfish" not in text


def test_replicas_limits_and_nodes_are_those_of_the_function() -> None:
    predictor = service(FULL)["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (1, 3)
    assert (predictor["timeout"], predictor["containerConcurrency"]) == (90, 4)
    assert predictor["nodeSelector"] == {"gpu": "true"}
    assert predictor["serviceAccountName"] == "models"
    assert predictor["deploymentStrategy"] == {"type": "Recreate"}
    assert predictor["logger"] == {"url": "http://sink.example.com", "mode": "all"}
    assert predictor["batcher"] == {"maxBatchSize": 8, "maxLatency": 200}
    limits = container_of(service(FULL))["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "1"


def test_knative_mode_has_neither_a_strategy_nor_a_second_port() -> None:
    predictor = service(FULL, "Knative")["spec"]["predictor"]
    assert "deploymentStrategy" not in predictor
    ports = container_of(service(SAMPLES["gRPC"], "Knative"))["ports"]
    assert [port["name"] for port in ports] == ["http1"]
    standard = container_of(service(SAMPLES["gRPC"]))["ports"]
    assert [(port["name"], port["containerPort"]) for port in standard] == [
        ("http", 8080),
        ("grpc", 8081),
    ]


def test_the_target_of_cpu_is_a_scale_metric_in_standard_mode() -> None:
    scaled = function(targetCPU=60, maxReplicas=4)
    predictor = service(scaled)["spec"]["predictor"]
    assert (predictor["scaleMetric"], predictor["scaleTarget"]) == ("cpu", 60)
    assert "scaleMetric" not in service(scaled, "Knative")["spec"]["predictor"]
    rps = function(kserve={"scaleMetric": "rps", "scaleTarget": 20})
    assert service(rps, "Knative")["spec"]["predictor"]["scaleTarget"] == 20


def test_a_canary_in_knative_mode_is_a_percentage() -> None:
    canary = function(kserve={"canaryTrafficPercent": 20})
    assert service(canary, "Knative")["spec"]["predictor"]["canaryTrafficPercent"] == 20
    promoted = function(kserve={"canaryTrafficPercent": 100})
    assert "canaryTrafficPercent" not in service(promoted, "Knative")["spec"]["predictor"]


@pytest.mark.parametrize("kserve", [{}, {"model": SKLEARN}])
def test_a_canary_in_standard_mode_is_a_second_predictor(kserve: dict[str, object]) -> None:
    stable = function(kserve=kserve, minReplicas=1, maxReplicas=3, description="old")
    canary = function(kserve={**kserve, "canaryTrafficPercent": 20}, minReplicas=2, maxReplicas=3)
    manifest = service(canary, "Standard", stable)
    assert schema_errors(manifest) == []
    assert list(map(str, service_problems(manifest, "Standard"))) == []
    assert manifest["spec"]["predictor"] == service(stable)["spec"]["predictor"]
    [entry] = manifest["spec"]["canary"]
    assert (entry["trafficPercent"], entry["predictor"]["name"]) == (20, "canary")
    # The stable predictor has one replica at least, so the canary may not have more.
    assert entry["predictor"]["minReplicas"] == 1
    assert "maxReplicas" not in entry["predictor"]


def test_metadata_has_the_owner_and_only_annotations_for_the_cluster() -> None:
    annotated = function(
        metadata={"annotations": {"type": "detector", "sidecar.istio.io/inject": "false"}},
        kserve={"deploymentMode": "RawDeployment", "autoscalerClass": "none"},
    )
    metadata = service(annotated)["metadata"]
    assert metadata["labels"]["app.kubernetes.io/managed-by"] == "fnbuild"
    assert metadata["annotations"] == {
        "sidecar.istio.io/inject": "false",
        "serving.kserve.io/deploymentMode": "RawDeployment",
        "serving.kserve.io/autoscalerClass": "none",
    }


def test_the_manifest_depends_on_the_function_and_its_image_only() -> None:
    records = [revision(FULL, number=number, created=f"2026-01-0{number}") for number in (1, 2)]
    first, second = (render_service(record, ServiceContext("Standard")) for record in records)
    assert first == second
    restarted = revision(FULL, stamp="now")
    predictor = render_service(restarted, ServiceContext("Standard"))["spec"]["predictor"]
    assert predictor["annotations"] == {"fnbuild.io/restarted": "now"}
