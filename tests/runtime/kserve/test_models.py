"""Models written for the servers of KServe and KFServing, in a real processor."""

from __future__ import annotations

import http.client
import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runtime import interpreters
from tests.runtime.conftest import Serve

pytestmark = pytest.mark.system

CLASS = """
    import kserve

    class Doubler(kserve.Model):
        def __init__(self, name):
            super().__init__(name)
            self.factor = 0

        def load(self):
            self.factor = 2
            self.ready = True

        def predict(self, payload, headers=None):
            return {"predictions": [self.factor * value for value in payload["instances"]]}
"""

SCRIPT = """
    import argparse
    import logging

    import kfserving

    logging.basicConfig(level=kfserving.constants.KFSERVING_LOGLEVEL)

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
        parser.add_argument("--model_name", default="mobilenet")
        parser.add_argument("--predictor_host", required=True)
        args, _ = parser.parse_known_args()
        model = Transformer(args.model_name, predictor_host=args.predictor_host)
        kfserver = kfserving.KFServer()
        kfserver.start(models=[model])
"""


class Call:
    """A request that the predictor has received."""

    def __init__(self, path: str, headers: dict[str, str], body: Any) -> None:
        self.path = path
        self.headers = headers
        self.body = body


class Predictor:
    """A predictor that gives the same answer to every request, and keeps the requests."""

    def __init__(self, status: int = 200, answer: Any = None) -> None:
        self.status = status
        self.answer = {"predictions": [1, 2]} if answer is None else answer
        self.calls: list[Call] = []
        predictor = self

        self._connections: list[socket.socket] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                predictor._connections.append(self.connection)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                headers = {name.lower(): value for name, value in self.headers.items()}
                predictor.calls.append(Call(self.path, headers, body))
                data = json.dumps(predictor.answer).encode()
                self.send_response(predictor.status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def drop_connections(self) -> None:
        for connection in self._connections:
            connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()

    def close(self) -> None:
        self.drop_connections()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def predictor() -> Iterator[Callable[..., Predictor]]:
    started: list[Predictor] = []

    def start(**options: Any) -> Predictor:
        started.append(Predictor(**options))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.mark.parametrize("version", interpreters.few())
def test_a_class_of_kserve_is_a_handler_without_kserve(serve: Serve, version: str) -> None:
    running = serve(CLASS, version=version, handler="main:Doubler", workers=2)
    assert running.call({"instances": [1, 2]}) == {"predictions": [2, 4]}


@pytest.mark.parametrize("version", interpreters.few())
def test_a_script_of_kfserving_is_a_transformer_without_kfserving(
    serve: Serve, predictor: Callable[..., Predictor], version: str
) -> None:
    upstream = predictor()
    running = serve(
        SCRIPT,
        version=version,
        handler="main:__main__",
        arguments=["--predictor_host", upstream.host],
    )
    answer = running.send(
        '{"instances": [1]}',
        content_type="application/json",
        x_request_id="r-1",
        x_b3_traceid="t-1",
        authorization="Bearer token",
        cookie="c",
    )
    assert json.loads(answer.body) == {"predictions": ["1", "2"]}
    call = upstream.calls[0]
    assert call.path == "/v1/models/under-test:predict"
    assert call.body == {"instances": [2]}
    names = ("x-request-id", "x-b3-traceid", "authorization")
    assert [call.headers[name] for name in names] == ["r-1", "t-1", "Bearer token"]
    assert "cookie" not in call.headers


METHODS = """
    import asyncio
    import os

    import kserve
    from kserve.errors import InferenceError, InvalidInput

    class Lines:
        def __init__(self, path):
            self.path = path
            self.lines = ["first\\n", "last\\n"]

        def __aiter__(self):
            return self

        async def __anext__(self):
            if not self.lines:
                raise StopAsyncIteration
            while len(self.lines) == 1 and not os.path.exists(self.path):
                await asyncio.sleep(0.01)
            return self.lines.pop(0)

    class Model(kserve.Model):
        async def preprocess(self, payload, headers=None):
            if "error" in payload:
                raise {
                    "invalid": InvalidInput("no such label"),
                    "failed": InferenceError("no memory"),
                    "value": ValueError("v"),
                    "missing": NotImplementedError("not there"),
                }[payload["error"]]
            return payload["instances"], headers["x-request-id"]

        async def predict(self, payload, headers=None, response_headers=None):
            response_headers["X-Seconds"] = "3"
            return payload

        def postprocess(self, result, headers=None, response_headers=None):
            response_headers["x-model"] = self.name
            if result[0][:1] == ["stream"]:
                return Lines(result[0][1])
            return {"predictions": result[0], "id": result[1]}

    if __name__ == "__main__":
        model = Model("own-name", return_response_headers=True)
        model.load()
        kserve.ModelServer(workers=1).start([model])
"""


@pytest.fixture(scope="module")
def methods(serve_module: Serve) -> Any:
    return serve_module(METHODS, handler="main:__main__", trigger=REQUESTS)


def test_methods_may_be_async_and_get_headers_with_names_in_lower_case(methods: Any) -> None:
    reply = methods.send('{"instances": [1]}', content_type="application/json", X_Request_Id="r")
    assert json.loads(reply.body) == {"predictions": [1], "id": "r"}


def test_headers_that_a_model_sets_are_in_the_reply(methods: Any) -> None:
    reply = methods.send('{"instances": [1]}', content_type="application/json", X_Request_Id="r")
    assert (reply.header("X-Seconds"), reply.header("X-Model")) == ("3", "own-name")


def test_items_of_an_async_iterator_are_sent_as_they_come(methods: Any, tmp_path: Path) -> None:
    connection = http.client.HTTPConnection(methods.url.partition("://")[2], timeout=30)
    body = json.dumps({"instances": ["stream", str(tmp_path / "step")]})
    headers = {"X-Request-Id": "r", "Accept-Encoding": "gzip"}
    connection.request("POST", "/v1/models/under-test:predict", body, headers)
    reply = connection.getresponse()
    assert (reply.status, reply.headers["X-Model"]) == (200, "own-name")
    assert reply.readline() == b"first\n"
    (tmp_path / "step").touch()
    assert reply.read() == b"last\n"
    connection.close()


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        ("invalid", 400, "no such label"),
        ("failed", 500, "no memory"),
        ("value", 500, "ValueError : v"),
        ("missing", 501, "not there"),
    ],
)
def test_exceptions_have_the_statuses_of_kserve(
    methods: Any, error: str, status: int, text: str
) -> None:
    reply = methods.send(json.dumps({"error": error}), content_type="application/json")
    assert (reply.status, json.loads(reply.body)) == (status, {"error": text})


