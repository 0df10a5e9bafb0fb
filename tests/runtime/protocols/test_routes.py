"""The paths of the protocols and the answers that need no worker."""

from __future__ import annotations

from typing import Any

import pytest

from fnbuild.runtime.protocols.answers import DirectAnswer, InferenceRoute
from fnbuild.runtime.protocols.mapping import read_model
from fnbuild.runtime.protocols.routes import ProtocolRouter

MODEL = read_model({"protocols": ["v1", "v2"], "model": "mm"}, {"name": "f", "revision": 3})
assert MODEL is not None


def router(ready: bool = True, protocols: tuple[str, ...] = ("v1", "v2")) -> ProtocolRouter:
    assert MODEL is not None
    return ProtocolRouter(MODEL._replace(protocols=protocols), lambda: ready, dict)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/v1/models", {"models": ["mm"]}),
        ("/v1/models/mm", {"name": "mm", "ready": True}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models", {"models": ["mm"]}),
        ("/v2/models/mm/ready", {"name": "mm", "ready": True}),
        ("/v2/models/mm/versions/3/ready", {"name": "mm", "ready": True}),
    ],
)
def test_lists_and_states(path: str, value: Any) -> None:
    assert router().route("GET", path) == DirectAnswer(200, value)
    assert router().route("GET", path + "/") == DirectAnswer(200, value)
    assert router().route("PUT", path).status == 405


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v1/models/mm:predict", InferenceRoute("v1", "predict")),
        ("/v1/models/mm:explain", InferenceRoute("v1", "explain")),
        ("/v2/models/mm/infer", InferenceRoute("v2", "infer")),
        ("/v2/models/mm/versions/3/infer", InferenceRoute("v2", "infer")),
    ],
)
def test_requests_for_workers(path: str, route: InferenceRoute) -> None:
    assert router().route("POST", path) == route
    # Workers are waited for.
    assert router(ready=False).route("POST", path) == route


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("POST", "/v1/models/nope:predict", 404, "Model with name nope does not exist."),
        ("GET", "/v1/models/mm:predict", 404, "Model with name mm:predict does not exist."),
        ("POST", "/v1/models/mm:train", 404, "/v1/models/mm:train does not exist"),
        ("POST", "/v1/models/mm", 405, "POST"),
        ("GET", "/v2/models/nope", 404, "Model with name nope does not exist."),
        ("POST", "/v2/models/nope/infer", 404, "Model with name nope does not exist."),
        ("GET", "/v2/models/mm/versions/4", 404, "no version 4; revision 3 is serving"),
        ("POST", "/v2/models/mm/versions/4/infer", 404, "no version 4"),
        ("GET", "/v2/models/mm/infer", 405, "GET"),
        ("GET", "/v2/models/mm/nothing", 404, "/v2/models/mm/nothing does not exist"),
        ("GET", "/v2/nothing", 404, "/v2/nothing does not exist"),
        ("POST", "/v2/repository/models/mm/load", 501, "deploy another revision"),
    ],
)
def test_errors(method: str, path: str, status: int, error: str) -> None:
    answer = router().route(method, path)
    assert isinstance(answer, DirectAnswer)
    assert answer.status == status
    assert error in answer.value["error"]


def test_not_ready() -> None:
    assert router(False).route("GET", "/v1/models/mm") == DirectAnswer(
        503, {"error": "Model with name mm is not ready."}
    )
    assert router(False).route("GET", "/v2/models/mm/ready").status == 503
    assert router(False).route("GET", "/v2/health/ready").status == 503
    assert router(False).route("GET", "/v2/health/live").status == 200


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/modelsx", "/v2x", "/v3/models", "/v1/things"])
def test_other_paths_are_those_of_the_handler(path: str) -> None:
    assert router().route("GET", path) is None


def test_only_the_protocols_asked_for() -> None:
    assert router(protocols=("v1",)).route("GET", "/v1/models").status == 200
    assert router(protocols=("v1",)).route("GET", "/v2") is None
    assert router(protocols=("v1",)).route("GET", "/v2/things") is None
    # The gRPC server asks in V2.
    assert router(protocols=("grpc",)).route("GET", "/v2").status == 200


@pytest.mark.parametrize(
    ("protocols", "path", "message"),
    [
        (("v1",), "/v2/health/ready", "The function serves v1; add v2 to the protocols"),
        (("v1",), "/v2/models/mm/infer", "add v2"),
        (("v2", "grpc"), "/v1/models/mm:predict", "The function serves v2, grpc; add v1"),
        (("grpc",), "/v1/models", "The function serves grpc; add v1"),
    ],
)
def test_the_other_protocol_is_refused_with_the_remedy(
    protocols: tuple[str, ...], path: str, message: str
) -> None:
    answer = router(protocols=protocols).route("POST", path)
    assert isinstance(answer, DirectAnswer)
    assert path.startswith(router(protocols=protocols).prefixes)
    assert answer.status == 404
    assert message in answer.value["error"]
