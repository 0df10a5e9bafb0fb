"""The dashboard's image: what is in it, and that it serves."""

from __future__ import annotations

import subprocess
import urllib.request

import pytest

from fnbuild import __version__
from tests.conftest import ROOT
from tests.dashboard_config.conftest import Images, said, until_healthy
from tests.engine import EngineResources, call, free_port

pytestmark = pytest.mark.system


def _inside(image: str, script: str) -> str:
    command = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "sh", image, "-c"]
    return subprocess.run([*command, script], capture_output=True, text=True, check=True).stdout


def test_what_is_in_it(images: Images) -> None:
    facts = images.engine.inspect(images.plain)
    assert facts is not None
    assert facts.user == "10001:10001"
    library = sorted(one.name for one in (ROOT / "functions").iterdir() if one.is_dir())
    said = _said(images.plain)
    assert said[:3] == ["10001", f"fnbuild {__version__}", " ".join(library)]
    assert said[3:] == ["page", "no docker"]


def _said(image: str) -> list[str]:
    return _inside(
        image,
        "id -u; fnbuild --version; echo $(ls $FNBUILD_DASHBOARD_LIBRARY);"
        " find / -xdev -path '*/dashboard/static/index.html' | grep -q . && echo page;"
        " find / -xdev -name .git -o -xdev -name .venv;"
        " command -v docker || echo no docker",
    ).splitlines()


def test_the_other_one_has_an_engines_client_and_no_engine(images: Images) -> None:
    said = _inside(images.docker, "id -u; docker --version; command -v dockerd || echo no engine")
    user, client, engine = said.splitlines()
    assert (user, engine) == ("0", "no engine")
    assert client.startswith("Docker version ")


def test_it_serves_without_rights_on_a_disk_that_can_only_be_read(
    images: Images, resources: EngineResources
) -> None:
    name, port = resources.name("dashboard"), free_port()
    arguments = ("run", "--detach", "--name", name, "--publish", f"127.0.0.1:{port}:8070")
    hard = ("--read-only", "--cap-drop", "ALL", "--tmpfs", "/tmp")
    mine = ("--volume", f"{resources.name('data')}:/var/lib/fnbuild")
    call(images.engine, *arguments, *hard, *mine, images.plain)

    until_healthy(images.engine, name)
    token = said(name).partition("the write token, shown only now: ")[2].split()[0]
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/functions", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.read() == b"{}"
