"""Replies that are files, named by the handler."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from fnbuild.runtime.triggers import file_replies

HANDLER = """
import os
import tempfile

PATH = "X-nuclio-filestream-path"
DELETE = "X-nuclio-filestream-delete-after-send"


def handler(context, event):
    body = event.body
    if event.path == "/echo":
        return context.Response(body="echoed", headers=dict(event.headers))
    headers = {PATH: body["path"], "X-Kept": "yes"}
    if "delete" in body:
        headers[DELETE] = body["delete"]
    if "write" in body:
        with open(body["path"], "wb") as file:
            file.write(body["write"].encode() * body.get("times", 1))
    return context.Response(
        body="not this", headers=headers, content_type="video/mp4", status_code=206
    )
"""


@pytest.fixture(scope="module")
def processor(serve_module: Any) -> Any:
    return serve_module(HANDLER, mount="/opt/nuclio", immutable=True)


def ask(processor: Any, **body: Any) -> Any:
    return processor.send(json.dumps(body).encode(), path="/", content_type="application/json")


def test_a_file_is_the_body(processor: Any, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"\x00film")
    answer = ask(processor, path=str(tmp_path / "a.mp4"))
    assert (answer.status, answer.body) == (206, b"\x00film")
    assert answer.header("content-type") == "video/mp4"
    assert answer.header("x-kept") == "yes"
    assert answer.header("x-nuclio-filestream-path") is None
    assert (tmp_path / "a.mp4").exists()
    (tmp_path / "a.mp4").write_bytes(b"")
    assert ask(processor, path=str(tmp_path / "a.mp4")).body == b""


@pytest.mark.parametrize(
    ("value", "there"), [("true", False), (True, False), ("1", False), ("false", True), ("", True)]
)
def test_the_file_is_deleted_on_request(
    processor: Any, tmp_path: Path, value: object, there: bool
) -> None:
    file = tmp_path / "a.bin"
    for size in (10, 3 << 20):
        file.write_bytes(b"x" * size)
        answer = ask(processor, path=str(file), delete=value)
        assert answer.body == b"x" * size
        assert answer.header("x-nuclio-filestream-delete-after-send") is None
        assert file.exists() is there


def test_the_path_is_resolved_by_the_worker(processor: Any) -> None:
    # The processor itself has no such folder, or another one.
    answer = ask(processor, path="/opt/nuclio/made.txt", write="here")
    assert answer.body == b"here"
    assert ask(processor, path="made.txt").body == b"here"
    assert ask(processor, path="main.py").body == HANDLER.encode()


def test_a_missing_file(processor: Any, tmp_path: Path) -> None:
    answer = ask(processor, path=str(tmp_path / "none.mp4"))
    assert answer.status == 404
    assert str(tmp_path / "none.mp4") in answer.body.decode()
    assert processor.await_record("none.mp4", level="error")


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_paths_that_are_not_regular_files(processor: Any, tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path = Path("/dev/zero")
    answer = ask(processor, path=str(path))
    assert answer.status == 404
    assert str(path) in answer.body.decode()


def test_a_request_cannot_name_a_file(processor: Any) -> None:
    answer = processor.send(b"", path="/echo", x_nuclio_filestream_path="/etc/hostname")
    assert answer.status == 500
    assert Path("/etc/hostname").read_bytes().strip() not in answer.body
    assert processor.send(b"", path="/echo").body == b"echoed"


def test_a_large_file_is_not_held_in_memory(processor: Any, tmp_path: Path) -> None:
    file = tmp_path / "large.bin"
    with file.open("wb") as content:
        content.truncate(1 << 30)
        content.seek((1 << 30) - 4)
        content.write(b"last")
    before = anonymous(processor.process.pid)
    host, port = processor.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as client:
        body = b'{"path": "%s"}' % str(file).encode()
        client.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        received, tail, most = 0, b"", 0
        while received < 1 << 30:
            piece = client.recv(1 << 20)
            assert piece
            received += len(piece)
            tail = (tail + piece)[-4:]
            if received % 64 < 8:
                most = max(most, anonymous(processor.process.pid) - before)
    assert tail == b"last"
    assert most < 32 << 20


def test_other_requests_are_served_meanwhile_and_a_client_may_disconnect(
    processor: Any, tmp_path: Path
) -> None:
    file = tmp_path / "large.bin"
    with file.open("wb") as content:
        content.truncate(256 << 20)
    host, port = processor.url.removeprefix("http://").split(":")
    body = b'{"path": "%s", "delete": "true"}' % str(file).encode()
    with socket.create_connection((host, int(port)), timeout=60) as client:
        client.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        assert client.recv(12) == b"HTTP/1.1 206"
        began = time.monotonic()
        assert ask(processor, path="main.py").status == 206
        assert time.monotonic() - began < 20
    assert not file.exists()
    assert ask(processor, path="main.py").status == 206


def test_a_truncated_file_ends_only_its_own_connection(processor: Any, tmp_path: Path) -> None:
    file = tmp_path / "large.bin"
    with file.open("wb") as content:
        content.truncate(256 << 20)
    host, port = processor.url.removeprefix("http://").split(":")
    body = b'{"path": "%s"}' % str(file).encode()
    with socket.create_connection((host, int(port)), timeout=60) as client:
        client.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        assert client.recv(12) == b"HTTP/1.1 206"
        os.truncate(file, 4096)
        received = 0
        try:
            while piece := client.recv(1 << 20):
                received += len(piece)
        except ConnectionResetError:
            pass
        assert received < 256 << 20
    assert ask(processor, path="main.py").status == 206


def anonymous(pid: int) -> int:
    """Return the bytes of a process's anonymous memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


def test_a_worker_that_has_ended(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    for pid in (0, 2**22 + 1):
        assert (
            file_replies.read_file(file_replies.FileReply(str(tmp_path / "a"), False, []), pid)
            == b"x"
        )
        with pytest.raises(file_replies.FileReplyError, match="none"):
            file_replies.read_file(file_replies.FileReply(str(tmp_path / "none"), False, []), pid)


def test_headers_without_a_file() -> None:
    assert file_replies.file_reply([]) is None
    assert file_replies.file_reply([("X-A", "1"), (file_replies.DELETE_HEADER, "true")]) is None
    reply = file_replies.file_reply([("X-NUCLIO-FILESTREAM-PATH", "/a"), ("X-A", "1")])
    assert reply == file_replies.FileReply("/a", False, [("X-A", "1")])
