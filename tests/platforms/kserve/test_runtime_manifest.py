"""Serving runtimes of functions and around existing images."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fnbuild.function.kserve_settings import kserve_settings
from fnbuild.platforms.kserve.admission import manifest_warnings, runtime_problems
from fnbuild.platforms.kserve.runtime_manifest import render_runtime
from fnbuild.platforms.kserve.warnings import configuration_warnings
from tests.platforms.crds import schema_errors
from tests.platforms.kserve.samples import function, revision

SETTINGS = {
    "servingRuntime": {
        "formats": [{"name": "sklearn", "version": "1", "autoSelect": True, "priority": 1}],
        "protocolVersions": ["v1"],
    }
}


def render(kserve: dict[str, Any], digest: str = "", **spec: Any) -> dict[str, Any]:
    described = function("sklearn-py38", kserve, **spec)
    settings = kserve_settings(described)
    assert settings.serving_runtime is not None
    manifest = render_runtime(revision(described, digest=digest), settings.serving_runtime, "")
    assert schema_errors(manifest) == []
    assert list(runtime_problems(manifest)) == []
    return manifest


def test_a_runtime_around_an_image_is_that_of_the_article() -> None:
    manifest = render(SETTINGS, env=[{"name": "PREDICT_PROBA", "value": "True"}])
    assert (manifest["kind"], manifest["metadata"]["namespace"]) == (
        "ServingRuntime",
        "fnbuild-test",
    )
    spec = manifest["spec"]
    assert spec["supportedModelFormats"] == SETTINGS["servingRuntime"]["formats"]
    [container] = spec["containers"]
    assert container["name"] == "kserve-container"
    assert container["args"] == [
        "--model_name={{.Name}}",
        "--model_dir=/mnt/models",
        "--http_port=8080",
    ]
    assert container["env"] == [{"name": "PREDICT_PROBA", "value": "True"}]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--x=1"], ["--model_name={{.Name}}", "--x=1"]),
        (["--model_name=fixed"], ["--model_name=fixed"]),
        (["--model_name_or_path=/m"], ["--model_name={{.Name}}", "--model_name_or_path=/m"]),
    ],
)
def test_the_model_name_is_added_to_the_arguments_of_a_built_image(
    arguments: list[str], expected: list[str]
) -> None:
    built = render({**SETTINGS, "args": arguments}, "c0de" * 16)
    [container] = built["spec"]["containers"]
    assert container["args"] == expected


@pytest.mark.parametrize("arguments", [[], ["tritonserver", "--model-store=/mnt/models"]])
def test_nothing_is_added_to_the_arguments_of_an_existing_image(arguments: list[str]) -> None:
    manifest = render({**SETTINGS, "command": ["serve"], "args": arguments})
    [container] = manifest["spec"]["containers"]
    assert (container["command"], container["args"]) == (["serve"], arguments)
    assert list(manifest_warnings(manifest)) == []
    own = render({**SETTINGS, "args": ["--model_dir=/mnt/models"]})
    [warning] = manifest_warnings(own)
    assert warning.place == "spec.containers[0].args"
    assert warning.remedy == "add `--model_name={{.Name}}`"


def test_a_runtime_of_the_cluster_has_no_namespace() -> None:
    runtime = {**SETTINGS["servingRuntime"], "cluster": True, "serverType": "mlserver"}
    manifest = render({"servingRuntime": runtime}, disable=True)
    assert manifest["kind"] == "ClusterServingRuntime"
    assert "namespace" not in manifest["metadata"]
    assert manifest["metadata"]["annotations"] == {"serving.kserve.io/server-type": "mlserver"}
    assert manifest["spec"]["disabled"] is True


def test_a_runtime_of_a_function_runs_its_processor_with_its_triggers() -> None:
    trigger = {"kind": "http", "numWorkers": 3}
    built = render(SETTINGS, "c0de" * 16, triggers={"http": trigger}, description="a {{b}} {{{c")
    [container] = built["spec"]["containers"]
    assert container["command"] == ["/usr/local/bin/processor"]
    [variable] = container["env"]
    assert variable["name"] == "FNBUILD_PROCESSOR"
    # KServe would read it as a template.
    assert "{{" not in variable["value"]
    processor = json.loads(variable["value"])
    assert processor["triggers"]["http"]["num_workers"] == 3
    assert processor["function"]["description"] == "a {{b}} {{{c"


def test_settings_of_a_runtime_reach_its_pods_or_are_reported() -> None:
    source = {"secretRef": {"name": "bucket"}}
    mount = {"name": "cache", "mountPath": "/cache"}
    volume = {"volume": {"name": "cache", "emptyDir": {}}, "volumeMount": mount}
    runtime = render(
        {**SETTINGS, "readinessPath": "/ready"}, volumes=[volume], envFrom=[source], hostIPC=True
    )
    assert runtime["spec"]["volumes"] == [volume["volume"]]
    assert runtime["spec"]["hostIPC"] is True
    [container] = runtime["spec"]["containers"]
    assert container["volumeMounts"] == [mount]
    assert container["envFrom"] == [source]
    assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": 8080}

    def warnings(kserve: dict[str, Any], **spec: Any) -> tuple[str, ...]:
        described = function("runtime", kserve, **spec)
        return configuration_warnings(described, kserve_settings(described), "Standard")

    assert warnings(SETTINGS) == ()
    ignored = {
        "minReplicas": 2,
        "serviceAccount": "models",
        "securityContext": {"runAsUser": 1},
        "priorityClassName": "high",
        "eventTimeout": "30s",
    }
    [warning] = warnings({**SETTINGS, "containerConcurrency": 4}, **ignored)
    for name in (*ignored, "kserve.containerConcurrency"):
        assert name in warning
    assert warnings({}, **ignored) == ()
