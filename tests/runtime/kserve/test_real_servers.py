"""The same models in the servers of KFServing 0.3 and KServe 0.21, and in a processor.

Each model runs three times: in the package's own server, in a processor whose workers have the
package, and in a processor whose workers do not have it.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests import engine
from tests.environments import environment_python
from tests.runtime.conftest import Answer, Serve, ask, eventually

ROOT = Path(__file__).resolve().parents[3]

pytestmark = [pytest.mark.system, pytest.mark.versions]

KFSERVING = ("3.7", "kfserving==0.3.0")
KSERVE = ("3.11", "kserve==0.21.0")

KFSERVING_MODEL = """
    import argparse
    import logging

    import kfserving

    logging.basicConfig(level=kfserving.constants.KFSERVING_LOGLEVEL)

    class Model(kfserving.KFModel):
        def load(self):
            self.factor = 2
            self.ready = True

        def preprocess(self, inputs):
            return {"instances": inputs["instances"]}

        def predict(self, request):
            return {"predictions": [self.factor * value for value in request["instances"]]}

        def postprocess(self, inputs):
            inputs["name"] = self.name
            return inputs

    if __name__ == "__main__":
        parser = argparse.ArgumentParser(parents=[kfserving.kfserver.parser])
        parser.add_argument("--model_name", default="model")
        args, _ = parser.parse_known_args()
        kfserving.KFServer(workers=1).start(models=[Model(args.model_name)])
"""

KFSERVING_PAIR = """
    import argparse

    import kfserving

    class Transformer(kfserving.KFModel):
        def __init__(self, name, predictor_host):
            super().__init__(name)
            self.predictor_host = predictor_host

        def preprocess(self, inputs):
            return {"instances": [value + 1 for value in inputs["instances"]]}

        def postprocess(self, inputs):
            return {"predictions": [str(value) for value in inputs["predictions"]]}

    if __name__ == "__main__":
        parser = argparse.ArgumentParser(parents=[kfserving.kfserver.parser])
        parser.add_argument("--model_name", default="model")
        parser.add_argument("--predictor_host", required=True)
        args, _ = parser.parse_known_args()
        transformer = Transformer(args.model_name, predictor_host=args.predictor_host)
        kfserving.KFServer(workers=1).start(models=[transformer])
"""

KSERVE_MODEL = """
    import argparse
    import asyncio

    import kserve
    import numpy
    from kserve.errors import InferenceError, InvalidInput
    from kserve.utils.utils import get_predict_input, get_predict_response

    ERRORS = {
        "invalid": InvalidInput("no such label"),
        "failed": InferenceError("no memory"),
        "value": ValueError("v"),
        "missing": NotImplementedError("not there"),
    }

    class Model(kserve.Model):
        parser_text = "lacks --model_name"

        def __init__(self, name):
            super().__init__(name)
            self.load()

        def load(self):
            self.factor = 2
            self.ready = True
            return self.ready

        async def preprocess(self, payload, headers=None):
            await asyncio.sleep(0)
            if isinstance(payload, dict) and "error" in payload:
                raise ERRORS[payload["error"]]
            return payload

        async def get_input_types(self):
            return [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]

        def get_output_types(self):
            return [{"name": "output-0", "datatype": "FP32", "shape": (-1, 2)}]

        def predict(self, payload, headers=None):
            if isinstance(payload, dict) and "parser" in payload:
                return {"predictions": [self.parser_text]}
            if isinstance(payload, dict) and "items" in payload:
                return self.stream(payload["items"])
            if isinstance(payload, dict) and "arrays" in payload:
                return {
                    "predictions": [numpy.float32(0.5), numpy.arange(2), {"n": numpy.int64(3)}],
                    "more": numpy.zeros((1, 2)),
                }
            numbers = get_predict_input(payload)
            return get_predict_response(payload, numbers * 2, self.name)

        async def stream(self, items):
            for item in items:
                yield item

        async def postprocess(self, result, headers=None, response_headers=None):
            return result

    if __name__ == "__main__":
        parser = argparse.ArgumentParser(parents=[kserve.model_server.parser])
        try:
            parser.add_argument("--model_name")
        except argparse.ArgumentError:
            Model.parser_text = "has --model_name"
        args, _ = parser.parse_known_args()
        kserve.ModelServer(enable_grpc=False).start([Model(args.model_name)])
