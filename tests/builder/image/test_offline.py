"""Builds without network, for fnbuild and for the steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.engine import PYTHON_IMAGE, has_network_namespaces, require_engine, require_image

pytestmark = pytest.mark.system

# Builds a context's Dockerfile in a process that has no network; only the engine's socket is left.
_BUILD = """
import json, os, socket, sys
from pathlib import Path
from fnbuild.builder.image.engine import BuildRequest, StepError
from fnbuild.builder.image.engines.selection import choose_engine
try:
    socket.create_connection(("127.0.0.1", 5000), timeout=2)
except OSError:
    pass
else:
    sys.exit("there is a network")
context, tag = Path(sys.argv[1]), sys.argv[2]
request = BuildRequest(context, context / "Dockerfile", (tag,), network="none", pull=False)
lines = []
try:
    image = choose_engine("docker").build(request, lines.append)
    print(json.dumps({"image": image, "lines": lines}))
except StepError as error:
    print(json.dumps({"step": error.step, "detail": error.detail, "message": error.message,
                      "hint": error.hint}))
"""


@pytest.fixture
def build(resources, tmp_path):
    """Build the lines of a Dockerfile without network, and return the result."""
    require_image(require_engine(), PYTHON_IMAGE)
    if not has_network_namespaces():
        pytest.skip("a program cannot be cut off the network here: that needs root and unshare")

    def build(lines: str) -> dict[str, object]:
        resources.dockerfile(tmp_path, lines)
        command = ["unshare", "-n", sys.executable, "-c", _BUILD, str(tmp_path)]
        done = subprocess.run(
            [*command, resources.image("offline")],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return build


def test_a_build_from_local_images_needs_no_network(build):
    built = build(f"FROM {PYTHON_IMAGE}\nRUN echo nothing is fetched\n")
    assert built["image"].startswith("sha256:")
    assert "  nothing is fetched" in built["lines"]


def test_a_line_that_needs_the_network_fails_with_its_own_message(build):
    call = "import urllib.request; urllib.request.urlopen('http://packages.invalid/')"
    failed = build(f'FROM {PYTHON_IMAGE}\nRUN echo first\nRUN python3 -c "{call}"\n')
    assert failed["step"] == 3
    assert "Temporary failure in name resolution" in failed["detail"]
    assert failed["message"].endswith("ended with status 1")
    assert "--offline" in failed["hint"]


def test_a_prepared_build_needs_no_network(resources, tmp_path, releases):
    require_image(require_engine(), PYTHON_IMAGE)
    if not has_network_namespaces():
        pytest.skip("a program cannot be cut off the network here: that needs root and unshare")
    image = resources.image("offline")
    build = {"image": image, "baseImage": PYTHON_IMAGE, "commands": ["echo nothing is fetched"]}
    config = {"metadata": {"name": "f"}, "spec": {"handler": "main:handler", "build": build}}
    config["spec"]["runtime"] = "python:3.11"
    (tmp_path / "function.yaml").write_text(json.dumps(config))
    (tmp_path / "main.py").write_text("def handler(context, event):\n    return 1\n")
    command = ["unshare", "-n", sys.executable, "-m", "fnbuild", "build", "--path", str(tmp_path)]
    done = subprocess.run(
        [*command, "--engine", "docker", "--offline", "--no-cache", "-o", "name"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        env={**os.environ, "FNBUILD_DATA_DIR": str(releases.parent)},
    )
    assert (done.returncode, done.stdout) == (0, f"{image}\n"), done.stderr
    facts = resources.engine.inspect(image)
    assert facts.command == ("processor",)
