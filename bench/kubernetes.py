"""Deploys to a cluster compared with `kubectl apply` of the same manifests.

    python -m bench.kubernetes

It measures deploys of one function whose image is pushed, with `fnbuild` and with `kubectl apply`
and `kubectl rollout status` in turns, until the first reply on the node port; twenty concurrent
deploys of different functions; the listing of 50 and of 500 functions; and the requests that
clients without retries lose during rollouts, ends of pods and changes of the node port. It uses
separate namespaces on the cluster of the kubeconfig. `--write` writes the tables into
docs/performance.md.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from .catalog import ROOT
from .cluster import (
    OBJECT,
    SLOW_POLL_INTERVAL,
    ClusterSetup,
    is_answering,
    kubectl,
    pods,
    wait_until,
)
from .containers import Timings
from .markdown import insert, table
from .steady_clients import SteadyClients

BEGIN = "<!-- kubernetes: begin -->"
END = "<!-- kubernetes: end -->"

_DOCUMENT = ROOT / "docs" / "performance.md"
_NODE_PORTS = range(30000, 32768)
_SIZES = (50, 500)
_LISTINGS = 5
_CONCURRENT_DEPLOYS = 20
# The number of replies to wait for before and after a disruption.
_ANSWERS = 100


@dataclass
class Loss:
    """The load during disruptions: sums, and the longest gap in seconds."""

    requests: int = 0
    lost: int = 0
    gap: float = 0.0
    reasons: set[str] = field(default_factory=set)

    @contextlib.contextmanager
    def watched(self, url: str) -> Iterator[SteadyClients]:
        """Send load from before the block until after it, and add it to the sums."""
        with SteadyClients(url) as clients:
            wait_until("the load", lambda: clients.answered.total() > _ANSWERS)
            yield clients
            enough = clients.answered.total() + _ANSWERS
            wait_until("load after it", lambda: clients.answered.total() > enough)
        self.requests += clients.total
        self.lost += clients.lost.total()
        self.gap = max(self.gap, clients.gap)
        self.reasons |= {text.partition(":")[0] for text in clients.lost}


def measure_deploys(site: ClusterSetup, rounds: int, say: Callable[[str], None]) -> Timings:
    """Measure first deploys, with fnbuild and by hand in turns."""
    figures = Timings()
    for number in range(rounds):
        figures.time("deploy", site.deploy)
        figures.time("deploy by hand", site.apply)
        site.remove()
        say(f"deploys: round {number + 1} of {rounds}")
    return figures


def measure_listings(site: ClusterSetup, say: Callable[[str], None]) -> Timings:
    """Time listings of functions and kubectl's listings of their Deployments."""
    figures = Timings()
    there = 0
    for size in _SIZES:
        site.fill(there, size)
        there = size
        for _ in range(_LISTINGS):
            figures.time(f"{size}", lambda: site.fnbuild("get", "functions"))
            figures.time(f"{size} by hand", lambda: kubectl("get", "deployments", "-n", site.own))
        say(f"{size} functions listed")
    site.clear()
    return figures


def measure_concurrent_deploys(site: ClusterSetup, say: Callable[[str], None]) -> float:
    """Return the duration of concurrent deploys until the last function answers."""
    began = time.monotonic()
    with ThreadPoolExecutor(_CONCURRENT_DEPLOYS) as pool:
        list(
            pool.map(lambda number: site.deploy(name=f"crowd-{number}"), range(_CONCURRENT_DEPLOYS))
        )
    seconds = time.monotonic() - began
    say(f"{_CONCURRENT_DEPLOYS} deploys at the same time: {seconds:.1f} s")
    site.clear()
    return seconds


def measure_losses(site: ClusterSetup, rounds: int, say: Callable[[str], None]) -> dict[str, Loss]:
    """Measure the loss by each disruption, with one replica and with two."""
    losses: dict[str, Loss] = {}
    for replicas in (1, 2):
        turns = _Disruptions(site, replicas)
        for disruption, happen in turns.happenings.items():
            name = f"{disruption}, {replicas} replica{'s'[: replicas - 1]}"
            loss = losses[name] = Loss()
            for _ in range(rounds):
                turns.take(happen, loss)
            say(f"{name}: {loss.lost} of {loss.requests} lost")
    return losses


