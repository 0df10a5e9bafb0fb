"""The configuration of the server of a function."""

from __future__ import annotations

from typing import Any

from fnbuild.bridges.torchserve.server_config import render
from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function
from fnbuild.platforms.torchserve.configuration import (
    ServerPorts,
    served_model,
    server_config,
)

FILE = "eyes_260102_0304.mar"


def function(**settings: Any) -> Function:
    return function_from_dict(
        {
            "metadata": {"name": "eyes"},
            "spec": {
                "eventTimeout": "1500ms",
                "triggers": {"http": {"kind": "http", "numWorkers": 2}},
                "platform": {"attributes": {"torchserve": settings}},
            },
        },
        "function.yaml",
    )


def lines(of: Function) -> list[str]:
    model = served_model(of, FILE)
    config = server_config(of, model, ServerPorts(8082, 8083, 8084), "/models", "0.0.0.0")
    return render(config).splitlines()


def test_the_deployed_version_is_the_only_one_in_the_snapshot() -> None:
    assert lines(function(batchSize=4, maxBatchDelay=50)) == [
        "inference_address=http://0.0.0.0:8082",
        "management_address=http://0.0.0.0:8083",
        "metrics_address=http://0.0.0.0:8084",
        "metrics_mode=prometheus",
        "job_queue_size=100",
        "default_workers_per_model=2",
        "default_response_timeout=2",
        "max_request_size=4194304",
        "max_response_size=4194304",
        "install_py_dep_per_model=true",
        "enable_model_api=true",
        "model_store=/models",
        "token_expiration_min=5270400",
        'model_snapshot={"name": "startup.cfg", "modelCount": 1, "models": {"eyes":'
        ' {"260102_0304": {"defaultVersion": true, "marName": "eyes_260102_0304.mar",'
        ' "minWorkers": 2, "maxWorkers": 2, "batchSize": 4, "maxBatchDelay": 50,'
        ' "responseTimeout": 2, "startupTimeout": 120}}}}',
    ]


def test_all_archives_are_served_by_the_names_in_them() -> None:
    everything = function(loadModels="all")
    assert served_model(everything, FILE).name == "eyes_260102_0304"
    assert "load_models=all" in lines(everything)
    assert not [line for line in lines(everything) if line.startswith("model_snapshot")]


def test_without_tokens_no_models_can_be_registered() -> None:
    text = lines(function(tokens=False))
    assert "disable_token_authorization=true" in text
    assert not [line for line in text if line.startswith("enable_model_api")]
