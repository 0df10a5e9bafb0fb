"""Containers compared with `docker build` and `docker run` of the same handler by hand.

    python -m bench.containers

It measures deploys, builds after an edit and redeploys of one function that decodes JPEGs, with
`fnbuild` and by hand in turns; the time without an answer on the port during a redeploy; and the
requests per second of the same function on the process platform and in a container. `--write`
writes the table into docs/performance.md.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import http.client
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from . import load
from .catalog import ROOT
from .client import post
from .markdown import insert, table
from .servers import free_port
from .workloads import make_workload

BEGIN = "<!-- containers: begin -->"
END = "<!-- containers: end -->"

_NAME = "fnbuild-bench"
_BASE = "python:3.11"
_INSTALL = "pip install --no-cache-dir 'pillow>=11' 'numpy>=2'"
_BY_HAND_NAME = "fnbuild-bench-by-hand"
_DOCUMENT = ROOT / "docs" / "performance.md"
_TIMEOUT = 60.0
_PROBE = 0.002
_CONCURRENCY = 8

_CONFIG = f"""
metadata: {{name: {_NAME}}}
spec:
  handler: main:handler
  runtime: "python:3.11"
  build:
    image: {_NAME}
    baseImage: {_BASE}
    commands: ["{_INSTALL}"]
  triggers:
    http: {{kind: http, numWorkers: 2, attributes: {{maxRequestBodySize: 33554432}}}}
"""
_HANDLER = """
import base64, io
import numpy
from PIL import Image

VERSION = {version}


def handler(context, event):
    body = event.body if isinstance(event.body, dict) else __import__("json").loads(event.body)
    image = Image.open(io.BytesIO(base64.b64decode(body["image"])))
    return {{"shape": list(numpy.array(image.convert("RGB")).shape)}}
"""
_BY_HAND_DOCKERFILE = f"""
FROM {_BASE}
RUN {_INSTALL}
COPY . /app
CMD ["python", "/app/serve.py"]
"""
# A server around the handler, as written by hand.
_BY_HAND_SERVER = """
import http.server, json, types
import main


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        reply = json.dumps(main.handler(None, types.SimpleNamespace(body=body))).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""


@dataclass
class Timings:
    """Seconds, or for `rates` requests per second; one value per round."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    rates: dict[str, list[float]] = field(default_factory=dict)

    def time(self, operation: str, step: Callable[[], object]) -> None:
        """Run the step and note how long it took."""
        began = time.monotonic()
        step()
        self.note(operation, time.monotonic() - began)

    def note(self, operation: str, seconds: float) -> None:
        self.seconds.setdefault(operation, []).append(seconds)

    def median(self, operation: str) -> float:
        return statistics.median(self.seconds[operation])


class ContainerSetup:
    """The function in a folder, deployed with fnbuild or by hand."""

    def __init__(self, folder: Path) -> None:
        self.body = make_workload("jpeg", Path(sys.executable)).payloads[0].body
        self._function, self._app = folder / "function", folder / "app"
        self._env = {**os.environ, "FNBUILD_DATA_DIR": str(folder / "data")}
        for place in (self._function, self._app):
            place.mkdir()
        (self._function / "function.yaml").write_text(_CONFIG)
        (self._app / "Dockerfile").write_text(_BY_HAND_DOCKERFILE)
        (self._app / "serve.py").write_text(_BY_HAND_SERVER)
        self._version = 0
        self.hand_port = free_port()

    def edit(self) -> None:
        """A new main.py, as an editor would leave it."""
        self._version += 1
        for place in (self._function, self._app):
            (place / "main.py").write_text(_HANDLER.format(version=time.time_ns()))

    def fnbuild(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "fnbuild", *arguments]
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def deploy(self, platform: str = "local") -> int:
        """Return the port on which it answers."""
        path = ["--path", str(self._function)]
        url = self.fnbuild("deploy", *path, "--platform", platform, "-o", "url")
        port = int(url.strip().rpartition(":")[2].strip("/"))
        await_answer(port, self.body)
        return port

    def build(self) -> None:
        self.fnbuild("build", "--path", str(self._function), "--engine", "docker")

    def build_by_hand(self) -> None:
        docker("build", "-q", "-t", _BY_HAND_NAME, str(self._app))

    def run_by_hand(self) -> int:
        publish = f"127.0.0.1:{self.hand_port}:8080"
        docker("run", "-d", "--name", _BY_HAND_NAME, "-p", publish, _BY_HAND_NAME)
        await_answer(self.hand_port, self.body)
        return self.hand_port

    def deploy_by_hand(self) -> int:
        self.build_by_hand()
        return self.run_by_hand()

    def redeploy_by_hand(self) -> int:
        self.build_by_hand()
        docker("rm", "-f", _BY_HAND_NAME)
        return self.run_by_hand()

    def remove(self, platform: str = "local") -> None:
        self.fnbuild("delete", "function", _NAME, "--platform", platform)

    def remove_by_hand(self) -> None:
        docker("rm", "-f", _BY_HAND_NAME)


def docker(*arguments: str) -> None:
    """Run the engine's client; raise RuntimeError with its output if it fails."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"docker {' '.join(arguments)}: {done.stderr}")


