"""Error messages for responses of engines. The responses are those of Docker 20.10 to 28."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from fnbuild.errors import (
    FnbuildError,
    InputError,
    PlatformError,
    PreconditionError,
    UnavailableError,
)
from fnbuild.function.types import Function, Resources, Spec
from fnbuild.platforms.docker.engine import CommandResult, Engine
from fnbuild.platforms.docker.errors import PortTakenError, connection_error, engine_error
from fnbuild.platforms.docker.function_state import gpu_warnings, has_open_device
from fnbuild.platforms.docker.inventory import Container
from fnbuild.platforms.docker.labels import DockerKey, RevisionRecord
from fnbuild.platforms.docker.probes import describe_exit

DRIVER = "driver failed programming external connectivity on endpoint x (ab): "


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (
            f"{DRIVER}Bind for 127.0.0.1:20000 failed: port is already allocated",
            PortTakenError,
            "port 20000 on 127.0.0.1",
        ),
        (
            f"{DRIVER}Error starting userland proxy: listen tcp4 127.0.0.1:20000: bind: address"
            " already in use",
            PortTakenError,
            "port 20000 on 127.0.0.1",
        ),
        (
            'could not select device driver "" with capabilities: [[gpu]]',
            PreconditionError,
            "cannot give one to containers",
        ),
        ("write /var/lib/docker/x: no space left on device", PlatformError, "no space left"),
        ("Minimum memory limit allowed is 6MB", InputError, "limits.memory"),
        ("Range of CPUs is from 0.01 to 2.00", InputError, "limits.cpu"),
        ("network cvat_cvat not found", PreconditionError, "network cvat_cvat"),
        (
            'invalid mount config for type "bind": bind source path does not exist: /x',
            InputError,
            "spec.volumes",
        ),
        (
            'error gathering device information while adding custom device "/dev/x"',
            InputError,
            "spec.devices",
        ),
        (
            'exec: "processor": executable file not found in $PATH: unknown',
            PreconditionError,
            "no program `processor`",
        ),
        ("something new", PlatformError, "could not start the container: something new"),
    ],
)
def test_engine_errors_are_explained(answer: str, kind: type[FnbuildError], message: str) -> None:
    error = engine_error("start the container", answer)
    assert type(error) is kind
    assert message in error.message
    assert error.hint or error.message.endswith("something new")


def test_missing_access_to_the_engine_is_explained() -> None:
    error = connection_error(
        PermissionError(13, "Permission denied"), "unix:///var/run/docker.sock"
    )
    assert isinstance(error, UnavailableError)
    assert "may not access" in error.message
    assert "docker" in (error.hint or "")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"ExitCode": 137, "OOMKilled": True}, "ran out of memory"),
        ({"ExitCode": 137}, "SIGKILL"),
        ({"ExitCode": 127}, "could not be run"),
        ({"ExitCode": 3}, "exit status 3"),
        ({"ExitCode": 128, "Error": "no such device"}, "no such device"),
    ],
)
def test_exits_of_containers_are_described(state: dict[str, object], message: str) -> None:
    assert message in describe_exit(state, Function())


def test_out_of_memory_errors_name_the_limit() -> None:
    limited = Function(spec=Spec(resources=Resources(limits={"memory": "1Gi"})))
    assert "1Gi" in describe_exit({"OOMKilled": True}, limited)
    assert "no limit" in describe_exit({"OOMKilled": True}, Function())


def test_open_devices_of_processes_are_detected(tmp_path: Path) -> None:
    device = tmp_path / "device0"
    device.touch()
    assert has_open_device([os.getpid()], str(tmp_path / "device")) is False
    with device.open():
        assert has_open_device([os.getpid()], str(tmp_path / "device")) is True
    assert has_open_device([2**22 + 1]) is None


@pytest.mark.parametrize(
    ("limit", "status", "warnings"),
    [
        (1, 1, ("it asks for a GPU and has none, so it runs on the CPU",)),
        (1, 0, ()),
        (0, 1, ()),
    ],
)
def test_a_missing_gpu_is_a_warning(limit: int, status: int, warnings: tuple[str, ...]) -> None:
    config: dict[str, Any] = {"metadata": {"name": "f", "namespace": "n"}, "spec": {}}
    if limit:
        config["spec"]["resources"] = {"limits": {"nvidia.com/gpu": limit}}
    record = RevisionRecord(DockerKey("n", "f"), 1, "", "", "", "", config, 1)
    container = Container("id", "nuclio-n-f", "running", "Up", {}, record, "image")
    assert gpu_warnings(cast("Engine", _RemoteEngine(status)), container) == warnings


@dataclass
class _RemoteEngine:
    """An engine on another machine; every command exits with this status."""

    status: int
    is_local: bool = False

    def execute(self, _container: str, _command: Sequence[str]) -> CommandResult:
        return CommandResult(self.status, b"")
