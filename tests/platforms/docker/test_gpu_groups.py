"""A GPU group with members in containers and on the process platform."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fnbuild.deploy import pipeline
from fnbuild.platforms import Deployment
from fnbuild.platforms.docker import DockerPlatform
from fnbuild.platforms.process import ProcessPlatform
from tests.engine import until
from tests.platforms.docker.author import Author, invoke
from tests.platforms.group_members import annotate, sleep_state
from tests.platforms.process.author import Author as ProcessAuthor

pytestmark = pytest.mark.system

USER = "securityContext: {runAsUser: 1234, runAsGroup: 1234}"


@pytest.fixture
def processes(data: Path) -> Iterator[ProcessPlatform]:
    platform = ProcessPlatform()
    yield platform
    platform.down()


def test_containers_and_processes_share_a_group(
    author: Author, platform: DockerPlatform, processes: ProcessPlatform, tmp_path: Path
) -> None:
    def process() -> str:
        return sleep_state(processes.deployment("nuclio", "native"))

    def container() -> str:
        return sleep_state(author.deployment("boxed"))

    home = tmp_path / "native-home"
    home.mkdir()
    folder = annotate(ProcessAuthor(home).write("native", name="native"), gpu_group_awake="1")
    native: Deployment = pipeline.deploy(
        pipeline.DeployRequest(path=folder, platform="process"), author.progress.append
    )
    # The container's user is another one, and may not enter the data directory.
    boxed = author.deploy(annotate(author.write("boxed", name="boxed", spec=USER)))
    assert (process(), container()) == ("asleep", "awake")
    assert invoke(native.http_port) == "native"
    assert (process(), container()) == ("awake", "asleep")
    assert invoke(boxed.http_port) == "boxed"
    assert (process(), container()) == ("asleep", "awake")
    sleep = author.deployment("boxed").sleep
    assert sleep is not None
    assert sleep.group is not None
    assert {member.function for member in sleep.group.members} == {
        "nuclio/native",
        f"{author.namespace}/boxed",
    }
    author.docker("kill", author.container("boxed"))
    assert invoke(native.http_port) == "native"

    def is_alone() -> bool:
        status = processes.deployment("nuclio", "native").sleep
        assert status is not None
        assert status.group is not None
        return status.group.usage == "1 of 1 awake"

    until("the process is awake", is_alone)
