"""Throughput and latency: all servers of a workload run and are measured in turns, in short slices.

In a round, every server has one slice at every concurrency. The order is rotated by one each
round, so that other load on the machine affects all servers. Ratios are computed within a round.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import load, processes
from .catalog import Server
from .client import ask, find_wrong_replies
from .servers import RunningServer, StartError, running_server
from .workloads import Workload

Progress = Callable[[str], None]

_LONGER = 3


@dataclass(frozen=True)
class RoundPlan:
    """Durations and repetitions; `seconds` is the length of a slice of most workloads."""

    concurrency: tuple[int, ...]
    seconds: int
    rounds: int

    def length(self, workload: str) -> int:
        """Return the seconds of a slice: more for workloads with slow requests."""
        slow = workload.startswith("large") or workload == "tensor"
        return self.seconds * _LONGER if slow else self.seconds


def measure_rounds(
    servers: list[Server], workload: Workload, plan: RoundPlan, say: Progress
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """All slices as records, and the reasons of missing servers."""
    missing: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        up = []
        for server in servers:
            adapted = workload.for_server(server)
            if adapted is None:
                continue
            try:
                started = stack.enter_context(running_server(server, adapted))
                _check(started)
            except StartError as problem:
                missing[server.name] = str(problem)
                say(f"{workload.name}: {server.name} cannot be measured: {problem}")
            else:
                up.append(started)
        records = []
        for number in range(plan.rounds):
            for concurrency in plan.concurrency:
                turn = number % len(up) if up else 0
                for started in up[turn:] + up[:turn]:
                    record = _slice(started, concurrency, plan.length(workload.name))
                    records.append({**record, "round": number})
            say(f"{workload.name}: round {number + 1} of {plan.rounds}")
    return records, missing


def _check(started: RunningServer) -> None:
    if started.server.kind == "loop":
        return
    wrong = find_wrong_replies(started.url, started.workload)
    if wrong:
        raise StartError(f"{len(wrong)} wrong replies, such as: {wrong[0]}")


def _slice(started: RunningServer, concurrency: int, seconds: int) -> dict[str, Any]:
    """Measure one server for a few seconds. `void` is the reason if the figures are invalid."""
    pids = processes.marked_processes(started.mark)
    before = processes.cpu_seconds(pids)
    record: dict[str, Any] = {
        "server": started.server.name,
        "workload": started.workload.name,
        "concurrency": concurrency,
        "seconds": seconds,
        "load": os.getloadavg()[0],
    }
    if started.server.kind == "loop":
        parts = started.loop(seconds)
        busy = processes.cpu_seconds(pids) - before
        record.update(
            requests=sum(part["requests"] for part in parts),
            rate=sum(part["requests"] / part["seconds"] for part in parts),
            p50=max(part["p50"] for part in parts),
            p99=max(part["p99"] for part in parts),
        )
    else:
        sample = load.run(started.url, started.workload, concurrency, seconds)
        record.update(requests=sample.requests, rate=sample.rate, p50=sample.p50, p99=sample.p99)
        busy = processes.cpu_seconds(pids) - before
        processes.wait_until_idle(pids)
        void = _void_reason(started, sample)
        if void:
            record["void"] = void
    record["cpu_ms"] = busy * 1000.0 / record["requests"] if record["requests"] else None
    return record


def _void_reason(started: RunningServer, sample: load.Sample) -> str | None:
    if sample.errors:
        return ", ".join(f"{count} x {kind}" for kind, count in sample.errors.items())
    if not sample.requests:
        return "nothing was answered"
    payload = started.workload.payloads[0]
    try:
        status, reply = ask(started.url, started.workload, payload)
    except OSError as problem:
        return f"no reply after the load: {problem}"
    return None if status == 200 and reply == payload.expected else "a wrong reply after the load"
