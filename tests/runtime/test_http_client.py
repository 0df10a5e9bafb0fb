"""The blocking client, and unix sockets at long paths."""

import errno
import os
import socket
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from fnbuild.runtime import sockets
from fnbuild.runtime.http.client import request
from tests.runtime import interpreters
from tests.runtime.http_wire import ROOT, Process, serving


@pytest.fixture(scope="module")
def server():
    with serving(limits={"max_body": 1 << 20}) as process:
        yield process


@pytest.fixture
def long_path(tmp_path: Path) -> Path:
    """A path whose folder and whose name are each too long for the kernel."""
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    return folder / ("n" * 150 + ".sock")


def url(server: Process) -> str:
    return f"http://127.0.0.1:{server.address[1]}"


def test_a_request_over_tcp(server: Process):
    answer = request("POST", url(server), "/inspect?a=b", b"body", {"X-One": "1"})
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert b'"size": 4' in answer.body
    assert b'["X-One", "1"]' in answer.body
    status, _, body = request("GET", url(server), "/nothing")
    assert (status, body) == (404, b"no such action")


def test_the_reply_to_a_refused_body_is_read(server: Process):
    answer = request("POST", url(server), "/echo", bytes(20_000_000))
    assert answer.status == 413
    assert b"maxRequestBodySize" in answer.body


def test_a_refused_connection(tmp_path: Path):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            request("GET", f"http://127.0.0.1:{bound.getsockname()[1]}")
    with pytest.raises(FileNotFoundError):
        request("GET", tmp_path / "missing.sock")
    with pytest.raises(FileNotFoundError):
        request("GET", tmp_path / ("x" * 200))


@pytest.mark.parametrize("where", ["https://test", "http://", "ftp://test", "http://test/path"])
def test_wrong_urls(where: str):
    with pytest.raises(ValueError, match="neither http://host:port nor the path of a socket"):
        request("GET", where)


def test_a_timeout(server: Process):
    with pytest.raises(TimeoutError):
        request("GET", url(server), "/sleep?30", timeout=0.2)


@pytest.mark.parametrize(
    "answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"]
)
def test_replies_that_are_not_http(answer: bytes):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            sock, _ = listening.accept()
            with sock:
                sock.recv(1000)
                sock.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ConnectionError):
            request("GET", f"http://127.0.0.1:{listening.getsockname()[1]}")
        thread.join()


def test_a_long_path_is_accessible_only_to_this_user(long_path: Path):
    with sockets.listen_unix(long_path) as listening:
        assert stat.S_IMODE(os.stat(long_path).st_mode) == 0o600
        assert os.listdir(long_path.parent) == [long_path.name]
        with sockets.connect_unix(long_path, timeout=5) as here, listening.accept()[0] as there:
            here.sendall(b"x")
            assert there.recv(1) == b"x"


def test_a_socket_in_use_is_not_replaced(tmp_path: Path):
    path = tmp_path / "a.sock"
    with sockets.listen_unix(path):
        with pytest.raises(OSError, match="another process listens") as taken:
            sockets.listen_unix(path)
        assert taken.value.errno == errno.EADDRINUSE
    # The file still exists, but no process listens on it.
    with sockets.listen_unix(path), sockets.connect_unix(path, timeout=5):
        pass


def test_a_socket_in_a_missing_folder(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        sockets.listen_unix(tmp_path / "missing" / "a.sock")
    assert os.listdir(tmp_path) == []


ASK = """
import sys
from fnbuild.runtime.http.client import request
answer = request("POST", sys.argv[1], "/inspect", b"x" * 100000, timeout=20)
assert answer.status == 200 and b'"size": 100000' in answer.body, answer
"""


@pytest.mark.parametrize("version", interpreters.every(interpreters.PYPY))
def test_every_interpreter_connects_over_a_long_path(version: str, long_path: Path):
    python = interpreters.find(version)
    assert python is not None
    with sockets.listen_unix(long_path) as listening, serving(version, listening):
        subprocess.run(
            [python, "-W", "error", "-c", ASK, str(long_path)],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            check=True,
            timeout=60,
        )
