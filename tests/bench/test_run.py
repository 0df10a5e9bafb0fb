"""A complete short run: the limit and fnbuild's processor, in this interpreter's environment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from bench import processes, report

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
RUN = [
    sys.executable, "-m", "bench", "run", "--python", sys.executable, "--servers", "fnbuild",
    "--concurrency", "2", "--seconds", "1", "--rounds", "1", "--starts", "1",
]  # fmt: skip


@pytest.fixture
def trace() -> str:
    """A mark in the environment of all processes that a run starts."""
    return uuid.uuid4().hex


def start(trace: str, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*RUN, *more],
        cwd=ROOT,
        env={**os.environ, "BENCH_TRACE": trace},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_run_measures_and_leaves_no_process(tmp_path: Path, trace: str) -> None:
    output = tmp_path / "results.json"
    process = start(trace, "--workloads", "echo,jpeg", "--lifecycle", "echo", "-o", str(output))
    _, text = process.communicate(timeout=300)
    assert process.returncode == 0, text
    assert processes.marked_processes(trace, "BENCH_TRACE") == []
    results = json.loads(output.read_text())
    assert results["missing"] == {}
    slices = {(item["workload"], item["server"]): item for item in results["slices"]}
    assert set(slices) == {(w, s) for w in ("echo", "jpeg") for s in ("limit", "fnbuild")}
    for item in slices.values():
        assert "void" not in item
        assert item["rate"] > 0
        assert item["cpu_ms"] is not None
    alone = {item["server"]: item for item in results["lifecycle"]}
    assert 0 < alone["fnbuild"]["cold_start"] < 60
    assert alone["fnbuild"]["restart"] is not None
    assert alone["fnbuild"]["pss_loaded"] > 10
    document = tmp_path / "performance.md"
    document.write_text(f"{report.BEGIN}\n{report.END}\n")
    report.write(results, document)
    assert "| fnbuild |" in document.read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_no_process(
    tmp_path: Path, trace: str, number: signal.Signals
) -> None:
    process = start(trace, "--workloads", "echo", "-o", str(tmp_path / "results.json"))
    assert process.stderr is not None
    # The first line follows the end of the first server; the next one is starting or running.
    line = process.stderr.readline()
    assert "limit alone" in line
    process.send_signal(number)
    _, output = process.communicate(timeout=180)
    assert process.returncode == (130 if number == signal.SIGINT else 143), output
    deadline = time.monotonic() + 60
    while processes.marked_processes(trace, "BENCH_TRACE") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes.marked_processes(trace, "BENCH_TRACE") == []


def test_unknown_names_are_usage_errors(tmp_path: Path) -> None:
    command = [*RUN, "--workloads", "ecco", "-o", str(tmp_path / "results.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no such workload: ecco" in done.stderr