def test_the_traceback_of_an_unexpected_exception_is_logged(methods: Any) -> None:
    methods.send('{"error": "value"}', content_type="application/json")
    assert 'main.py", line' in methods.await_record("ValueError : v")["message"]


def test_a_model_with_a_name_of_its_own_is_a_warning(methods: Any) -> None:
    assert methods.await_record(
        "The model is called own-name, and its URLs have the name under-test"
    )


def test_a_predictor_passes_its_status_through_the_transformer(
    serve: Serve, predictor: Callable[..., Predictor]
) -> None:
    upstream = predictor(status=418, answer={"error": "a teapot"})
    running = serve(SCRIPT, handler="main:__main__", arguments=["--predictor_host", upstream.host])
    reply = running.send('{"instances": [1]}', content_type="application/json")
    assert (reply.status, json.loads(reply.body)) == (418, {"error": "a teapot"})
    upstream.close()
    reply = running.send('{"instances": [1]}', content_type="application/json")
    assert reply.status == 503
    assert (
        f"the predictor http://{upstream.host} does not answer" in json.loads(reply.body)["error"]
    )


@pytest.mark.parametrize("option", ["--predictor_protocol", "--protocol"])
def test_a_transformer_calls_its_predictor_over_v2(
    serve: Serve, predictor: Callable[..., Predictor], option: str
) -> None:
    tensor = {"name": "predictions", "shape": [2], "datatype": "INT64", "data": [1, 2]}
    upstream = predictor(answer={"model_name": "m", "id": "7", "outputs": [tensor]})
    source = """
        import kserve

        class Transformer(kserve.Model):
            def preprocess(self, payload, headers=None):
                tensor = kserve.InferInput("x", [1], "INT64", payload["instances"])
                return kserve.InferRequest(self.name, [tensor], request_id="7")

            def postprocess(self, result, headers=None):
                return {"predictions": result.get_output_by_name("predictions").data}

        if __name__ == "__main__":
            args, _ = kserve.model_server.parser.parse_known_args()
            kserve.ModelServer().start([Transformer(args.model_name)])
    """
    arguments = ["--model_name", "m", "--predictor_host", upstream.host, option, "v2"]
    running = serve(source, handler="main:__main__", arguments=arguments)
    assert running.call({"instances": [5]}) == {"predictions": [1, 2]}
    assert upstream.calls[0].path == "/v2/models/m/infer"
    tensor = {"name": "x", "shape": [1], "datatype": "INT64", "data": [5]}
    assert upstream.calls[0].body == {"id": "7", "inputs": [tensor]}


