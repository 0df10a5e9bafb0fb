"""Port forwarding to pods, on the current cluster."""

from __future__ import annotations

import hashlib
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from fnbuild.errors import FnbuildError, NotFoundError
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.port_forward import forward_port
from tests.cluster import own_namespace
from tests.engine import until
from tests.platforms.kubeclient.pods import START_SECONDS, pod, until_phase

pytestmark = pytest.mark.system

_ECHO = """
    import http.server, socketserver, threading

    class Echo(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_PUT(self):  # refuses without reading
            self.send_response(413)
            self.send_header("content-length", "0")
            self.send_header("connection", "close")
            self.end_headers()
            self.close_connection = True

    class Slow(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(100)
            threading.Event().wait(1)
            self.request.sendall(b"late")

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = daemon_threads = True

    threading.Thread(target=Server(("", 9090), Slow).serve_forever).start()
    server = http.server.ThreadingHTTPServer(("", 8080), Echo)
    print("begun", flush=True)
    server.serve_forever()
"""


@pytest.fixture(scope="module")
def echo(cluster: Cluster, greeter_image: str) -> Iterator[str]:
    """A namespace with a listening pod `echo` and a finished pod `done`."""
    with own_namespace(cluster) as namespace:
        cluster.create(pod(namespace, "echo", greeter_image, _ECHO))
        cluster.create(pod(namespace, "done", greeter_image, "print(1)"))
        until(
            "the echo's start", lambda: bool(list(cluster.logs(namespace, "echo"))), START_SECONDS
        )
        until_phase(cluster, namespace, "done", "Succeeded")
        yield namespace


def post(url: str, body: bytes, method: str = "POST") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=120)
    try:
        connection.request(method, "/", body)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def test_large_bodies_are_transferred_in_both_directions(cluster: Cluster, echo: str) -> None:
    body = b"".join(hashlib.sha512(str(n).encode()).digest() for n in range(500_000))
    assert len(body) == 32_000_000
    with forward_port(cluster, echo, "echo") as url:
        status, answer = post(url, body)
    assert status == 200
    assert hashlib.sha256(answer).digest() == hashlib.sha256(body).digest()


def test_concurrent_connections_are_independent(cluster: Cluster, echo: str) -> None:
    with forward_port(cluster, echo, "echo") as url, ThreadPoolExecutor(8) as pool:
        bodies = [str(number).encode() * 50_000 for number in range(24)]
        assert [body for _, body in pool.map(lambda body: post(url, body), bodies)] == bodies


def test_a_connection_serves_many_requests(cluster: Cluster, echo: str) -> None:
    with forward_port(cluster, echo, "echo") as url:
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=120)
        for number in range(20):
            connection.request("POST", "/", str(number))
            assert connection.getresponse().read() == str(number).encode()
        connection.close()


def test_a_response_is_received_after_the_client_has_shut_down_writing(
    cluster: Cluster, echo: str
) -> None:
    with forward_port(cluster, echo, "echo", 9090) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=120) as client:
            client.sendall(b"?")
            client.shutdown(socket.SHUT_WR)
            assert client.makefile("rb").read() == b"late"


def test_a_refusal_during_a_request_body_is_received(cluster: Cluster, echo: str) -> None:
    with forward_port(cluster, echo, "echo") as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=120) as client:
            client.sendall(b"PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 413")


def test_a_port_without_a_listener_ends_the_connection(cluster: Cluster, echo: str) -> None:
    with forward_port(cluster, echo, "echo", 8081) as url:
        with pytest.raises((OSError, http.client.HTTPException)):
            post(url, b"x")
        with pytest.raises((OSError, http.client.HTTPException)):
            post(url, b"x")


def test_proxies_are_not_used_for_this_machine(
    cluster: Cluster, echo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if urlsplit(cluster.server).hostname != "127.0.0.1":
        pytest.skip("the cluster's API is on another machine")
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "example.com")
    with forward_port(cluster, echo, "echo") as url:
        assert post(url, b"x") == (200, b"x")


def test_forwarding_ends_with_the_block(cluster: Cluster, echo: str) -> None:
    before = threading.active_count()
    with forward_port(cluster, echo, "echo", 9090) as url:
        host, port = url.removeprefix("http://").split(":")
        idle = socket.create_connection((host, int(port)), timeout=120)
        started = time.monotonic()
    assert time.monotonic() - started < 10, "an open connection does not delay the end"
    until("the end of its threads", lambda: threading.active_count() <= before)
    with idle:
        assert idle.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)


def test_a_pod_that_does_not_run_is_an_error(cluster: Cluster, echo: str) -> None:
    with pytest.raises(NotFoundError, match="no pod gone"), forward_port(cluster, echo, "gone"):
        pass
    with pytest.raises(FnbuildError, match="done"), forward_port(cluster, echo, "done"):
        pass
