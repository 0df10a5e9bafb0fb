"""Sleep and wake: what a sleeping function costs, what a wake adds, and requests in between.

    python -m bench.sleep --requests 10000 --sleeps 500 --kills 100
    python -m bench.sleep --requests 0

First, functions with and without a template sleep and wake: the memory of the sleeping processes,
and the time of a request that wakes, compared with the `init_context` of its handler. Then clients
send requests to a function that falls asleep at random moments and whose workers are killed. A
request may fail only if its worker was killed, and no request may be handled twice. The exit status
is 1 if an expectation is violated.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fnbuild.builder import sdk

from . import processes

_TIMEOUT = 120.0
# The goals: memory beyond the template, and without one, in MiB; seconds that a wake adds.
_MEMORY, _MEMORY_ALONE = 40.0, 30.0
_ADDED, _ADDED_ALONE = 0.15, 0.3
_WAKES = 5

_SOAK = """
import os
import time


def init_context(context):
    time.sleep(0.01)


def handler(context, event):
    with open("handled", "ab", 0) as file:
        file.write(event.body + b"\\n")
    return event.body.decode() + " " + str(os.getpid())
"""
_LOADING = """
import time

began = time.monotonic()
import {module}
imported = time.monotonic() - began


def init_context(context):
    began = time.monotonic()
    time.sleep({seconds})
    context.user_data.model = bytearray({size})
    context.user_data.seconds = time.monotonic() - began


def handler(context, event):
    return "%.4f %.4f" % (imported, context.user_data.seconds)
