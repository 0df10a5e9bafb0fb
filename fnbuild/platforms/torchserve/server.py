"""A TorchServe server on this machine: its start and end, its tokens and its management API."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from msgspec import MsgspecError, json
from msgspec.structs import replace

from fnbuild.bridges.torchserve.server_config import ADDRESS_KEYS, ServerConfig, render
from fnbuild.datadir import lock_holder, make_private_dir
from fnbuild.errors import UnavailableError
from fnbuild.function.rules import DEFAULT_RUNTIME
from fnbuild.platforms.addresses import LOOPBACK, candidate_ports, port_owner
from fnbuild.platforms.clean_environment import clean_environment
from fnbuild.platforms.torchserve import keeper
from fnbuild.platforms.torchserve.configuration import ServedModel
from fnbuild.platforms.torchserve.keeper import Launch, ServerProcess
from fnbuild.platforms.torchserve.management import ManagementClient, ManagementReply

KEY_FILE = "key_file.json"
_JAVA_VARIABLES = ("JAVA_HOME", "JAVA_TOOL_OPTIONS")
_KEEPER_SECONDS = 15.0
_END_SECONDS = 30.0
_PAUSE = 0.05
_PROBE = """
import importlib.util, sys
print("python:%d.%d" % sys.version_info[:2])
for name in ("ts", "torch", "psutil", "yaml"):
    if importlib.util.find_spec(name) is None:
        print(name)
