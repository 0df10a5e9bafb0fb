"""`fnbuild record` and `fnbuild replay` with functions on this machine."""

from __future__ import annotations

import io
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from fnbuild.platforms.process import ProcessPlatform
from tests.cli.conftest import Outcome

pytestmark = pytest.mark.system

CONFIG = """\
metadata:
  name: {name}
  annotations:
    type: detector
    spec: '[{{"name": "cat", "type": "rectangle"}}]'
    fnbuild.io/record: "true"
spec:
  handler: main:handler
  runtime: python:3.11
"""
CODE = """\
def handler(context, event):
    if not event.body.get("image"):
        raise ValueError("no picture")
    return [{{"label": "cat", "type": "rectangle", "points": [10, 10, {right}, 90]}}]
"""


def write(folder: Path, right: float, name: str = "boxes") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "function.yaml").write_text(CONFIG.format(name=name))
    (folder / "main.py").write_text(CODE.format(right=right))
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    content = io.BytesIO()
    Image.effect_noise((200, 100), 50).convert("RGB").save(content, "PNG")
    path = tmp_path / "picture.png"
    path.write_bytes(content.getvalue())
    return path


@pytest.fixture
def process(empty: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(empty))
    ProcessPlatform().down()


@pytest.fixture
def command(fnbuild: Callable[..., Outcome], process: None) -> Callable[..., Outcome]:
    def call(*arguments: object) -> Outcome:
        return fnbuild("--platform", "process", *arguments)

    return call


def await_recorded(command: Callable[..., Outcome], count: int) -> None:
    deadline = time.monotonic() + 60
    while len(json.loads(command("record", "boxes", "-o", "json").out)) < count:
        assert time.monotonic() < deadline


def test_replies_of_revisions_folders_and_pictures_are_compared(
    command: Callable[..., Outcome], tmp_path: Path, picture: Path
) -> None:
    folder = write(tmp_path / "boxes", 90)
    assert command("deploy", "--path", folder).status == 0
    for _ in range(2):
        assert command("invoke", "boxes", "--image", picture).status == 0
    await_recorded(command, 2)

    same = command("replay", "boxes")
    assert (same.status, "0 of 2 requests got different replies" in same.err) == (0, True)

    write(folder, 50)
    assert command("deploy", "--path", folder).status == 0
    for against in ((), ("--against", "1")):
        changed = command("replay", "boxes", *against, "-o", "json")
        assert changed.status == 1, changed
        first = json.loads(changed.out)[0]
        assert (first["moved"], first["worst"], first["differs"]) == (1, 0.5, True)
    assert command("replay", "boxes", "--max-different", 2).status == 0
    assert command("replay", "boxes", "--min-iou", 0.5).status == 0
    pictures = tmp_path / "pictures"
    changed = command("replay", "boxes", "--last", 1, "--pictures", pictures)
    (drawn,) = pictures.iterdir()
    with Image.open(drawn) as both:
        assert both.size == (408, 100)
    # Neither these requests nor those of a trial were recorded.
    assert len(json.loads(command("record", "boxes", "-o", "json").out)) == 2

    archive = tmp_path / "recording.tar"
    assert command("record", "boxes", "--export", archive).status == 0
    other = write(tmp_path / "other", 50)
    compared = command("replay", "boxes", "--requests", archive, "--against", other)
    assert compared.status == 0, compared
    assert command("replay", "boxes", "--requests", picture, "--against", other).status == 0
    failed = command("replay", "boxes", "--requests", picture)
    assert (failed.status, "has no recorded reply" in failed.err) == (1, True)
    assert command("replay", "boxes", "--against", "http://").status == 2
    missing = command("replay", "boxes", "--against", "9")
    assert "boxes has no revision 9" in missing.err
    (other / "main.py").write_text("def handler(context, event):\n    raise ValueError(1)\n")
    failing = command("replay", "boxes", "--against", other, "-o", "yaml")
    assert "status 500 became 200" in failing.out


def test_a_revision_that_answers_differently_is_refused(
    command: Callable[..., Outcome], tmp_path: Path, picture: Path
) -> None:
    folder = write(tmp_path / "boxes", 90)
    first = command("deploy", "--path", folder, "--canary-replay")
    assert (first.status, "no recorded requests" in first.err) == (0, True)
    sent = ("invoke", "boxes", "--image", picture, "-o", "json")
    assert command(*sent).status == 0
    await_recorded(command, 1)

    write(folder, 60)
    refused = command("deploy", "--path", folder, "--canary-replay")
    assert refused.status == 1
    assert "answers 1 of 1 recorded request differently, and 0 may differ" in refused.err
    assert "0 added, 0 removed, 1 moved, worst IoU 0.625" in refused.err
    pictures = Path(re.findall(r"are in (\S+);", refused.err)[0])
    assert len(list(pictures.iterdir())) == 1
    shutil.rmtree(pictures)
    assert json.loads(command(*sent).out)[0]["points"][2] == 90
    assert len(command("history", "boxes").out.splitlines()) == 2

    assert command("deploy", "--path", folder, "--canary-replay", "100%").status == 0
    assert json.loads(command(*sent).out)[0]["points"][2] == 60
    write(folder, 59)
    assert command("deploy", "--path", folder, "--canary-replay", "x").status == 2
    elsewhere = command("--platform", "nuclio", "deploy", "--path", folder, "--canary-replay")
    assert elsewhere.status != 0
