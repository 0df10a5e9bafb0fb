"""CVAT's deployment scripts, with another program's name, on a folder of functions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fnbuild.runtime.http.client import request
from tests import locks
from tests.containers.conftest import User
from tests.engine import PYTHON_IMAGE, call

pytestmark = pytest.mark.system

SERVERLESS = Path(__file__).parent / "serverless"
YOLO, SAM, OWN = (
    "openvino-omz-public-yolo-v3-tf",
    "pth.facebookresearch.sam_vit.H",
    "YOLO-v8_n.100imgs",
)
REDIS = {
    "CVAT_FUNCTIONS_REDIS_HOST": "cvat_redis_ondisk",
    "CVAT_FUNCTIONS_REDIS_PORT": "6666",
}


@pytest.fixture
def cvat(user: User, tmp_path: Path) -> Iterator[Path]:
    """A folder like CVAT's `serverless`, with unique image names."""
    folder = tmp_path / "serverless"
    shutil.copytree(SERVERLESS, folder)
    bases, network = user.resources.name("cvat"), user.resources.name("network")
    for pattern in ("function*.yaml", "Dockerfile"):
        for file in folder.rglob(pattern):
            file.write_text(file.read_text().replace(" cvat.", f" {bases}."))
    user.environment |= {"BASES": bases, "NETWORK": network}
    call(user.resources.engine, "network", "create", network)
    yield folder
    # A network can only be removed after its containers.
    user.resources.remove()
    call(user.resources.engine, "network", "rm", network)


@pytest.fixture
def buildkit(user: User, tmp_path: Path) -> Iterator[None]:
    """Make the `docker` of the shell build with BuildKit, which the scripts require."""
    programs = tmp_path / "programs"
    programs.mkdir()
    program = shutil.which("docker", path=_with_buildkit(tmp_path))
    if program is None:
        pytest.skip("no docker here builds with BuildKit")
    (programs / "docker").symlink_to(program)
    user.environment["PATH"] = f"{programs}{os.pathsep}{user.environment['PATH']}"
    # Concurrent builds of the same image crash engines with an old BuildKit.
    with locks.exclusive("buildkit"):
        yield


def _with_buildkit(folder: Path) -> str:
    """Return the first folder of PATH with a docker that has BuildKit, or ""."""
    (folder / "Dockerfile").write_text("FROM scratch\nLABEL nothing=here\n")
    for program_folder in os.get_exec_path():
        docker = Path(program_folder, "docker")
        if os.access(docker, os.X_OK):
            command = [docker, "build", "--quiet", "--file", folder / "Dockerfile", folder]
            environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
            result = subprocess.run(command, env=environment, capture_output=True, check=False)
            if result.returncode == 0:
                return program_folder
    return ""


def _ports(table: str) -> dict[str, str]:
    """Return the ports of the ready functions in the last table of the output."""
    rows = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()]
    header = ["NAMESPACE", "NAME", "PROJECT", "STATE", "REPLICAS", "NODE PORT"]
    functions = rows[-rows[::-1].index(header) :]
    assert all(row[2:5] == ["cvat", "ready", "1/1"] for row in functions), table
    return {row[1]: row[5] for row in functions}


def _invoke(port: str, body: Any = None) -> Any:
    headers = {"Content-Type": "application/json"}
    answer = request("POST", f"http://127.0.0.1:{port}", "/", json.dumps(body).encode(), headers)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def test_the_script_deploys_all_functions_and_can_be_repeated(
    user: User, cvat: Path, buildkit: None
) -> None:
    first = user.run("bash", cvat / "deploy_cpu.sh")
    assert first.returncode == 0, first.stderr
    ports = _ports(first.stdout)
    assert set(ports) == {YOLO, SAM, OWN}
    redis = list(REDIS.values())
    assert _invoke(ports[YOLO], 1) == {
        "models": ["common", "yolo-v3-tf"],
        "redis": redis,
        "asked": 1,
    }
    files = ["function-gpu.yaml", "function.yaml", "main.py"]
    assert _invoke(ports[SAM], {"a": "ü"}) == {"files": files, "redis": redis, "asked": {"a": "ü"}}
    assert _invoke(ports[OWN]) == {"files": files[1:], "redis": redis, "asked": None}
    for name in ports:
        container = user.inspect_container(name)
        assert container["Config"]["Labels"]["nuclio.io/project-name"] == "cvat"
        # Platform attributes of the flag are added to those of the file.
        assert container["HostConfig"]["RestartPolicy"]["Name"] == "always"
        assert list(container["NetworkSettings"]["Networks"]) == [user.environment["NETWORK"]]
        assert user.describe(name)["spec"]["platform"]["attributes"]["mountMode"] == "volume"

    # After a change of one file the script deploys this function again, on the same port.
    code = cvat / "custom/YOLO-v8-n_100imgs/nuclio/main.py"
    code.write_text(code.read_text().replace('"asked": event.body', '"asked": "edited"'))
    second = user.run("bash", cvat / "deploy_cpu.sh")
    assert second.returncode == 0, second.stderr
    assert _ports(second.stdout) == ports
    assert _invoke(ports[OWN])["asked"] == "edited"
    assert _invoke(ports[YOLO], 2)["asked"] == 2

    # The script deploys a single folder.
    third = user.run("bash", cvat / "deploy_cpu.sh", cvat / "pytorch")
    assert third.returncode == 0, third.stderr
    assert third.stdout.count("is deployed") == 1


