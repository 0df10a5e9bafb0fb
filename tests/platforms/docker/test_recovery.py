"""Command lines that are killed during a switch, and the repair by later commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path

import pytest

from fnbuild.datadir import make_private_dir
from fnbuild.deploy import pipeline
from fnbuild.deploy.pipeline import DeployRequest, prepare
from fnbuild.errors import BusyError, ConflictError
from fnbuild.platforms import FunctionKey
from fnbuild.platforms.docker import DockerPlatform, inventory, leases
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.labels import DockerKey as EngineKey
from fnbuild.platforms.docker.leases import Lease
from fnbuild.platforms.leases import format_age
from tests import forkserver
from tests.cluster import function_image
from tests.dashboard.conftest import running
from tests.engine import until
from tests.platforms.docker.author import Author, invoke

pytestmark = pytest.mark.system

CODE = """
import os, time

def init_context(context):
    time.sleep(float(os.environ.get("START_SECONDS", 0)))

def handler(context, event):
    return os.environ["WORD"]
"""

# The real command line, which is killed (or stopped) right before or after one call to the engine;
# the number of the call counts from 1.
PROGRAM = """\
import os, signal, sys
from fnbuild.platforms.docker.engine import Engine

when, method, number, signal_name = sys.argv[1:5]
original, calls = getattr(Engine, method), []

def call(self, *args, **kwargs):
    calls.append(args)
    interrupt = len(calls) == int(number)
    if interrupt and when == "before":
        os.kill(os.getpid(), getattr(signal, signal_name))
    answer = original(self, *args, **kwargs)
    if interrupt and when == "after":
        os.kill(os.getpid(), getattr(signal, signal_name))
    return answer

setattr(Engine, method, call)
sys.argv[1:] = sys.argv[5:]
from fnbuild.cli import main
main()
"""


def answers(port: int, text: str) -> bool:
    try:
        return invoke(port) == text
    except (OSError, HTTPException):
        return False


@dataclass
class Scene:
    """A function that answers "one", and a command line that deploys "two"."""

    author: Author
    image: str
    port: int
    elsewhere: Path

    @property
    def engine(self) -> Engine:
        return self.author.platform.engine

    @property
    def key(self) -> FunctionKey:
        return FunctionKey(self.author.namespace, "greeter")

    def start_deploy(
        self, *step: str, signal_name: str = "SIGKILL", flags: Sequence[str] = ()
    ) -> subprocess.Popen[str]:
        arguments = [sys.executable, "-c", PROGRAM, *step, signal_name, "deploy", "greeter"]
        arguments += ["--namespace", self.author.namespace, "--platform", "local", "--force"]
        arguments += ["--path", str(self.author.home / "functions/greeter"), "--env", "WORD=two"]
        arguments += ["--run-image", self.image, *flags]
        return subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def kill(self, *step: str, flags: Sequence[str] = ()) -> None:
        output, _ = (process := self.start_deploy(*step, flags=flags)).communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL, output

    def fnbuild(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line with another data directory."""
        env = {**os.environ, "FNBUILD_DATA_DIR": str(self.elsewhere)}
        return forkserver.run([*arguments, "--platform", "local"], env, timeout=300)

    def get(self) -> str:
        arguments = (
            "get",
            "function",
            "greeter",
            "--namespace",
            self.author.namespace,
            "-o",
            "json",
        )
        result = self.fnbuild(*arguments)
        assert result.returncode == 0, result.stderr
        state: str = json.loads(result.stdout)["status"]["state"]
        return state

    @property
    def is_settled(self) -> bool:
        """One recorded container runs, and nothing else is left."""
        objects = inventory.read_function(self.engine, self.key)
        is_single = [container.name for container in objects.containers] == [
            self.author.container()
        ]
        return is_single and objects.leases == [] and objects.active in objects.records

    def check(self, expected: str) -> None:
        assert self.is_settled, inventory.read_function(self.engine, self.key)
        until("the answer", lambda: answers(self.port, expected))