"""

TRANSFORMER = """
    import kserve

    class Transformer(kserve.Model):
        def __init__(self, name):
            super().__init__(name)
            self.ready = True

        def preprocess(self, payload, headers=None):
            return {"instances": [value + 1 for value in payload["instances"]]}

        def postprocess(self, result, headers=None, response_headers=None):
            return {"predictions": [str(value) for value in result["predictions"]]}

    if __name__ == "__main__":
        args, _ = kserve.model_server.parser.parse_known_args()
        kserve.ModelServer(enable_grpc=False).start([Transformer(args.model_name)])
"""


class Servers(NamedTuple):
    """The URLs of a model in the package's server, and in the two processors."""

    reference: str
    installed: str
    provided: str

    def ask(self, path: str, body: Any, **headers: str) -> list[Answer]:
        """Send a request to all; header names have `_` for `-`."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {"content-type": "application/json"}
        fields.update({name.replace("_", "-"): value for name, value in headers.items()})
        return [ask("POST", url, path, data, fields) for url in self]


@contextlib.contextmanager
def own_server(folder: Path, python: Path, source: str, *arguments: str) -> Iterator[str]:
    """Run the source with the package's own server; yield its URL."""
    port = engine.free_port()
    (folder / "model.py").write_text(textwrap.dedent(source))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [python, "model.py", "--http_port", str(port), *arguments],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
    url = f"http://127.0.0.1:{port}"

    def is_up() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        with contextlib.suppress(OSError):
            return ask("GET", url, "/").status == 200
        return False

    try:
        eventually(is_up)
        yield url
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def servers(
    folder: Path, serve: Serve, package: tuple[str, str], source: str, *arguments: str
) -> Iterator[Servers]:
    python = environment_python(*package)
    options = {
        "handler": "main:__main__",
        "arguments": ["--model_name", "m", *arguments],
        "trigger": {"attributes": {"protocols": ["v1", "v2"], "model": "m", "event": "request"}},
    }
    with own_server(folder, python, source, "--model_name", "m", *arguments) as reference:
        installed = serve(source, interpreter=str(python), **options)
        # NumPy is in the tests' own environment.
        provided = serve(source, interpreter=sys.executable, **options)
        yield Servers(reference, installed.url, provided.url)


@pytest.fixture(scope="module")
def kfserving(tmp_path_factory: pytest.TempPathFactory, serve_module: Serve) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("kfserving")
    with servers(folder, serve_module, KFSERVING, KFSERVING_MODEL) as started:
        yield started


@pytest.fixture(scope="module")
def kserve(tmp_path_factory: pytest.TempPathFactory, serve_module: Serve) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("kserve")
    with servers(folder, serve_module, KSERVE, KSERVE_MODEL) as started:
        yield started


def assert_equal(replies: list[Answer]) -> None:
    """Check that all replies have the status and the JSON body of the first."""
    first = replies[0]
    for reply in replies[1:]:
        assert (reply.status, json.loads(reply.body)) == (first.status, json.loads(first.body))


def test_answers_are_those_of_kfserving(kfserving: Servers) -> None:
    # The script has an option --model_name of its own, since the parser of KFServing has none.
    replies = kfserving.ask("/v1/models/m:predict", {"instances": [1, 2]})
    assert json.loads(replies[0].body) == {"predictions": [2, 4], "name": "m"}
    assert_equal(replies)


def test_a_pair_of_kfserving_answers_as_in_its_own_servers(
    tmp_path: Path, serve: Serve, kfserving: Servers
) -> None:
    """The transformer inherits `predict`, which calls its predictor."""
    host = kfserving.reference.partition("://")[2]
    with servers(tmp_path, serve, KFSERVING, KFSERVING_PAIR, "--predictor_host", host) as pair:
        replies = pair.ask("/v1/models/m:predict", {"instances": [1, 2]})
        assert json.loads(replies[0].body) == {"predictions": ["4", "6"]}
        assert_equal(replies)


def test_the_content_type_of_curl_is_json_as_in_kfserving(kfserving: Servers) -> None:
    kind = "application/x-www-form-urlencoded"
    replies = kfserving.ask("/v1/models/m:predict", {"instances": [1]}, content_type=kind)
    assert json.loads(replies[0].body) == {"predictions": [2], "name": "m"}
    assert_equal(replies)


@pytest.mark.parametrize("body", [b"{", b"", b'{"instances": 1}'])
def test_statuses_of_invalid_requests_are_those_of_kfserving(
    kfserving: Servers, body: bytes
) -> None:
    replies = kfserving.ask("/v1/models/m:predict", body)
    assert [reply.status for reply in replies] == [400] * 3


