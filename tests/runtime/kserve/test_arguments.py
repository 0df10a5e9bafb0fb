"""The program of an image, started with the arguments of KServe."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fnbuild.builder import sdk
from fnbuild.runtime.config import ConfigFileError, ProcessorConfig
from fnbuild.runtime.kserve.arguments import apply_arguments, is_server_start
from tests import engine
from tests.runtime import interpreters
from tests.runtime.conftest import PATIENCE, ROOT, ask, eventually

PROGRAM = """
import sys
sys.path.insert(0, {root!r})
from fnbuild.runtime import container, health
health.PORT = {port}
sys.exit(container.main())
"""

MODEL = """
    import os
    import time
    import kserve

    class Model(kserve.Model):
        def load(self):
            while not os.path.exists(os.environ["LOADED"]):
                time.sleep(0.02)
            if os.path.getsize(os.environ["LOADED"]):
                raise RuntimeError("broken weights")
            self.ready = True

        def predict(self, payload, headers=None):
            return {"predictions": [self.name, os.environ.get("STORAGE_URI"), os.getpid()]}

    if __name__ == "__main__":
        args, _ = kserve.model_server.parser.parse_known_args()
        kserve.ModelServer().start([Model(args.model_name)])
"""


TRANSFORMER = """
    import kserve

    class Transformer(kserve.Model):
        def postprocess(self, result, headers=None, response_headers=None):
            name = result["predictions"][0]
            return {"predictions": [name + " of a predictor"]}

    if __name__ == "__main__":
        args, _ = kserve.model_server.parser.parse_known_args()
        kserve.ModelServer().start([Transformer(args.model_name)])
"""


class Container:
    """The program of an image on this machine, with the ports that it listens on."""

    def __init__(self, folder: Path, source: str, arguments: list[str], python: str) -> None:
        self.port = engine.free_port()
        self.loaded = folder / "loaded"
        code = folder / "code"
        code.mkdir()
        (code / "main.py").write_text(textwrap.dedent(source))
        numbers = interpreters.numbers("3.6") if "3.6" in python else sys.version_info[:2]
        config = {
            "function": {"name": "own-name"},
            "handler": "main:__main__",
            "code": str(code),
            "interpreter": python,
            "sdk_path": str(sdk.ensure_sdk((*numbers, 0))),
            "log": {"level": "debug", "format": "json"},
        }
        environ = {"FNBUILD_PROCESSOR": json.dumps(config), "LOADED": str(self.loaded)}
        program = PROGRAM.format(root=str(ROOT), port=engine.free_port())
        self.process = subprocess.Popen(
            [python, "-IS", "-c", program, "--http_port", str(self.port), *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **environ},
        )

    def connects(self) -> bool:
        """Return True if the port takes connections, as KServe's default probe checks."""
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", self.port), PATIENCE).close()
            return True
        return False

    def get(self, path: str) -> tuple[int, Any]:
        reply = ask("GET", f"http://127.0.0.1:{self.port}", path)
        return reply.status, json.loads(reply.body)

    def predict(self, name: str) -> tuple[int, Any]:
        path = f"/v1/models/{name}:predict"
        reply = ask("POST", f"http://127.0.0.1:{self.port}", path, b'{"instances": []}')
        return reply.status, json.loads(reply.body)


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Callable[..., Container]]:
    """`container(*arguments)`: a started program."""
    started: list[Container] = []

    def start(*arguments: str, source: str = MODEL, python: str = sys.executable) -> Container:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Container(folder, source, list(arguments), python))
        return started[-1]

    yield start
    for item in started:
        item.process.send_signal(signal.SIGTERM)
        item.process.wait(PATIENCE)


