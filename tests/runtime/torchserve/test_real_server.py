"""The same requests to archives in a real TorchServe, and to the functions imported from them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from fnbuild.bridges.torchserve.server_config import ServerConfig
from tests.runtime.conftest import Running
from tests.runtime.torchserve.real_archives import (
    make_archives,
    make_eager_archive,
    make_enveloped_archives,
)
from tests.runtime.torchserve.unpacked import imported
from tests.torchserve_server import TorchServe, running_torchserve

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archives")
    store = folder / "store"
    store.mkdir()
    make_archives(folder, store)
    return store


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[TorchServe]:
    with running_torchserve(store) as started:
        yield started


Ask = Callable[..., list[requests.Response]]


@pytest.fixture(scope="module")
def serve_imported(
    store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Running]]:
    """Start the processor for the function that is imported from an archive."""
    with contextlib.ExitStack() as stack:
        started: dict[str, Running] = {}

        def start(name: str) -> Running:
            if name not in started:
                home = tmp_path_factory.mktemp(name)
                started[name] = stack.enter_context(imported(store / f"{name}.mar", home))
            return started[name]

        yield start


@pytest.fixture(scope="module")
def ask(server: TorchServe, serve_imported: Callable[[str], Running]) -> Ask:
    """Send a request for a model to both servers; return the replies, TorchServe's first."""

    def send(path: str, **options: Any) -> list[requests.Response]:
        model = path.split("/")[2].partition("?")[0]
        options.setdefault("method", "POST")
        urls = (server.url("inference"), serve_imported(model).url)
        return [requests.request(url=url + path, timeout=60, **options) for url in urls]

    return send


def assert_same(replies: list[requests.Response]) -> requests.Response:
    expected, reply = replies
    sent = reply.request.url, reply.request.headers, reply.request.body
    assert (reply.status_code, reply.content) == (expected.status_code, expected.content), sent
    return reply


JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


# Tests of one server are few, so that one process of the test run starts it.
BODIES: list[tuple[bytes, dict[str, str]]] = [
    (b"\x00\xff", {}),
    (b"", {}),
    (b'{"a": 1}', JSON),
    (b'{"a": 1}', {"Content-Type": "application/json; charset=utf-8"}),
    (b'{"a": 1}', {"Content-Type": "Application/JSON"}),
    (b"{bad", JSON),
    ("é".encode(), {"Content-Type": "text/csv; charset=latin-1"}),
    (b"\xff", {"Content-Type": "text/plain"}),
    (b"a", {"Content-Type": "application/octet-stream", "X-My": "Ab"}),
    (b"a=1&b=2%20x+y&a=3&c", FORM),
    (b"c&a=1=2&%61=%C3%A9;", FORM),
    (b"abc", FORM),
    (b"", FORM),
    (b"a=1\r\nb=2", FORM),
    (b"x", {"Content-Type": "multipart/form-data; boundary=b"}),
    (b"x", {"Content-Type": "multipart/form-data"}),
]


def test_bodies_become_the_same_rows(ask: Ask) -> None:
    for body, headers in BODIES:
        assert_same(ask("/predictions/rows", data=body, headers=headers))


FORMS: list[Any] = [
    {"data": ("a.bin", b"\x00\xff")},
    {"data": ("a.json", b'{"a": 1}', "application/json"), "word": (None, b"text")},
    {"data": ("a.txt", b"text", "text/plain; charset=utf-8"), "more": ("b", b"\r\n--x\r\n")},
    [("data", ("a", b"first")), ("data", ("b", b"second"))],
    {"é": ("a", b"")},
]


def test_parts_of_forms_become_the_same_rows(ask: Ask) -> None:
    for files in FORMS:
        assert_same(ask("/predictions/rows", files=files))


def test_forms_that_cannot_be_read_are_refused(ask: Ask) -> None:
    for body in (b"a=%zz", b"=x"):
        expected, reply = ask("/predictions/rows", data=body, headers=FORM)
        assert reply.status_code == expected.status_code == 500
        assert {**reply.json(), "message": ""} == {**expected.json(), "message": ""}


PATHS = [
    ("GET", "/predictions/rows"),
    ("PUT", "/predictions/rows"),
    ("POST", "/predictions/rows/1.0"),
    ("POST", "/predictions/rows/1.0/more%20words/last?q=1"),
    ("POST", "/explanations/rows"),
    ("POST", "/predictions/rows?q=1"),
    ("POST", "/predictions/rows/2.0"),
    ("GET", "/predictions/rows/2.0"),
]


def test_paths_and_methods_are_answered_alike(ask: Ask) -> None:
    for method, path in PATHS:
        assert_same(ask(path, method=method, data=b"abc"))


def test_unknown_models_and_paths_are_refused_alike(
    server: TorchServe, serve_imported: Callable[[str], Running]
) -> None:
    for path in ("/predictions/nope", "/predictions", "/explanations"):
        urls = (server.url("inference"), serve_imported("rows").url)
        assert_same([requests.post(url + path, timeout=60) for url in urls])


RESULTS = [
    *("ValueError", "CUDA", "MemoryError", "400", "413", "513", "500"),
    *("dict", "tuple", "length", "object", "key", "numpy"),
    *("None", "text", "bytes", "bytearray", "empty", "nested", "number", "tensor"),
    *("status 418", "status 201", "headers", "any"),
]


def test_results_become_the_same_replies(ask: Ask) -> None:
    for word in RESULTS:
        expected, reply = ask("/predictions/replies", data=word.encode())
        assert_same([expected, reply])
        if "Content-Type" in expected.headers:
            assert reply.headers["Content-Type"] == expected.headers["Content-Type"]
        assert reply.headers.get("X-Own") == expected.headers.get("X-Own")