def test_a_connection_that_the_predictor_has_closed_is_opened_again(
    serve: Serve, predictor: Callable[..., Predictor]
) -> None:
    upstream = predictor()
    running = serve(SCRIPT, handler="main:__main__", arguments=["--predictor_host", upstream.host])
    running.call({"instances": [1]})
    upstream.drop_connections()
    running.call({"instances": [1]})
    assert len(upstream.calls) == 2


SERVER_AT_IMPORT = """
    import kserve

    class Model(kserve.Model):
        def predict(self, payload, headers=None):
            return {"predictions": payload["instances"]}

    kserve.ModelServer().start([Model("under-test")])
"""


def test_a_script_may_start_its_server_at_the_import(serve: Serve) -> None:
    running = serve(SERVER_AT_IMPORT, handler="main:__main__", workers=2)
    assert running.call({"instances": [3]}) == {"predictions": [3]}


def test_a_changed_model_is_loaded_after_a_reload(serve: Serve) -> None:
    running = serve(CLASS, handler="main:Doubler")
    running.write(CLASS.replace("self.factor = 2", "self.factor = 3"))
    assert json.loads(running.tell("/reload").body)["ok"]
    assert running.call({"instances": [1, 2]}) == {"predictions": [3, 6]}


def test_a_class_gets_arguments_by_the_names_of_its_parameters(serve: Serve) -> None:
    source = """
        import kserve

        class Model(kserve.Model):
            def __init__(self, name, model_dir, limit=3):
                super().__init__(name)
                self.values = [model_dir, limit]

            def predict(self, payload, headers=None):
                return {"predictions": self.values}
    """
    running = serve(source, handler="main:Model", arguments=["--model_dir=/m"])
    assert running.call({"instances": []}) == {"predictions": ["/m", 3]}


def test_a_script_without_a_block_is_one_clear_error(serve: Serve) -> None:
    source = "import kserve\n\nclass Model(kserve.Model):\n    pass\n"
    status = serve(source, handler="main:__main__", wait="unhealthy").status()
    assert "main.py started no model server; its `__main__` block has to call" in status["reason"]


@pytest.mark.parametrize(
    ("handler", "arguments", "block", "reason"),
    [
        ("main:__main__", [], "KFServer().start([Model()])", "--predictor_host"),
        ("main:__main__", ["--predictor_host", "h"], "KFServer()", "started no model server"),
        (
            "main:__main__",
            ["--predictor_host", "h"],
            "KFServer().start([Model('a'), Model('b')])",
            "several models (a, b)",
        ),
        ("main:Model", [], "KFServer()", "Model needs the argument labels"),
    ],
)
def test_a_model_that_cannot_be_served_is_one_clear_error(
    serve: Serve, handler: str, arguments: list[str], block: str, reason: str
) -> None:
    source = f"""
        import argparse
        from kfserving import KFModel, KFServer, kfserver

        class Model(KFModel):
            def __init__(self, name, labels):
                super().__init__(name)

        if __name__ == "__main__":
            parser = argparse.ArgumentParser(parents=[kfserver.parser])
            parser.add_argument("--predictor_host", required=True)
            parser.parse_args()
            Model.__init__ = KFModel.__init__
            {block}
    """
    running = serve(source, handler=handler, arguments=arguments, wait="unhealthy")
    status = running.status()
    assert reason in status["reason"]
    assert "Traceback" not in status["message"]


