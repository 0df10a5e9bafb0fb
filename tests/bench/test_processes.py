"""Processes found by their mark."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid

import pytest

from bench import processes

pytestmark = pytest.mark.system

# Has a child in its own session that ignores SIGTERM.
STUBBORN = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(1, b"up\\n")
time.sleep(60)
"""


@pytest.fixture
def mark() -> str:
    return uuid.uuid4().hex


def test_all_marked_processes_are_ended(mark: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN],
        env={**os.environ, processes.MARK: mark},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    assert process.stdout.readline() == b"up\n"
    result = processes.marked_processes(mark)
    assert len(result) == 2
    assert process.pid in result
    assert 1 < processes.pss_mib(result) < 200
    ended = []
    # The parent is this test's child: until it is reaped it is a zombie, without an environment.
    processes.terminate(mark, patience=0.3)
    ended = processes.marked_processes(mark)
    process.stdout.close()
    process.wait()
    assert ended == []


def test_cpu_time_of_an_idle_process_is_measured(mark: str) -> None:
    work = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"
    process = subprocess.Popen(
        [sys.executable, "-c", work + "print('done', flush=True); input()"],
        env={**os.environ, processes.MARK: mark},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    processes.wait_until_idle([process.pid], patience=20.0)
    deadline = time.monotonic() + 60
    while processes.cpu_seconds([process.pid]) < 0.29 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert 0.29 <= processes.cpu_seconds([process.pid]) < 2.0
    process.communicate(b"\n")


def test_an_ended_process_has_no_cpu_time() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert processes.pss_mib([process.pid]) == 0
    assert processes.cpu_seconds([process.pid]) == 0
