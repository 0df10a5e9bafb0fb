"""A data directory that an earlier release wrote is read, served and changed by this one.

`tests/data/upgrade/data-directory` was written by an earlier release: a project, and a function
with two revisions and a failed one. Paths were replaced by `@DATA@` and `@PYTHON@`.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from fnbuild.cli.app import run
from fnbuild.dashboard.auth.tokens import Tokens
from fnbuild.platforms.process import ProcessPlatform
from fnbuild.store import Store

pytestmark = pytest.mark.system

STORED = Path(__file__).parents[2] / "data" / "upgrade" / "data-directory"
WRITE_TOKEN = "18MD6OLjPJPbbsA2R1xko3234ZHe_DvB7wfNk7VwZdc"


@pytest.fixture
def upgraded(data: Path) -> Path:
    """The data directory of the earlier release at the path of this test."""
    shutil.copytree(STORED, data)
    paths = {"@DATA@": str(data), "@PYTHON@": sys.executable}
    for file in [path for path in data.rglob("*") if path.is_file()]:
        text = file.read_text()
        for placeholder, path in paths.items():
            text = text.replace(placeholder, path)
        file.write_text(text)
    script = data / "fnbuild.sql"
    with closing(sqlite3.connect(data / "fnbuild.db")) as database:
        database.executescript(script.read_text())
    script.unlink()
    (data / "run").mkdir()
    (data / "run" / "down").touch()
    return data


def _answer(platform: ProcessPlatform) -> str:
    with urllib.request.urlopen(platform.deployment("nuclio", "greeter").url) as reply:
        return reply.read().decode()


def test_functions_and_revisions_of_an_earlier_release_are_read(
    upgraded: Path, platform: ProcessPlatform
) -> None:
    function = platform.deployment("nuclio", "greeter")
    assert (function.state, function.revision) == ("stopped", 2)
    assert function.function.metadata.labels == {"nuclio.io/project-name": "cameras"}
    states = [(item.number, item.state) for item in platform.revisions("nuclio", "greeter")]
    assert sorted(states) == [(1, "superseded"), (2, "active"), (3, "failed")]
    projects = platform.projects("nuclio")
    assert ("cameras", "street cameras") in [(item.name, item.description) for item in projects]
    with closing(Tokens(Store.open())) as tokens:
        assert tokens.token_role(WRITE_TOKEN) == "write"


def test_commands_change_functions_of_an_earlier_release(
    upgraded: Path, platform: ProcessPlatform, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*arguments: str) -> str:
        status = run(list(arguments))
        output = capsys.readouterr()
        assert status == 0, output.err
        return output.out

    call("up")
    assert _answer(platform) == "second"
    call("rollback", "greeter", "1")
    assert _answer(platform) == "first"
    call("redeploy", "greeter")
    history = json.loads(call("history", "greeter", "-o", "json"))
    assert [item["revision"] for item in history] == [5, 4, 3, 2, 1]
    assert "SyntaxError" in call("logs", "greeter")
    call("delete", "function", "greeter")
    assert not (upgraded / "functions" / "nuclio" / "greeter").exists()
