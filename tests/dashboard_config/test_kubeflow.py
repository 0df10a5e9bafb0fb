"""The step of a Kubeflow pipeline that publishes a model to TorchServe."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from fnbuild.cli.publish import publish
from tests.dashboard_config.conftest import CONFIG
from tests.environments import environment_python

pytestmark = [pytest.mark.system, pytest.mark.versions]

KUBEFLOW = CONFIG / "kubeflow"
DEFAULTS = {
    "model_name": "embedding",
    "model_dir": "/model",
    "model_file": "model.pt",
    "faiss_model_file": "faiss_index.bin",
    "faiss_label_file": "faiss_label.json",
    "requirements": "requirements.txt",
    "handler_class": "MyHandler.py",
    "handler": "handler.py",
    "export_path": "/deploy-model/model-store",
    "config_path": "/deploy-model/config",
    "max_num_models": 3,
    "pred_port": 8082,
    "manage_port": 8083,
    "metric_port": 8084,
    "deploy_name": "torchserve",
    "svc_name": "torchserve",
    "namespace": "default",
}


def kubeflow_python() -> Path:
    """Return the interpreter of an environment with the SDK of Kubeflow Pipelines."""
    return environment_python("3.11", "kfp==2.17.0", "kfp-kubernetes==2.17.0", "docker==7.1.0")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The pipeline and its platform configuration, as the SDK compiles them."""
    file = tmp_path_factory.mktemp("pipeline") / "pipeline.yaml"
    command = [kubeflow_python(), KUBEFLOW / "pipeline.py", file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(file.read_text()))


def test_the_component_has_the_inputs_of_the_deploy_step(compiled: list[dict[str, Any]]) -> None:
    [component] = compiled[0]["components"].values()
    parameters = component["inputDefinitions"]["parameters"]
    assert {name: parameter["defaultValue"] for name, parameter in parameters.items()} == DEFAULTS
    kinds = {parameter["parameterType"] for parameter in parameters.values()}
    assert kinds == {"STRING", "NUMBER_INTEGER"}


def test_each_input_is_a_word_of_one_command_without_a_shell(
    compiled: list[dict[str, Any]],
) -> None:
    [executor] = compiled[0]["deploymentSpec"]["executors"].values()
    container = executor["container"]
    assert container["command"] == ["fnbuild", "torchserve", "publish"]
    text = " ".join(container["args"])
    assert all(f"{{{{$.inputs.parameters['{name}']}}}}" in text for name in DEFAULTS)
    options = {option for item in publish.params for option in item.opts}
    used = [word for word in container["args"] if word.startswith("--")]
    assert set(used) <= options | {"--namespace"}


def test_the_claims_of_the_model_and_of_the_model_store_are_mounted(
    compiled: list[dict[str, Any]],
) -> None:
    [executor] = compiled[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()
    mounts = {mount["mountPath"]: mount["constant"] for mount in executor["pvcMount"]}
    assert mounts == {"/model": "model-pvc", "/deploy-model": "serving-model-pvc"}
