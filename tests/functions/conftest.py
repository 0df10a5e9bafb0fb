"""Functions called in two ways: their handler directly, and through the real processor."""

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nuclio_sdk
import pytest

from fnbuild.runtime.http.client import request
from fnbuild.spec.reader import load

DEADLINE = 60.0


class Handler:
    """A function's handler with the real Context, Event and Response of nuclio_sdk."""

    def __init__(self, folder: Path) -> None:
        sys.path.insert(0, str(folder))
        # Every function calls its modules alike: what another one left must not be found.
        for path in folder.glob("*.py"):
            sys.modules.pop(path.stem, None)
        try:
            self.module = importlib.import_module("main")
        finally:
            sys.path.remove(str(folder))
            for path in folder.glob("*.py"):
                sys.modules.pop(path.stem, None)
        self.context = nuclio_sdk.Context(logger=nuclio_sdk.Logger(level=50))
        self.module.init_context(self.context)

    def __call__(self, body: Any, **more: Any) -> tuple[int, Any]:
        """Status and content of the reply to a body, which is JSON unless it is bytes."""
        if isinstance(body, bytes) and body.startswith(b"{"):
            body = json.loads(body)
        reply = self.module.handler(self.context, nuclio_sdk.Event(body=body, **more))
        assert reply.content_type == "application/json"
        return reply.status_code, json.loads(reply.body)


@pytest.fixture
def handler() -> Callable[[Path], Handler]:
    return Handler


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Path], str]]:
    """Starts the processor on a function's folder; gives the URL when all workers are ready."""
    running: list[subprocess.Popen[bytes]] = []

    def start(folder: Path) -> str:
        function = load(folder).function
        name, trigger = function.http_trigger() or pytest.fail("no http trigger")
        http, admin = _free_port(), _free_port()
        config = {
            "function": {"name": function.metadata.name},
            "handler": function.spec.handler,
            "code": str(folder),
            "mount": None,
            "interpreter": sys.executable,
            "triggers": {name: {"kind": "http", "num_workers": trigger.num_workers}},
            "listeners": {
                "http": {"host": "127.0.0.1", "port": http},
                "admin": {"host": "127.0.0.1", "port": admin},
            },
        }
        path = tmp_path / f"processor-{http}.json"
        path.write_text(json.dumps(config))
        command = [sys.executable, "-m", "fnbuild.runtime.processor", "--config", str(path)]
        log = (tmp_path / f"log-{http}").open("wb")
        running.append(subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ)))
        log.close()
        _until_ready(running[-1], f"http://127.0.0.1:{admin}", Path(log.name))
        return f"http://127.0.0.1:{http}"

    yield start
    for process in running:
        process.send_signal(signal.SIGTERM)
    for process in running:
        process.wait(timeout=DEADLINE)


def _until_ready(process: subprocess.Popen[bytes], admin: str, log: Path) -> None:
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end and process.poll() is None:
        try:
            if request("GET", admin, "/ready").status == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    pytest.fail(f"the processor did not become ready:\n{log.read_text()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
