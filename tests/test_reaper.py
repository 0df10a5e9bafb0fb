"""A killed test run leaves nothing running."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import reaper

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[1]


def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition is true, or fail."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_processes_of_a_killed_run_end(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    program = f"""
import os, pathlib, subprocess, sys, time
from fnbuild.platforms.clean_environment import clean_environment
from tests import reaper
reaper.start()
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
daemon = clean_environment(os.environ)
child = subprocess.Popen(sleep, start_new_session=True, env=daemon)
pathlib.Path({str(ready)!r} + ".new").write_text(f"{{os.environ[reaper.VARIABLE]}} {{child.pid}}")
os.rename({str(ready)!r} + ".new", {str(ready)!r})
time.sleep(600)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen([sys.executable, "-c", program], env=environment)
    try:
        until(ready.exists)
        name, child = ready.read_text().split()
        assert int(child) in set(reaper.processes(name))
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()
    until(lambda: not list(reaper.processes(name)))
