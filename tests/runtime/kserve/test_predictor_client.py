"""The transformer's call of its predictor: statuses, time-outs and answers that are no JSON."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator

import pytest

from fnbuild.runtime.kserve.predictor_client import PredictorClient, PredictorError

ANSWERS = {
    "/v1/models/m:predict": (200, b'{"predictions": [1]}'),
    "/v1/models/m:explain": (200, b'{"explanations": [2]}'),
    "/v2/models/m/infer": (200, b'{"outputs": []}'),
    "/prefix/v1/models/m:predict": (200, b'{"predictions": ["prefix"]}'),
    "/v1/models/other:predict": (404, b'{"error": "no such model"}'),
    "/v1/models/page:predict": (502, b"<html>Bad gateway</html>"),
    "/v1/models/empty:predict": (429, b""),
    "/v1/models/text:predict": (200, b"no JSON"),
}


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    """A predictor with an answer for each path; the host and port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status, body = ANSWERS[self.path]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def failure(client: PredictorClient, model: str = "m") -> tuple[int, str]:
    with pytest.raises(PredictorError) as error:
        client.call("v1", "predict", model, {"instances": []}, {})
    return error.value.status_code, error.value.reason


def test_the_protocol_and_the_verb_choose_the_path(host: str) -> None:
    client = PredictorClient(host)
    assert client.call("v1", "predict", "m", {}, {}) == {"predictions": [1]}
    assert client.call("v1", "explain", "m", {}, {}) == {"explanations": [2]}
    assert client.call("v2", "predict", "m", {}, {}) == {"outputs": []}
    prefixed = PredictorClient(f"http://{host}/prefix/")
    assert prefixed.call("v1", "predict", "m", {}, {}) == {"predictions": ["prefix"]}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("other", (404, "no such model")),
        ("page", (502, "<html>Bad gateway</html>")),
        ("empty", (429, "Too Many Requests")),
    ],
)
def test_the_status_and_the_message_of_a_predictor_are_those_of_the_error(
    host: str, model: str, expected: tuple[int, str]
) -> None:
    assert failure(PredictorClient(host), model) == expected


def test_an_answer_that_is_no_json_is_a_bad_gateway(host: str) -> None:
    status, reason = failure(PredictorClient(host), "text")
    assert (status, "is not JSON" in reason) == (502, True)


def test_a_predictor_that_does_not_answer_in_time_is_a_gateway_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        status, reason = failure(PredictorClient(address, timeout=0.2))
    assert (status, f"http://{address} does not answer" in reason) == (504, True)


def test_a_predictor_that_closes_the_connection_is_unavailable() -> None:
    def accept_and_close() -> None:
        server.accept()[0].close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept_and_close, daemon=True).start()
        status, _ = failure(PredictorClient(f"127.0.0.1:{server.getsockname()[1]}"))
    assert status == 503


@pytest.mark.parametrize("host", ["", "ftp://host", "host:port", "host?x=1"])
def test_a_host_that_is_none_is_an_error(host: str) -> None:
    with pytest.raises(ValueError, match="is not a host"):
        PredictorClient(host)
