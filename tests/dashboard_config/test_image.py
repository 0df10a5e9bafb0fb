"""The content of the dashboard's image, and a dashboard that runs from it."""

from __future__ import annotations

import subprocess
import urllib.request

import pytest

from fnbuild import __version__
from tests.conftest import ROOT
from tests.dashboard_config.conftest import Images, log_of, until_healthy
from tests.engine import EngineResources, call, free_port

pytestmark = pytest.mark.system


def _inside(image: str, script: str, *options: str) -> str:
    command = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "sh", *options]
    command += [image, "-c"]
    return subprocess.run([*command, script], capture_output=True, text=True, check=True).stdout


def test_the_image_has_the_program_and_the_library(images: Images) -> None:
    facts = images.engine.inspect(images.plain)
    assert facts is not None
    assert facts.user == "10001:10001"
    library = sorted(path.name for path in (ROOT / "functions").iterdir() if path.is_dir())
    lines = _describe(images.plain)
    assert lines[:3] == ["10001", f"fnbuild {__version__}", " ".join(library)]
    assert lines[3:] == ["page", "no docker"]


def _describe(image: str) -> list[str]:
    return _inside(
        image,
        "id -u; fnbuild --version; echo $(ls $FNBUILD_DASHBOARD_LIBRARY);"
        " find / -xdev -path '*/dashboard/static/index.html' | grep -q . && echo page;"
        " find / -xdev -name .git -o -xdev -name .venv;"
        " command -v docker || echo no docker",
    ).splitlines()


def test_the_command_line_runs_as_any_user(images: Images) -> None:
    script = "fnbuild create project digits && fnbuild get projects"
    assert "| digits" in _inside(images.command, script, "--user", "12345")


def test_the_docker_image_has_a_client_and_no_engine(images: Images) -> None:
    output = _inside(images.docker, "id -u; docker --version; command -v dockerd || echo no engine")
    user, client, engine = output.splitlines()
    assert (user, engine) == ("0", "no engine")
    assert client.startswith("Docker version ")


def test_it_runs_without_capabilities_on_a_read_only_disk(
    images: Images, resources: EngineResources
) -> None:
    name, port = resources.name("dashboard"), free_port()
    arguments = ("run", "--detach", "--name", name, "--publish", f"127.0.0.1:{port}:8070")
    restrictions = ("--read-only", "--cap-drop", "ALL", "--tmpfs", "/tmp")
    volume = ("--volume", f"{resources.name('data')}:/var/lib/fnbuild")
    call(images.engine, *arguments, *restrictions, *volume, images.plain)

    until_healthy(images.engine, name)
    token = log_of(name).partition("the write token, shown only now: ")[2].split()[0]
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/functions", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.read() == b"{}"