def test_a_model_that_is_not_ready_after_its_load_is_an_error(serve: Serve) -> None:
    source = """
        import kserve

        class Model(kserve.Model):
            def load(self):
                return None

            def predict(self, payload, headers=None):
                return payload
    """
    running = serve(source, handler="main:Model", wait="unhealthy")
    assert "load() sets self.ready" in running.status()["reason"]


def test_a_handler_that_is_missing_runs_no_script(serve: Serve, tmp_path: Any) -> None:
    source = f"""
        def handlr(context, event):
            return "ok"

        if __name__ == "__main__":
            open({str(tmp_path / "started")!r}, "w")
    """
    running = serve(source, wait="unhealthy")
    assert "did you mean handlr" in running.status()["reason"]
    assert not (tmp_path / "started").exists()


PAIR = """
    import json

    def init_context(context):
        context.user_data.factor = 2

    def handler(context, event):
        values = event.body["instances"]
        return {"predictions": [context.user_data.factor * value for value in values]}

    async def preprocess(context, payload):
        return {"instances": [value + 1 for value in payload["instances"]]}

    def postprocess(context, payload):
        return {"predictions": [str(value) for value in payload["predictions"]]}
"""
REQUESTS = {"attributes": {"protocols": ["v1", "v2"], "event": "request"}}


@pytest.mark.parametrize("version", interpreters.few())
def test_one_function_is_the_predictor_and_with_its_address_the_transformer(
    serve: Serve, version: str
) -> None:
    upstream = serve(PAIR, version=version, trigger=REQUESTS)
    host = upstream.url.partition("://")[2]
    running = serve(PAIR, version=version, trigger=REQUESTS, arguments=["--predictor_host", host])
    path = "/v1/models/under-test:predict"
    assert upstream.call({"instances": [1]}, path) == {"predictions": [2]}
    assert running.call({"instances": [1]}, path) == {"predictions": ["4"]}
    reply = running.send("{", path)
    assert (reply.status, "error" in json.loads(reply.body)) == (400, True)


def test_a_transformer_of_functions_calls_its_predictor_over_v2(
    serve: Serve, predictor: Callable[..., Predictor]
) -> None:
    tensor = {"name": "y", "shape": [2], "datatype": "FP32", "data": [0.5, 1.5]}
    upstream = predictor(answer={"model_name": "under-test", "id": "7", "outputs": [tensor]})
    source = """
        def handler(context, event):
            raise AssertionError

        def preprocess(context, payload):
            payload["inputs"][0]["name"] = "renamed"
            return payload
    """
    arguments = ["--predictor_host", upstream.host, "--predictor_protocol=v2"]
    running = serve(source, trigger=REQUESTS, arguments=arguments)
    tensor = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1.0, 2.5]}
    answer = running.call({"id": "7", "inputs": [tensor]}, "/v2/models/under-test/infer")
    assert answer["outputs"][0]["data"] == [0.5, 1.5]
    sent = upstream.calls[0].body["inputs"][0]
    assert (sent["name"], sent["data"]) == ("renamed", [1.0, 2.5])


def test_the_level_of_the_log_is_a_variable(serve: Serve) -> None:
    source = SCRIPT.replace(
        "def preprocess(self, inputs):",
        "def preprocess(self, inputs):\n            logging.debug('a detail')",
    )
    arguments = ["--predictor_host", "127.0.0.1:1"]
    for level, count in (("debug", 1), ("info", 0)):
        running = serve(
            source, handler="main:__main__", arguments=arguments, env={"KFSERVING_LOGLEVEL": level}
        )
        running.send('{"instances": [1]}', content_type="application/json")
        running.await_record("does not answer")
        assert sum("a detail" in record["message"] for record in running.records()) == count