class _Disruptions:
    """The disruptions of a function with a number of replicas."""

    def __init__(self, site: ClusterSetup, replicas: int) -> None:
        self._site = site
        self._replicas = replicas
        self._many = ("--replicas", str(replicas))
        self._url = site.deploy(*self._many)
        self.happenings: dict[str, Callable[[SteadyClients], None]] = {
            "a rollout": self._roll_out,
            "a pod is deleted": lambda _: self._end_pod(),
            "a pod is killed": lambda _: self._end_pod("--grace-period=0", "--force"),
            "the node port moves": self._move,
        }

    def take(self, happen: Callable[[SteadyClients], None], loss: Loss) -> None:
        """Cause the disruption under load, and wait until the state is stable."""
        with loss.watched(self._url) as clients:
            happen(clients)
            wait_until("calm", self._is_calm, SLOW_POLL_INTERVAL)

    def _is_calm(self) -> bool:
        path = "jsonpath={.status.readyReplicas}"
        ready = kubectl("get", "deployment", "-n", self._site.own, OBJECT, "-o", path)
        return int(ready or 0) == len(pods(self._site.own)) == self._replicas

    def _roll_out(self, _: SteadyClients) -> None:
        self._site.deploy(*self._many, "--env", f"TURN={time.time_ns()}")

    def _end_pod(self, *how: str) -> None:
        kubectl("delete", "-n", self._site.own, pods(self._site.own)[0], "--wait=false", *how)

    def _move(self, clients: SteadyClients) -> None:
        """Let callers use the new port as soon as it answers."""
        path = "jsonpath={.items[*].spec.ports[*].nodePort}"
        taken = set(kubectl("get", "services", "--all-namespaces", "-o", path).split())
        port = next(port for port in reversed(_NODE_PORTS) if str(port) not in taken)
        trigger = {"http": {"kind": "http", "attributes": {"port": port}}}
        arguments = (*self._many, "--triggers", json.dumps(trigger))
        thread = threading.Thread(target=self._site.deploy, args=arguments)
        thread.start()
        self._url = f"{self._url.rpartition(':')[0]}:{port}"
        wait_until("an answer on the new port", lambda: is_answering(self._url))
        clients.url = self._url
        thread.join()


def render(
    deploys: Timings, crowd: float, listings: Timings, losses: dict[str, Loss], rounds: int
) -> str:
    """Return the tables as Markdown."""
    now = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC"
    own, hand = deploys.median("deploy"), deploys.median("deploy by hand")
    first = [["first deploy, until the first answer", *_times(own, hand), f"{own - hand:+.2f} s"]]
    first.append(
        [
            f"{_CONCURRENT_DEPLOYS} deploys at the same time, until the last answer",
            *_times(crowd),
            "",
            "",
        ]
    )
    for size in _SIZES:
        own, hand = listings.median(f"{size}"), listings.median(f"{size} by hand")
        first.append([f"{size} functions listed", *_times(own, hand), f"{own - hand:+.2f} s"])
    second = [
        [
            disruption,
            str(loss.requests),
            str(loss.lost) + (f" ({', '.join(sorted(loss.reasons))})" if loss.lost else ""),
            f"{loss.gap:.2f} s",
        ]
        for disruption, loss in losses.items()
    ]
    return (
        f"Measured on {now} on {len(os.sched_getaffinity(0))} cores, medians of {rounds} rounds,"
        f" Kubernetes {_version()} with one node, load average {os.getloadavg()[2]:.1f}, by\n\n"
        f"```console\n$ python -m bench.kubernetes --rounds {rounds}\n```\n\n"
        + table(["", "fnbuild", "kubectl", "beyond it"], first)
        + "\nUnder load, in all rounds together:\n\n"
        + table(["", "requests", "lost", "longest time without an answer"], second)
    )


def _times(*seconds: float) -> list[str]:
    return [f"{value:.2f} s" for value in seconds]


def _version() -> str:
    return str(json.loads(kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"])


def main(arguments: list[str]) -> int:
    """Measure and print the tables; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.kubernetes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="put the tables into the document")
    options = parser.parse_args(arguments)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-kubernetes-"))
        site = stack.enter_context(ClusterSetup(Path(folder)).opened())
        deploys = measure_deploys(site, options.rounds, say)
        losses = measure_losses(site, options.rounds, say)
        crowd = measure_concurrent_deploys(site, say)
        listings = measure_listings(site, say)
    text = render(deploys, crowd, listings, losses, options.rounds)
    print(text)
    if options.write:
        insert(text, _DOCUMENT, BEGIN, END)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
