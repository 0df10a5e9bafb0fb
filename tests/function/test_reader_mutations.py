"""Five hundred invalid and hostile files are accepted or have clear errors, in little time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("mutants.py")


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    scratch = tmp_path_factory.mktemp("mutants")
    good = Path(__file__).resolve().parent.parent / "data" / "functions"
    command = [sys.executable, str(PROGRAM), str(good), str(scratch)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_every_file_has_a_result(verdicts: list[dict]) -> None:
    assert len(verdicts) == 500
    accepted = sum(verdict["accepted"] for verdict in verdicts)
    assert 20 < accepted < 250, "the mutations are too mild or too harsh to say anything"


def test_no_file_causes_a_traceback(verdicts: list[dict]) -> None:
    assert [(v["start"], v["crash"]) for v in verdicts if v["crash"]] == []


def test_every_error_has_a_position_in_the_file(verdicts: list[dict]) -> None:
    assert [(v["start"], v["fault"]) for v in verdicts if v["fault"]] == []


def test_time_and_memory_are_limited(verdicts: list[dict]) -> None:
    # The goal is a second on a free machine; tests share theirs.
    assert [(v["start"], v["seconds"]) for v in verdicts if v["seconds"] > 5] == []
    assert sorted(v["seconds"] for v in verdicts)[len(verdicts) // 2] < 0.1
    assert max(v["megabytes"] for v in verdicts) < 200
