"""Concurrent deploys, killed deploys and full disks: clear errors, and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fnbuild.errors import BuildError, ConflictError, FnbuildError
from fnbuild.function.types import Function
from fnbuild.platforms import Deployment, FunctionKey, Progress
from fnbuild.platforms.process import ProcessPlatform, processor_client, supervisor_client
from fnbuild.platforms.process.layout import control_socket
from fnbuild.platforms.processor_status import ProcessorStatus
from tests.platforms.process.author import NAMESPACE, Author, ask, processes, refuses, wait_for

pytestmark = pytest.mark.system

SLOW = """
import os, time

def init_context(context):
    while not os.path.exists({gate!r}):
        time.sleep(0.02)

def handler(context, event):
    return "slow"
"""

DEPLOY = """
import sys
from pathlib import Path
from fnbuild.deploy import pipeline

request = pipeline.DeployRequest(path=Path(sys.argv[1]))
pipeline.deploy(request, lambda text: print(text, flush=True))
"""


@contextmanager
def slow_deploy(author: Author, gate: Path) -> Iterator[None]:
    """A deploy that is under way inside, and ends well afterwards."""
    folder = author.write_code(SLOW.format(gate=str(gate)))
    thread = threading.Thread(target=author.deploy, args=(folder,))
    thread.start()
    try:
        assert wait_for(lambda: "starting 1 worker" in author.progress)
        yield
    finally:
        gate.touch()
        thread.join()


def test_a_second_change_is_refused_at_once(
    tmp_path: Path, platform: ProcessPlatform, author: Author
) -> None:
    with slow_deploy(author, tmp_path / "gate"):
        second = Author(tmp_path / "second")
        second.home.mkdir()
        words = rf"greeter is being deployed by process {os.getpid()} "
        with pytest.raises(ConflictError, match=words):
            second.deploy(second.write())
        with pytest.raises(ConflictError, match=words):
            platform.delete(NAMESPACE, "greeter")
        with pytest.raises(ConflictError, match=words):
            platform.redeploy(NAMESPACE, "greeter", author.progress.append)
        # Looking is allowed, and so are other functions.
        assert platform.deployment(NAMESPACE, "greeter").state == "building"
        assert second.deploy(second.write(name="another")).state == "ready"
    made = platform.deployment(NAMESPACE, "greeter")
    assert (made.state, made.revision) == ("ready", 1)
    assert ask(made.http_port) == "slow"


def started_deploy(folder: Path, until: str = "starting 1 worker") -> subprocess.Popen[str]:
    """Another process that deploys, and has said that it does this."""
    child = subprocess.Popen(
        [sys.executable, "-c", DEPLOY, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith(until):
            return child
    raise AssertionError("the deploy ended early")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_deploy_that_is_ended_half_way(
    tmp_path: Path, data: Path, platform: ProcessPlatform, author: Author, number: signal.Signals
) -> None:
    made = author.deploy(author.write("old"))
    before = processes(data)
    gate = tmp_path / "gate"
    with started_deploy(author.write_code(SLOW.format(gate=str(gate)))) as child:
        child.send_signal(number)
    assert wait_for(lambda: sorted(processes(data)) == sorted(before))
    assert ask(made.http_port) == "old"
    assert wait_for(lambda: "interrupted" in platform.revisions(NAMESPACE, "greeter")[0].message)
    now = platform.deployment(NAMESPACE, "greeter")
    assert (now.state, now.revision) == ("ready", 1)
    assert author.deploy(author.write("new")).revision == 3


BUSY = """
import time

def handler(context, event):
    time.sleep(6)
    return "busy"
