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
from tests.platforms.process.author import NAMESPACE, Author, invoke, processes, refuses, wait_for

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
    """Run a deploy that is in progress during the block and succeeds after it."""
    folder = author.write_code(SLOW.format(gate=str(gate)))
    thread = threading.Thread(target=author.deploy, args=(folder,))
    thread.start()
    try:
        assert wait_for(lambda: "starting 1 worker" in author.progress)
        yield
    finally:
        gate.touch()
        thread.join()


def test_a_concurrent_change_is_refused(
    tmp_path: Path, platform: ProcessPlatform, author: Author
) -> None:
    with slow_deploy(author, tmp_path / "gate"):
        second = Author(tmp_path / "second")
        second.home.mkdir()
        message = rf"greeter is being deployed by process {os.getpid()} "
        with pytest.raises(ConflictError, match=message):
            second.deploy(second.write())
        with pytest.raises(ConflictError, match=message):
            platform.delete(NAMESPACE, "greeter")
        with pytest.raises(ConflictError, match=message):
            platform.redeploy(NAMESPACE, "greeter", author.progress.append)
        # Reading is allowed, and so are changes of other functions.
        assert platform.deployment(NAMESPACE, "greeter").state == "building"
        assert second.deploy(second.write(name="another")).state == "ready"
    deployment = platform.deployment(NAMESPACE, "greeter")
    assert (deployment.state, deployment.revision) == ("ready", 1)
    assert invoke(deployment.http_port) == "slow"


def started_deploy(folder: Path, until: str = "starting 1 worker") -> subprocess.Popen[str]:
    """Start a deploy in another process, and wait until it has printed the line."""
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
def test_an_interrupted_deploy_keeps_the_old_revision(
    tmp_path: Path, data: Path, platform: ProcessPlatform, author: Author, number: signal.Signals
) -> None:
    deployment = author.deploy(author.write("old"))
    before = processes(data)
    gate = tmp_path / "gate"
    with started_deploy(author.write_code(SLOW.format(gate=str(gate)))) as child:
        child.send_signal(number)
    assert wait_for(lambda: sorted(processes(data)) == sorted(before))
    assert invoke(deployment.http_port) == "old"
    assert wait_for(lambda: "interrupted" in platform.revisions(NAMESPACE, "greeter")[0].message)
    current = platform.deployment(NAMESPACE, "greeter")
    assert (current.state, current.revision) == ("ready", 1)
    assert author.deploy(author.write("new")).revision == 3


BUSY = """
import time

def handler(context, event):
    time.sleep(6)
    return "busy"
"""


def test_the_old_revision_restarts_after_a_deploy_was_killed_while_stopping_it(
    platform: ProcessPlatform, author: Author
) -> None:
    gpu = "resources:\n  limits:\n    nvidia.com/gpu: 1"
    deployment = author.deploy(author.write_code(BUSY, spec=gpu))
    answers: list[str] = []
    client = threading.Thread(target=lambda: answers.append(invoke(deployment.http_port)))
    client.start()
    assert wait_for(lambda: read_status(deployment).in_flight == 1)
    with started_deploy(author.write(spec=gpu), until="stopping revision 1") as child:
        child.kill()
    client.join()
    assert answers == ["busy"]
    assert invoke(deployment.http_port) == "busy"
    assert wait_for(lambda: platform.deployment(NAMESPACE, "greeter").state == "ready")
    current = platform.deployment(NAMESPACE, "greeter")
    assert current.revision == 1
    assert current.details["pid"] != deployment.details["pid"]


def read_status(deployment: Deployment) -> ProcessorStatus:
    return processor_client.read_status(
        control_socket(FunctionKey(NAMESPACE, deployment.name), deployment.revision)
    )


