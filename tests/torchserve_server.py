"""A real TorchServe 0.12 and torch-model-archiver, from PyPI, on loopback.

with running_torchserve(store, {"default_workers_per_model": 2}) as server:
    server.await_ready("digits")
    reply = server.predict("digits", image)
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.environments import environment_python

REQUIREMENTS = (
    "torchserve==0.12.0",
    "torch-model-archiver==0.12.0",
    "torch==2.13.0",
    "numpy==2.4.6",
    "pillow==13.0.0",
    "pyyaml==6.0.3",
    # For install_py_dep_per_model.
    "pip==26.3",
)
READY_SECONDS = 120.0
_STOP_SECONDS = 20.0
_POLL_SECONDS = 0.1

# Two models at once are rarely tested, and a small virtual machine of Java starts faster.
_DEFAULTS: dict[str, Any] = {
    "load_models": "all",
    "default_workers_per_model": 1,
    "disable_system_metrics": "true",
    "vmargs": "-Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1",
}
_ADDRESSES = ("inference_address", "management_address", "metrics_address")
_GRPC_PORTS = ("grpc_inference_port", "grpc_management_port")


def torchserve_python() -> Path:
    """Return the interpreter of the environment with TorchServe; skip without Java."""
    if shutil.which("java") is None:
        pytest.skip("TorchServe needs Java: apt-get install default-jre-headless")
    return archiver_python()


def archiver_python() -> Path:
    """Return the interpreter of the same environment, for what does not need Java."""
    return environment_python("3.11", *REQUIREMENTS)


def archive(
    name: str, handler: Path | str, export_path: Path, *options: str, version: str = "1.0"
) -> Path:
    """Return the archive that the real torch-model-archiver makes."""
    # It deletes the folder of the model's name in its temporary folder.
    with tempfile.TemporaryDirectory(prefix="archiver-") as temporary:
        done = subprocess.run(
            [
                *(archiver_python().parent / "torch-model-archiver", "--model-name", name),
                *("--version", version, "--handler", handler, "--export-path", export_path),
                *options,
            ],
            env={**os.environ, "TMPDIR": temporary},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    paths = (export_path / f"{name}{suffix}" for suffix in (".mar", ".tar.gz", ""))
    return next(path for path in paths if path.exists())


@dataclass
class TorchServe:
    """A running server. `folder` is its working directory, with logs/ and key_file.json."""

    folder: Path
    store: Path
    process: subprocess.Popen[bytes]
    ports: dict[str, int] = field(default_factory=dict)
    """The ports of "inference", "management" and "metrics"."""

    def url(self, api: str, path: str = "") -> str:
        return f"http://127.0.0.1:{self.ports[api]}{path}"

    def key(self, api: str = "inference") -> str:
        """Return the token of "inference", "management" or "API"; "" if they are off."""
        file = self.folder / "key_file.json"
        if not file.exists():
            return ""
        key: str = json.loads(file.read_text())[api]["key"]
        return key

    def log(self) -> str:
        """Return the output of the server and its workers so far."""
        return (self.folder / "output.log").read_text(errors="replace")

    def ask(
        self,
        api: str,
        path: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> requests.Response:
        """Send a request with the token of that API. `options` are those of requests."""
        token = self.key(api) if api != "metrics" else ""
        authorization = {"Authorization": f"Bearer {token}"} if token else {}
        return requests.request(
            method,
            self.url(api, path),
            headers={**authorization, **(headers or {})},
            timeout=60,
            **options,
        )

    def predict(
        self, model: str, body: Any = b"", headers: Mapping[str, str] | None = None, **options: Any
    ) -> requests.Response:
        """Send a request for a prediction; `model` is NAME or NAME/VERSION."""
        path = f"/predictions/{model}"
        return self.ask("inference", path, method="POST", headers=headers, data=body, **options)

    def describe(self, model: str) -> list[dict[str, Any]]:
        """Return the description of the model's versions: NAME, NAME/VERSION or NAME/all."""
        reply = self.ask("management", f"/models/{model}")
        assert reply.status_code == 200, reply.text
        versions: list[dict[str, Any]] = reply.json()
        return versions

    def models(self) -> list[str]:
        """Return the names of the registered models."""
        reply = self.ask("management", "/models?limit=1000")
        return [model["modelName"] for model in reply.json()["models"]]

    def await_ready(self, *models: str, timeout: float = READY_SECONDS) -> None:
        """Wait until all workers of these models, or of all registered ones, are ready."""
        deadline = time.monotonic() + timeout
        # The ports open when all models have been registered.
        while not self._answers():
            self._check(deadline)
        for model in models or self.models():
            while not all(_is_ready(version) for version in self.describe(f"{model}/all")):
                self._check(deadline)

    def _answers(self) -> bool:
        try:
            return self.ask("management", "/models").status_code == 200
        except (requests.ConnectionError, ValueError):  # also while the keys are written
            return False

    def _check(self, deadline: float) -> None:
        assert self.process.poll() is None, f"TorchServe ended: {self.log()[-4000:]}"
        assert time.monotonic() < deadline, f"TorchServe is not ready: {self.log()[-4000:]}"
        time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def running_torchserve(
    store: Path,
    properties: Mapping[str, Any] | None = None,
    *,
    config: Path | None = None,
    options: Sequence[str] = ("--disable-token-auth",),
    environment: Mapping[str, str] | None = None,
    python: Path | None = None,
    ready: bool = True,
) -> Iterator[TorchServe]:
    """Start a server for a model store on free ports, and end it after the block.

    `properties` extend the default configuration. `config` is a file that is used as it is, and
    needs the addresses. `options` are those of the command `torchserve`: tokens are off unless
    others are given. Unless `ready` is False, all models of the store are ready.
    """
    python = python or torchserve_python()
    # The path of a unix socket in it must be short.
    folder = Path(tempfile.mkdtemp(prefix="ts-"))
    (folder / "tmp").mkdir()
    if config is None:
        config = folder / "config.properties"
        values = {**_DEFAULTS, "model_store": store, **_free_addresses(), **(properties or {})}
        config.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    server = None
    try:
        process = _start(python, folder, ["--ts-config", str(config), *options], store, environment)
        server = TorchServe(folder, store, process, _ports(config))
        if ready:
            server.await_ready()
        yield server
    finally:
        if server is not None:
            _stop(server.process)
        shutil.rmtree(folder, ignore_errors=True)


