"""Killed, rebooted and removed functions are restored; stopped ones are not."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.dashboard.conftest import Dashboard, Started, new_data_dir, running, write_function
from tests.dashboard.waiting import until
from tests.engine import EngineResources, call, engine_resources, require_engine
from tests.platforms import conftest as platforms

pytestmark = pytest.mark.system

PATIENCE = 180.0

shared_layers = platforms.shared_layers


def processes(data_dir: Path) -> dict[int, str]:
    """Return the command lines of a data directory's supervisor and processors by process id."""
    results = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and str(data_dir).encode() in (
                line := (entry / "cmdline").read_bytes()
            ):
                command_line = line.replace(b"\0", b" ").decode()
                if (
                    " fnbuild.platforms.process.supervisor " in command_line
                    or ".processor " in command_line
                ):
                    results[int(entry.name)] = command_line
    return results


def reboot(data_dir: Path) -> None:
    """Kill all processes that run functions."""

    def none_left() -> bool:
        # A process that a supervisor has just started was in no earlier list.
        for pid in (left := processes(data_dir)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    until(none_left, "everything is dead")


def state(dashboard: Dashboard, name: str) -> str:
    answer = dashboard.request("GET", f"/api/functions/{name}", token=False)
    return str(answer.json["status"]["state"]) if answer.status == 200 else str(answer.status)


def operation(dashboard: Dashboard, name: str) -> dict[str, object]:
    answer = dashboard.request("GET", f"/api/functions/{name}", token=False)
    reply: dict[str, object] = answer.json["status"].get("operation") or {}
    return reply


def is_ready(dashboard: Dashboard, name: str) -> Callable[[], bool]:
    return lambda: state(dashboard, name) == "ready"


def answers(dashboard: Dashboard, name: str) -> bool:
    response = dashboard.request(
        "POST", "/api/function_invocations", headers={"x-nuclio-function-name": name}, body="hi"
    )
    return (response.status, response.body) == (200, b"hi")


def test_functions_are_restored_after_all_processes_were_killed(
    started: Started, tmp_path: Path
) -> None:
    with started() as dashboard:
        for name in ("one", "two"):
            dashboard.deploy(write_function(tmp_path, name))
        port = dashboard.request("GET", "/api/functions/one").json["status"]["httpPort"]
        reboot(dashboard.data_dir)
        assert state(dashboard, "one") in ("unhealthy", "building")
        for name in ("one", "two"):
            until(is_ready(dashboard, name), f"{name} is ready", PATIENCE)
            assert answers(dashboard, name)
        shown = dashboard.request("GET", "/api/functions/one").json["status"]
        assert (shown["httpPort"], shown["revision"]) == (port, 1)
        notes = dashboard.request("GET", "/api/audit").json["audit"]
        restored = [note for note in notes if note["action"] == "restore"]
        assert {entry["actor"] for entry in restored} == {"reconcile"}
        assert restored[0]["target"].startswith("process nuclio/")


def test_a_starting_dashboard_restores_functions(started: Started, tmp_path: Path) -> None:
    with started() as dashboard:
        dashboard.deploy(write_function(tmp_path, "one"))
    reboot(dashboard.data_dir)
    with started() as dashboard:
        until(is_ready(dashboard, "one"), "it is ready", PATIENCE)
        until(lambda: operation(dashboard, "one").get("state") == "done", "the change is done")
        assert operation(dashboard, "one")["action"] == "restore"
        operation_ = dashboard.request("GET", "/api/functions/one/operation").json
        assert any("ready" in line["message"] for line in operation_["lines"])
        assert answers(dashboard, "one")


def test_stopped_functions_stay_stopped(started: Started, tmp_path: Path) -> None:
    with started() as dashboard:
        spec = "platform: {attributes: {restartPolicy: {name: 'no'}}}"
        dashboard.deploy(write_function(tmp_path, "left-alone", spec=spec))
        dashboard.deploy(write_function(tmp_path, "wanted"))
        reboot(dashboard.data_dir)
        until(is_ready(dashboard, "wanted"), "the other one is ready", PATIENCE)
        assert state(dashboard, "left-alone") == "unhealthy"
        assert operation(dashboard, "left-alone") == {}


def test_a_killed_supervisor_is_replaced(started: Started, tmp_path: Path) -> None:
    with started() as dashboard:
        dashboard.deploy(write_function(tmp_path, "one"))
        pid = dashboard.request("GET", "/api/functions/one").json["status"]["details"]["pid"]
        [supervisor] = [
            number
            for number, command_line in processes(dashboard.data_dir).items()
            if "process.supervisor" in command_line
        ]
        os.kill(supervisor, signal.SIGKILL)
        until(
            lambda: (
                {supervisor, pid} < {supervisor, *processes(dashboard.data_dir)}
                and len(processes(dashboard.data_dir)) == 2
            ),
            "there is another supervisor",
            PATIENCE,
        )
        # The function is not affected.
        shown = dashboard.request("GET", "/api/functions/one").json["status"]
        assert (shown["state"], shown["details"]["pid"]) == ("ready", pid)
        assert "operation" not in shown


# On an engine


class Engine:
    """A dashboard with functions on the available engine, in a separate namespace."""

    def __init__(self, resources: EngineResources, home: Path):
        self.resources = resources
        self.home = home
        self.namespace = resources.name("reconcile")
        self.dashboard: Dashboard

    def deploy(self, name: str, *flags: str) -> int:
        """Deploy a function; return its port."""
        spec = f"build: {{image: '{self.resources.image(name)}', noBaseImagesPull: true}}"
        folder = write_function(self.home, name, spec=spec)
        self.dashboard.cli(*self.flags, "deploy", "--path", str(folder), *flags)
        return int(self.status(name)["httpPort"])

    @property
    def flags(self) -> tuple[str, ...]:
        return ("--platform", "local", "--namespace", self.namespace)

    @property
    def env(self) -> dict[str, str]:
        return {"NUCLIO_DASHBOARD_NAMESPACE": self.namespace}

    def status(self, name: str) -> dict[str, Any]:
        answer = self.dashboard.request("GET", f"/api/functions/{name}", token=False)
        shown: dict[str, Any] = answer.json.get("status", {})
        return shown

    def container(self, name: str) -> str:
        return f"nuclio-{self.namespace}-{name}"

    def docker(self, *arguments: str) -> str:
        return call(self.resources.engine, *arguments)

    def is_back(self, name: str) -> Callable[[], bool]:
        """Return True if it is ready, and the operation that restored it has ended."""

        def back() -> bool:
            status = self.status(name)
            ended = (status.get("operation") or {}).get("state") == "done"
            return ended and status["state"] == "ready"

        return back


@pytest.fixture(scope="module")
def engine(
    tmp_path_factory: pytest.TempPathFactory, fetched: Path, shared_layers: None
) -> Iterator[Engine]:
    home = tmp_path_factory.mktemp("engine")
    with engine_resources(require_engine()) as resources:
        machine = Engine(resources, home)
        flags = ("--show", "local")
        with running(new_data_dir(home, fetched), *flags, env=machine.env) as dashboard:
            machine.dashboard = dashboard
            yield machine


def test_a_removed_container_is_created_again_and_a_stopped_one_is_not(engine: Engine) -> None:
    port = engine.deploy("removed")
    stopped_port = engine.deploy("stopped")
    engine.docker("stop", "--time", "1", engine.container("stopped"))
    engine.docker("rm", "--force", engine.container("removed"))
    until(lambda: engine.status("removed").get("state") != "ready", "it is missed")
    until(engine.is_back("removed"), "it is back", PATIENCE)
    shown = engine.status("removed")
    assert (shown["httpPort"], shown["revision"]) == (port, 1)
    until(lambda: answers(engine.dashboard, "removed"), "it answers")
    operation_ = engine.dashboard.request("GET", "/api/functions/removed/operation").json
    assert (operation_["action"], operation_["actor"], operation_["state"]) == (
        "restore",
        "reconcile",
        "done",
    )
    assert "its container is gone" in operation_["lines"][0]["message"]

    # A slow engine is shown in its last known state.
    until(lambda: engine.status("stopped").get("detailedState") == "stopped", "it is stopped")
    shown = engine.status("stopped")
    assert shown["state"] == "unhealthy"
    assert "operation" not in shown
    running = engine.docker(
        "inspect", "--format", "{{.State.Running}}", engine.container("stopped")
    )
    assert running.strip() == "false"
    check_that_a_start_is_repeated(engine, "stopped", stopped_port)
    for name in ("stopped", "removed"):
        engine.dashboard.cli(*engine.flags, "delete", "function", name)


def check_that_a_start_is_repeated(engine: Engine, name: str, port: int) -> None:
    """Start a stopped container while its port is taken; the dashboard starts it again."""
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        until(lambda: _can_bind(stranger, port), "the port is free")
        engine.docker("start", engine.container(name))
        until(
            lambda: operation(engine.dashboard, name).get("state") == "failed",
            "it could not start",
            PATIENCE,
        )
        assert str(port) in str(engine.status(name)["message"])
    until(engine.is_back(name), "it is back once the port is free", PATIENCE)


def _can_bind(stranger: socket.socket, port: int) -> bool:
    try:
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
    except OSError:
        return False
    return True


def test_an_engine_that_starts_later(engine: Engine, tmp_path: Path, fetched: Path) -> None:
    engine.deploy("patient")
    late = tmp_path / "late.sock"
    env = {**engine.env, "DOCKER_HOST": f"unix://{late}"}
    with running(new_data_dir(tmp_path, fetched), "--show", "local", env=env) as dashboard:
        engine.dashboard.kill()
        engine.docker("rm", "--force", engine.container("patient"))
        engine.dashboard = dashboard
        assert engine.dashboard.request("GET", "/api/functions").status == 200
        with forwarding(late):
            until(engine.is_back("patient"), "it is back", PATIENCE)
            until(lambda: answers(dashboard, "patient"), "it answers")
            dashboard.cli(*engine.flags, "delete", "function", "patient")


@contextmanager
def forwarding(path: Path) -> Iterator[None]:
    """Forward the engine's API to another socket while the context lasts."""
    place = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    if not place.startswith("/"):
        pytest.skip(f"the engine is not at a socket of this machine: {place}")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(32)
        threading.Thread(target=_serve, args=(listening, place), daemon=True).start()
        yield
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)


def _serve(listening: socket.socket, place: str) -> None:
    while True:
        try:
            near = listening.accept()[0]
        except OSError:
            return
        threading.Thread(target=_join, args=(near, place), daemon=True).start()


def _join(near: socket.socket, place: str) -> None:
    with near, socket.socket(socket.AF_UNIX) as far:
        far.connect(place)
        back = threading.Thread(target=_pump, args=(far, near), daemon=True)
        back.start()
        _pump(near, far)
        back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
