"""Costs of a server other than requests, measured with each server alone.

These are the cold start, memory when idle and after many requests, CPU time when idle, and the time
to a new worker after one was killed.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from . import load, processes
from .catalog import Server
from .client import find_wrong_replies
from .servers import RunningServer, StartError, live_workers, running_server
from .workloads import Workload

_WARM_UP_CONCURRENCY = 8
_WARM_UP_SECONDS = 2
_WARM_UP_REQUESTS = 500
_IDLE_SECONDS = 1.0
_RESTART_TIMEOUT = 20.0
_POLL = 0.002


def measure_lifecycle(server: Server, workload: Workload) -> dict[str, Any]:
    """Start the server, measure it and stop it; return seconds and MiB, or `problem`."""
    record: dict[str, Any] = {"server": server.name, "workload": workload.name}
    try:
        with running_server(server, workload) as started:
            record["cold_start"] = started.cold_start
            _observe(started, record)
    except StartError as problem:
        record["problem"] = str(problem)
    return record


def _observe(started: RunningServer, record: dict[str, Any]) -> None:
    processes.wait_until_idle(started.pids)
    before = processes.cpu_seconds(started.pids)
    time.sleep(_IDLE_SECONDS)
    record["idle_cpu"] = (processes.cpu_seconds(started.pids) - before) / _IDLE_SECONDS
    record["pss_idle"] = processes.pss_mib(started.pids)
    if started.server.kind == "loop":
        started.loop(_WARM_UP_SECONDS)
    else:
        wrong = find_wrong_replies(started.url, started.workload)
        if wrong:
            raise StartError(f"{len(wrong)} wrong replies, such as: {wrong[0]}")
        _warm_up(started)
        processes.wait_until_idle(started.pids)
    record["processes"] = len(processes.marked_processes(started.mark))
    record["pss_loaded"] = processes.pss_mib(processes.marked_processes(started.mark))
    if started.server.kind != "loop":
        record["restart"] = _restart(started)


def _warm_up(started: RunningServer) -> None:
    answered = 0
    while answered < _WARM_UP_REQUESTS:
        sample = load.run(started.url, started.workload, _WARM_UP_CONCURRENCY, _WARM_UP_SECONDS)
        if not sample.requests or sample.errors:
            raise StartError(f"requests failed while warming up: {sample.errors}")
        answered += sample.requests


def _restart(started: RunningServer) -> float | None:
    """Kill one worker; return the seconds until another process is ready, or None without one."""
    before = live_workers(started)
    killed = time.monotonic()
    os.kill(min(before), signal.SIGKILL)
    while time.monotonic() < killed + _RESTART_TIMEOUT:
        new = [ready for pid, ready in started.signed().items() if pid not in before]
        if new:
            return min(new) - killed
        time.sleep(_POLL)
    return None
