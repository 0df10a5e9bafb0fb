"""The progress display of long commands."""

from __future__ import annotations

import pytest

from fnbuild.cli import progress
from fnbuild.cli.progress import ProgressDisplay
from tests.engine import until


def test_without_a_terminal_the_current_step_is_repeated_regularly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "SILENCE_LIMIT", 0.05)
    output: list[str] = []
    with ProgressDisplay() as shown:
        shown("starting 1 worker")
        shown("| loading the weights")

        def again() -> bool:
            output.extend(capsys.readouterr().err.splitlines())
            return output.count("  0 s: starting 1 worker") >= 2

        until("two lines of the clock", again, seconds=30)
    assert output[:2] == ["  starting 1 worker", "  | loading the weights"]


def test_a_quick_command_shows_only_its_steps(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressDisplay() as shown:
        shown("starting 1 worker")
    assert capsys.readouterr().err == "  starting 1 worker\n"