def test_a_killed_supervisor_during_a_switch_keeps_the_old_revision(
    tmp_path: Path, data: Path, platform: ProcessPlatform, author: Author
) -> None:
    deployment = author.deploy(author.write("old"))
    before = processes(data)
    running = supervisor_client.running_supervisor()
    assert running is not None
    with started_deploy(author.write_code(SLOW.format(gate=str(tmp_path / "gate")))) as child:
        os.kill(running.pid, signal.SIGKILL)
    assert child.returncode != 0
    assert invoke(deployment.http_port) == "old"
    platform.up()
    assert wait_for(lambda: len(processes(data)) == len(before))
    current = platform.deployment(NAMESPACE, "greeter")
    assert (current.state, current.revision, current.details["pid"]) == (
        "ready",
        1,
        deployment.details["pid"],
    )
    assert [revision.state for revision in platform.revisions(NAMESPACE, "greeter")] == [
        "failed",
        "active",
    ]
    assert author.deploy(author.write("new")).http_port == deployment.http_port


def test_the_next_deploy_cleans_up_after_a_killed_one(data: Path, author: Author) -> None:
    author.deploy(author.write("one"))
    ended = subprocess.Popen(["true"])
    ended.wait()
    incomplete = data / "functions" / NAMESPACE / "greeter" / "revisions" / "2" / "code"
    staged = data / "staging" / f"{ended.pid}-abcdef"
    for folder in (incomplete, staged):
        folder.mkdir(parents=True)
        (folder / "main.py").write_text("half")
    deployment = author.deploy(author.write("two"))
    assert (deployment.revision, invoke(deployment.http_port)) == (2, "two")
    assert list((data / "staging").iterdir()) == []


def test_delete_stops_all_processes_and_frees_the_port(
    data: Path, platform: ProcessPlatform, author: Author
) -> None:
    deployment = author.deploy(author.write("one"))
    assert platform.delete(NAMESPACE, "greeter") is True
    assert refuses(deployment.http_port)
    assert wait_for(lambda: len(processes(data)) == 1)  # the supervisor
    assert not (data / "functions" / NAMESPACE / "greeter").exists()
    assert list((data / "run").glob("*greeter*")) == []


def test_delete_works_without_a_supervisor(
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
    """Fill the disk, and return the file that fills it."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"\1" * 4096)
    return filler


def test_a_processor_restarts_when_a_full_disk_has_space_again(
    small_disk: Path, platform: ProcessPlatform, author: Author
) -> None:
    deployment = author.deploy(author.write("old"))
    filler = fill(small_disk)
    os.kill(deployment.details["pid"], signal.SIGKILL)
    assert wait_for(lambda: platform.deployment(NAMESPACE, "greeter").state != "ready")
    assert wait_for(lambda: reports_full_disk(platform))
    filler.unlink()
    assert wait_for(lambda: platform.deployment(NAMESPACE, "greeter").state == "ready")
    assert invoke(deployment.http_port) == "old"


def reports_full_disk(platform: ProcessPlatform) -> bool:
    return "No space left" in platform.deployment(NAMESPACE, "greeter").message


def test_a_full_disk_fails_only_the_deploy(
    small_disk: Path, platform: ProcessPlatform, author: Author
) -> None:
    deployment = author.deploy(author.write("old"))
    folder = author.write("new")
    (folder / "weights.bin").write_bytes(b"\1" * (12 << 20))
    with pytest.raises(BuildError, match="no space left"):
        author.deploy(folder)
    assert invoke(deployment.http_port) == "old"
    revisions = small_disk / "functions" / NAMESPACE / "greeter" / "revisions"
    assert [path.name for path in revisions.iterdir()] == ["1"]
    assert list((small_disk / "staging").iterdir()) == []

    (folder / "weights.bin").unlink()
    filler = fill(small_disk)
    with pytest.raises(FnbuildError, match="space"):
        author.deploy(folder)
    assert invoke(deployment.http_port) == "old"
    assert [path.name for path in revisions.iterdir()] == ["1"]
    filler.unlink()
    redeployed = author.deploy(folder)
    assert invoke(redeployed.http_port) == "new"


def test_a_function_deleted_before_its_deploy_is_created_again(
    platform: ProcessPlatform, author: Author, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = author.write("one")
    author.deploy(folder)
    reserve = ProcessPlatform.reserve

    def delete_first(self: ProcessPlatform, function: Function, progress: Progress) -> Any:
        assert self.delete(NAMESPACE, "greeter")
        return reserve(self, function, progress)

    monkeypatch.setattr(ProcessPlatform, "reserve", delete_first)
    deployment = author.deploy(folder)
    assert (deployment.state, deployment.revision) == ("ready", 1)
