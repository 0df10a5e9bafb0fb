"""The processes of one server, identified by a mark in their environment: memory, CPU time, end.

The mark also identifies processes that left the group or lost their parent, and no others.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

MARK = "BENCH_MARK"

_TICK = os.sysconf("SC_CLK_TCK")


def marked_processes(mark: str, name: str = MARK) -> list[int]:
    """Return the processes with that mark under that name."""
    wanted = f"{name}={mark}".encode()
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:
                # The process ended, or belongs to another user.
                continue
            if wanted in environment.split(b"\0"):
                pids.append(int(entry.name))
    return pids


def pss_mib(pids: list[int]) -> float:
    """Return memory in MiB; a page shared by n processes counts as one n-th."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def cpu_seconds(pids: list[int]) -> float:
    """Return seconds of CPU time, user and system, since their start."""
    ticks = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        fields = text.rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICK


def wait_until_idle(pids: list[int], patience: float = 5.0) -> None:
    """Wait until the processes are nearly idle, as after requests that their clients abandoned."""
    end = time.monotonic() + patience
    pause = 0.1
    before = cpu_seconds(pids)
    while time.monotonic() < end:
        time.sleep(pause)
        now = cpu_seconds(pids)
        if now - before <= 0.2 * pause:
            return
        before = now


def terminate(mark: str, patience: float = 10.0) -> None:
    """Terminate every process with the mark, and kill those that remain after `patience`."""
    _signal(marked_processes(mark), signal.SIGTERM)
    deadline = time.monotonic() + patience
    while pids := marked_processes(mark):
        if time.monotonic() > deadline:
            _signal(pids, signal.SIGKILL)
        time.sleep(0.05)
        if time.monotonic() > deadline + patience:
            raise RuntimeError(f"processes {pids} cannot be ended")


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
