"""Manifests of KFServing become manifests and functions of KServe."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from fnbuild.errors import InputError
from fnbuild.platforms.kserve.admission import service_problems
from fnbuild.platforms.kserve.v1alpha2 import is_kfserving, to_v1beta1
from tests.platforms.crds import schema_errors
from tests.platforms.kserve.article_manifests import KFSERVING

MOBILENET = yaml.safe_load(KFSERVING.format(image="someone/transformer:1"))


def manifest(**default: Any) -> dict[str, Any]:
    metadata = {"name": "mobilenet"}
    return {**MOBILENET, "metadata": metadata, "spec": {"default": default}}


def test_the_manifest_of_the_article_becomes_v1beta1() -> None:
    converted = to_v1beta1(MOBILENET)
    assert is_kfserving(MOBILENET)
    assert not is_kfserving(converted)
    assert converted == {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "mobilenet"},
        "spec": {
            "predictor": {
                "minReplicas": 1,
                "model": {
                    "modelFormat": {"name": "tensorflow"},
                    "storageUri": "pvc://model-pvc/saved_models/",
                },
            },
            "transformer": {
                "minReplicas": 1,
                "containers": [{"name": "kserve-container", "image": "someone/transformer:1"}],
            },
        },
    }
    assert schema_errors(converted) == []
    assert list(service_problems(converted, "Standard")) == []


@pytest.mark.parametrize("framework", ["sklearn", "xgboost", "pytorch", "onnx", "tensorrt"])
def test_frameworks_become_formats(framework: str) -> None:
    converted = to_v1beta1(manifest(predictor={framework: {"storageUri": "gs://bucket/m"}}))
    name = converted["spec"]["predictor"]["model"]["modelFormat"]["name"]
    assert name == {"tensorrt": "triton"}.get(framework, framework)


def test_parallelism_and_the_mode_of_the_logger_have_new_names() -> None:
    predictor = {
        "custom": {"container": {"image": "x", "args": ["--predictor_host", "m"]}},
        "parallelism": 2,
        "logger": {"url": "http://sink"},
    }
    converted = to_v1beta1(manifest(predictor=predictor))["spec"]["predictor"]
    assert converted["containerConcurrency"] == 2
    assert converted["logger"] == {"url": "http://sink", "mode": "all"}


def test_the_service_of_a_predictor_has_no_suffix_any_more() -> None:
    arguments = ["--predictor_host", "mobilenet-predictor-default.ns"]
    transformer = {"custom": {"container": {"image": "x", "args": arguments}}}
    predictor = {"tensorflow": {"storageUri": "gs://bucket/m"}}
    converted = to_v1beta1(manifest(predictor=predictor, transformer=transformer))
    [container] = converted["spec"]["transformer"]["containers"]
    assert container["args"] == ["--predictor_host", "mobilenet-predictor.ns"]


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ({"default": {"predictor": {}}}, "spec.default has no predictor"),
        ({"default": {"predictor": {"minReplicas": 1}}}, "neither a framework nor `custom`"),
        ({"default": {"predictor": {"tensorflow": {"storageUri": "x", "what": 1}}}}, "what"),
        ({"default": {"predictor": {"tensorflow": {}}, "explainer": {"alibi": {}}}}, "explainer"),
        ({"default": {"predictor": {"custom": {"container": {}}}}}, "names no image"),
        ({"default": {}, "canary": {"predictor": {}}, "canaryTrafficPercent": 10}, "spec.canary"),
    ],
)
def test_errors_name_the_place(spec: dict[str, Any], place: str) -> None:
    with pytest.raises(InputError, match=place):
        to_v1beta1({**MOBILENET, "spec": spec})
