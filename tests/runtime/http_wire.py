"""A server process for a test, and raw sockets to talk to it."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.runtime import interpreters

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 60.0


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def closes(self) -> bool:
        return self.headers.get("connection") == "close"


class Wire:
    """One connection, bytes in and out, every wait with a deadline."""

    def __init__(self, address: Any, receive_buffer: int | None = None) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(address)
        self.left = b""

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_exc: object) -> None:
        self.sock.close()

    def send(self, *pieces: bytes) -> "Wire":
        for piece in pieces:
            self.sock.sendall(piece)
        return self

    def ask(self, path: str, body: bytes = b"", extra: str = "", method: str = "POST") -> "Wire":
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: test\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
        )
        return self.send(head.encode("latin-1") + body)

    def answer(self, to_head: bool = False) -> Answer:
        """Read one answer; raise AssertionError if the connection ends before it is complete."""
        while b"\r\n\r\n" not in self.left:
            self._read()
        head, self.left = self.left.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1"
        pairs = [line.split(": ", 1) for line in lines]
        headers = {name.lower(): value for name, value in pairs}
        assert len(headers) == len(pairs), f"a header stands there twice: {lines}"
        bare = to_head or status in ("100", "204", "304")
        size = 0 if bare else int(headers["content-length"])
        while len(self.left) < size:
            self._read()
        body, self.left = self.left[:size], self.left[size:]
        return Answer(int(status), headers, body)

    def ended(self) -> bool:
        """Return True if the server closes without more bytes and without a reset."""
        return not self.left and self.sock.recv(1) == b""

    def silent(self, seconds: float = 0.3) -> bool:
        """Return True if the connection stays open and silent for a while."""
        self.sock.settimeout(seconds)
        try:
            return not self.left and self.sock.recv(1, socket.MSG_PEEK) is None
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(DEADLINE)

    def _read(self) -> None:
        got = self.sock.recv(1 << 20)
        assert got, f"the connection ended inside an answer, behind {self.left[:200]!r}"
        self.left += got


class Process:
    """A running echo server."""

    def __init__(self, popen: "subprocess.Popen[str]", address: Any) -> None:
        self.popen = popen
        self.address = address

    def wire(self, receive_buffer: int | None = None) -> Wire:
        return Wire(self.address, receive_buffer)

    def command(self, line: str) -> None:
        """Run a command of the server and wait for its end."""
        with self.wire() as wire:
            wire.send(line.encode() + b"\n")
            assert wire.ended()

    def counts(self) -> Any:
        with self.wire() as wire:
            return wire.ask("/counts").answer().json

    def drained(self) -> int:
        """Wait for the end of a drain; the exit status."""
        out, _ = self.popen.communicate(timeout=DEADLINE)
        assert out == "drained\n"
        return self.popen.returncode


def until(condition: Callable[[], bool], name: str) -> None:
    """Poll until the condition holds; raise AssertionError with its name after the timeout."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"not within {DEADLINE} s: {name}"
        time.sleep(0.01)


def listener(address: Any = ("127.0.0.1", 0)) -> socket.socket:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.bind(address)
    sock.listen(256)
    return sock


@contextlib.contextmanager
def serving(
    version: str | None = None, sock: socket.socket | None = None, **options: Any
) -> Iterator[Process]:
    """An echo server under the interpreter of this version, on the given listening socket."""
    python = sys.executable if version is None else interpreters.find(version)
    assert python is not None
    with sock.dup() if sock else listener() as listening:
        settings = json.dumps({"fd": [listening.fileno()], **options})
        popen = subprocess.Popen(
            [python, "-W", "error", str(Path(__file__).with_name("echo_server.py")), settings],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[listening.fileno()],
        )
        address = listening.getsockname()
    try:
        assert popen.stdout is not None
        assert popen.stdout.readline() == "ready\n"
        yield Process(popen, address)
    finally:
        popen.kill()
        popen.communicate()
