"""Load on one server for a short time: wrk, or the built-in client if wrk is missing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from urllib.parse import urlsplit

from .catalog import FOLDER
from .forms import GRPC_SCHEME
from .workloads import Workload

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


def run(url: str, workload: Workload, concurrency: int, seconds: int) -> Sample:
    """Send the timed body over `concurrency` connections, each one request at a time."""
    if urlsplit(url).scheme == GRPC_SCHEME:
        command = [sys.executable, str(FOLDER / "apps" / "grpc_client.py")]
        command += [urlsplit(url).netloc, str(concurrency), str(seconds)]
    elif shutil.which("wrk"):
        command = ["wrk", "-t", "1", "-c", str(concurrency), "-d", f"{seconds}s"]
        command += ["--timeout", _TIMEOUT, "-s", str(FOLDER / "load.lua"), url]
    else:
        command = [sys.executable, str(FOLDER / "apps" / "load_client.py")]
        command += [url, str(concurrency), str(seconds)]
    headers = "\n".join(f"{name}: {value}" for name, value in workload.payloads[0].headers)
    body = {"BENCH_BODY": str(workload.body_file), "BENCH_HEADERS": headers}
    done = subprocess.run(
        command,
        env={**os.environ, **body},
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