@pytest.fixture(scope="module")
def image(shared_layers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image of the function, which only its variables change."""
    with function_image(tmp_path_factory.mktemp("image"), CODE) as name:
        yield name


@pytest.fixture
def empty_scene(author: Author, image: str, tmp_path: Path) -> Scene:
    """The scene before the first deploy."""
    spec = "imagePullPolicy: Never\nenv: [{name: WORD, value: one}]"
    author.write_code(CODE, spec=spec)
    return Scene(author, image, 0, make_private_dir(tmp_path / "elsewhere"))


@pytest.fixture
def scene(author: Author, empty_scene: Scene) -> Scene:
    folder, image = author.home / "functions/greeter", empty_scene.image
    request = DeployRequest(path=folder, platform="local", namespace=author.namespace, image=image)
    deployment = pipeline.deploy(request, author.progress.append)
    return replace(empty_scene, port=deployment.http_port)


def by_get(scene: Scene) -> None:
    # A command that finds the function ready only after its recovery leaves the rest to the next.
    until("the repair", lambda: scene.get() == "ready" and scene.is_settled)


def by_doctor(scene: Scene) -> None:
    assert scene.fnbuild("doctor", "docker").returncode == 0


def by_deploy(scene: Scene) -> None:
    # Nothing has changed except for the objects of the killed deploy.
    namespace, path = scene.author.namespace, str(scene.author.home / "functions/greeter")
    arguments = ("deploy", "greeter", "--namespace", namespace, "--run-image", scene.image)
    result = scene.fnbuild(*arguments, "--path", path)
    assert result.returncode == 0, result.stderr


def by_restore(scene: Scene) -> None:
    scene.author.platform.restore(scene.author.progress.append, scene.key)


def by_dashboard(scene: Scene) -> None:
    env = {"NUCLIO_DASHBOARD_NAMESPACE": scene.author.namespace}
    with running(scene.elsewhere, "--show", "local", env=env):
        until("the dashboard's repair", lambda: scene.is_settled)


# Each step of a switch: the moment of the kill, the expected answer, and the next command. The old
# container serves until the start of the new one.
STEPS = {
    "the trial runs": (("after", "start", "1"), "one", by_get),
    "the new one is made": (("before", "stop", "1"), "one", by_restore),
    "the old one is stopped, get": (("after", "stop", "1"), "one", by_get),
    "the old one is stopped, doctor": (("after", "stop", "1"), "one", by_doctor),
    "the old one is stopped, dashboard": (("after", "stop", "1"), "one", by_dashboard),
    "the old one is stopped, deploy": (("after", "stop", "1"), "one", by_deploy),
    "the new one is started": (("after", "start", "2"), "two", by_get),
    "the new one is started, restore": (("after", "start", "2"), "two", by_restore),
    # The first removed container is the trial.
    "the old one is about to go": (("before", "remove", "2"), "two", by_get),
    "the old one is gone": (("before", "rename", "1"), "two", by_restore),
    "the new one has the name": (("after", "rename", "1"), "two", by_get),
}


@pytest.mark.parametrize("step", STEPS)
def test_the_next_command_finishes_or_undoes_an_interrupted_switch(scene: Scene, step: str) -> None:
    moment, expected, repair = STEPS[step]
    scene.kill(*moment)
    repair(scene)
    scene.check(expected)
    first, second, *_ = reversed(scene.author.platform.revisions(*scene.key))
    if expected == "one":
        assert second.state == "failed"
        assert "interrupted" in second.message
    else:
        assert (second.state, first.state) == ("active", "superseded")


def test_a_killed_first_deploy_is_finished_or_undone(author: Author, empty_scene: Scene) -> None:
    scene = empty_scene
    scene.kill("after", "start", "1")
    assert author.platform.functions_to_restore().count(scene.key) == 1
    by_get(scene)
    assert invoke(author.deployment().http_port) == "two"
    author.platform.delete(*scene.key)
    scene.kill("before", "start", "1")
    assert scene.get() == "error"
    objects = inventory.read_function(scene.engine, scene.key)
    assert (objects.containers, objects.leases) == ([], [])


def test_a_first_deploy_is_finished_by_the_first_command_that_finds_it_ready(
    empty_scene: Scene,
) -> None:
    empty_scene.kill("after", "start", "1", flags=("--env", "START_SECONDS=3"))
    assert empty_scene.get() == "building"
    by_get(empty_scene)


@pytest.fixture
def paused(scene: Scene) -> Iterator[subprocess.Popen[str]]:
    """A stopped command line of this machine, right before the start of its trial container."""
    process = scene.start_deploy("before", "start", "1", signal_name="SIGSTOP")
    try:
        until(
            "the trial",
            lambda: bool(inventory.read_function(scene.engine, scene.key).transient_containers),
        )
        until("the stop", lambda: b") T " in Path(f"/proc/{process.pid}/stat").read_bytes())
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_change_during_a_deploy_from_elsewhere_is_refused(
    scene: Scene, paused: subprocess.Popen[str], data: Path
) -> None:
    arguments = ("redeploy", "greeter", "--namespace", scene.author.namespace)
    result = scene.fnbuild(*arguments)
    assert result.returncode == 1
    assert "greeter is being deployed from " in result.stderr
    assert f":{data} by process {paused.pid} (started " in result.stderr
    assert "try again when that is done" in result.stderr
    assert "its lease ends by itself within 60 s" in result.stderr
    assert scene.get() == "building"
    assert "is being deployed from" in scene.fnbuild("doctor", "docker").stdout
    assert scene.key not in scene.author.platform.functions_to_restore()
    # Objects of a live deploy are not touched.
    assert inventory.read_function(scene.engine, scene.key).transient_containers
    os.kill(paused.pid, signal.SIGCONT)
    assert paused.wait(120) == 0
    scene.check("two")


def test_a_deploy_is_refused_before_its_build_during_another(
    author: Author, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = author.write()
    function = prepare(DeployRequest(path=folder, namespace=author.namespace)).function
    with author.platform.reserve(function, author.progress.append):
        monkeypatch.setenv("FNBUILD_DATA_DIR", str(make_private_dir(tmp_path / "elsewhere")))
        with pytest.raises(BusyError, match="greeter is being deployed from"):
            author.deploy(folder)
        assert author.progress == []
    assert author.platform.deployments(author.namespace) == []


def test_ages_are_formatted() -> None:
    ages = [format_age(seconds) for seconds in (-1, 12.4, 300, 9000)]
    assert ages == ["0 s", "12 s", "5 min", "2 h"]


def test_an_expired_lease_of_an_unknown_process_is_taken_over(
    scene: Scene, paused: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the holder were on another machine, where its process cannot be checked.
    monkeypatch.setattr("fnbuild.platforms.leases._process_scope", lambda: "")
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(scene.elsewhere))
    platform = scene.author.platform
    with pytest.raises(BusyError, match="being deployed from"):
        platform.redeploy(*scene.key, scene.author.progress.append)
    now = scene.engine.now
    monkeypatch.setattr(scene.engine, "now", lambda: now() + leases.LIFETIME_SECONDS)
    assert platform.deployment(*scene.key).state == "ready"
    until("the answer", lambda: answers(scene.port, "one"))
    # When the deploy continues, it notices that it has lost its lease.
    os.kill(paused.pid, signal.SIGCONT)
    output, _ = paused.communicate(timeout=120)
    assert paused.returncode == 1, output
    assert "internal error" not in output, output
    assert invoke(scene.port) == "one"


def test_only_one_of_two_concurrent_requests_gets_the_lease(
    platform: DockerPlatform, namespace: str
) -> None:
    key = EngineKey(namespace, "greeter")
    lease = leases.acquire(platform.engine, key, "deployed")
    before = leases._list_leases(platform.engine, key)
    assert len(before) == 1
    with pytest.raises(BusyError, match="being"):
        leases._take(platform.engine, key, "deleted", [])
    lease.enter_stage("switching")
    lease.check()
    lease.release()
    # The next lease inherits the unfinished stage.
    after = leases.acquire(platform.engine, key, "deployed")
    assert (after.inherited_stage, after.stage) == ("switching", "switching")
    after.clear_stage()
    after.release()
    assert leases._list_leases(platform.engine, key) == []


def test_a_lease_is_renewed_until_another_client_takes_it(
    platform: DockerPlatform, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEWAL_SECONDS", 0.05)
    key = EngineKey(namespace, "greeter")
    lease: Lease = leases.acquire(platform.engine, key, "deployed")

    def number() -> int:
        newest = leases.newest_lease(leases._list_leases(platform.engine, key))
        return newest.number if newest else 0

    until("two renewals", lambda: number() >= 3)
    lease_volume = leases.newest_lease(leases._list_leases(platform.engine, key))
    assert lease_volume is not None
    for ahead in range(1, 100):
        platform.engine.add_volume(key.record_name(f"lease-{number() + ahead}"), {"other": "1"})
    until("the loss", lambda: lease.is_lost)
    with pytest.raises(ConflictError, match="lease on greeter was lost"):
        lease.check()
    lease.release()
