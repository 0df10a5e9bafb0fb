"""Leftovers of the process platform."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from fnbuild.cli.app import run
from fnbuild.platforms.process import ProcessPlatform


@pytest.fixture
def leftovers(data: Path) -> list[Path]:
    """An environment that no revision uses, and the staged copy of a process that has ended."""
    with subprocess.Popen(["true"]) as ended:
        pass
    environment = data / "environments" / "unused"
    staged = data / "staging" / f"{ended.pid}-abcdef12"
    for folder in (environment, staged):
        folder.mkdir(parents=True)
        (folder / "content").write_text("x" * 1000)
    (environment / "complete.json").write_text("{}")
    return [environment, staged]


def test_a_dry_run_lists_leftovers_and_removes_nothing(
    leftovers: list[Path], platform: ProcessPlatform, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["prune", "--dry-run", "-o", "json"]) == 0
    out, err = capsys.readouterr()
    rows = {row["kind"]: row for row in json.loads(out)}
    assert [rows[kind]["name"] for kind in ("environment", "staging")] == [
        str(path) for path in leftovers
    ]
    assert rows["staging"]["size"] == 1000
    assert rows["staging"]["outcome"] == "would be removed"
    assert "2 would be removed" in err
    assert all(path.is_dir() for path in leftovers)


def test_prune_removes_leftovers(
    leftovers: list[Path], platform: ProcessPlatform, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["prune"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].split() == ["KIND", "|", "NAME", "|", "SIZE", "|", "OUTCOME"]
    assert out.count("removed") == 2
    assert "2 removed" in err
    assert not any(path.exists() for path in leftovers)
    assert run(["prune", "-o", "wide"]) == 0
    out, err = capsys.readouterr()
    assert (out, "there is nothing to remove" in err) == ("", True)


def test_an_unknown_function_is_an_error(
    platform: ProcessPlatform, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["prune", "nowhere"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "there is no function nowhere in namespace nuclio" in err
