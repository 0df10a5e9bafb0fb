"""A GPU group under load: three functions, of which each needs 60 % of the group's memory.

    python -m bench.gpu_groups --seconds 600 --clients 16

The budget is host memory. Clients call the functions in turn, and workers are killed among the
requests. An observer of its own reads from the kernel which models are loaded: every worker holds a
lock as long as it has its model. A request may fail only if its worker was killed, and two models
may never be loaded at once. The exit status is 1 if an expectation is violated.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import os
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from .sleep import Processor

_TIMEOUT = 300.0
_NAMES = ("detector", "segmenter", "tracker")
_SAMPLE_INTERVAL = 0.01
_SHARE = 0.6

_HANDLER = """
import fcntl
import os
import time


def init_context(context):
    context.user_data.loaded = open(os.environ["MODEL_LOCK"])
    fcntl.flock(context.user_data.loaded, fcntl.LOCK_SH)
    context.user_data.model = b"x" * int(os.environ["MODEL_SIZE"])
    time.sleep(float(os.environ["LOAD_SECONDS"]))


def handler(context, event):
    time.sleep(0.005)
    return event.body.decode()
"""


@dataclass
class GroupPlan:
    """The load. `kills` is the number of workers that are killed, `budget` is in MB."""

    seconds: float = 600.0
    clients: int = 16
    kills: int = 60
    budget: int = 100
    load_seconds: float = 0.2
    seed: int = 1


@dataclass
class GroupOutcome:
    """The result. `waits` are the seconds of each answered request, by function."""

    waits: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in _NAMES})
    lost: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    kills: int = 0
    swaps: int = 0
    samples: int = 0

    @property
    def all_waits(self) -> list[float]:
        """The waits of all functions."""
        return list(itertools.chain.from_iterable(self.waits.values()))

    def judge(self) -> list[str]:
        """Return a message for each violated expectation."""
        messages = list(self.violations)
        messages += [
            f"without a killed worker: {text}" for text in self.lost if "SIGKILL" not in text
        ]
        if len(self.lost) > self.kills:
            messages.append(f"{len(self.lost)} requests were lost for {self.kills} killed workers")
        messages += [
            f"no request of {name} was answered" for name in _NAMES if not self.waits[name]
        ]
        return messages


class GroupLoad:
    """Clients, a disturber that kills workers, and the observer of the loaded models."""

    def __init__(self, home: Path, plan: GroupPlan) -> None:
        self._plan = plan
        self._random = random.Random(plan.seed)  # noqa: S311 - not for cryptography
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._group = home / "group"
        self._group.mkdir()
        self._models = {name: home / f"{name}.loaded" for name in _NAMES}
        self._processors = {name: self._make(home, name) for name in _NAMES}
        self.outcome = GroupOutcome()

    def _make(self, home: Path, name: str) -> Processor:
        self._models[name].touch()
        budget = self._plan.budget * 1_000_000
        need = int(budget * _SHARE)
        processor = Processor(
            home / name,
            _HANDLER,
            1,
            MODEL_LOCK=str(self._models[name]),
            MODEL_SIZE=str(need),
            LOAD_SECONDS=str(self._plan.load_seconds),
        )
        group = {"name": "bench", "folder": str(self._group), "memory": budget, "need": need}
        processor.configure(function={"name": name}, sleep={"group": group})
        return processor

    def run(self) -> GroupOutcome:
        """Run the load; return the result."""
        with contextlib.ExitStack() as stack:
            observer = threading.Thread(target=self._observe)
            observer.start()
            stack.callback(observer.join)
            stack.callback(self._ended.set)
            for processor in self._processors.values():
                stack.enter_context(processor.running())
            clients = [
                threading.Thread(target=self._client, args=(number,))
                for number in range(self._plan.clients)
            ]
            for thread in clients:
                thread.start()
            self._disturb()
            self._ended.set()
            for thread in clients:
                thread.join()
            observer.join()
        return self.outcome

    def _disturb(self) -> None:
        pause = self._plan.seconds / (self._plan.kills + 1)
        for _ in range(self._plan.kills):
            time.sleep(pause)
            statuses = [processor.status() for processor in self._processors.values()]
            workers = [worker for status in statuses for worker in status["workers"]]
            pids = [worker["pid"] for worker in workers if worker["pid"]]
            with contextlib.suppress(ProcessLookupError, IndexError):
                os.kill(self._random.choice(pids), signal.SIGKILL)
                self.outcome.kills += 1
        time.sleep(pause)

    def _client(self, number: int) -> None:
        with contextlib.ExitStack() as stack:
            connections = {
                name: stack.enter_context(
                    contextlib.closing(
                        http.client.HTTPConnection("127.0.0.1", processor.port, timeout=_TIMEOUT)
                    )
                )
                for name, processor in self._processors.items()
            }
            for count in itertools.count(number):
                if self._ended.is_set():
                    return
                name = _NAMES[count % len(_NAMES)]
                self._send(connections[name], name, f"{number}-{count}")

    def _send(self, connection: http.client.HTTPConnection, name: str, body: str) -> None:
        began = time.monotonic()
        try:
            connection.request("POST", "/", body.encode())
            response = connection.getresponse()
            status, text = response.status, response.read().decode()
            woken = "wake;dur" in (response.getheader("Server-Timing") or "")
        except (OSError, http.client.HTTPException) as error:
            status, text, woken = 0, repr(error), False
            connection.close()
        seconds = time.monotonic() - began
        with self._lock:
            self.outcome.swaps += woken
            if status != 200:
                self.outcome.lost.append(f"{name}: {status} {text}")
            else:
                self.outcome.waits[name].append(seconds)
                if text != body:
                    self.outcome.violations.append(f"{body} got the reply {text}")

    def _observe(self) -> None:
        """Compare the loaded models with the budget until the load has ended."""
        inodes = {str(path.stat().st_ino): name for name, path in self._models.items()}
        while not self._ended.wait(_SAMPLE_INTERVAL):
            self.outcome.samples += 1
            # The kernel lists the locks in parts, so a change in between is confirmed.
            if len(_loaded(inodes)) > 1 and len(names := _loaded(inodes)) > 1:
                self.outcome.violations.append(f"loaded at once: {', '.join(sorted(names))}")


def _loaded(inodes: dict[str, str]) -> set[str]:
    """Return the models that workers have loaded, by the locks that the kernel lists."""
    fields = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    held = {words[5].rpartition(":")[2] for words in fields if words[1] == "FLOCK"}
    return {name for inode, name in inodes.items() if inode in held}


def run(plan: GroupPlan) -> GroupOutcome:
    """Run the load against functions of its own; return the result."""
    with tempfile.TemporaryDirectory() as home:
        return GroupLoad(Path(home), plan).run()


def main() -> int:
    """Run the load of the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name, value in vars(GroupPlan()).items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=type(value), default=value)
    plan = GroupPlan(**vars(parser.parse_args()))
    outcome = run(plan)
    waits = outcome.all_waits
    violations = outcome.judge()
    print(
        f"{len(waits)} requests answered in {plan.seconds:g} s by {plan.clients} clients,"
        f" {outcome.kills} workers killed, {len(outcome.lost)} requests lost with them"
    )
    print(
        f"wait: median {statistics.median(waits):.2f} s, worst {max(waits):.2f} s ("
        + ", ".join(f"{name} {max(each):.2f}" for name, each in outcome.waits.items() if each)
        + f"); {outcome.swaps} requests waited for a wake"
    )
    print(f"violations: {len(violations)} ({outcome.samples} samples of the loaded models)")
    for text in violations[:20]:
        print(text)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
