"""The model of a function in a container: downloaded by its processor to /mnt/models."""

from __future__ import annotations

import hashlib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from fnbuild.platforms.docker import DockerPlatform
from fnbuild.platforms.docker.ports import gateway_address
from tests import storage_servers
from tests.containers.conftest import PROGRAM, User
from tests.engine import PYTHON_IMAGE
from tests.storage_servers import FileServer

pytestmark = pytest.mark.system

CODE = """\
import os

def init_context(context):
    with open("/mnt/models/m.txt") as file:
        context.user_data.text = file.read()

def handler(context, event):
    return os.environ["STORAGE_URI"] + " " + context.user_data.text
"""


@pytest.fixture
def web(user: User) -> Iterator[FileServer]:
    """A web server that containers can reach."""
    address = gateway_address(DockerPlatform().engine)
    if address is None:
        pytest.skip("the network of the engine is not on this machine")
    with storage_servers.file_server(address) as server:
        yield server


def test_a_container_downloads_its_model(user: User, web: FileServer, tmp_path: Path) -> None:
    web.files["/m.txt"] = b"weights"
    web.cuts = 1
    folder = tmp_path / "reader"
    folder.mkdir()
    (folder / "main.py").write_text(CODE)
    image = user.resources.name("reader")
    user.resources.images.append(f"{image}:latest")
    options = ("reader", "--path", folder / "main.py", "--image", image)
    python = ("--base-image", PYTHON_IMAGE, "--runtime", "python:3.11", "--handler", "main:handler")
    uri = ("--env", f"STORAGE_URI={web.url}/m.txt")
    result = user.run(PROGRAM, "deploy", "--platform", "local", *options, *python, *uri)
    assert result.returncode == 1
    assert "with plain http, others on the network can change the model" in result.stderr
    digest = hashlib.sha256(b"weights").hexdigest()
    url = user.deploy(*options, *python, *uri, "--env", f"STORAGE_SHA256={digest}")
    with urllib.request.urlopen(url) as reply:
        assert reply.read() == b"/mnt/models weights"
    assert web.ranges == ["bytes=3-"]
