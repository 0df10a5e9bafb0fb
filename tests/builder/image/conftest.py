"""Images of functions in the available engine, and containers of them without a network."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fnbuild.builder import sdk
from fnbuild.builder.image.engine import Engine
from fnbuild.deploy import artifacts
from fnbuild.function.reader import load_function
from tests.builder.image import bases
from tests.builder.image.bases import BASES, docker
from tests.engine import engine_resources, require_engine

PATIENCE = 150.0

# Run by the container's own Python, because it may have no other program.
_POST = """
import sys
from http.client import HTTPConnection
connection = HTTPConnection("127.0.0.1", 8080, timeout=60)
connection.request("POST", "/", sys.stdin.buffer.read(), {"Content-Type": "application/json"})
reply = connection.getresponse()
body = reply.read()
sys.stdout.buffer.write(b"%d " % reply.status + body)
"""


class Container:
    """A function in a container. `name` is the engine's; `python` runs the processor in it."""

    def __init__(self, name: str, python: str) -> None:
        self.name = name
        self.python = python

    def run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run a program in the container, with its arguments."""
        command_line = ["docker", "exec", self.name, *arguments]
        return subprocess.run(command_line, capture_output=True, check=False, timeout=PATIENCE)

    def ask(self, source: str) -> Any:
        """Return what Python code prints in the container, as JSON."""
        done = self.run(self.python, "-IS", "-c", source)
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    def wait(self) -> dict[str, Any]:
        """Return the processor's status once it is ready or has failed."""
        return json.loads(self.run("processor", "--wait", "120").stdout)

    def await_ready(self) -> dict[str, Any]:
        """Return the status; fail the test with the log unless it becomes ready."""
        status = self.wait()
        assert status["state"] == "ready", f"{status}\n{self.log()}"
        return status

    def post(self, body: bytes) -> tuple[int, bytes]:
        """Return status and body of the function's reply."""
        process = self.begin_post(body)
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err.decode() + self.log()
        status, _, reply = out.partition(b" ")
        return int(status), reply

    def begin_post(self, body: bytes) -> subprocess.Popen[bytes]:
        """Start a client that prints status and body of the reply; its input is complete."""
        command = ["docker", "exec", "-i", self.name, self.python, "-IS", "-c", _POST]
        pipe = subprocess.PIPE
        with tempfile.TemporaryFile() as file:
            file.write(body)
            file.seek(0)
            return subprocess.Popen(command, stdin=file, stdout=pipe, stderr=pipe)

    def call(self, value: Any = None) -> Any:
        """Send JSON, expect 200, return the parsed reply."""
        status, reply = self.post(json.dumps(value).encode())
        assert status == 200, reply + self.log().encode()
        return json.loads(reply)

    def log(self) -> str:
        done = subprocess.run(
            ["docker", "logs", self.name], capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    def state(self) -> dict[str, Any]:
        """Return the engine's state of the process."""
        return json.loads(docker("inspect", "--format", "{{json .State}}", self.name))


@pytest.fixture(scope="module")
def engine() -> Engine:
    """Return the available engine, or skip the test."""
    return require_engine("docker")


Make = Callable[..., str]
Start = Callable[..., Container]


@pytest.fixture(scope="session")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide every release of nuclio_sdk, downloaded once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FNBUILD_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        return sdk.ensure_all_sdks()[0].parent


@pytest.fixture(scope="session")
def make_image(releases: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Return `make_image(base, sources)`, which builds a function's image once."""
    engine = require_engine("docker")
    images: dict[str, str] = {}
    with engine_resources(engine) as resources:

        def make(base: str, sources: dict[str, str]) -> str:
            key = json.dumps([base, sources])
            if key not in images:
                images[key] = build(base, sources, resources.image(f"{base}-{len(images)}"))
            return images[key]

        def build(base: str, sources: dict[str, str], reference: str) -> str:
            folder = tmp_path_factory.mktemp("function")
            write_function(folder, base, sources, reference)
            with pytest.MonkeyPatch.context() as patch:
                # Results about base images are shared between builds.
                patch.setenv("FNBUILD_DATA_DIR", str(releases.parent))
                built = artifacts.build_image(load_function(folder), engine, lambda _: None)
            assert built.python.version[:2] == BASES[base].version[:2]
            return built.reference

        yield make


def write_function(folder: Path, base: str, sources: dict[str, str], reference: str) -> None:
    """Write a function on that base, whose build has no network."""
    build = {"baseImage": bases.image(base), "image": reference, "offline": True}
    interpreter = BASES[base].interpreter
    config = {
        "metadata": {"name": "f"},
        "spec": {
            "handler": "main:handler",
            "runtime": "python:3.11",
            "build": build,
            "env": [{"name": "NUCLIO_PYTHON_EXE_PATH", "value": interpreter}]
            if interpreter
            else [],
        },
    }
    (folder / "function.yaml").write_text(json.dumps(config))
    for name, source in sources.items():
        (folder / name).write_text(source)


@pytest.fixture
def start(engine: Engine) -> Iterator[Start]:
    """Return `start(image, base, *options)`, which starts a container without network."""
    with contextlib.ExitStack() as stack:

        def begin(image: str, base: str, *options: str, command: tuple[str, ...] = ()) -> Container:
            name = f"fnbuild-test-{uuid.uuid4().hex[:12]}"
            interpreter = BASES[base].interpreter
            more = ["--env", f"NUCLIO_PYTHON_EXE_PATH={interpreter}"] if interpreter else []
            stack.callback(docker, "rm", "-f", "-v", name)
            docker(
                *("run", "-d", "--network", "none", "--name", name),
                *(*more, *options, image, *command),
            )
            return Container(name, BASES[base].python)

        yield begin