"""


class Processor:
    """A processor of its own for one handler, controlled over its socket."""

    def __init__(self, home: Path, source: str, workers: int, **env: str) -> None:
        self.code = home / "code"
        self.code.mkdir(parents=True)
        (self.code / "main.py").write_text(source)
        self._control = home / "control"
        self._mark = f"sleep-{os.getpid()}-{home.name}"
        self._home = home
        self.port = 0
        self._config: dict[str, Any] = {
            "function": {"name": "sleeper"},
            "handler": "main:handler",
            "code": str(self.code),
            "env": env,
            "sdk_path": str(sdk.ensure_sdk((*sys.version_info[:2], 0))),
            "triggers": {
                "http": {"kind": "http", "num_workers": workers, "availability_timeout_ms": 30000}
            },
        }

    def configure(self, **settings: Any) -> None:
        """Set keys of the configuration, before the start."""
        self._config.update(settings)

    @contextlib.contextmanager
    def running(self) -> Iterator[Processor]:
        """Run the processor until the block ends."""
        server = socket.create_server(("127.0.0.1", 0), backlog=128)
        with server as listener, (self._home / "log").open("wb") as log:
            self.port = listener.getsockname()[1]
            listeners = {"http": {"fd": listener.fileno()}, "control": str(self._control)}
            path = self._home / "processor.json"
            path.write_text(json.dumps({**self._config, "listeners": listeners}))
            process = subprocess.Popen(
                [sys.executable, "-m", "fnbuild.runtime.processor", "--config", path],
                pass_fds=[listener.fileno()],
                env={**os.environ, processes.MARK: self._mark},
                stdout=log,
                stderr=log,
            )
        try:
            self._await("ready")
            yield self
        finally:
            process.terminate()
            process.wait(30)

    def _await(self, state: str) -> None:
        end = time.monotonic() + _TIMEOUT
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                if self.status()["state"] == state:
                    return
            time.sleep(0.02)
        raise TimeoutError((self._home / "log").read_text())

    def tell(self, method: str, path: str) -> tuple[int, Any]:
        """Send a request to the control socket; return status and value of the answer."""
        connection = _ControlConnection(self._control)
        with contextlib.closing(connection):
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    def status(self) -> dict[str, Any]:
        """Return the processor's status."""
        value: dict[str, Any] = self.tell("GET", "/status")[1]
        return value

    def sleep(self) -> bool:
        """Put the workers to sleep; return False if requests in hand prevented it."""
        return self.tell("POST", "/sleep")[0] == 200

    def request(self, body: bytes = b"") -> tuple[bytes, float]:
        """Send a request; return the reply and the duration in seconds."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT)
        began = time.monotonic()
        with contextlib.closing(connection):
            connection.request("POST", "/", body)
            return connection.getresponse().read(), time.monotonic() - began

    def memory(self) -> tuple[float, float]:
        """Return the memory of all processes, and that of the template, in MiB."""
        template = self.status()["start"]["template"]
        everything = processes.pss_mib(processes.marked_processes(self._mark))
        return everything, processes.pss_mib([template]) if template else 0.0


class _ControlConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("processor", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_TIMEOUT)
        self.sock.connect(str(self._path))


@dataclass
class SleepCosts:
    """Memory in MiB and times in seconds of a function with two workers.

    `added` is the median time that a waking request needs in addition to `init_context` and,
    without a template, to the imports.
    """

    name: str
    template: bool
    awake: float
    asleep: float
    beyond_template: float
    added: float

    def violations(self) -> list[str]:
        """Return a message for each goal that is missed."""
        memory = _MEMORY if self.template else _MEMORY_ALONE
        added = _ADDED if self.template else _ADDED_ALONE
        missed = []
        if self.beyond_template > memory:
            missed.append(f"{self.name}: {self.beyond_template:.1f} MiB asleep, at most {memory:g}")
        if self.added > added:
            missed.append(f"{self.name}: a wake adds {self.added:.3f} s, at most {added:g}")
        return missed


def measure(home: Path, module: str, template: bool, init_seconds: float = 0.5) -> SleepCosts:
    """Measure a function that imports the module and loads 200 MB."""
    source = _LOADING.format(module=module, seconds=init_seconds, size=200_000_000)
    env = {} if template else {"FNBUILD_START": "spawn"}
    with Processor(home, source, 2, **env).running() as processor:
        processor.request()
        awake, _ = processor.memory()
        added = []
        for _ in range(_WAKES):
            assert processor.sleep()
            reply, seconds = processor.request()
            imported, loaded = map(float, reply.split())
            added.append(seconds - loaded - (0.0 if template else imported))
        assert processor.sleep()
        asleep, of_template = processor.memory()
    name = f"{module}, {'template' if template else 'no template'}"
    return SleepCosts(name, template, awake, asleep, asleep - of_template, statistics.median(added))


@dataclass
class SleepPlan:
    """The load: at least that many requests and sleeps, with workers killed among them."""

    requests: int = 10000
    sleeps: int = 500
    kills: int = 100
    clients: int = 32
    workers: int = 4
    seed: int = 1


@dataclass
class SleepOutcome:
    """The result. `lost` are the bodies of failed replies, `violations` unexpected events."""

    requests: int = 0
    sleeps: int = 0
    kills: int = 0
    seconds: float = 0.0
    lost: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def judge(self) -> list[str]:
        """Return a message for each violated expectation."""
        problems = list(self.violations)
        problems += [
            f"without a killed worker: {text}" for text in self.lost if "SIGKILL" not in text
        ]
        if len(self.lost) > self.kills:
            problems.append(f"{len(self.lost)} requests were lost for {self.kills} killed workers")
        return problems


class Soak:
    """Clients with requests, and a disturber that puts workers to sleep and kills them."""

    def __init__(self, processor: Processor, plan: SleepPlan) -> None:
        self._processor = processor
        self._plan = plan
        self._random = random.Random(plan.seed)  # noqa: S311 - not for cryptography
        self._lock = threading.Lock()
        self._running = threading.Event()
        self._running.set()
        self._ended = threading.Event()
        self._active = 0
        self.outcome = SleepOutcome()

    def run(self) -> SleepOutcome:
        """Run until the plan is fulfilled; return the result."""
        began = time.monotonic()
        clients = [
            threading.Thread(target=self._client, args=(number,))
            for number in range(self._plan.clients)
        ]
        for thread in clients:
            thread.start()
        try:
            self._disturb()
        finally:
            self._ended.set()
            self._running.set()
            for thread in clients:
                thread.join()
        self.outcome.seconds = time.monotonic() - began
        handled = (self._processor.code / "handled").read_text().split()
        if len(handled) != len(set(handled)):
            self.outcome.violations.append("requests were handled twice")
        return self.outcome

    def _disturb(self) -> None:
        outcome, plan = self.outcome, self._plan
        while (
            outcome.requests < plan.requests
            or outcome.sleeps < plan.sleeps
            or outcome.kills < plan.kills
        ):
            time.sleep(self._random.random() * 0.05)
            if outcome.kills < plan.kills and self._random.random() < 0.3:
                self._kill()
                continue
            # A sleep begins when no request is in hand; the next arrive at any time after that.
            self._running.clear()
            while self._active:
                time.sleep(0.001)
            resume = threading.Timer(self._random.random() * 0.1, self._running.set)
            resume.start()
            outcome.sleeps += self._processor.sleep()
            resume.join()

    def _kill(self) -> None:
        pids = [worker["pid"] for worker in self._processor.status()["workers"] if worker["pid"]]
        if pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._random.choice(pids), signal.SIGKILL)
                self.outcome.kills += 1

    def _client(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._processor.port, timeout=_TIMEOUT)
        with contextlib.closing(connection):
            for count in itertools.count(1):
                self._running.wait()
                if self._ended.is_set():
                    return
                self._send(connection, f"{number}-{count}")

    def _send(self, connection: http.client.HTTPConnection, name: str) -> None:
        with self._lock:
            self._active += 1
        try:
            connection.request("POST", "/", name.encode())
            response = connection.getresponse()
            status, body = response.status, response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            status, body = 0, repr(error)
            connection.close()
        with self._lock:
            self._active -= 1
            self.outcome.requests += 1
            if status != 200:
                self.outcome.lost.append(f"{status} {body}")
            elif body.split()[0] != name:
                self.outcome.violations.append(f"{name} got the reply {body}")


def run(plan: SleepPlan) -> SleepOutcome:
    """Run the load against a function of its own; return the result."""
    with tempfile.TemporaryDirectory() as home:
        processor = Processor(Path(home) / "soak", _SOAK, plan.workers)
        with processor.running():
            return Soak(processor, plan).run()


def main() -> int:
    """Run the measurements and the load of the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    defaults = SleepPlan()
    for name in ("requests", "sleeps", "kills", "clients", "workers", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(defaults, name))
    parser.add_argument("--modules", default="numpy", help="comma-separated; default: numpy")
    arguments = vars(parser.parse_args())
    violations: list[str] = []
    for module in filter(None, arguments.pop("modules").split(",")):
        for template in (True, False):
            with tempfile.TemporaryDirectory() as home:
                costs = measure(Path(home) / "costs", module, template)
            print(
                f"{costs.name}: {costs.awake:.0f} MiB awake, {costs.asleep:.1f} asleep"
                f" ({costs.beyond_template:.1f} beyond the template);"
                f" a wake adds {costs.added:.3f} s",
                flush=True,
            )
            violations += costs.violations()
    if arguments["requests"]:
        outcome = run(SleepPlan(**arguments))
        print(
            f"{outcome.requests} requests in {outcome.seconds:.0f} s, {outcome.sleeps} sleeps,"
            f" {outcome.kills} workers killed, {len(outcome.lost)} requests lost with them"
        )
        violations += outcome.judge()
    for text in violations[:20]:
        print(text)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