def test_the_gpu_script_keeps_the_function_if_there_is_no_gpu(
    user: User, cvat: Path, buildkit: None
) -> None:
    result = user.run("bash", cvat / "deploy_cpu.sh", cvat / "pytorch")
    assert result.returncode == 0, result.stderr
    port = _ports(result.stdout)[SAM]
    result = user.run("bash", cvat / "deploy_gpu.sh")
    if result.returncode == 0:
        (device,) = user.inspect_container(SAM)["HostConfig"]["DeviceRequests"]
        assert ["gpu"] in device["Capabilities"]
    else:
        assert "the function asks for a GPU, and the engine cannot give one" in result.stderr
        assert "NVIDIA Container Toolkit" in result.stderr
        assert "Traceback" not in result.stderr
    assert _invoke(port, 3)["asked"] == 3


@pytest.fixture
def deploy_arguments(user: User, cvat: Path) -> tuple[str | Path, ...]:
    """Return the arguments that deploy one function of the folder from elsewhere."""
    env = [word for name, value in REDIS.items() for word in ("--env", f"{name}={value}")]
    path = cvat / "custom/YOLO-v8-n_100imgs/nuclio"
    return ("deploy", "--project-name", "cvat", "--path", path, "--platform", "local", *env)


def test_documented_flags_are_supported(
    user: User, deploy_arguments: tuple[str | Path, ...], tmp_path: Path
) -> None:
    base = user.resources.build(
        tmp_path / "base", f"FROM {PYTHON_IMAGE}\nENV OF_THE_BASE=yes\n", "base"
    )
    image = user.resources.image("named", tag="from-a-flag")
    triggers = json.dumps({"myHttpTrigger": {"maxWorkers": 3}})
    common = tmp_path / "common"
    common.mkdir()
    (common / "shared.py").write_text("")
    arguments = ("--base-image", base, "--desc", "Boxes of things", "--image", image)
    overrides = ("--triggers", triggers, "--volume", f"{common}:/opt/nuclio/common")
    user.fnbuild(*deploy_arguments, *arguments, *overrides)
    function = user.describe(OWN)
    assert function["spec"]["description"] == "Boxes of things"
    assert function["spec"]["image"] == image
    assert function["spec"]["build"]["baseImage"] == base
    trigger = function["spec"]["triggers"]["myHttpTrigger"]
    assert (trigger["numWorkers"], trigger["attributes"]["maxRequestBodySize"]) == (3, 3355443200)
    facts = user.resources.engine.inspect(image)
    assert facts is not None
    assert facts.env["OF_THE_BASE"] == "yes"
    reply = user.fnbuild(
        *("invoke", OWN, "-c", "application/json", "--platform", "local"), stdin=b'{"a": 1}'
    )
    assert json.loads(reply)["asked"] == {"a": 1}
    assert json.loads(reply)["files"] == ["common", "function.yaml", "main.py"]

    # A second function runs the image of the first one.
    run_options = ("--run-image", image, "--runtime", "python:3.9", "--handler", "main:handler")
    user.fnbuild("deploy", "copy", *run_options, *deploy_arguments[-4:], "--platform", "local")
    ports = user.fnbuild("get", "functions", "--platform", "local")
    assert "| copy " in ports
    reply = user.fnbuild(
        "invoke", "copy", "-b", "2", "-c", "application/json", *deploy_arguments[5:7]
    )
    assert json.loads(reply)["asked"] == 2
    assert "Client version" in user.fnbuild("version")

    for name in ("copy", OWN):
        user.fnbuild("delete", "function", name, "--platform", "local")
        assert (
            call(user.resources.engine, "ps", "-aq", "--filter", f"name={user.container(name)}")
            == ""
        )
    assert OWN not in user.fnbuild("get", "functions", "--platform", "local")


def test_a_flag_requests_a_gpu(user: User, deploy_arguments: tuple[str | Path, ...]) -> None:
    result = user.run("fnbuild", *deploy_arguments, "--resource-limit", "nvidia.com/gpu=1")
    if result.returncode == 0:
        (device,) = user.inspect_container(OWN)["HostConfig"]["DeviceRequests"]
        assert device["Count"] == 1
        return
    assert "error: the function asks for a GPU, and the engine cannot give one" in result.stderr
    assert "without the limit nvidia.com/gpu the function runs on the CPU" in result.stderr
    user.fnbuild(*deploy_arguments)
    assert user.describe(OWN)["status"]["state"] == "ready"
