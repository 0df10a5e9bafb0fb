"""The runtime layer in images of every kind: built, started and called without network."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fnbuild.builder.image import probe
from fnbuild.builder.image.engine import Engine
from tests.builder.image import bases
from tests.builder.image.bases import BASES, docker
from tests.builder.image.conftest import Make, Start

pytestmark = pytest.mark.system

HANDLER = """\
import os
import platform
import sys

import config
import fnbuild.vision
import nuclio_sdk


def init_context(context):
    with open("/opt/nuclio/function.yaml") as file:
        context.user_data.config = file.read()


def handler(context, event):
    context.logger.info("called")
    return {
        "body": event.body,
        "config": context.user_data.config,
        "sibling": config.VALUE,
        "executable": sys.executable,
        "version": list(sys.version_info[:2]),
        "implementation": platform.python_implementation(),
        "folder": os.getcwd(),
        "sdk": nuclio_sdk.__file__,
        "vision": fnbuild.vision.__file__,
        "path": sys.path,
        "user": os.getuid(),
        "environment": dict(os.environ),
    }
"""
SOURCES = {"main.py": HANDLER, "config.py": "VALUE = 'of the function'\n"}

# All folders of packages in an image with their content.
LISTING = """
import json, os
found = {}
for at, folders, files in os.walk("/"):
    if at in ("/proc", "/sys", "/dev"):
        del folders[:]
    elif "/site-packages" in at or "/dist-packages" in at:
        found[at] = sorted(folders) + sorted(
            "%s %d" % (name, os.lstat(os.path.join(at, name)).st_size) for name in files)
print(json.dumps(found))
"""


def packages(image: str, python: str) -> dict[str, list[str]]:
    command = ("run", "--rm", "--network", "none", "--entrypoint", python, image)
    return json.loads(docker(*command, "-IS", "-c", LISTING))


@pytest.mark.parametrize("base", BASES)
def test_a_function_runs_on_every_base_image(
    base: str, make_image: Make, start: Start, engine: Engine, releases: Path
) -> None:
    image = make_image(base, SOURCES)
    check_python(base, engine, releases.parent)
    container = start(image, base)
    status = container.await_ready()
    assert [worker["state"] for worker in status["workers"]] == ["ready"]
    check_reply(base, container.call({"a": [1, "ü"]}))
    large = container.call("x" * 300_000)
    assert len(large["body"]) == 300_000
    assert container.run("processor", "--health").returncode == 0
    before = packages(bases.image(base), container.python)
    assert before
    assert container.ask(LISTING) == before
    records = [json.loads(line) for line in container.log().splitlines()]
    assert [r["level"] for r in records if r["message"] == "called"] == ["info", "info"]
    assert not [r for r in records if r["level"] in ("warn", "error")]
    docker("stop", "--time", "10", container.name)
    assert container.state()["ExitCode"] == 0


def check_python(base: str, engine: Engine, data_dir: Path) -> None:
    """Check the Python that the build has found in the base image."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FNBUILD_DATA_DIR", str(data_dir))
        probed = probe.probe_image(engine, bases.image(base), BASES[base].interpreter or None)
    kind = BASES[base]
    assert probed.python.version[:2] == kind.version[:2]
    assert probed.python.implementation == kind.implementation
    assert Path(probed.python.path).name.rstrip("0123456789.") in ("python", "pypy")


def check_reply(base: str, reply: dict[str, Any]) -> None:
    kind = BASES[base]
    assert reply["body"] == {"a": [1, "ü"]}
    assert json.loads(reply["config"])["spec"]["build"]["image"].startswith("fnbuild-test-")
    assert reply["sibling"] == "of the function"
    assert reply["executable"] == kind.handler
    assert tuple(reply["version"]) == kind.version[:2]
    assert (
        reply["implementation"].lower() == kind.implementation.replace("cpython", "CPython").lower()
    )
    assert reply["folder"] == "/opt/nuclio"
    assert reply["path"][0] == "/opt/nuclio"
    assert "/opt/fnbuild" not in reply["path"]
    release = "0.5.13" if kind.version < (3, 7) else r"0\.[6-9]\.\d+"
    assert re.fullmatch(rf"/opt/fnbuild/sdk/{release}/nuclio_sdk/__init__.py", reply["sdk"])
    assert reply["vision"] == "/opt/fnbuild/fnbuild/vision/__init__.py"
    if base == "entrypoint":
        assert reply["user"] == 1234
        assert reply["environment"]["SAID_BY_ENTRYPOINT"] == "yes"


def test_packages_of_the_image_precede_the_runtime(make_image: Make, start: Start) -> None:
    source = "import of_the_model\ndef handler(context, event):\n    return of_the_model.__file__\n"
    container = start(make_image("venv", {"main.py": source}), "venv")
    container.await_ready()
    status, body = container.post(b"")
    assert (status, body) == (200, b"/opt/model/lib/python3.11/site-packages/of_the_model.py")


@pytest.mark.parametrize("base", ["debian", "pypy3.9"])
def test_an_unknown_user_serves_on_a_read_only_file_system(
    base: str, make_image: Make, start: Start
) -> None:
    container = start(make_image(base, SOURCES), base, "--read-only", "--user", "54321:54321")
    container.await_ready()
    assert container.call()["user"] == 54321
    assert container.run("processor", "--health").returncode == 0
