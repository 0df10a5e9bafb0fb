"""An image in a pod: a volume over its folder, few privileges, few writable places."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.builder.image.bases import docker
from tests.builder.image.conftest import Make, Start
from tests.engine import until

pytestmark = pytest.mark.system

CONFIG = "/etc/nuclio/config/processor"
HARDENED = (
    *("--read-only", "--tmpfs", "/tmp", "--user", "65532"),
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
)
HANDLER = """
import multiprocessing
import os
import tempfile

import helper


def init_context(context):
    with open("/opt/nuclio/function.yaml") as file:
        context.user_data.config = file.read()


def handler(context, event):
    with tempfile.NamedTemporaryFile() as file:
        file.write(event.body.encode())
        file.flush()
        size = os.path.getsize(file.name)
    with multiprocessing.Lock():
        cache = os.path.join(os.path.expanduser("~"), ".cache")
        os.makedirs(cache, exist_ok=True)
    return {
        "user": os.getuid(),
        "size": size,
        "cache": cache,
        "config": context.user_data.config,
        "helped": helper.helped(),
        "sdk": type(context.Response()).__module__.partition(".")[0],
    }
"""
"""A function with operations that restricted permissions may forbid."""

SIZE = 3 << 20
"""So large that a body goes through shared memory, and below the limit for requests."""

Image = Callable[[str], str]


@pytest.fixture(scope="module")
def image(make_image: Make) -> Image:
    """Return the function's image on a base of that name."""
    files = {"main.py": HANDLER, "helper.py": "def helped():\n    return True\n"}
    return lambda base: make_image(base, files)


@pytest.mark.parametrize("base", ["debian", "python3.6", "pypy3.9"])
def test_it_serves_if_only_tmp_is_writable(base: str, image: Image, start: Start) -> None:
    container = start(image(base), base, *HARDENED)
    assert container.await_ready()["warnings"] == []
    status, body = container.post(json.dumps("x" * SIZE).encode())
    assert status == 200, container.log()
    result = json.loads(body)
    assert "main:handler" in result.pop("config")
    assert result == {
        "user": 65532,
        "size": SIZE,
        "cache": "/tmp/.cache",
        "helped": True,
        "sdk": "nuclio_sdk",
    }
    assert container.run("processor", "--health").returncode == 0
    levels = {json.loads(line)["level"] for line in container.log().splitlines()}
    assert levels == {"info"}, container.log()
    docker("stop", container.name)
    assert container.state()["ExitCode"] == 0


def test_the_configuration_is_read_when_a_volume_hides_it(image: Image, start: Start) -> None:
    container = start(image("debian"), "debian", "--tmpfs", CONFIG)
    container.await_ready()
    assert container.call("x")["helped"]
    first = json.loads(container.log().splitlines()[0])
    assert first["level"] == "info"
    assert first["message"].startswith(f"{CONFIG}/processor.json does not exist: ")


def test_a_variable_overrides_the_configuration_of_the_image(image: Image, start: Start) -> None:
    settings = {"handler": "helper:helped", "log": {"format": "json"}, "drain_timeout": "soon"}
    variable = f"FNBUILD_PROCESSOR={json.dumps(settings)}"
    container = start(image("debian"), "debian", "--tmpfs", CONFIG, "--env", variable)
    until("its end", lambda: not container.state()["Running"])
    assert "FNBUILD_PROCESSOR: drain_timeout: 'soon' is not a float" in container.log()
    # If no volume hides it, the default path is used.
    other = start(image("debian"), "debian", "--env", variable)
    assert other.await_ready()


def test_the_default_configuration_has_precedence(image: Image, start: Start) -> None:
    container = start(image("debian"), "debian")
    container.await_ready()
    assert "does not exist" not in container.log()
