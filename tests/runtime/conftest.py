"""Start real processors for handlers given as source text."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fnbuild.builder import sdk
from fnbuild.runtime import sockets
from fnbuild.runtime.http import client
from tests.runtime import interpreters

ROOT = Path(__file__).parents[2]
PATIENCE = 20.0
"""Seconds that an operation may take which has to end by itself.

What ends in spite of that ends later: see the drain's and the lingering's own times in tests.
"""

_WAITED = 120.0


def eventually(look: Callable[[], Any], seconds: float = _WAITED) -> Any:
    """Return the first true value of `look`."""
    deadline = time.monotonic() + seconds
    while True:
        value = look()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {value!r}"
        time.sleep(0.02)


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def header(self, name: str) -> str | None:
        return {key.lower(): value for key, value in self.headers.items()}.get(name.lower())


def ask(*request: Any) -> Answer:
    return Answer(*client.request(*request, timeout=_WAITED))


class Running:
    """A processor under test. Its log goes to a file, read as records."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.code = folder / "code"
        self.process = process
        self.control = folder / "control.sock"
        self.log_path = folder / "log"

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def url(self) -> str:
        return self._url("http")

    @property
    def grpc_target(self) -> str:
        return f"127.0.0.1:{self._port('grpc')}"

    def _url(self, listener: str) -> str:
        return f"http://127.0.0.1:{self._port(listener)}"

    def _port(self, listener: str) -> int:
        return json.loads((self.folder / "ports").read_text())[listener]

    def send(
        self, body: bytes | str = b"", path: str = "/", *, method: str = "POST", **headers: str
    ) -> Answer:
        """One request to the function; header names with `_` for `-`."""
        data = body.encode() if isinstance(body, str) else body
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return ask(method, self.url, path, data or None, named)

    def call(self, value: Any = None, path: str = "/", **headers: str) -> Any:
        """Send JSON, expect 200, return the parsed reply."""
        headers.setdefault("content_type", "application/json")
        answer = self.send(json.dumps(value), path, **headers)
        assert answer.status == 200, answer
        return json.loads(answer.body)

    def admin(self, path: str) -> Answer:
        return ask("GET", self._url("admin"), path)

    def tell(self, path: str, value: Any = None) -> Answer:
        body = None if value is None else json.dumps(value).encode()
        return ask("POST", self.control, path, body)

    def connect(self) -> Any:
        return sockets.connect_unix(self.control, PATIENCE)

    def status(self) -> dict[str, Any]:
        return json.loads(self.admin("/status").body)

    def await_state(self, state: str) -> dict[str, Any]:
        try:
            return eventually(lambda: (s := self.status())["state"] == state and s)
        except AssertionError:
            pytest.fail(f"not {state}: {self.status()}\n{self.log_path.read_text()}")

    def await_workers(self, *states: str) -> list[dict[str, Any]]:
        def look() -> list[dict[str, Any]] | None:
            workers = self.status()["workers"]
            return workers if [w["state"] for w in workers] == list(states) else None

        return eventually(look)

    def await_waiting(self, count: int) -> None:
        """Wait until that number of requests waits for a worker."""

        def look() -> bool:
            text = self.admin("/metrics").body.decode()
            values = re.findall(r"^nuclio_processor_waiting_events{.*} (\S+)$", text, re.MULTILINE)
            return sum(map(float, values)) == count

        eventually(look)

    def write(self, source: str, name: str = "main.py") -> None:
        (self.code / name).write_text(textwrap.dedent(source))

    def records(self, **wanted: Any) -> list[dict[str, Any]]:
        lines = self.log_path.read_text().splitlines()
        records = [json.loads(line) for line in lines if line.startswith("{")]
        return [r for r in records if all(r.get(k) == v for k, v in wanted.items())]

    def await_record(self, text: str, **wanted: Any) -> dict[str, Any]:
        def look() -> list[dict[str, Any]]:
            return [r for r in self.records(**wanted) if text in r["message"]]

        return eventually(look)[0]

    def end(self) -> int:
        """Stop the processor; return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


Serve = Callable[..., Running]


def _sdk(version: str | None) -> Path:
    """A folder with the nuclio_sdk that fits the interpreter."""
    numbers = interpreters.numbers(version) if version else sys.version_info[:2]
    return sdk.ensure_sdk((*numbers, 0))


def _python(version: str | None) -> str:
    python = interpreters.find(version) if version else sys.executable
    assert python is not None
    return python


def _reserve() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(128)
    sock.set_inheritable(True)
    return sock


def _config(folder: Path, python: str, changes: dict[str, Any]) -> dict[str, Any]:
    trigger = {"kind": "http", "num_workers": changes.pop("workers", 1)}
    trigger.update(changes.pop("trigger", {}))
    config = {
        "function": {"name": "under-test", "namespace": "nuclio", "project": "p", "revision": 7},
        "handler": "main:handler",
        "code": str(folder / "code"),
        "interpreter": python,
        "triggers": {"http": trigger},
        "event_timeout": 30.0,
        "readiness_timeout": 60.0,
        "log": {"level": "debug", "format": "json"},
    }
    config.update(changes)
    return config


@contextlib.contextmanager
def running(home: Path, source: str, version: str | None = None, **changes: Any) -> Iterator[Any]:
    """A processor for one handler. `wait=None` does not wait until it is ready.

    With `control=False` it has no control socket, as in a container.
    """
    folder = home
    (folder / "code").mkdir()
    (folder / "code" / "main.py").write_text(textwrap.dedent(source))
    (folder / "code" / "function.yaml").write_text("metadata: {name: under-test}\n")
    python = _python(version)
    wait = changes.pop("wait", "ready")
    has_control = changes.pop("control", True)
    for name, text in changes.pop("files", {}).items():
        (folder / "code" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "code" / name).write_text(textwrap.dedent(text))
    env = {**os.environ, **changes.pop("environ", {})}
    changes.setdefault("sdk_path", str(_sdk(version)))
    config = _config(folder, python, changes)
    with _reserve() as http, _reserve() as admin, _reserve() as grpc:
        reserved = {"http": http, "admin": admin, "grpc": grpc}
        ports = {name: sock.getsockname()[1] for name, sock in reserved.items()}
        (folder / "ports").write_text(json.dumps(ports))
        listeners = {name: {"fd": sock.fileno()} for name, sock in reserved.items()}
        control = str(folder / "control.sock") if has_control else None
        config["listeners"] = {**listeners, "control": control}
        (folder / "processor.json").write_text(json.dumps(config))
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [python, "-m", "fnbuild.runtime.processor", "--config", folder / "processor.json"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=env,
                pass_fds=[sock.fileno() for sock in reserved.values()],
            )
    processor = Running(folder, process)
    try:
        if wait:
            processor.await_state(wait)
        yield processor
    finally:
        processor.end()


@pytest.fixture(scope="session", autouse=True)
def _cached_sdk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep downloads for the tests apart from the user's data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FNBUILD_DATA_DIR", str(tmp_path_factory.getbasetemp() / "data"))
        yield


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """`serve(source, **changes of processor.json)`: a processor that ends with the test."""
    with contextlib.ExitStack() as stack:
        count = iter(range(100))

        def start(source: str, **changes: Any) -> Running:
            home = tmp_path / str(next(count))
            home.mkdir()
            return stack.enter_context(running(home, source, **changes))

        yield start


@pytest.fixture(scope="module")
def serve_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """The same, for a processor that serves all tests of a module."""
    with contextlib.ExitStack() as stack:

        def start(source: str, **changes: Any) -> Running:
            home = tmp_path_factory.mktemp("processor")
            return stack.enter_context(running(home, source, **changes))

        yield start


@pytest.fixture
def soon() -> Callable[..., Any]:
    """Poll until something is true."""
    return eventually
