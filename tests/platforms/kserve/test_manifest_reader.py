"""Functions from manifests: their deploy results in the manifest again."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import yaml

from fnbuild.errors import InputError
from fnbuild.function.kserve_settings import kserve_settings
from fnbuild.function.reader import function_from_dict
from fnbuild.platforms.kserve.manifest_reader import function_config, is_manifest
from fnbuild.platforms.kserve.runtime_manifest import render_runtime
from fnbuild.platforms.kserve.service_manifest import ServiceContext, render_service
from tests.platforms.kserve.samples import revision
from tests.platforms.kserve.test_v1alpha2 import MOBILENET

SERVICE = yaml.safe_load("""
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: iris
  labels: {team: ml}
  annotations: {serving.kserve.io/deploymentMode: RawDeployment, sidecar.istio.io/inject: "false"}
spec:
  predictor:
    minReplicas: 1
    maxReplicas: 4
    scaleMetric: cpu
    scaleTarget: 70
    timeout: 30
    serviceAccountName: models
    nodeSelector: {gpu: "true"}
    logger: {url: "http://sink", mode: request}
    model:
      modelFormat: {name: sklearn, version: "1"}
      storageUri: s3://bucket/iris
      runtime: sklearn-py38
      env: [{name: PREDICT_PROBA, value: "True"}]
      resources: {limits: {cpu: "1"}}
""")

RUNTIME = yaml.safe_load("""
apiVersion: serving.kserve.io/v1alpha1
kind: ServingRuntime
metadata: {name: example-runtime}
spec:
  supportedModelFormats: [{name: sklearn, version: "1", autoSelect: true}]
  containers:
    - name: kserve-container
      image: examplemodelserver:latest
      args: ["--model_name={{.Name}}", --model_dir=/mnt/models, --http_port=8080]
      env: [{name: PREDICT_PROBA, value: "True"}]
""")


def rendered(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return what the function of a manifest is deployed as."""
    function = function_from_dict(function_config(manifest), "manifest")
    function = function.with_metadata(namespace="ns")
    record = revision(function, image=function.spec.image, digest="")
    if (runtime := kserve_settings(function).serving_runtime) is not None:
        return render_runtime(record, runtime, "")
    return render_service(record, ServiceContext("Standard"))


def without_defaults(component: dict[str, Any]) -> dict[str, Any]:
    """Return a component without what fnbuild adds to every pod."""
    added = ("securityContext", "automountServiceAccountToken")
    kept = {key: value for key, value in component.items() if key not in added}
    for key in ("containers", "model"):
        if key in kept:
            items = kept[key] if key == "containers" else [kept[key]]
            items = [
                {name: value for name, value in item.items()
                 if name not in (*added, "ports") and value != []}
                for item in items
            ]  # fmt: skip
            kept[key] = items if key == "containers" else items[0]
    return kept


def test_a_service_with_a_model_comes_back() -> None:
    result = rendered(SERVICE)
    assert without_defaults(result["spec"]["predictor"]) == SERVICE["spec"]["predictor"]
    assert result["metadata"]["annotations"] == SERVICE["metadata"]["annotations"]
    assert result["metadata"]["labels"]["team"] == "ml"


def test_the_transformer_of_kfserving_comes_back_as_v1beta1() -> None:
    config = function_config(MOBILENET)
    assert config["spec"]["image"] == "someone/transformer:1"
    assert config["spec"]["platform"]["attributes"]["kserve"] == {
        "component": "transformer",
        "args": [],
        "model": {
            "format": "tensorflow",
            "storageUri": "pvc://model-pvc/saved_models/",
            "minReplicas": 1,
        },
    }
    spec = rendered(MOBILENET)["spec"]
    assert spec["predictor"]["model"]["modelFormat"] == {"name": "tensorflow"}
    assert without_defaults(spec["transformer"]) == {
        "minReplicas": 1,
        "containers": [{"name": "kserve-container", "image": "someone/transformer:1"}],
    }


def test_a_runtime_comes_back() -> None:
    result = rendered(RUNTIME)
    [container] = result["spec"]["containers"]
    [original] = RUNTIME["spec"]["containers"]
    assert {key: container[key] for key in original} == original
    assert result["spec"]["supportedModelFormats"] == RUNTIME["spec"]["supportedModelFormats"]
    assert result["kind"] == "ServingRuntime"


def test_old_frameworks_and_custom_containers_are_read() -> None:
    old = {**SERVICE, "spec": {"predictor": {"sklearn": {"storageUri": "gs://bucket/m"}}}}
    assert rendered(old)["spec"]["predictor"]["model"]["modelFormat"] == {"name": "sklearn"}
    onnx = {**SERVICE, "spec": {"predictor": {"onnx": {"storageUri": "gs://bucket/m"}}}}
    assert rendered(onnx)["spec"]["predictor"]["model"]["protocolVersion"] == "v2"
    container = {
        "name": "x",
        "image": "server:1",
        "command": ["serve"],
        "args": ["--model_name=cats"],
        "env": [{"name": "STORAGE_URI", "value": "s3://bucket/m"}],
        "readinessProbe": {"httpGet": {"path": "/v1/models/cats", "port": 8080}},
        "ports": [{"containerPort": 8080}],
    }
    custom = {**SERVICE, "spec": {"predictor": {"containers": [container]}}}
    [result] = rendered(custom)["spec"]["predictor"]["containers"]
    assert (result["image"], result["command"], result["args"]) == (
        "server:1",
        ["serve"],
        ["--model_name=cats"],
    )
    assert {"name": "STORAGE_URI", "value": "s3://bucket/m"} in result["env"]
    assert result["readinessProbe"]["httpGet"]["path"] == "/v1/models/cats"


