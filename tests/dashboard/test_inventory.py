"""One list over processes and a real engine, as CVAT requests it."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.cvat_simulator import Cvat, Task
from tests.dashboard.conftest import Dashboard, end_functions, new_data_dir, running
from tests.dashboard.models import frame, write_models
from tests.dashboard.waiting import until
from tests.engine import (
    PYTHON_IMAGE,
    EngineResources,
    call,
    engine_resources,
    require_engine,
    require_image,
)
from tests.platforms import conftest as platforms

pytestmark = pytest.mark.system

Json = Any
PATIENCE = 60.0
shared_layers = platforms.shared_layers

_SERVER = """\
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'[{"label": "thing", "type": "rectangle", "points": [1, 2, 3, 4]}]')


HTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""


class MixedDashboard:
    """A dashboard over processes and an engine, in a separate namespace."""

    def __init__(self, dashboard: Dashboard, resources: EngineResources, namespace: str):
        self.dashboard = dashboard
        self.resources = resources
        self.namespace = namespace

    def deploy(self, folder: Path, platform: str) -> None:
        flags = ("--platform", platform, "-n", self.namespace)
        self.dashboard.cli(*flags, "deploy", "--path", str(folder), "--project-name", "cvat")
        until(lambda: self.shows(folder.name, platform), "the list has it")

    def shows(self, name: str, platform: str) -> bool:
        """Return True if the list has the function of that platform, and it is ready."""
        listed = self.listed()
        statuses = [
            listed[item]["status"] for item in (name, f"{name}@{platform}") if item in listed
        ]
        return any((item["platform"], item["state"]) == (platform, "ready") for item in statuses)

    def delete(self, name: str, platform: str) -> None:
        self.dashboard.cli("--platform", platform, "-n", self.namespace, "delete", "function", name)

    def listed(self) -> Json:
        return self.dashboard.request("GET", "/api/functions").json

    def session(self) -> Json:
        return self.dashboard.request("GET", "/api/session").json

    def docker(self, *arguments: str) -> str:
        return call(self.resources.engine, *arguments)

    def run_foreign_container(self, name: str, annotations: Json) -> str:
        """Run a container with Nuclio's labels on a random port; return its name."""
        container = self.resources.name(f"stranger-{name}")
        labels = {
            "nuclio.io/platform": "local",
            "nuclio.io/namespace": self.namespace,
            "nuclio.io/function-name": name,
            "nuclio.io/project-name": "cvat",
            "nuclio.io/annotations": json.dumps(annotations),
            "nuclio.io/function-spec": json.dumps({"handler": "main:handler"}),
        }
        flags = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
        where = ("--detach", "--name", container, "--publish", "127.0.0.1::8080")
        self.docker("run", *where, *flags, PYTHON_IMAGE, "python", "-u", "-c", _SERVER)
        return container


class EngineProxy:
    """The engine behind another socket, which can stop answering."""

    def __init__(self, path: Path):
        place = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        self._place = place.removeprefix("unix://")
        if not self._place.startswith("/"):
            pytest.skip(f"the engine is not at a socket of this machine: {place}")
        self.answering = threading.Event()
        self.answering.set()
        self._threads: list[threading.Thread] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(100)
        self._start(self._serve)

    def close(self) -> None:
        self.answering.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        self._listening.close()

    def _start(self, work: Callable[..., None], *arguments: socket.socket) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                self._start(self._join, self._listening.accept()[0])

    def _join(self, near: socket.socket) -> None:
        with near, socket.socket(socket.AF_UNIX) as far:
            far.connect(self._place)
            back = self._start(self._pump, far, near)
            self._pump(near, far)
            back.join()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                self.answering.wait()
                target.sendall(piece)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[EngineProxy]:
    proxy = EngineProxy(tmp_path / "engine.sock")
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def mixed(
    tmp_path_factory: pytest.TempPathFactory, fetched: Path, shared_layers: None
) -> Iterator[MixedDashboard]:
    home = tmp_path_factory.mktemp("both")
    with engine_resources(require_engine()) as resources:
        require_image(resources.engine, PYTHON_IMAGE)
        namespace = resources.name("both")
        place = new_data_dir(home, fetched)
        env = {"NUCLIO_DASHBOARD_NAMESPACE": namespace}
        with running(place, "--show", "process", "--show", "local", env=env) as dashboard:
            yield MixedDashboard(dashboard, resources, namespace)
        end_functions(place)


@pytest.fixture(scope="module")
def picture(photo: Callable[[str], Path]) -> Task:
    return Task([frame(photo("astronaut.png"), at) for at in range(3)])


