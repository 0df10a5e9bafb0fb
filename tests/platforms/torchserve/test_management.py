"""The client of TorchServe's management API: requests, pages and errors.

`test_server.py` sends the same requests to a real server.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from fnbuild.bridges.torchserve.server_config import ModelSettings
from fnbuild.errors import (
    ConflictError,
    FnbuildError,
    NotFoundError,
    PlatformError,
    PreconditionError,
    UnauthorizedError,
    UsageError,
)
from fnbuild.platforms.torchserve.management import (
    ManagementClient,
    ManagementReply,
)


class Server:
    """Answers with prepared replies by method and path, and records the requests."""

    def __init__(self, **replies: Any) -> None:
        self.requests: list[str] = []
        self.replies: dict[str, Any] = replies
        self.client = ManagementClient(self.send, "pod-1")

    def send(self, method: str, path: str, seconds: float) -> ManagementReply:
        self.requests.append(f"{method} {path}")
        assert seconds > 0
        status, value = self.replies.get(f"{method} {path}", self.replies.get("any"))
        return ManagementReply(status, json.dumps(value).encode())


def version(name: str, number: str, **more: Any) -> dict[str, Any]:
    values = {"modelName": name, "modelVersion": number, "modelUrl": f"{name}.mar"}
    return {**values, "minWorkers": 1, "maxWorkers": 2, "loadedAtStartup": False, **more}


def settings(file: str, **more: Any) -> ModelSettings:
    return ModelSettings(
        default_version=False,
        mar_name=file,
        min_workers=2,
        max_workers=2,
        batch_size=1,
        max_batch_delay=100,
        **more,
    )


def test_all_pages_of_models_are_read() -> None:
    pages = {
        "GET /models?limit=100&next_page_token=0": (
            200,
            {"models": [{"modelName": "b", "modelUrl": "b.mar"}], "nextPageToken": "1"},
        ),
        "GET /models?limit=100&next_page_token=1": (200, {"models": [{"modelName": "a b"}]}),
        "GET /models/a%20b/all": (200, [version("a b", "1"), version("a b", "2")]),
        "GET /models/b/all": (200, [version("b", "1.0")]),
    }
    server = Server(**pages)
    assert [(model.model_name, model.model_version) for model in server.client.models()] == [
        ("a b", "1"),
        ("a b", "2"),
        ("b", "1.0"),
    ]


def test_a_version_is_ready_with_all_required_workers() -> None:
    workers = [{"id": "9000", "status": "READY", "pid": 7}, {"id": "9001", "status": "LOADING"}]
    server = Server(any=(200, [version("a", "1", workers=workers)]))
    [described] = server.client.describe("a")
    assert (described.ready_workers, described.is_ready) == (1, True)
    server.replies["any"] = (200, [version("a", "1", workers=workers, minWorkers=2)])
    assert not server.client.describe("a")[0].is_ready
    server.replies["any"] = (200, [version("a", "1", minWorkers=0)])
    assert not server.client.describe("a")[0].is_ready


def test_a_registration_waits_for_its_workers() -> None:
    server = Server(any=(200, {"status": "registered"}))
    server.replies["GET /models/a/all"] = (200, [])
    server.client.register("a", settings("a_1.mar", response_timeout=30))
    query = parse_qs(urlsplit(server.requests[0].removeprefix("POST ")).query)
    assert query["url"] == ["a_1.mar"]
    assert query["model_name"] == ["a"]
    assert query["initial_workers"] == ["2"]
    assert query["synchronous"] == ["true"]
    assert query["response_timeout"] == ["30"]


def test_registered_workers_are_those_of_the_request_not_of_the_archive() -> None:
    """The settings in an archive's model-config.yaml have precedence in TorchServe."""
    server = Server(any=(200, {"status": "registered"}))
    described = [version("a", "0"), version("a", "1", modelUrl="a_1.mar")]
    server.replies["GET /models/a/all"] = (200, described)
    server.client.register("a", settings("a_1.mar"))
    [scaled] = [request for request in server.requests if request.startswith("PUT")]
    assert scaled == "PUT /models/a/1?min_worker=2&max_worker=2&synchronous=true"


@pytest.mark.parametrize(
    "file", ["", "..", "../a.mar", "/models/a.mar", "https://models/a.mar", "file:///a.mar"]
)
def test_models_are_registered_by_the_name_of_a_file_only(file: str) -> None:
    server = Server()
    with pytest.raises(UsageError, match="is not the name of a file in the model store"):
        server.client.register("a", settings(file))
    assert server.requests == []


@pytest.mark.parametrize("url", ["https://models/a.mar", "file:///models/a.mar"])
def test_a_model_of_a_url_is_not_unregistered_because_its_archive_would_be_deleted(
    url: str,
) -> None:
    server = Server(any=(200, [version("a", "1", modelUrl=url)]))
    with pytest.raises(PreconditionError, match="TorchServe would delete its archive"):
        server.client.unregister("a", "1")
    assert server.requests == ["GET /models/a/1"]


@pytest.mark.parametrize(
    ("status", "kind", "error", "text"),
    [
        (400, "InvalidKeyException", UnauthorizedError, "does not accept the token"),
        (400, "BadRequestException", PlatformError, "pod-1 answered 400: because"),
        (403, "ForbiddenException", PreconditionError, "403: because"),
        (404, "ModelVersionNotFoundException", NotFoundError, "404: because"),
        (405, "MethodNotAllowedException", PreconditionError, "the model API of .*pod-1 is off"),
        (409, "ConflictStatusException", ConflictError, "409: because"),
        (500, "InternalServerException", PlatformError, "500: because"),
    ],
)
def test_errors_of_the_server_are_single_clear_errors(
    status: int, kind: str, error: type[FnbuildError], text: str
) -> None:
    reply = {"code": status, "type": kind, "message": "because"}
    server = Server(any=(status, reply))
    with pytest.raises(error, match=text) as raised:
        server.client.set_default("a", "2")
    assert bool(raised.value.hint) == (error is not PlatformError)
    assert server.requests == ["PUT /models/a/2/set-default"]


def test_an_image_that_cannot_end_workers_is_named() -> None:
    message = "Interrupted while cleaning resources: a"
    reply = {"code": 500, "type": "InternalServerException", "message": message}
    with pytest.raises(PlatformError, match="Interrupted") as raised:
        Server(any=(500, reply)).client.set_default("a", "2")
    assert "command `kill`" in str(raised.value.hint)


def test_a_reply_of_another_server_is_an_error() -> None:
    server = Server(any=(200, {"hello": "world"}))
    with pytest.raises(PlatformError, match="cannot be read"):
        server.client.describe("a")
    server.replies["any"] = (502, "<html>")
    with pytest.raises(PlatformError, match="answered 502"):
        server.client.describe("a")
