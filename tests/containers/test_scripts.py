"""CVAT's way to deploy: its scripts, with another program's name, on a folder of functions."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fnbuild.runtime.http.client import request
from tests.containers.conftest import User
from tests.engine import call

SERVERLESS = Path(__file__).parent / "serverless"
YOLO, SAM, OWN = (
    "openvino-omz-public-yolo-v3-tf",
    "pth.facebookresearch.sam_vit.H",
    "YOLO-v8_n.100imgs",
)
PORT_COLUMN = 5


@pytest.fixture
def cvat(user: User, tmp_path: Path) -> Iterator[Path]:
    """A folder like CVAT's `serverless`; its images have names that are nobody else's."""
    folder = tmp_path / "serverless"
    shutil.copytree(SERVERLESS, folder)
    bases, network = user.made.name("cvat"), user.made.name("network")
    for pattern in ("function*.yaml", "Dockerfile"):
        for file in folder.rglob(pattern):
            file.write_text(file.read_text().replace(" cvat.", f" {bases}."))
    user.environment |= {"BASES": bases, "NETWORK": network}
    call(user.made.engine, "network", "create", network)
    yield folder
    user.remove()
    call(user.made.engine, "network", "rm", network)


@pytest.fixture
def buildkit(user: User, tmp_path: Path) -> Iterator[None]:
    """The `docker` of the shell builds with BuildKit, as the scripts ask for."""
    programs = tmp_path / "programs"
    programs.mkdir()
    found = shutil.which("docker", path=_with_buildkit(tmp_path))
    if found is None:
        pytest.skip("no docker here builds with BuildKit")
    (programs / "docker").symlink_to(found)
    user.environment["PATH"] = f"{programs}{os.pathsep}{user.environment['PATH']}"
    # Old BuildKits bring the whole engine down when they build the same thing twice at once.
    with open(Path(tempfile.gettempdir(), "fnbuild-test-buildkit.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _with_buildkit(folder: Path) -> str:
    """The first folder of PATH with a docker that does as DOCKER_BUILDKIT says; "" if there is none."""
    (folder / "Dockerfile").write_text("FROM scratch\nLABEL nothing=here\n")
    for place in os.get_exec_path():
        docker = Path(place, "docker")
        if os.access(docker, os.X_OK):
            command = [docker, "build", "--quiet", "--file", folder / "Dockerfile", folder]
            asked = {**os.environ, "DOCKER_BUILDKIT": "1"}
            if subprocess.run(command, env=asked, capture_output=True, check=False).returncode == 0:
                return place
    return ""


def _ports(table: str) -> dict[str, str]:
    """The ports of the ready functions in what `get functions` prints."""
    rows = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()]
    header = ["NAMESPACE", "NAME", "PROJECT", "STATE", "REPLICAS", "NODE PORT"]
    listed = rows[rows.index(header) + 1 :]
    assert all(row[2:5] == ["cvat", "ready", "1/1"] for row in listed), table
    return {row[1]: row[PORT_COLUMN] for row in listed}


def _ask(port: str, body: Any = None) -> Any:
    headers = {"Content-Type": "application/json"}
    answer = request("POST", f"http://127.0.0.1:{port}", "/", json.dumps(body).encode(), headers)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def test_the_script_deploys_every_function_and_may_be_run_again(
    user: User, cvat: Path, buildkit: None
) -> None:
    first = user.run("bash", cvat / "deploy_cpu.sh")
    assert first.returncode == 0, first.stderr
    ports = _ports(first.stdout)
    assert set(ports) == {YOLO, SAM, OWN}
    redis = ["cvat_redis_ondisk", "6666"]
    assert _ask(ports[YOLO], 1) == {"models": ["common", "yolo-v3-tf"], "redis": redis, "asked": 1}
    files = ["function-gpu.yaml", "function.yaml", "main.py"]
    assert _ask(ports[SAM], {"a": "ü"}) == {"files": files, "redis": redis, "asked": {"a": "ü"}}
    assert _ask(ports[OWN]) == {"files": files[1:], "redis": redis, "asked": None}
    for name in ports:
        container = user.inspected(name)
        assert container["Config"]["Labels"]["nuclio.io/project-name"] == "cvat"
        # What the flag says of the platform comes beside what the file says.
        assert container["HostConfig"]["RestartPolicy"]["Name"] == "always"
        assert list(container["NetworkSettings"]["Networks"]) == [user.environment["NETWORK"]]
        assert user.shown(name)["spec"]["platform"]["attributes"]["mountMode"] == "volume"

    # An edit of one file, and the whole script again: it deploys this one, on the same port.
    code = cvat / "custom/YOLO-v8-n_100imgs/nuclio/main.py"
    code.write_text(code.read_text().replace('"asked": event.body', '"asked": "edited"'))
    second = user.run("bash", cvat / "deploy_cpu.sh")
    assert second.returncode == 0, second.stderr
    assert _ports(second.stdout) == ports
    assert _ask(ports[OWN])["asked"] == "edited"
    assert _ask(ports[YOLO], 2)["asked"] == 2

    # One folder alone.
    third = user.run("bash", cvat / "deploy_cpu.sh", cvat / "pytorch")
    assert third.returncode == 0, third.stderr
    assert third.stdout.count("is deployed") == 1
