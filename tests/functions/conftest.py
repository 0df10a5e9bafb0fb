"""Functions called in two ways: their handler directly, and through the real processor."""

import base64
import importlib
import importlib.util
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nuclio_sdk
import pytest
import torch
from PIL import Image

from fnbuild.function.reader import load_function
from fnbuild.runtime.http.client import request

DEADLINE = 60.0
ROOT = Path(__file__).resolve().parents[2]


def import_module_of(folder: Path, name: str) -> Any:
    """Import a module of a function.

    All functions use the same module names: modules of another one must not be imported.
    """

    def forget() -> None:
        for path in folder.glob("*.py"):
            sys.modules.pop(path.stem, None)

    sys.path.insert(0, str(folder))
    forget()
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))
        forget()


class Handler:
    """A function's handler with the real Context, Event and Response of nuclio_sdk."""

    def __init__(self, folder: Path) -> None:
        self.module = import_module_of(folder, "main")
        self._register()
        self.context = nuclio_sdk.Context(logger=nuclio_sdk.Logger(level=50))
        self.module.init_context(self.context)

    def _register(self) -> None:
        # fnbuild.vision reads the function.yaml beside the module.
        sys.modules["main"] = self.module

    def __call__(self, body: Any, **more: Any) -> tuple[int, Any]:
        """Status and content of the reply to a body, which is JSON unless it is bytes."""
        self._register()
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
    """Start the processor on a function's folder; return the URL when all workers are ready."""
    running: list[subprocess.Popen[bytes]] = []

    def start(folder: Path) -> str:
        function = load_function(folder).function
        name, trigger = function.http_trigger() or pytest.fail("no http trigger")
        http, admin = (stack.enter_context(_listening()) for _ in range(2))
        config = {
            "function": {"name": function.metadata.name},
            "handler": function.spec.handler,
            "code": str(folder),
            "mount": None,
            "interpreter": sys.executable,
            "triggers": {name: {"kind": "http", "num_workers": trigger.num_workers}},
            "listeners": {"http": {"fd": http.fileno()}, "admin": {"fd": admin.fileno()}},
        }
        path = tmp_path / f"processor-{len(running)}.json"
        path.write_text(json.dumps(config))
        command = [sys.executable, "-m", "fnbuild.runtime.processor", "--config", str(path)]
        with (tmp_path / f"log-{len(running)}").open("wb") as log:
            running.append(
                subprocess.Popen(
                    command,
                    stdout=log,
                    stderr=log,
                    env=dict(os.environ),
                    pass_fds=(http.fileno(), admin.fileno()),
                )
            )
        _until_ready(running[-1], _url(admin), Path(log.name))
        return _url(http)

    with ExitStack() as stack:
        yield start
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.wait(timeout=DEADLINE)


@pytest.fixture(scope="module")
def fnbuild(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Run the program with a data directory of its own."""
    environment = {
        **os.environ,
        "FNBUILD_DATA_DIR": str(tmp_path_factory.mktemp("data")),
        "FNBUILD_PLATFORM": "process",
    }

    def run(*arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "fnbuild", *map(str, arguments)],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    yield run
    run("down")


def write_mobilenet_weights(folder: Path) -> None:
    """Write random weights of the mobilenet function, and labels for its classes."""
    torch.manual_seed(1)
    network = import_module_of(ROOT / "functions/torch/mobilenet", "network").MobileNet(3)
    torch.save(network.state_dict(), folder / "random.pt")
    (folder / "labels.txt").write_text("plastic_bag\nlemon\nacorn\n")


@pytest.fixture(scope="session")
def mobilenet_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with random weights and labels."""
    folder = tmp_path_factory.mktemp("weights")
    write_mobilenet_weights(folder)
    return folder


@pytest.fixture
def set_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Let STORAGE_URI name small weights for a function that has none of its own.

    Modules of tests/functions/weights write them. The working directory becomes the function's, as
    in a worker.
    """

    def set_variable(function: Path) -> None:
        monkeypatch.chdir(function)
        module_name = f"tests.functions.weights.{function.name.replace('-', '_')}"
        if importlib.util.find_spec(module_name) is not None:
            storage = tmp_path / "weights"
            storage.mkdir()
            importlib.import_module(module_name).write(storage)
            monkeypatch.setenv("STORAGE_URI", str(storage))

    return set_variable


@pytest.fixture(scope="session")
def huge_image() -> str:
    """A small file that would take half a gigabyte of memory once decoded, in base64."""
    out = io.BytesIO()
    Image.new("1", (13_376, 13_376)).save(out, "PNG")
    assert out.tell() < 30_000
    return base64.b64encode(out.getvalue()).decode()


def _until_ready(process: subprocess.Popen[bytes], admin: str, log: Path) -> None:
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end and process.poll() is None:
        try:
            if request("GET", admin, "/ready", timeout=5).status == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    pytest.fail(f"the processor did not become ready:\n{log.read_text()}")


def _listening() -> socket.socket:
    listening_socket = socket.create_server(("127.0.0.1", 0), backlog=128)
    listening_socket.setblocking(False)
    return listening_socket


def _url(listening: socket.socket) -> str:
    return f"http://127.0.0.1:{listening.getsockname()[1]}"