@pytest.fixture(scope="module")
def functions_in_containers(
    mixed: MixedDashboard, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """A detector and a tracker in containers."""
    home = tmp_path_factory.mktemp("contained")
    names = ("finder", "follower")
    for name in names:
        build = f"build: {{image: '{mixed.resources.image(name)}', noBaseImagesPull: true}}\n"
        mixed.deploy(write_models(home, name, build=build)[0], "local")
    yield
    for name in names:
        mixed.delete(name, "local")


@pytest.mark.parametrize("way", ["dashboard", "direct"])
@pytest.mark.usefixtures("functions_in_containers")
def test_cvat_uses_functions_in_containers(mixed: MixedDashboard, picture: Task, way: Any) -> None:
    cvat = Cvat(mixed.dashboard.url, invoke_method=way, namespace=mixed.namespace)
    assert {"finder", "follower"} <= cvat.functions().keys()
    detections = cvat.detect("finder", picture, 0)
    assert [shape["label"] for shape in detections] == ["thing", "area", "outline", "body", "whole"]
    states = cvat.init_tracking("follower", picture, 0, [[1, 2, 30, 40]])
    states, shapes = cvat.track("follower", picture, 1, states)
    assert shapes == [{"type": "rectangle", "points": [2, 2, 31, 40]}]
    assert len(cvat.annotate("finder", picture).saved) == 3


@pytest.mark.usefixtures("functions_in_containers")
def test_the_default_platform_comes_first(mixed: MixedDashboard, tmp_path: Path) -> None:
    folder = write_models(tmp_path, "finder")[0]
    mixed.deploy(folder, "process")
    try:
        listed = mixed.listed()
        assert listed["finder"]["status"]["platform"] == "process"
        aside = listed["finder@local"]
        assert aside["metadata"]["name"] == "finder@local"
        assert "on the platform process comes first" in aside["status"]["setAside"]
        assert (
            "finder@local" not in Cvat(mixed.dashboard.url, namespace=mixed.namespace).functions()
        )
        single = mixed.dashboard.request("GET", "/api/functions/finder@local").json
        assert single["status"]["platform"] == "local"
        assert single["status"]["setAside"] == aside["status"]["setAside"]
    finally:
        mixed.delete("finder", "process")
    until(lambda: mixed.listed()["finder"]["status"]["platform"] == "local", "the other is back")


def test_a_changed_port_is_looked_up(mixed: MixedDashboard, picture: Task) -> None:
    labels = json.dumps([{"name": "thing", "type": "rectangle"}])
    container = mixed.run_foreign_container("wanderer", {"type": "detector", "spec": labels})
    cvat = Cvat(mixed.dashboard.url, invoke_method="direct", namespace=mixed.namespace)
    ports = set()
    for _ in range(2):
        until(lambda: _answers(cvat, picture), "it answers at its port", PATIENCE)
        ports.add(cvat.get("wanderer").port)
        assert cvat.functions()["wanderer"].port in ports
        mixed.docker("stop", "--time", "0", container)
        until(lambda: mixed.listed()["wanderer"]["status"]["httpPort"] == 0, "it has none")
        mixed.docker("start", container)
    mixed.docker("rm", "--force", container)
    until(lambda: "wanderer" not in mixed.listed(), "it is gone")
    assert len(ports) == 2


def _answers(cvat: Cvat, picture: Task) -> bool:
    with suppress(Exception):
        return len(cvat.detect("wanderer", picture, 0)) == 1
    return False


@pytest.mark.usefixtures("functions_in_containers")
def test_foreign_containers_hide_no_function(mixed: MixedDashboard) -> None:
    broken: dict[str, Json] = {
        "commas": {"type": "detector", "spec": '[{"name": "car"},]'},
        "versions": {"type": "interactor", "version": "1.0"},
        "capitals": {"type": "Detector"},
        "numbers": {"type": "detector", "version": 2, "spec": None},
        "nothing": None,
    }
    containers = [mixed.run_foreign_container(name, value) for name, value in broken.items()]
    try:
        until(lambda: broken.keys() <= mixed.listed().keys(), "all of them are listed")
        seen = Cvat(mixed.dashboard.url, namespace=mixed.namespace).functions()
        assert seen.keys() == {"finder", "follower", "numbers"}
        reasons = {
            name: object_["status"].get("setAside", "") for name, object_ in mixed.listed().items()
        }
        assert "is not JSON" in reasons["commas"]
        assert '`version` is "1.0"' in reasons["versions"]
        assert '"Detector"' in reasons["capitals"]
        assert reasons["finder"] == reasons["numbers"] == reasons["nothing"] == ""
    finally:
        mixed.docker("rm", "--force", *containers)


@pytest.mark.usefixtures("functions_in_containers")
def test_an_engine_that_stops_answering(
    mixed: MixedDashboard, proxy: EngineProxy, tmp_path: Path, fetched: Path
) -> None:
    """Its last answer is shown with a message; functions of other platforms are up to date."""
    env = {
        "NUCLIO_DASHBOARD_NAMESPACE": mixed.namespace,
        "DOCKER_HOST": f"unix://{tmp_path / 'engine.sock'}",
    }
    place = new_data_dir(tmp_path, fetched)
    with running(place, "--show", "process", "--show", "local", env=env) as dashboard:
        alone = MixedDashboard(dashboard, mixed.resources, mixed.namespace)
        until(lambda: alone.shows("finder", "local"), "it is listed")
        assert alone.listed()["finder"]["status"]["message"] == ""
        proxy.answering.clear()
        until(
            lambda: "has not answered" in alone.listed()["finder"]["status"]["message"],
            "it is known to be silent",
        )
        notices = {
            platform["name"]: platform["notices"] for platform in alone.session()["platforms"]
        }
        assert "has not answered" in str(notices["local"])
        took = []
        for _ in range(3):
            began = time.monotonic()
            assert alone.listed()["finder"]["status"]["httpPort"]
            assert "finder" in Cvat(dashboard.url, namespace=mixed.namespace).functions()
            assert dashboard.request("GET", "/api/functions/finder").status == 200
            took.append(time.monotonic() - began)
        assert min(took) < 2
        proxy.answering.set()
        until(lambda: not alone.listed()["finder"]["status"]["message"], "it speaks again")
        proxy.answering.clear()