def await_answer(port: int, body: bytes) -> None:
    """Wait until the function replies."""
    deadline = time.monotonic() + _TIMEOUT
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if post(f"http://127.0.0.1:{port}/", body)[0] == 200:
                return
        time.sleep(_PROBE)
    raise RuntimeError(f"nothing answers on port {port}")


class GapProbe:
    """Send requests to a port continuously; `gap` is the longest time without a reply (seconds)."""

    def __init__(self, port: int, body: bytes) -> None:
        self.gap = 0.0
        self._port, self._body = port, body
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> GapProbe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        last = time.monotonic()
        while not self._over.is_set():
            try:
                status, _ = post(f"http://127.0.0.1:{self._port}/", self._body)
            except (OSError, http.client.HTTPException):
                time.sleep(_PROBE)
                continue
            if status == 200:
                now = time.monotonic()
                self.gap, last = max(self.gap, now - last), now


def measure(ways: ContainerSetup, rounds: int, seconds: int, say: Callable[[str], None]) -> Timings:
    """Measure everything, with fnbuild and by hand in turns."""
    figures = Timings()
    # From here on, the packages of both are in the engine's cache.
    ways.edit()
    ways.build()
    ways.build_by_hand()
    for number in range(rounds):
        ways.edit()
        figures.time("deploy", ways.deploy)
        figures.time("deploy by hand", ways.deploy_by_hand)
        ways.edit()
        figures.time("build after an edit", ways.build)
        figures.time("build after an edit by hand", ways.build_by_hand)
        ways.edit()
        port = ways.deploy()
        for operation, again, place in (
            ("", ways.deploy, port),
            (" by hand", ways.redeploy_by_hand, ways.hand_port),
        ):
            ways.edit()
            with GapProbe(place, ways.body) as watch:
                figures.time(f"redeploy{operation}", again)
            figures.note(f"gap{operation}", watch.gap)
        ways.remove()
        ways.remove_by_hand()
        say(f"round {number + 1} of {rounds}")
    _measure_throughput(ways, rounds, seconds, figures)
    return figures


def _measure_throughput(ways: ContainerSetup, rounds: int, seconds: int, figures: Timings) -> None:
    workload = make_workload("jpeg", Path(sys.executable))
    ports = {"container": ways.deploy("local"), "process": ways.deploy("process")}
    for _ in range(rounds):
        for platform, port in ports.items():
            sample = load.run(f"http://127.0.0.1:{port}/", workload, _CONCURRENCY, seconds)
            if sample.errors:
                raise RuntimeError(f"{platform}: {sample.errors}")
            figures.rates.setdefault(platform, []).append(sample.rate)
    ways.remove("local")
    ways.remove("process")
    ways.fnbuild("down")


def render(figures: Timings, rounds: int) -> str:
    """Return the table as Markdown."""
    rows = []
    for operation, title in (
        ("deploy", "first deploy, until the first answer"),
        ("build after an edit", "build after an edit of main.py"),
        ("redeploy", "redeploy after an edit, until the first answer"),
        ("gap", "longest time without an answer meanwhile"),
    ):
        own, hand = figures.median(operation), figures.median(f"{operation} by hand")
        rows.append([title, f"{own:.2f} s", f"{hand:.2f} s", f"{own - hand:+.2f} s"])
    process, container = (
        statistics.median(figures.rates[name]) for name in ("process", "container")
    )
    now = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC"
    cores = len(os.sched_getaffinity(0))
    return (
        f"Measured on {now} on {cores} cores, medians of {rounds} rounds, Docker "
        f"{_engine()}, by\n\n```console\n$ python -m bench.containers --rounds {rounds}\n```\n\n"
        + table(["", "fnbuild", "by hand", "beyond it"], rows)
        + f"\nThe JPEG workload at concurrency {_CONCURRENCY}: {process:.0f} requests per second"
        f" on the process platform, {container:.0f} in a container ({container / process:.2f}).\n"
    )


def _engine() -> str:
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bench-containers-") as text:
        folder = Path(text)
        try:
            yield folder
        finally:
            for name in (_BY_HAND_NAME, f"nuclio-nuclio-{_NAME}"):
                subprocess.run(["docker", "rm", "-f", name], capture_output=True, check=False)
            shutil.rmtree(folder / "data", ignore_errors=True)


def main(arguments: list[str]) -> int:
    """Measure and print the table; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.containers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="length of one slice of load")
    parser.add_argument("--write", action="store_true", help="put the table into the document")
    options = parser.parse_args(arguments)
    with _temporary_folder() as folder:
        figures = measure(
            ContainerSetup(folder),
            options.rounds,
            options.seconds,
            lambda text: print(text, file=sys.stderr, flush=True),
        )
    text = render(figures, options.rounds)
    print(text)
    if options.write:
        insert(text, _DOCUMENT, BEGIN, END)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
