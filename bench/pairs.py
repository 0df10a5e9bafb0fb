"""Compare two source trees on real images: CPU time and latency of one request, in pairs.

    python -m bench.pairs BEFORE AFTER

Each tree has the package fnbuild. Both serve the same function, with one worker, at the same time;
short slices of requests are sent to both in turns, so that a busy machine affects both
equally. The images are a photograph in two sizes, as base64 of a JPEG in JSON, as CVAT sends them.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import io
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from .catalog import FOLDER, ROOT

SIZES = ((640, 480), (1920, 1080))
# The folder of each function, and its requests in a slice by size of the picture.
FUNCTIONS = {
    "detector": (FOLDER / "detector", (10, 3)),
    "face-haar": (ROOT / "functions" / "opencv" / "face-haar", (1, 1)),
}
_START_SECONDS = 60.0


@dataclass(frozen=True)
class Cost:
    """Microseconds of one request: CPU of the processor and of its worker, and elapsed time."""

    processor: float
    worker: float
    wall: float

    @property
    def cpu(self) -> float:
        return self.processor + self.worker


class Server:
    """A processor with one worker."""

    def __init__(self, tree: Path, function: Path, folder: Path) -> None:
        config = folder / "processor.json"
        control = folder / "control.sock"
        command = [sys.executable, "-m", "fnbuild.runtime.processor", "--config", str(config)]
        env = {**os.environ, "PYTHONPATH": str(tree), "FNBUILD_START": "spawn"}
        with socket.create_server(("127.0.0.1", 0)) as listener:
            trigger = {"kind": "http", "attributes": {"maxRequestBodySize": 1 << 25}}
            text = json.dumps(
                {
                    "handler": "main:handler",
                    "code": str(function),
                    "triggers": {"http": trigger},
                    "event_timeout": 30.0,
                    "env": {"OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"},
                    "listeners": {"http": {"fd": listener.fileno()}, "control": str(control)},
                    "log": {"level": "error"},
                }
            )
            config.write_text(text)
            self._process = subprocess.Popen(
                command, env=env, cwd=folder, pass_fds=[listener.fileno()]
            )
            self._connection = http.client.HTTPConnection(*listener.getsockname())
        self._worker = self._wait_for_worker(control)

    def _wait_for_worker(self, control: Path) -> int:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            # The control socket does not exist yet.
            with contextlib.suppress(FileNotFoundError):
                status = _control_status(control)
                if status["state"] == "ready":
                    return int(status["workers"][0]["pid"])
            time.sleep(0.1)
        raise RuntimeError("the worker does not become ready")

    def request(self, body: bytes) -> Any:
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", "/", body, headers)
        response = self._connection.getresponse()
        reply = response.read()
        if response.status != 200:
            raise RuntimeError(f"status {response.status}: {reply.decode()}")
        return json.loads(reply)

    def measure(self, body: bytes, count: int) -> Cost:
        pids = (self._process.pid, self._worker)
        begin, before = time.perf_counter(), [_cpu_seconds(pid) for pid in pids]
        for _ in range(count):
            self.request(body)
        after, end = [_cpu_seconds(pid) for pid in pids], time.perf_counter()
        processor, worker = ((b - a) / count * 1e6 for a, b in zip(before, after, strict=True))
        return Cost(processor, worker, (end - begin) / count * 1e6)

    def close(self) -> None:
        self._connection.close()
        self._process.terminate()
        self._process.wait()


def _control_status(control: Path) -> Any:
    connection = http.client.HTTPConnection("localhost")
    with contextlib.closing(connection):
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(control))
        connection.request("GET", "/status")
        return json.loads(connection.getresponse().read())


def _cpu_seconds(pid: int) -> float:
    """Return user and system time of all threads: the clock that clock_getcpuclockid(3) names."""
    return time.clock_gettime((~pid << 3) | 2)


@contextlib.contextmanager
def _serving(tree: Path, function: Path) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(tree, function, Path(folder))
        try:
            yield server
        finally:
            server.close()


def picture(size: tuple[int, int]) -> bytes:
    """Return a request with a photograph of that size."""
    command = [str(ROOT / "scripts" / "photos"), "zidane.jpg"]
    photo = Image.open(subprocess.check_output(command, text=True).strip())
    stream = io.BytesIO()
    ImageOps.fit(photo, size, Image.Resampling.LANCZOS).save(stream, "JPEG", quality=90)
    return json.dumps({"image": base64.b64encode(stream.getvalue()).decode()}).encode()


def compare(trees: tuple[Path, Path], name: str, starts: int, slices: int) -> Iterator[str]:
    """Yield a row of the table for each size of the picture."""
    function, counts = FUNCTIONS[name]
    bodies = [picture(size) for size in SIZES]
    pairs: list[list[tuple[Cost, Cost]]] = [[] for _ in bodies]
    # Processes of one tree differ, too, for example in the layout of their memory.
    for _ in range(starts):
        with _serving(trees[0], function) as before, _serving(trees[1], function) as after:
            for number, body in enumerate(bodies):
                if before.request(body) != after.request(body):
                    raise RuntimeError("the replies differ")
                pairs[number] += _measure_pairs(before, after, body, counts[number], slices)
    for size, body, results in zip(SIZES, bodies, pairs, strict=True):
        yield _row(name, size, len(body), results)


def _measure_pairs(
    before: Server, after: Server, body: bytes, count: int, slices: int
) -> Iterator[tuple[Cost, Cost]]:
    for number in range(slices):
        if number % 2:
            yield before.measure(body, count), after.measure(body, count)
        else:
            second, first = after.measure(body, count), before.measure(body, count)
            yield first, second


def _row(name: str, size: tuple[int, int], length: int, pairs: list[tuple[Cost, Cost]]) -> str:
    cells = [name, f"{size[0]}x{size[1]}", f"{length // 1000} KB"]
    for attribute in ("processor", "worker", "cpu", "wall"):
        values = [(getattr(a, attribute), getattr(b, attribute)) for a, b in pairs]
        changes = [(b / a - 1) * 100 for a, b in values]
        low, middle, high = statistics.quantiles(changes, n=4)
        medians = [statistics.median(side) for side in zip(*values, strict=True)]
        cells.append(
            f"{medians[0]:.0f} -> {medians[1]:.0f} ({middle:+.1f} %, {low:+.1f} to {high:+.1f})"
        )
    return " | ".join(cells)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.pairs")
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--starts", type=int, default=6)
    parser.add_argument("--slices", type=int, default=40, help="of each start")
    parser.add_argument("--functions", default=",".join(FUNCTIONS))
    options = parser.parse_args()
    print("microseconds of a request: median before -> after (change: median, quartiles)")
    print("function | picture | request | processor CPU | worker CPU | CPU | wall")
    for name in options.functions.split(","):
        trees = (options.before.resolve(), options.after.resolve())
        for row in compare(trees, name, options.starts, options.slices):
            print(row, flush=True)


if __name__ == "__main__":
    main()
