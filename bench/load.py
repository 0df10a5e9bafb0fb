"""Load on one server for a short time: wrk, or the built-in client if wrk is missing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .catalog import FOLDER

_TIMEOUT = "60s"


@dataclass(frozen=True)
class Sample:
    """The figures of a slice: latencies in ms, and the number of errors by kind."""

    requests: int
    seconds: float
    p50: float
    p99: float
    errors: dict[str, int]

    @property
    def rate(self) -> float:
        """Return the requests per second."""
        return self.requests / self.seconds if self.seconds else 0.0


def generator() -> str:
    """Return the load generator's name."""
    return "wrk" if shutil.which("wrk") else "own client (wrk is not installed; figures are lower)"


def run(url: str, body_file: Path, concurrency: int, seconds: int) -> Sample:
    """POST the body over `concurrency` kept-alive connections, each one request at a time."""
    if shutil.which("wrk"):
        command = ["wrk", "-t", "1", "-c", str(concurrency), "-d", f"{seconds}s"]
        command += ["--timeout", _TIMEOUT, "-s", str(FOLDER / "load.lua"), url]
    else:
        command = [sys.executable, str(FOLDER / "apps" / "load_client.py")]
        command += [url, str(concurrency), str(seconds)]
    done = subprocess.run(
        command,
        env={**os.environ, "BENCH_BODY": str(body_file)},
        capture_output=True,
        text=True,
        timeout=seconds + 120,
        check=False,
    )
    if done.returncode != 0:
        return Sample(0, 0.0, 0.0, 0.0, {"generator": 1})
    return parse(done.stdout)


def parse(text: str) -> Sample:
    """Return the last line of a generator's output."""
    values = json.loads(text.strip().splitlines()[-1])
    errors = {kind: count for kind, count in values["errors"].items() if count}
    return Sample(values["requests"], values["seconds"], values["p50"], values["p99"], errors)