def test_metadata_has_the_tensors_that_a_model_declares(serve: Serve) -> None:
    source = """
        import kserve

        class Model(kserve.Model):
            def predict(self, payload, headers=None):
                return payload

            def get_input_types(self):
                return [{"name": "x", "datatype": "FP32", "shape": (-1, 4)}]

            def get_output_types(self):
                raise ValueError("no such file")
    """
    running = serve(source, handler="main:Model", trigger=REQUESTS)
    value = json.loads(running.send(path="/v2/models/under-test", method="GET").body)
    assert value["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert value["outputs"] == []
    assert running.await_record("get_output_types() of the model: ")


def test_a_model_is_stopped_before_its_worker_ends(serve: Serve, tmp_path: Path) -> None:
    stopped = tmp_path / "stopped"
    source = f"""
        import kserve

        class Model(kserve.Model):
            def predict(self, payload, headers=None):
                return payload

            def stop(self):
                open({str(stopped)!r}, "w").write(self.name)
    """
    serve(source, handler="main:Model").end()
    assert stopped.read_text() == "under-test"


LOCKED = """
    import os
    import threading
    import time
    import kserve

    class Model(kserve.Model):
        def __init__(self, name):
            super().__init__(name)
            # An object with it cannot be copied to other processes.
            self.lock = threading.Lock()

        def predict(self, payload, headers=None):
            with self.lock:
                while not os.path.exists(payload["until"]):
                    time.sleep(0.02)
            return {"predictions": []}
"""


def test_models_that_cannot_be_copied_have_several_workers(serve: Serve) -> None:
    running = serve(LOCKED, handler="main:Model", workers=2)
    assert running.call({"until": "/"}) == {"predictions": []}
    running.await_workers("ready", "ready")


def test_probes_are_answered_while_a_model_blocks(serve: Serve, tmp_path: Path) -> None:
    running = serve(LOCKED, handler="main:Model", trigger=REQUESTS)
    until = tmp_path / "until"
    caller = threading.Thread(target=running.call, args=({"until": str(until)},))
    caller.start()
    running.await_workers("busy")
    for path in ("/v1/models/under-test", "/v2/health/live", "/v2/models/under-test/ready"):
        assert running.send(path=path, method="GET").status == 200
    running.await_workers("busy")
    until.touch()
    caller.join()


@pytest.mark.parametrize(
    "line",
    [
        "from kserve import Model, Storage",
        "from kserve import Model; from kserve_storage import Storage",
        "from kfserving import KFModel as Model, Storage",
    ],
)
def test_a_model_is_loaded_from_the_folder_of_the_arguments(
    serve: Serve, tmp_path: Path, line: str
) -> None:
    (tmp_path / "weights.txt").write_text("7")
    source = f"""
        import os
        {line}

        class Weights(Model):
            def __init__(self, name, model_dir):
                super().__init__(name)
                self.model_dir = model_dir

            def load(self):
                folder = Storage.download("file://" + self.model_dir)
                self.weights = int(open(os.path.join(folder, "weights.txt")).read())
                self.ready = True

            def predict(self, payload):
                return {{"predictions": [self.weights]}}
    """
    running = serve(source, handler="main:Weights", arguments=["--model_dir", str(tmp_path)])
    assert running.call({"instances": []}) == {"predictions": [7]}


def test_a_model_in_a_bucket_names_the_remedy(serve: Serve) -> None:
    source = """
        from kserve import Model, Storage

        class Weights(Model):
            def load(self):
                Storage.download("s3://bucket/model")

            def predict(self, payload, headers=None):
                return payload
    """
    running = serve(source, handler="main:Weights", wait="unhealthy")
    assert "s3://bucket/model: Storage.download takes a path" in running.status()["reason"]


def test_requests_of_a_batch_have_answers_of_their_own(serve: Serve) -> None:
    trigger = {**REQUESTS, "batch": {"size": 2, "timeout": 30.0}}
    running = serve(CLASS, handler="main:Doubler", trigger=trigger)
    path = "/v1/models/under-test:predict"
    answers: list[Any] = []
    caller = threading.Thread(
        target=lambda: answers.append(running.call({"instances": [1, 2]}, path))
    )
    caller.start()
    reply = running.send('{"instances": ["a", null]}', path)
    caller.join()
    assert answers == [{"predictions": [2, 4]}]
    assert (reply.status, "TypeError" in json.loads(reply.body)["error"]) == (500, True)


def test_a_handler_that_is_imported_is_no_model(serve: Serve) -> None:
    """Its process keeps its arguments, and has the packages that are installed only."""
    source = """
        import sys
        import importlib.util

        def answer(context, event):
            name = "k" + "serve"
            return [len(sys.argv), importlib.util.find_spec(name) is not None]

        handler = answer
    """
    running = serve(source, arguments=["--model_name", "m"])
    assert running.call({}) == [1, False]
