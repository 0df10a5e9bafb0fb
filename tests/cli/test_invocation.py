"""One call of a function: content types, headers, replies."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fnbuild.cli.invocation import (
    InvocationRequest,
    check_invocable,
    detect_content_type,
    format_log_records,
    is_json_document,
    send_request,
)
from fnbuild.errors import FnbuildError, NotReadyError, PlatformError, UsageError
from fnbuild.function.types import Function, Metadata
from fnbuild.platforms import Deployment
from tests.cli.conftest import Outcome

PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)


class _Echo(BaseHTTPRequestHandler):
    """Reply with the request."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.startswith("/hang"):
            self.server.released.wait(20)  # type: ignore[attr-defined]
        if self.path.startswith("/chunks"):
            self._chunks()
            return
        got = {"path": self.path, "headers": dict(self.headers), "body": body.decode("latin-1")}
        reply = json.dumps(got).encode()
        self.send_response(418 if self.path.startswith("/teapot") else 200)
        self.send_header("Content-Length", str(len(reply)))
        self.send_header(
            "X-Nuclio-Logs",
            '[{"time": 1700000000000.0, "level": "info", "message": "hello", "worker_id": "0",'
            ' "name": "processor", "n": 3}]',
        )
        # In some tests the client disconnects.
        with contextlib.suppress(BrokenPipeError):
            self.end_headers()
            self.wfile.write(reply)

    do_GET = do_POST  # noqa: N815

    def _chunks(self) -> None:
        self.protocol_version = "HTTP/1.1"
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"5\r\nfirst\r\n")
        assert self.server.released.wait(20)  # type: ignore[attr-defined]
        self.wfile.write(b"4\r\nlast\r\n" + (b"" if "cut" in self.path else b"0\r\n\r\n"))

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class _Server(ThreadingHTTPServer):
    released: threading.Event


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Echo) as server:
        server.released = threading.Event()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def echo(server: _Server) -> str:
    return f"http://127.0.0.1:{server.server_port}"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a": 1}', "text/plain"),
        (b"hello", "text/plain"),
        (b"", "text/plain"),
        ("ä".encode(), "text/plain"),
        (b"  <!doctype html><p>", "text/html"),
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"\x00\x01\x02", "application/octet-stream"),
    ],
)
def test_content_types_are_guessed_as_in_nuctl(body: bytes, expected: str) -> None:
    assert detect_content_type(body) == expected


@pytest.mark.parametrize(
    ("body", "expected"), [(b' {"a": 1}', True), (b"[1]", True), (b"{a", False), (b"1", False)]
)
def test_json_is_recognized(body: bytes, expected: bool) -> None:
    assert is_json_document(body) is expected


def test_request_arrives_unchanged(echo: str) -> None:
    answer = send_request(echo, InvocationRequest("POST", "a/b?c=d", b"body", {"X-Mine": "1"}))
    got = json.loads(answer.body)
    assert answer.ok
    assert answer.seconds > 0
    assert (got["path"], got["body"], got["headers"]["X-Mine"]) == ("/a/b?c=d", "body", "1")


def test_the_address_may_have_a_path(echo: str) -> None:
    assert (
        json.loads(send_request(f"{echo}/ingress/", InvocationRequest("GET", "/x")).body)["path"]
        == "/ingress/x"
    )
    request = InvocationRequest("GET", "")
    assert json.loads(send_request(f"{echo}/model", request).body)["path"] == "/model"
    assert json.loads(send_request(echo, request).body)["path"] == "/"


def test_logs_are_read_from_the_header(echo: str) -> None:
    answer = send_request(echo, InvocationRequest("POST"))
    [shown] = format_log_records(answer.logs())
    assert shown.endswith('(I) hello {"n": 3}')


def test_another_status_is_a_reply(echo: str) -> None:
    answer = send_request(echo, InvocationRequest("POST", "teapot"))
    assert (answer.ok, answer.status) == (False, 418)


def test_refused_connection_and_timeout_are_clear_errors(echo: str) -> None:
    with pytest.raises(PlatformError, match=r"no answer from .* within 0\.2 s"):
        send_request(echo, InvocationRequest("POST", "hang", timeout=0.2))
    with pytest.raises(PlatformError, match="does not answer"):
        send_request("http://127.0.0.1:1", InvocationRequest("GET"))


def _deployment(state: str, message: str = "") -> Deployment:
    function = Function(metadata=Metadata(name="f", namespace="nuclio"))
    return Deployment(function, "process", state, message, http_port=1234)  # type: ignore[arg-type]


def test_a_running_function_can_be_called() -> None:
    function = _deployment("ready")
    assert function.url == "http://127.0.0.1:1234"
    check_invocable(function, function.url)


@pytest.mark.parametrize(
    ("state", "hint"),
    [("error", "fnbuild logs f"), ("unhealthy", "fnbuild logs f"), ("imported", "fnbuild deploy")],
)
def test_the_error_for_a_stopped_function_has_a_remedy(state: str, hint: str) -> None:
    with pytest.raises(NotReadyError) as failure:
        check_invocable(_deployment(state, "Traceback …\nValueError: bad weights"), "")
    assert "ValueError: bad weights" in failure.value.message
    assert hint in (failure.value.hint or "")


def test_an_address_that_does_not_exist() -> None:
    with pytest.raises(UsageError):
        check_invocable(_deployment("ready"), "http://127.0.0.1:1234", "external-ip")
    assert issubclass(UsageError, FnbuildError)


def test_a_reply_of_unknown_length_is_passed_on_as_it_arrives(echo: str, server: _Server) -> None:
    pieces: list[bytes] = []

    def write(piece: bytes) -> None:
        pieces.append(piece)
        # The rest is not sent before the first piece has arrived.
        server.released.set()

    answer = send_request(
        echo, InvocationRequest("GET", "chunks"), lambda head: write if head.ok else None
    )
    assert pieces == [b"first", b"last"]
    assert (answer.body, answer.streamed, answer.status) == (b"", 9, 200)


def test_a_closed_output_is_not_a_failure_of_the_function(echo: str, server: _Server) -> None:
    def write(piece: bytes) -> None:
        server.released.set()
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        send_request(echo, InvocationRequest("GET", "chunks"), lambda _: write)


def test_a_truncated_reply_is_an_error(echo: str, server: _Server) -> None:
    server.released.set()
    for sink in (lambda _: print, lambda _: None):
        with pytest.raises(PlatformError, match="broke off"):
            send_request(echo, InvocationRequest("GET", "chunks-cut"), sink)


@pytest.mark.parametrize(
    "url",
    ["http://bad host", "http://h:99999", "http://h:x", "http://", "http://[::1", "http://h:0"],
)
def test_an_address_that_cannot_be_called_is_wrong_usage(
    url: str, fnbuild: Callable[..., Outcome]
) -> None:
    result = fnbuild("invoke", "--url", url)
    assert result.status == 2
    assert f"--url {url!r} is not the address of a server" in result.err


def test_the_log_of_a_foreground_function_is_in_its_terminal() -> None:
    function = Deployment(Function(), "process", "unhealthy", foreground=True)
    with pytest.raises(NotReadyError) as raised:
        check_invocable(function, "http://127.0.0.1:1")
    assert raised.value.hint == "its log is in the terminal of that process"
