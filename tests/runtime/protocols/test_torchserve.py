"""TorchServe's paths, and its answers that need no worker."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fnbuild.runtime.protocols.answers import DirectAnswer, InferenceRoute
from fnbuild.runtime.protocols.mapping import mapping_problems, read_model
from fnbuild.runtime.protocols.routes import ProtocolRouter
from fnbuild.runtime.protocols.torchserve import encode

ATTRIBUTES = {"protocols": ["torchserve"], "model": "mm", "version": "1.0"}


def router(ready: bool = True, **changes: Any) -> ProtocolRouter:
    model = read_model({**ATTRIBUTES, **changes}, {"name": "f", "revision": 3})
    assert model is not None
    return ProtocolRouter(model, lambda: ready, dict, lambda: {"workers": []})


@pytest.mark.parametrize("path", ["mm", "mm/", "mm/1.0", "mm/1.0/extra/path", "mm_1.0"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_predictions_and_explanations_are_for_workers(method: str, path: str) -> None:
    predict, explain = (
        InferenceRoute("torchserve", "predict"),
        InferenceRoute("torchserve", "explain"),
    )
    assert router().route(method, f"/predictions/{path}") == predict
    assert router(ready=False).route(method, f"/explanations/{path}") == explain


def test_the_version_is_the_revision_by_default() -> None:
    routes = router(version=None)
    assert routes.route("POST", "/predictions/mm/3") == InferenceRoute("torchserve", "predict")


def test_a_version_may_have_blanks_and_other_letters() -> None:
    routes = router(version="a b, ü")
    predict = InferenceRoute("torchserve", "predict")
    assert routes.route("POST", "/predictions/mm/a b, ü") == predict
    assert mapping_problems({**ATTRIBUTES, "version": "a b, ü"}) == []


@pytest.mark.parametrize(
    ("method", "path", "status", "kind", "message"),
    [
        ("POST", "/predictions/other", 404, "ModelNotFoundException", "Model not found: other"),
        (
            *("POST", "/predictions/mm/2.0", 404, "ModelVersionNotFoundException"),
            "Model version: 2.0 does not exist for model: mm",
        ),
        (
            *("POST", "/predictions", 404, "ResourceNotFoundException"),
            "Requested resource is not found, please refer to API document.",
        ),
        ("GET", "/models/other", 404, "ModelNotFoundException", "Model not found: other"),
        (
            *("POST", "/models", 405, "MethodNotAllowedException"),
            "Requested method is not allowed, please refer to API document.",
        ),
    ],
)
def test_other_models_and_methods_are_refused(
    method: str, path: str, status: int, kind: str, message: str
) -> None:
    answer = router().route(method, path)
    assert isinstance(answer, DirectAnswer)
    assert answer.status == status
    assert answer.value == {"code": status, "type": kind, "message": message}


def test_models_are_listed_and_described() -> None:
    entry = {"modelName": "mm", "modelUrl": "mm.mar"}
    for path, value in (
        ("/models", {"models": [entry]}),
        ("/models/mm", [{**entry, "modelVersion": "1.0", "runtime": "python", "workers": []}]),
        ("/models/mm/all", [{**entry, "modelVersion": "1.0", "runtime": "python", "workers": []}]),
    ):
        answer = router().route("GET", path)
        assert isinstance(answer, DirectAnswer)
        assert (answer.status, answer.value) == (200, value)


def test_other_paths_are_those_of_the_handler() -> None:
    assert router().route("POST", "/") is None
    assert router().route("POST", "/pings") is None
    assert router(protocols=["v1"]).route("GET", "/ping") is None


def test_values_are_written_as_by_torchserve() -> None:
    assert encode({"status": "it's <é>"}) == '{\n  "status": "it\'s <é>"\n}\n'.encode()
    assert json.loads(encode({"a": "\ud800"}).replace(b"\\ud800", b"x")) == {"a": "x"}


@pytest.mark.parametrize("version", [1.0, "", "a\n", "a/b"])
def test_a_version_is_a_text(version: Any) -> None:
    (problem,) = mapping_problems({**ATTRIBUTES, "version": version})
    assert problem.path == ("version",)
    assert problem.hint == 'as in `version: "1.0"`'