@pytest.mark.parametrize("arguments", [[], ["-m", "http.server"]])
def test_nothing_is_added_to_the_arguments_of_a_manifest(arguments: list[str]) -> None:
    container = {"name": "kserve-container", "image": "server:1", "command": ["python"]}
    if arguments:
        container["args"] = arguments
    spec = {"predictor": {"containers": [container]}, "transformer": {"containers": [container]}}
    pair = rendered({**SERVICE, "spec": spec | {"predictor": {"containers": [{"image": "p:1"}]}}})
    for component in (
        rendered({**SERVICE, "spec": {"predictor": spec["predictor"]}})["spec"]["predictor"],
        pair["spec"]["transformer"],
        rendered({**RUNTIME, "spec": {**RUNTIME["spec"], "containers": [container]}})["spec"],
    ):
        [result] = component["containers"]
        assert (result["command"], result["args"]) == (["python"], arguments)
    assert pair["spec"]["predictor"]["containers"][0]["args"] == []


SECRETS = [{"name": "first"}, {"name": "second"}]


@pytest.mark.parametrize(
    ("container", "pod", "text"),
    [
        ({"ports": [{"containerPort": 8080, "name": "h2c"}]}, {}, r"ports\[0\]: .* name: h2c"),
        ({"ports": [{"containerPort": 9000}]}, {}, r"ports\[0\]: .* containerPort: 9000"),
        ({"readinessProbe": {"httpGet": {"path": "/", "port": 9000}}}, {},
         r"readinessProbe.httpGet: .* port: 9000"),
        ({"readinessProbe": {"httpGet": {"path": "/", "port": 8080, "scheme": "HTTPS"}}}, {},
         "scheme: HTTPS"),
        ({"readinessProbe": {"httpGet": {"port": 8080}, "initialDelaySeconds": 9}}, {},
         "readinessProbe: .* initialDelaySeconds: 9"),
        ({"volumeMounts": [{"name": "cache", "mountPath": "/cache"}]}, {}, "volumes: cache is no"),
        ({}, {"volumes": [{"name": "cache", "emptyDir": {}}]}, "volumes: cache is no"),
        ({}, {"imagePullSecrets": SECRETS}, "imagePullSecrets: functions have one secret"),
    ],
)  # fmt: skip
def test_settings_that_functions_lack_are_not_lost(
    container: dict[str, Any], pod: dict[str, Any], text: str
) -> None:
    predictor = {"containers": [{"image": "server:1", **container}], **pod}
    with pytest.raises(InputError, match=rf"spec\.predictor.*{text}"):
        function_config({**SERVICE, "spec": {"predictor": predictor}})


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"predictor": {"model": {}, "workerSpec": {}}}, "spec.predictor: .*workerSpec"),
        ({"predictor": {"containers": [{}, {}]}}, "spec.predictor has 2 containers"),
        ({"predictor": {"model": {}}, "explainer": {}}, "spec: .*explainer"),
        ({"predictor": {"containers": [{"image": "x", "lifecycle": {}}]}}, "lifecycle"),
        ({}, "no predictor"),
    ],
)
def test_fields_that_functions_lack_are_reported(spec: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        function_config({**SERVICE, "spec": spec})


def test_only_objects_of_kserve_and_kfserving_are_manifests() -> None:
    assert all(map(is_manifest, (SERVICE, RUNTIME, MOBILENET)))
    assert not is_manifest({"kind": "InferenceService", "apiVersion": "example.com/v1"})
    assert not is_manifest({"metadata": {"name": "function"}})
    assert not is_manifest(None)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything in a manifest."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    paths = [path] if path else []
    for key, item in items:
        nested = isinstance(item, dict | list)
        paths += places(item, (*path, key)) if nested else [(*path, key)]
    return paths


@pytest.mark.parametrize("wrong", [None, "text", 5, [], ["text"], [None], {}, {"a": 1}])
def test_a_manifest_of_another_form_has_one_error(wrong: Any) -> None:
    errors = 0
    for manifest in (SERVICE, RUNTIME, MOBILENET):
        for *parents, last in places(manifest):
            if last in ("apiVersion", "kind"):
                continue
            changed = deepcopy(manifest)
            target = changed
            for key in parents:
                target = target[key]
            target[last] = wrong
            try:
                function_config(changed)
            except InputError as error:
                errors += "does not have the form of" in error.message
    assert errors or not wrong