@pytest.mark.system
@pytest.mark.parametrize("version", interpreters.few())
def test_the_port_is_closed_until_the_model_is_loaded(
    container: Callable[..., Container], tmp_path: Path, version: str
) -> None:
    python = str(interpreters.find(version))
    folder = tmp_path / "model"
    folder.mkdir()
    program = container("--model_name=m", f"--model_dir={folder}", "--workers", "2", python=python)
    children = f"/proc/{program.process.pid}/task/{program.process.pid}/children"
    eventually(lambda: Path(children).read_text().strip(), PATIENCE)
    assert not program.connects()
    program.loaded.touch()
    eventually(program.connects, PATIENCE)
    status, answer = program.predict("m")
    assert (status, answer["predictions"][:2]) == (200, ["m", str(folder)])
    assert program.get("/v1/models/m") == (200, {"name": "m", "ready": True})
    assert program.get("/v2/models/m/ready") == (200, {"name": "m", "ready": True})
    assert program.predict("own-name")[0] == 404


@pytest.mark.system
def test_two_containers_are_a_transformer_and_its_predictor(
    container: Callable[..., Container],
) -> None:
    predictor = container("--model_name", "m")
    predictor.loaded.touch()
    eventually(predictor.connects, PATIENCE)
    host = f"127.0.0.1:{predictor.port}"
    transformer = container("--model_name", "m", "--predictor_host", host, source=TRANSFORMER)
    transformer.loaded.touch()
    eventually(transformer.connects, PATIENCE)
    status, answer = transformer.predict("m")
    assert (status, answer["predictions"][0]) == (200, "m of a predictor")
    predictor.process.kill()
    assert transformer.predict("m")[0] == 503


@pytest.mark.system
def test_the_container_ends_if_its_model_cannot_be_loaded(
    container: Callable[..., Container],
) -> None:
    program = container("--model_name", "m")
    program.loaded.write_text("broken")
    assert program.process.wait(PATIENCE) == 1


def config(**values: Any) -> ProcessorConfig:
    listeners = {"http": {"host": "0.0.0.0", "port": 8080}}
    return ProcessorConfig({"handler": "m:h", "code": "/", "listeners": listeners, **values})


def test_arguments_of_kserve_change_the_configuration() -> None:
    changed = config(triggers={"t": {"kind": "http", "num_workers": 3}})
    arguments = ["--model_name", "m", "--http_port=8085", "--workers", "2", "--labels", "a b"]
    assert is_server_start(arguments)
    apply_arguments(changed, arguments)
    trigger = changed.triggers["t"]
    assert (changed.model_name, changed.http[0].port, trigger.num_workers) == ("m", 8085, 2)
    assert trigger.attributes["protocols"] == ["v1", "v2"]
    assert changed.arguments == arguments


def test_a_function_without_trigger_gets_one_for_the_protocols() -> None:
    changed = config()
    apply_arguments(changed, ["--predictor_host", "h"])
    assert changed.triggers["default-http"].attributes == {"protocols": ["v1", "v2"]}


def test_the_port_of_grpc_is_that_of_the_arguments() -> None:
    address = {"host": "127.0.0.1", "port": 9000}
    changed = config(
        triggers={"t": {"kind": "http", "attributes": {"protocols": ["v2", "grpc"]}}},
        listeners={"http": address, "grpc": address},
    )
    apply_arguments(changed, ["--grpc_port", "8081"])
    assert [listener.port for listener in changed.grpc] == [8081]


def test_declared_protocols_stay() -> None:
    changed = config(triggers={"t": {"kind": "http", "attributes": {"protocols": ["v2"]}}})
    apply_arguments(changed, ["--model_name", "m"])
    assert changed.triggers["t"].attributes["protocols"] == ["v2"]


@pytest.mark.parametrize(
    ("argument", "most"),
    [("--http_port=high", 65535), ("--http_port=99999", 65535), ("--workers=-1", 10000)],
)
def test_an_invalid_number_is_an_error(argument: str, most: int) -> None:
    name, _, value = argument.partition("=")
    message = f"argument {name}: '{value}' is not a number from 0 to {most}"
    with pytest.raises(ConfigFileError, match=message):
        apply_arguments(config(), [argument])


def test_own_options_are_not_those_of_kserve() -> None:
    assert not is_server_start(["--config", "f", "--model_nam"])