def test_replies_without_a_content_type_get_that_of_the_value(ask: Ask) -> None:
    types = {
        "nested": "application/json",
        "text": "text/plain; charset=utf-8",
        "bytes": "application/octet-stream",
    }
    for word, content_type in types.items():
        expected, reply = ask("/predictions/replies", data=word.encode())
        assert "Content-Type" not in expected.headers
        assert reply.headers["Content-Type"] == content_type


def test_a_scripted_model_with_extra_files_labels_and_batches(
    server: TorchServe, serve_imported: Callable[[str], Running]
) -> None:
    urls = (server.url("inference"), serve_imported("digits").url)
    values = [[0, 1, 2], [1, 1, 2]]
    with ThreadPoolExecutor(4) as pool:
        # Two requests are a batch, in each server.
        pairs = [
            [pool.submit(requests.post, f"{url}/predictions/digits", json=row) for url in urls]
            for row in [{"values": value} for value in values]
        ]
        for pair in pairs:
            reply = assert_same([future.result() for future in pair]).json()
            assert (reply["notes"], reply["rows"]) == ("FROM THE EXTRA FOLDER", 2)
            assert reply["size"] == 2
            assert set(reply["scores"]) == {"zero", "one"}


def test_explanations_come_from_get_insights(ask: Ask) -> None:
    reply = assert_same(ask("/explanations/digits", json={"values": [1, 2, 3], "target": 1}))
    assert reply.json() == {"target": 0, "sum": 12.0}


V2 = {"id": "i-1", "inputs": [{"name": "a", "shape": [2], "datatype": "INT64", "data": [1, 2]}]}
TEXT = {"inputs": [{"name": "a", "shape": [1], "datatype": "BYTES", "data": ["word"]}], "id": "i"}


ENVELOPED: dict[str, list[Any]] = {
    "json": [
        {"instances": [[1, 2], [3.5]]},
        {"instances": [{"b64": "aGVsbG8="}]},
        {"other": 1},
    ],
    "kserve": [{"instances": [[1, 2], [3.5]]}, {"instances": [[1]], "more": 1}],
    "kservev2": [V2, TEXT, {"inputs": []}],
}


@pytest.mark.parametrize("envelope", list(ENVELOPED))
def test_envelopes_convert_bodies_and_results_alike(tmp_path: Path, envelope: str) -> None:
    store = tmp_path / "store"
    store.mkdir()
    make_enveloped_archives(tmp_path, store)
    config = ServerConfig(service_envelope=envelope)
    with (
        running_torchserve(store, {"service_envelope": envelope}) as server,
        imported(store / "sums.mar", tmp_path, config) as processor,
    ):
        for value in ENVELOPED[envelope]:
            # As JSON, and as bytes.
            for headers in (JSON, {}):
                urls = (server.url("inference"), processor.url)
                body = json.dumps(value)
                assert_same(
                    [
                        requests.post(f"{url}/predictions/sums", data=body, headers=headers)
                        for url in urls
                    ]
                )


def test_an_eager_model_in_the_default_handler_with_an_envelope(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    make_eager_archive(tmp_path, store)
    config = ServerConfig(service_envelope="body")
    with (
        running_torchserve(store, {"service_envelope": "body"}) as server,
        imported(store / "eager.mar", tmp_path, config) as processor,
    ):
        urls = (server.url("inference"), processor.url)
        reply = assert_same(
            [requests.post(f"{url}/predictions/eager", json=[0.5, 1.5, 2.5]) for url in urls]
        )
        assert len(reply.json()) == 2


def test_intermediate_responses_are_streamed(ask: Ask) -> None:
    reply = assert_same(ask("/predictions/stream"))
    assert reply.content == b"part 0 part 1 part 2 end"
    assert reply.headers["Transfer-Encoding"] == "chunked"


def test_models_are_described_in_the_same_shape(
    server: TorchServe, serve_imported: Callable[[str], Running]
) -> None:
    (expected,) = server.describe("digits")
    reply = requests.get(serve_imported("digits").url + "/models/digits", timeout=60)
    (description,) = reply.json()
    assert set(description) <= set(expected)
    for key in ("modelName", "modelVersion", "modelUrl", "runtime", "minWorkers", "maxWorkers"):
        assert description[key] == expected[key]
    for key in ("batchSize", "maxBatchDelay", "responseTimeout", "startupTimeout"):
        assert description[key] == expected[key]
    assert set(description["workers"][0]) <= set(expected["workers"][0])
    assert description["workers"][0]["status"] == "READY"
    assert description["jobQueueStatus"] == expected["jobQueueStatus"]


def test_models_are_listed_and_never_changed(
    server: TorchServe, serve_imported: Callable[[str], Running]
) -> None:
    url = serve_imported("rows").url
    listed = requests.get(f"{url}/models", timeout=60)
    entry = {"modelName": "rows", "modelUrl": "rows.mar"}
    assert entry in server.ask("management", "/models").json()["models"]
    assert listed.json() == {"models": [entry]}
    for method, path in (("POST", "/models?url=x.mar"), ("DELETE", "/models/rows")):
        urls = (server.url("management"), url)
        assert_same([requests.request(method, base + path, timeout=60) for base in urls])


def test_a_ping_is_healthy(server: TorchServe, serve_imported: Callable[[str], Running]) -> None:
    urls = (server.url("inference"), serve_imported("rows").url)
    assert_same([requests.get(f"{url}/ping", timeout=60) for url in urls])