def test_answers_are_those_of_kserve(kserve: Servers) -> None:
    replies = kserve.ask("/v1/models/m:predict", {"instances": [1, 2.5]})
    assert json.loads(replies[0].body) == {"predictions": [2.0, 5.0]}
    assert_equal(replies)


def test_arrays_and_numbers_of_numpy_are_written_as_by_kserve(kserve: Servers) -> None:
    replies = kserve.ask("/v1/models/m:predict", {"instances": [], "arrays": True})
    expected = {"predictions": [0.5, [0, 1], {"n": 3}], "more": [[0, 0]]}
    assert json.loads(replies[0].body) == expected
    assert_equal(replies)


def test_a_stream_has_the_items_of_the_model_as_in_kserve(kserve: Servers) -> None:
    replies = kserve.ask("/v1/models/m:predict", {"instances": [], "items": ["one,", "two"]})
    assert [(reply.status, reply.body) for reply in replies] == [(200, b"one,two")] * 3


def test_the_metadata_of_a_model_has_the_tensors_that_it_declares(kserve: Servers) -> None:
    values = [json.loads(ask("GET", url, "/v2/models/m").body) for url in kserve]
    assert values[0]["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    for value in values:
        assert [value[key] for key in ("name", "inputs", "outputs")] == [
            values[0][key] for key in ("name", "inputs", "outputs")
        ]


@pytest.mark.parametrize("error", ["invalid", "failed", "value", "missing"])
def test_exceptions_of_the_model_are_those_of_kserve(kserve: Servers, error: str) -> None:
    assert_equal(kserve.ask("/v1/models/m:predict", {"instances": [], "error": error}))


def test_tensors_are_those_of_kserve(kserve: Servers) -> None:
    tensor = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4.5]}
    replies = kserve.ask("/v2/models/m/infer", {"id": "7", "inputs": [tensor]})
    values = [json.loads(reply.body) for reply in replies]
    assert values[0]["outputs"][0]["data"] == [2.0, 4.0, 6.0, 9.0]
    for value in values:
        assert value["id"] == "7"
        assert value["model_name"] == "m"
        assert value["outputs"][0]["shape"] == [2, 2]
        assert value["outputs"][0]["datatype"] == "FP32"
        assert value["outputs"][0]["data"] == values[0]["outputs"][0]["data"]


def test_binary_tensors_are_those_of_kserve(kserve: Servers) -> None:
    values = struct.pack("<4f", 1, 2, 3, 4.5)
    parameters = {"binary_data_size": len(values)}
    tensor = {"name": "x", "shape": [2, 2], "datatype": "FP32", "parameters": parameters}
    request = {"id": "7", "inputs": [tensor], "parameters": {"binary_data_output": True}}
    head = json.dumps(request).encode()
    size = {"inference_header_content_length": str(len(head))}
    path, kind = "/v2/models/m/infer", "application/octet-stream"
    for reply in kserve.ask(path, head + values, content_type=kind, **size):
        start = int(reply.header("Inference-Header-Content-Length") or 0)
        assert struct.unpack("<4f", reply.body[start:]) == (2, 4, 6, 9)
        (output,) = json.loads(reply.body[:start])["outputs"]
        assert (output["datatype"], output["shape"]) == ("FP32", [2, 2])


def test_a_model_without_explainer_answers_as_in_kserve(kserve: Servers) -> None:
    replies = kserve.ask("/v1/models/m:explain", {"instances": [1]})
    assert replies[0].status == 501
    assert_equal(replies)


def test_the_parser_of_kserve_has_an_option_for_the_name_of_the_model(kserve: Servers) -> None:
    replies = kserve.ask("/v1/models/m:predict", {"instances": [], "parser": True})
    assert json.loads(replies[0].body) == {"predictions": ["has --model_name"]}
    assert_equal(replies)


def test_a_pair_of_kserve_answers_as_in_its_own_servers(
    tmp_path: Path, serve: Serve, kserve: Servers
) -> None:
    host = kserve.reference.partition("://")[2]
    with servers(tmp_path, serve, KSERVE, TRANSFORMER, "--predictor_host", host) as pair:
        replies = pair.ask("/v1/models/m:predict", {"instances": [1, 2]})
        assert json.loads(replies[0].body) == {"predictions": ["4", "6"]}
        assert_equal(replies)
        replies = pair.ask("/v1/models/other:predict", {"instances": [1]})
        assert [reply.status for reply in replies] == [404] * 3
