"""Load and checks with correct and faulty servers."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench import client, load
from bench.workloads import Payload, Workload

pytestmark = pytest.mark.system

APPS = Path(load.__file__).parent / "apps"
PAYLOADS = tuple(Payload(json.dumps({"n": number}).encode(), {"n": number}) for number in range(4))
WORKLOAD = Workload("numbers", PAYLOADS)

Answer = Callable[[bytes], tuple[int, bytes]]


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """Yield the address of a server that answers every POST with the result of the function."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            status, body = answer(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_correct_replies_pass_the_check() -> None:
    with serving(lambda body: (200, body)) as url:
        assert client.find_wrong_replies(url, WORKLOAD) == []


def test_a_reply_of_another_client_is_detected() -> None:
    with serving(lambda _: (200, PAYLOADS[0].body)) as url:
        result = client.find_wrong_replies(url, WORKLOAD)
    assert "status 200: {'n': 0}" in result


def test_a_refused_connection_is_a_wrong_reply() -> None:
    with serving(lambda body: (200, body)) as url:
        pass
    assert len(client.find_wrong_replies(url, WORKLOAD)) == 32


def test_load_counts_requests_and_sends_the_body() -> None:
    seen = set()

    def answer(data: bytes) -> tuple[int, bytes]:
        seen.add(data)
        return 200, data

    with serving(answer) as url:
        sample = load.run(url, WORKLOAD, 2, 1)
    assert seen == {PAYLOADS[0].body}
    assert sample.requests > 10
    assert sample.rate > 10
    assert 0 < sample.p50 <= sample.p99
    assert sample.errors == {}


def test_load_counts_failures() -> None:
    with serving(lambda _: (500, b"{}")) as url:
        sample = load.run(url, WORKLOAD, 2, 1)
    assert sample.errors["status"] > 0


def test_the_builtin_client_measures_without_wrk() -> None:
    with serving(lambda data: (200, data)) as url:
        printed = subprocess.run(
            [sys.executable, str(APPS / "load_client.py"), url, "2", "0.5"],
            env={
                **os.environ,
                "BENCH_BODY": str(WORKLOAD.body_file),
                "BENCH_HEADERS": "Content-Type: application/json",
            },
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    sample = load.parse(printed)
    assert sample.requests > 10
    assert sample.errors == {}


def test_a_failing_load_generator_voids_the_slice() -> None:
    sample = load.run("nonsense", WORKLOAD, 1, 1)
    assert sample.errors == {"generator": 1}
    assert sample.rate == 0.0