"""


def find_python(configured: str, runtime: str = DEFAULT_RUNTIME) -> str:
    """Return the interpreter that has TorchServe, which needs PyTorch and Java as well.

    It is the configured one, or FNBUILD_TORCHSERVE_PYTHON, or that of the command `torchserve`. Its
    version must be that of the function's `runtime`, unless this is the default.
    """
    python = configured or os.environ.get("FNBUILD_TORCHSERVE_PYTHON", "")
    if python and "/" not in python:
        python = shutil.which(python) or python
    if not python:
        command = shutil.which("torchserve")
        if command is None:
            raise UnavailableError(
                "there is no command torchserve",
                hint="`pip install torchserve torch pyyaml`, then set"
                " `spec.platform.attributes.torchserve.python` or FNBUILD_TORCHSERVE_PYTHON to the"
                " interpreter",
            )
        python = str(Path(command).parent / "python")
    python = str(Path(python).expanduser().absolute())
    _check_python(python, runtime)
    java = f"{os.environ['JAVA_HOME']}/bin/java" if os.environ.get("JAVA_HOME") else "java"
    if shutil.which(java) is None:
        raise UnavailableError(
            f"there is no {java}",
            hint="TorchServe needs Java 11 or newer: `apt-get install default-jre-headless`",
        )
    return python


def _check_python(python: str, runtime: str) -> None:
    """Raise `UnavailableError` for an interpreter that cannot run TorchServe or the function."""
    try:
        done = subprocess.run(
            [python, "-c", _PROBE], capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise UnavailableError(
            f"{python} cannot be run: {error}",
            hint="`spec.platform.attributes.torchserve.python` is the path of an interpreter",
        ) from None
    version, *missing = done.stdout.split()
    if missing:
        packages = [{"ts": "torchserve", "yaml": "pyyaml"}.get(name, name) for name in missing]
        raise UnavailableError(
            f"{python} has no {', '.join(packages)}",
            hint=f"`{python} -m pip install {' '.join(packages)}`",
        )
    if runtime not in (DEFAULT_RUNTIME, version) and not runtime.startswith(f"{version}."):
        raise UnavailableError(
            f"the function's runtime is {runtime}, and TorchServe's is {version} ({python})",
            hint=f"`--runtime {version}`, or `spec.platform.attributes.torchserve.python` with"
            f" TorchServe for {runtime}",
        )


class ServerState(Launch, frozen=True):
    """The server to start, its configuration, and the models that it serves."""

    config: ServerConfig
    models: tuple[ServedModel, ...]

    @property
    def at_start(self) -> ServerState:
        """The part that a server reads only when it starts, not that of its model."""
        model = {"snapshot": {}, "default_workers_per_model": 0, "default_response_timeout": 0}
        return replace(self, config=replace(self.config, **model), models=())


@dataclass(frozen=True, slots=True)
class LocalServer:
    """The server of one function; `folder` is its working directory."""

    folder: Path

    @property
    def log(self) -> Path:
        """The log of the function, with that of the server."""
        return self.folder.parent / "log.jsonl"

    # Processes

    @property
    def is_kept(self) -> bool:
        """True if a keeper runs, which starts the server again when it ends."""
        return lock_holder(self.folder / keeper.LOCK_NAME) is not None

    @property
    def process(self) -> ServerProcess | None:
        """The running server, None if there is none."""
        return keeper.read_server(self.folder)

    @property
    def state(self) -> ServerState | None:
        """The state that was configured last, None if there is none."""
        return keeper.read_struct(self.folder / keeper.STATE_NAME, ServerState)

    def configure(self, state: ServerState) -> None:
        """Write the configuration for the next start; a failure leaves the present one."""
        make_private_dir(self.folder)
        path = Path(state.config_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(path.name + ".new")
        try:
            draft.write_text(render(state.config))
            keeper.write_struct(self.folder / keeper.STATE_NAME, state)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise
        draft.replace(path)

    def start(self) -> None:
        """Start a keeper and a server in place of the present ones."""
        self.stop()
        (self.folder / KEY_FILE).unlink(missing_ok=True)
        self.keep()

    def keep(self) -> None:
        """Start a keeper, which adopts a server that still runs."""
        java = {name: os.environ[name] for name in _JAVA_VARIABLES if name in os.environ}
        (self.folder / keeper.RESTARTS_NAME).unlink(missing_ok=True)
        output = self.folder / "keeper.log"
        with output.open("wb") as log:
            subprocess.run(
                [sys.executable, "-m", keeper.__name__, str(self.folder)],
                env=clean_environment(os.environ) | java,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                check=False,
            )
        deadline = time.monotonic() + _KEEPER_SECONDS
        while not (self.is_kept and self.process):
            reason = output.read_text(errors="replace").strip()
            if (reason and not self.is_kept) or time.monotonic() > deadline:
                message = "the keeper of the server does not start it"
                raise UnavailableError(message, detail=reason or None)
            time.sleep(_PAUSE)

    def stop(self) -> None:
        """End the server and its keeper."""
        holder = lock_holder(self.folder / keeper.LOCK_NAME)
        if holder is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(holder.pid, signal.SIGTERM)
            deadline = time.monotonic() + _END_SECONDS
            while self.is_kept and time.monotonic() < deadline:
                time.sleep(_PAUSE)
        keeper.stop_server(self.folder)

    # Requests

    def token(self, api: Literal["inference", "management"]) -> str:
        """Return the token of an API; "" without tokens."""
        try:
            return str(json.decode((self.folder / KEY_FILE).read_bytes())[api]["key"])
        except (OSError, MsgspecError, KeyError):
            return ""

    @property
    def management(self) -> ManagementClient:
        return ManagementClient(self._send)

    def _send(self, method: str, path: str, seconds: float) -> ManagementReply:
        token = self.token("management")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self._request("management", method, path, seconds, headers)

    def metrics(self) -> str:
        """Return the server's metrics in the format of Prometheus."""
        return self._request("metrics", "GET", "/metrics", 5.0, {}).body.decode(errors="replace")

    def _request(
        self, api: str, method: str, path: str, seconds: float, headers: dict[str, str]
    ) -> ManagementReply:
        state = self.state
        if state is None:
            raise UnavailableError("the server was never started")
        port = state.config.port(f"{api}_address")
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=seconds)
        try:
            connection.request(method, path, headers=headers)
            reply = connection.getresponse()
            return ManagementReply(reply.status, reply.read())
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(
                f"the server does not answer on port {port}: {error or type(error).__name__}"
            ) from None
        finally:
            connection.close()


def ports_of(config: ServerConfig) -> list[int]:
    """Return all ports of a server."""
    ports = [config.port(key) for key in ADDRESS_KEYS]
    return [*ports, config.grpc_inference_port, config.grpc_management_port]


def check_ports(ports: Iterable[int]) -> None:
    """Raise `UnavailableError` if one of the ports cannot be used."""
    for port in ports:
        if not _is_free(port):
            raise UnavailableError(
                f"port {port} is in use by {port_owner(port) or 'another program'}",
                hint="end it, or set other ports: `spec.platform.attributes.torchserve.ports`",
            )


def free_ports(count: int) -> list[int]:
    """Return ports that no program uses."""
    return list(itertools.islice(filter(_is_free, candidate_ports()), count))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
