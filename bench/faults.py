"""Faults under load: workers killed at random, redeploys in between, or only time.

    python -m bench.faults --requests 100000 --kills 200 --redeploys 20
    python -m bench.faults --minutes 30 --kills 0 --redeploys 0

A function on the process platform, in a separate data directory, gets mixed requests. A request
may fail only if its worker was killed, and its reply must have this reason. Without kills and
redeploys, the memory of all processes must stay constant. The exit status is 1 if an expectation
is violated.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from . import processes

NAME = "under-fault"
_CONFIG = f"""
metadata: {{name: {NAME}}}
spec:
  handler: main:handler
  runtime: "python:3.11"
  triggers:
    http: {{kind: http, numWorkers: %d}}
"""
_HANDLER = """
VERSION = %d


def handler(context, event):
    headers = {"X-Version": VERSION}
    return context.Response(body=event.body, headers=headers, content_type=event.content_type)
"""
# Sizes of bodies and their frequencies.
_SIZES = (20, 2_000, 40_000, 300_000, 1_500_000)
_WEIGHTS = (60, 20, 13, 5, 2)
_TIMEOUT = 30.0
# The growth of memory that is allowed: a share, and MiB in addition.
_GROWTH = 0.05
_SLACK = 2.0


@dataclass
class FaultPlan:
    """The faults to inject, during at least `requests` requests or `seconds` seconds."""

    requests: int = 0
    seconds: float = 0.0
    kills: int = 0
    redeploys: int = 0
    workers: int = 3
    clients: int = 6
    seed: int = 1


@dataclass
class FaultResult:
    """The result. `failures` are bodies of failed replies, `violations` unexpected events."""

    requests: int = 0
    kills: int = 0
    redeploys: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    def judge(self, steady: bool) -> list[str]:
        """Return a message for each violated expectation."""
        violations = list(dict.fromkeys(self.violations))
        violations += [f"without a killed worker: {f}" for f in self.failures if "SIGKILL" not in f]
        if len(self.failures) > self.kills:
            violations.append(
                f"{len(self.failures)} requests failed for {self.kills} killed workers"
            )
        if steady and len(self.memory) >= 6:
            third = len(self.memory) // 3
            first = statistics.median(self.memory[:third])
            last = statistics.median(self.memory[-third:])
            if last > first * (1 + _GROWTH) + _SLACK:
                violations.append(f"memory went from {first:.1f} to {last:.1f} MiB")
        return violations


class FunctionUnderTest:
    """The function under test: deployed, observed, deployed again."""

    def __init__(self, home: Path, workers: int, config: str, handler: str) -> None:
        self.data = home / "data"
        self._handler = handler
        self._folder = home / "code"
        self._folder.mkdir()
        (self._folder / "function.yaml").write_text(config % workers)
        self.version = self.port = self.grpc_port = self._admin_port = 0

    def start(self) -> None:
        """Deploy the first version, and find its ports."""
        self.deploy()
        details = json.loads(self._fnbuild("get", "function", NAME, "-o", "json"))["status"]
        self.port = int(details["httpPort"])
        self.grpc_port = int(details.get("grpcPort") or 0)
        self._admin_port = int(details["details"]["admin_port"])

    def deploy(self) -> None:
        """Write the next version and deploy it."""
        (self._folder / "main.py").write_text(self._handler % (self.version + 1))
        self._fnbuild("deploy", "--path", str(self._folder))
        self.version += 1

    def pids(self) -> list[int]:
        """Return the workers that serve."""
        url = f"http://127.0.0.1:{self._admin_port}/status"
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as reply:
            workers = json.load(reply)["workers"]
        return [worker["pid"] for worker in workers if worker["state"] in ("ready", "busy")]

    def memory(self) -> float:
        """Return the PSS of all its processes in MiB."""
        return processes.pss_mib(processes.marked_processes(str(self.data), "FNBUILD_DATA_DIR"))

    def end(self) -> None:
        self._fnbuild("down")

    def _fnbuild(self, *arguments: str) -> str:
        program = Path(sys.executable).with_name("fnbuild")
        environment = {**os.environ, "FNBUILD_DATA_DIR": str(self.data)}
        done = subprocess.run(
            [program, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"fnbuild {' '.join(arguments)}: {done.stderr}")
        return done.stdout


class MixedLoad:
    """Clients that send mixed requests over persistent connections, and check every reply.

    `config` and `handler` are the function, with places for the numbers of workers and version.
    """

    config = _CONFIG
    handler = _HANDLER

    def __init__(self, function: FunctionUnderTest, plan: FaultPlan, outcome: FaultResult) -> None:
        self.function = function
        self._plan = plan
        self._outcome = outcome
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._last = threading.Event()
        numbers = range(plan.clients)
        self._threads = [threading.Thread(target=self.run_client, args=(n,)) for n in numbers]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Continue to the end of the plan."""
        self._last.set()
        for thread in self._threads:
            thread.join()

    @property
    def progress(self) -> float:
        """The completed share of the plan, from 0 to 1."""
        plan = self._plan
        if plan.requests:
            return self._outcome.requests / plan.requests
        return (time.monotonic() - self._began) / plan.seconds

    @property
    def is_over(self) -> bool:
        return self.progress >= 1.0 and self._last.is_set()

    def make_random(self, number: int) -> random.Random:
        """Return the random numbers of a client."""
        return random.Random(self._plan.seed * 1000 + number)  # noqa: S311 - no secret

    def run_client(self, number: int) -> None:
        """Send requests until the load is over."""
        rng = self.make_random(number)
        connection = self.connect()
        seen = 0
        while not self.is_over:
            body = rng.randbytes(16) * (rng.choices(_SIZES, _WEIGHTS)[0] // 16 + 1)
            try:
                seen = max(seen, self._ask(connection, body, seen))
            except (OSError, http.client.HTTPException) as problem:
                self.report(f"no reply: {problem!r}")
                connection.close()
                connection = self.connect()
        connection.close()

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection to the function."""
        return http.client.HTTPConnection("127.0.0.1", self.function.port, timeout=_TIMEOUT)

    def _ask(self, connection: http.client.HTTPConnection, body: bytes, seen: int) -> int:
        """Send one request; return the version that answered it."""
        headers = {"Content-Type": "application/octet-stream"}
        connection.request("POST", "/", body, headers)
        response = connection.getresponse()
        reply = response.read()
        self.count()
        if response.status != 200:
            self.count_failure(reply.decode("utf-8", "replace"))
        elif reply != body:
            self.report("a reply is not what was sent")
        version = int(response.headers.get("X-Version", seen))
        self.check_version(version)
        return version

    def check_version(self, version: int) -> None:
        """Report a version that was replaced before the last deploy began."""
        if version < self.function.version - 1:
            self.report("a version before the last one answered")

    def count(self) -> None:
        """Count a request that was answered."""
        with self._lock:
            self._outcome.requests += 1

    def count_failure(self, message: str) -> None:
        """Count a request that failed; the message has the reason."""
        with self._lock:
            self._outcome.failures.append(message)

    def report(self, problem: str) -> None:
        """Record an unexpected event."""
        with self._lock:
            self._outcome.violations.append(problem)


def run(
    plan: FaultPlan,
    say: Callable[[str], None] = lambda _text: None,
    load_class: type[MixedLoad] = MixedLoad,
) -> FaultResult:
    """Carry out the plan."""
    outcome = FaultResult()
    with _deployed_function(plan.workers, load_class) as function:
        load = load_class(function, plan, outcome)
        began = time.monotonic()
        load.start()
        steps = [
            threading.Thread(target=_kill, args=(function, load, plan, outcome)),
            threading.Thread(target=_redeploy, args=(function, load, plan, outcome, say)),
            threading.Thread(target=_sample_memory, args=(function, load, outcome)),
        ]
        for step in steps:
            step.start()
        for step in steps:
            step.join()
        load.end()
        outcome.seconds = time.monotonic() - began
    return outcome


@contextlib.contextmanager
def _deployed_function(workers: int, load: type[MixedLoad]) -> Iterator[FunctionUnderTest]:
    with tempfile.TemporaryDirectory(prefix="faults-") as home:
        function = FunctionUnderTest(Path(home), workers, load.config, load.handler)
        try:
            function.start()
            yield function
        finally:
            function.end()


def _turns(count: int, load: MixedLoad) -> Iterator[int]:
    """Yield that number of turns, spread evenly over the load."""
    for number in range(count):
        while load.progress < (number + 0.5) / count:
            time.sleep(0.005)
        yield number


def _kill(
    function: FunctionUnderTest, load: MixedLoad, plan: FaultPlan, outcome: FaultResult
) -> None:
    rng = random.Random(plan.seed)  # noqa: S311 - no secret
    for _ in _turns(plan.kills, load):
        while not _kill_one(function, rng):
            time.sleep(0.01)
        outcome.kills += 1


def _kill_one(function: FunctionUnderTest, rng: random.Random) -> bool:
    """Kill a worker; return False if none runs, since a redeploy may have ended them."""
    pids = function.pids()
    if not pids:
        return False
    try:
        os.kill(rng.choice(pids), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _redeploy(
    function: FunctionUnderTest,
    load: MixedLoad,
    plan: FaultPlan,
    outcome: FaultResult,
    say: Callable[[str], None],
) -> None:
    for number in _turns(plan.redeploys, load):
        try:
            function.deploy()
        except RuntimeError as problem:
            outcome.violations.append(str(problem))
        else:
            outcome.redeploys += 1
        say(f"redeploy {number + 1} of {plan.redeploys} at {outcome.requests} requests")


def _sample_memory(function: FunctionUnderTest, load: MixedLoad, outcome: FaultResult) -> None:
    # The first samples are from processes that are still warming up.
    while load.progress < 0.1:
        time.sleep(0.02)
    following = 0.1
    while load.progress < 1.0:
        if load.progress >= following:
            outcome.memory.append(function.memory())
            following = load.progress + 0.02
        time.sleep(0.02)


def main(arguments: list[str]) -> int:
    """Run the plan and print the outcome; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, help="instead of a number of requests")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--redeploys", type=int, default=20)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    plan = FaultPlan(
        requests=0 if options.minutes else options.requests,
        seconds=(options.minutes or 0.0) * 60,
        kills=options.kills,
        redeploys=options.redeploys,
        workers=options.workers,
        seed=options.seed,
    )
    outcome = run(plan, lambda text: print(text, file=sys.stderr, flush=True))
    return print_outcome(plan, outcome)


def print_outcome(plan: FaultPlan, outcome: FaultResult) -> int:
    """Print the outcome and its violations; return the exit status."""
    faults = outcome.judge(steady=not plan.kills and not plan.redeploys)
    print(
        f"{outcome.requests} requests in {outcome.seconds:.0f} s, {outcome.kills} workers killed, "
        f"{outcome.redeploys} redeploys, {len(outcome.failures)} requests failed; memory "
        f"{outcome.memory[0] if outcome.memory else 0:.1f} MiB at first, "
        f"{outcome.memory[-1] if outcome.memory else 0:.1f} at last"
    )
    for fault in faults:
        print(f"WRONG: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