def _start(
    python: Path, folder: Path, words: list[str], store: Path, environment: Mapping[str, str] | None
) -> subprocess.Popen[bytes]:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("TS_")}
    # The process ID is in TMPDIR; TEMP is Java's folder, with the models and the workers' sockets.
    temporary = str(folder / "tmp")
    variables |= {"TMPDIR": temporary, "TEMP": temporary, **(environment or {})}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # each start would compile PyTorch
    variables["PATH"] = f"{python.parent}{os.pathsep}{variables['PATH']}"
    command = [str(python.parent / "torchserve"), "--start", "--foreground", "--ncs"]
    with (folder / "output.log").open("wb") as log:
        return subprocess.Popen(
            [*command, "--model-store", str(store), *words],
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Kill the launcher, the server and its workers, which are one process group.

    Its files are all in one folder, and a regular end takes seconds.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(_STOP_SECONDS)


def _is_ready(version: Mapping[str, Any]) -> bool:
    states = [worker["status"] for worker in version["workers"]]
    return len(states) >= version["minWorkers"] and all(state == "READY" for state in states)


def _free_addresses() -> dict[str, Any]:
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.socket()) for _ in range(len(_ADDRESSES + _GRPC_PORTS))
        ]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        ports = [probe.getsockname()[1] for probe in sockets]
    urls = {
        key: f"http://127.0.0.1:{port}" for key, port in zip(_ADDRESSES, ports[:3], strict=True)
    }
    return urls | dict(zip(_GRPC_PORTS, ports[3:], strict=True))


def _ports(config: Path) -> dict[str, int]:
    lines = [line.strip().split("=", 1) for line in config.read_text().splitlines() if "=" in line]
    values = {key.strip(): value.strip() for key, value in lines}
    return {
        key.removesuffix("_address"): int(values[key].rsplit(":", 1)[1].rstrip("/"))
        for key in _ADDRESSES
        if key in values
    }
