"""Batches of a model whose call with 8 requests takes twice the time of a call with one.

    python -m bench.batching

It measures requests per second and latency at several concurrencies: of fnbuild without batches,
with those of Nuclio's mode (`enable`) and with adaptive ones, and of peers with batches of the same
size. Each server has one worker. The servers are measured in turns. `--write` writes the table into
docs/performance.md.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from . import load
from .catalog import ROOT, SHARED, Server, load_catalog
from .client import find_wrong_replies
from .environments import environment_problem
from .load import Sample
from .markdown import insert, table
from .servers import RunningServer, StartError, running_server
from .workloads import Payload, Workload

BEGIN = "<!-- batching: begin -->"
END = "<!-- batching: end -->"
GOAL_RATIO = 3.0
GOAL_CONCURRENCY = 32

_DOCUMENT = ROOT / "docs" / "performance.md"
_NONE, _ADAPTIVE = "none", "adaptive"
_OWN = ("{own_python}", "{apps}/processor_start.py", "{own_python}")
_LITSERVE = ("{python}", "{apps}/batching_litserve.py")
_BENTOML = ("{bin}/bentoml", "serve", "batching_bentoml:Bench")
_BENTOML += ("--host", "127.0.0.1", "--port", "{port}")


def _server(
    name: str, title: str, command: tuple[str, ...], environment: str = SHARED, path: str = "/"
) -> Server:
    return Server(name, title, environment, command, path=path, workers=1)


SERVERS = (
    _server(_NONE, "fnbuild without batches", (*_OWN, "disable")),
    _server("enable", "fnbuild, `enable`, `timeout: 20ms`", (*_OWN, "enable", "8", "0.02")),
    _server(_ADAPTIVE, "fnbuild, `adaptive`", (*_OWN, "adaptive", "8", "0.02")),
    _server("litserve", "litserve, no time-out", (*_LITSERVE, "8", "0"), path="/predict"),
    _server("litserve-20", "litserve, time-out 20 ms", (*_LITSERVE, "8", "0.02"), path="/predict"),
    _server("bentoml", "bentoml, adaptive", _BENTOML, "bentoml", "/predict"),
)
WORKLOAD = Workload(
    "batched",
    tuple(Payload(b'{"number": %d}' % number, {"number": number + 1}) for number in range(4)),
)


def workload_of(server: Server) -> Workload:
    """Return the workload in the form that the server reads."""
    if server.name != "bentoml":
        return WORKLOAD
    payloads = tuple(
        Payload(b'{"values": [%s]}' % payload.body, [payload.expected])
        for payload in WORKLOAD.payloads
    )
    return Workload("batched-list", payloads)


@dataclass
class Figures:
    """The slices of each server by concurrency, and why servers are missing."""

    samples: dict[tuple[str, int], list[Sample]] = field(default_factory=lambda: defaultdict(list))
    missing: dict[str, str] = field(default_factory=dict)

    def rate(self, server: str, concurrency: int) -> float:
        """Return the median of the requests per second."""
        return statistics.median(s.rate for s in self.samples[server, concurrency])

    def ratio(self, server: str, concurrency: int) -> float:
        """Return the median of the rates in relation to those without batches in the same round."""
        pairs = zip(
            self.samples[server, concurrency], self.samples[_NONE, concurrency], strict=True
        )
        return statistics.median(sample.rate / other.rate for sample, other in pairs)

    def p50(self, server: str, concurrency: int) -> float:
        """Return the median of the latencies in ms."""
        return statistics.median(s.p50 for s in self.samples[server, concurrency])


def measure(concurrencies: list[int], seconds: int, rounds: int, names: list[str]) -> Figures:
    """Run all servers and measure them in turns."""
    figures = Figures()
    with contextlib.ExitStack() as stack:
        running: list[RunningServer] = []
        for server in SERVERS:
            if server.name in names:
                try:
                    running.append(stack.enter_context(_checked_server(server)))
                except StartError as error:
                    figures.missing[server.title] = str(error)
        for number in range(rounds):
            for concurrency in concurrencies:
                for started in running:
                    sample = load.run(started.url, started.workload, concurrency, seconds)
                    if sample.errors:
                        raise StartError(f"{started.server.name}: {sample.errors}")
                    figures.samples[started.server.name, concurrency].append(sample)
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return figures


@contextlib.contextmanager
def _checked_server(server: Server) -> Iterator[RunningServer]:
    """Yield the server; raise StartError if it cannot be started or its replies are wrong."""
    is_own = server.command[0] == "{own_python}"
    environment = load_catalog().environments[server.environment]
    problem = None if is_own else environment_problem(environment)
    if problem is not None:
        raise StartError(problem)
    with running_server(server, workload_of(server)) as started:
        if wrong := find_wrong_replies(started.url, started.workload):
            raise StartError(f"wrong replies: {wrong[0]}")
        yield started


def render(figures: Figures, concurrencies: list[int], command: str) -> str:
    """Return the tables as Markdown."""
    heads = ["server", *(f"c {concurrency}" for concurrency in concurrencies)]
    heads += [f"p50 ms, c {concurrency}" for concurrency in concurrencies]
    rows = []
    for server in SERVERS:
        if (server.name, concurrencies[0]) not in figures.samples:
            continue
        cells = [
            f"{figures.rate(server.name, c):.0f} ({figures.ratio(server.name, c):.2f})"
            for c in concurrencies
        ]
        cells += [f"{figures.p50(server.name, c):.1f}" for c in concurrencies]
        rows.append([server.title, *cells])
    now = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC"
    cores, busy = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    lines = [
        f"Measured on {now} on {cores} cores, load average {busy:.1f} at the end, by\n",
        f"```console\n$ {command}\n```\n",
        "Requests per second, in brackets in relation to those without batches:\n",
        table(heads, rows),
        *(f"Not measured: {title}: {reason}\n" for title, reason in figures.missing.items()),
    ]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Measure and print the table; return 1 if the goals are missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.batching", description=__doc__)
    parser.add_argument("--concurrency", default="1,2,8,32")
    parser.add_argument("--seconds", type=int, default=4, help="length of one slice of load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--servers", default=",".join(server.name for server in SERVERS))
    parser.add_argument("--write", action="store_true", help="put the table into the document")
    options = parser.parse_args(arguments)
    concurrencies = [int(text) for text in options.concurrency.split(",")]
    names = options.servers.split(",")
    figures = measure(concurrencies, options.seconds, options.rounds, names)
    command = " ".join(["python -m bench.batching", *(a for a in arguments if a != "--write")])
    text = render(figures, concurrencies, command)
    print(text)
    if options.write:
        insert(text, _DOCUMENT, BEGIN, END)
    if GOAL_CONCURRENCY not in concurrencies:
        return 0
    return 0 if figures.ratio(_ADAPTIVE, GOAL_CONCURRENCY) >= GOAL_RATIO else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