"""


def test_a_deploy_that_is_killed_while_the_old_revision_stops(
    platform: ProcessPlatform, author: Author
) -> None:
    gpu = "resources:\n  limits:\n    nvidia.com/gpu: 1"
    made = author.deploy(author.write_code(BUSY, spec=gpu))
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(ask(made.http_port)))
    asking.start()
    assert wait_for(lambda: read_status(made).in_flight == 1)
    with started_deploy(author.write(spec=gpu), until="stopping revision 1") as child:
        child.kill()
    asking.join()
    assert answers == ["busy"]
    assert ask(made.http_port) == "busy"
    assert wait_for(lambda: platform.deployment(NAMESPACE, "greeter").state == "ready")
    now = platform.deployment(NAMESPACE, "greeter")
    assert now.revision == 1
    assert now.details["pid"] != made.details["pid"]


def read_status(made: Deployment) -> ProcessorStatus:
    return processor_client.read_status(
        control_socket(FunctionKey(NAMESPACE, made.name), made.revision)
    )


def test_a_supervisor_that_is_killed_during_a_switch(
    tmp_path: Path, data: Path, platform: ProcessPlatform, author: Author
) -> None:
    made = author.deploy(author.write("old"))
    before = processes(data)
    running = supervisor_client.running_supervisor()
    assert running is not None
    with started_deploy(author.write_code(SLOW.format(gate=str(tmp_path / "gate")))) as child:
        os.kill(running.pid, signal.SIGKILL)
    assert child.returncode != 0
    assert ask(made.http_port) == "old"
    platform.up()
    assert wait_for(lambda: len(processes(data)) == len(before))
    now = platform.deployment(NAMESPACE, "greeter")
    assert (now.state, now.revision, now.details["pid"]) == ("ready", 1, made.details["pid"])
    assert [one.state for one in platform.revisions(NAMESPACE, "greeter")] == ["failed", "active"]
    assert author.deploy(author.write("new")).http_port == made.http_port


def test_what_a_killed_deploy_left_is_removed_by_the_next(data: Path, author: Author) -> None:
    author.deploy(author.write("one"))
    gone = subprocess.Popen(["true"])
    gone.wait()
    half = data / "functions" / NAMESPACE / "greeter" / "revisions" / "2" / "code"
    staged = data / "staging" / f"{gone.pid}-abcdef"
    for folder in (half, staged):
        folder.mkdir(parents=True)
        (folder / "main.py").write_text("half")
    made = author.deploy(author.write("two"))
    assert (made.revision, ask(made.http_port)) == (2, "two")
    assert list((data / "staging").iterdir()) == []


def test_a_delete_ends_all_and_frees_the_port(
    data: Path, platform: ProcessPlatform, author: Author
) -> None:
    made = author.deploy(author.write("one"))
    assert platform.delete(NAMESPACE, "greeter") is True
    assert refuses(made.http_port)
    assert wait_for(lambda: len(processes(data)) == 1)  # the supervisor
    assert not (data / "functions" / NAMESPACE / "greeter").exists()
    assert list((data / "run").glob("*greeter*")) == []


def test_a_delete_without_a_supervisor(
    data: Path, platform: ProcessPlatform, author: Author
) -> None:
    author.deploy(author.write("one"))
    for pid in processes(data):
        if b"supervisor" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    assert platform.delete(NAMESPACE, "greeter") is True
    assert platform.deployments(NAMESPACE) == []


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: Path) -> Iterator[Path]:
    """The data directory on a file system of 8 MiB."""
    data.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "fnbuild-test", str(data)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield data
    finally:
        ProcessPlatform().down()
        wait_for(lambda: not processes(data))
        subprocess.run(["umount", "-l", str(data)], check=True)


def fill(disk: Path) -> Path:
    """Leave no room on the disk; the file that takes it."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"\1" * 4096)
    return filler


def test_a_processor_that_ends_on_a_full_disk_comes_back(
    small_disk: Path, platform: ProcessPlatform, author: Author
) -> None:
    made = author.deploy(author.write("old"))
    filler = fill(small_disk)
    os.kill(made.details["pid"], signal.SIGKILL)
    assert wait_for(lambda: platform.deployment(NAMESPACE, "greeter").state != "ready")
    assert wait_for(lambda: said(platform))
    filler.unlink()
    assert wait_for(lambda: platform.deployment(NAMESPACE, "greeter").state == "ready")
    assert ask(made.http_port) == "old"


def said(platform: ProcessPlatform) -> bool:
    return "No space left" in platform.deployment(NAMESPACE, "greeter").message


def test_a_full_disk_stops_the_deploy_only(
    small_disk: Path, platform: ProcessPlatform, author: Author
) -> None:
    made = author.deploy(author.write("old"))
    folder = author.write("new")
    (folder / "weights.bin").write_bytes(b"\1" * (12 << 20))
    with pytest.raises(BuildError, match="no space left"):
        author.deploy(folder)
    assert ask(made.http_port) == "old"
    revisions = small_disk / "functions" / NAMESPACE / "greeter" / "revisions"
    assert [one.name for one in revisions.iterdir()] == ["1"]
    assert list((small_disk / "staging").iterdir()) == []

    (folder / "weights.bin").unlink()
    filler = fill(small_disk)
    with pytest.raises(FnbuildError, match="space"):
        author.deploy(folder)
    assert ask(made.http_port) == "old"
    assert [one.name for one in revisions.iterdir()] == ["1"]
    filler.unlink()
    again = author.deploy(folder)
    assert ask(again.http_port) == "new"


def test_a_function_that_is_deleted_before_its_deploy_begins(
    platform: ProcessPlatform, author: Author, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = author.write("one")
    author.deploy(folder)
    reserve = ProcessPlatform.reserve

    def delete_first(self: ProcessPlatform, function: Function, progress: Progress) -> Any:
        assert self.delete(NAMESPACE, "greeter")
        return reserve(self, function, progress)

    monkeypatch.setattr(ProcessPlatform, "reserve", delete_first)
    deployed = author.deploy(folder)
    assert (deployed.state, deployed.revision) == ("ready", 1)
