"""Recorded requests decide about the next revision, in containers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.test_replay import CODE
from tests.containers.conftest import PROGRAM, User
from tests.engine import until

pytestmark = pytest.mark.system

CONFIG = """\
metadata:
  name: boxes
  annotations:
    type: detector
    spec: '[{{"name": "cat", "type": "rectangle"}}]'
    fnbuild.io/record: "true"
spec:
  handler: main:handler
  runtime: python:3.11
  triggers:
    http: {{kind: http, attributes: {{authenticationMode: api}}}}
  build: {{image: {image}, noBaseImagesPull: true}}
"""


def test_a_container_that_answers_differently_is_refused(user: User, tmp_path: Path) -> None:
    check_canary(user, tmp_path, "local")
    listed = user.run("docker", "ps", "--all", "--filter", f"name={user.namespace}", "-q")
    assert len(listed.stdout.splitlines()) == 1


def check_canary(user: User, folder: Path, platform: str) -> None:
    """Check that a revision is refused for its replies, and compared with the one before it."""
    (folder / "function.yaml").write_text(CONFIG.format(image=user.resources.image("boxes")))
    picture = Path("fnbuild/dashboard/static/samples/rocket.jpg").resolve()

    def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return user.run(PROGRAM, "--platform", platform, *arguments)

    def write(right: int) -> None:
        (folder / "main.py").write_text(CODE.format(right=right))

    def served() -> int:
        reply = command("invoke", "boxes", "--image", picture, "-o", "json")
        return int(json.loads(reply.stdout)[0]["points"][2])

    def recorded() -> int:
        return len(json.loads(command("record", "boxes", "-o", "json").stdout))

    write(90)
    user.deploy("--path", folder)
    assert served() == 90
    until("the recorded request", lambda: recorded() == 1)

    write(60)
    refused = command("deploy", "--path", folder, "--canary-replay")
    assert refused.returncode == 1
    assert "answers 1 of 1 recorded request differently, and 0 may differ" in refused.stderr
    assert served() == 90

    (folder / "main.py").write_text("import no_such_library\n")
    failed = command("deploy", "--path", folder, "--canary-replay")
    assert "No module named 'no_such_library'" in failed.stderr, failed.stderr
    assert served() == 90

    write(60)
    accepted = command("deploy", "--path", folder, "--canary-replay", "100%")
    assert accepted.returncode == 0, accepted.stderr
    assert served() == 60
    compared = command("replay", "boxes", "--last", "1", "--against", "1", "-o", "json")
    assert json.loads(compared.stdout)[0]["moved"] == 1, compared.stderr
