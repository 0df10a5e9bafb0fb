"""Many functions on this machine and in containers, and a dashboard for all of them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

CHATTY = "chatty"
ECHO = "echo"

_PLATFORMS = ("process", "local")
_CONCURRENT_DEPLOYS = 4
_TIMEOUT = 120.0
_ADDRESS = re.compile(r"^the dashboard is at http://\S+?:(\d+)", re.MULTILINE)
_CONFIG = """
metadata: {{name: {name}, annotations: {{type: detector, name: {name}, spec: "[]"}}}}
spec:
  handler: main:handler
  runtime: "python:3.11"
  build: {{image: {image}, baseImage: "python:3.11", noBaseImagesPull: true}}
  triggers:
    http: {{kind: http, numWorkers: 1, attributes: {{maxRequestBodySize: 67108864}}}}
"""
_HANDLER = """
def handler(context, event):
    if event.path == "/say":
        for number in range(event.body["first"], event.body["first"] + event.body["count"]):
            context.logger.info("line %d" % number)
        return ""
    return str(len(event.body))
"""


class FunctionFleet:
    """A number of functions on each platform, in a separate namespace and data directory;
    `with fleet.opened()` creates and removes them.
    """

    def __init__(self, folder: Path, of_each: int, say: Callable[[str], None]) -> None:
        self.namespace = f"bench-{os.urandom(3).hex()}"
        self._folder = folder
        self._of_each = of_each
        self._say = say
        self._env = {**os.environ, "FNBUILD_DATA_DIR": str(folder / "data")}

    @contextlib.contextmanager
    def opened(self) -> Iterator[FunctionFleet]:
        try:
            for name in (ECHO, CHATTY):
                self._deploy("process", name)
            # All containers use the image of the first one.
            image = self._deploy("local", "local-0")
            self._fill("process", 1, ())
            self._fill("local", 1, ("--run-image", image))
            yield self
        finally:
            for platform in _PLATFORMS:
                self._remove(platform)
            self.fnbuild("down")

    def _fill(self, platform: str, first: int, more: tuple[str, ...]) -> None:
        names = [f"{platform}-{number}" for number in range(first, self._of_each)]
        with ThreadPoolExecutor(_CONCURRENT_DEPLOYS) as pool:
            for number, _ in enumerate(
                pool.map(lambda name: self._deploy(platform, name, *more), names)
            ):
                if number % 10 == 9:
                    self._say(f"{number + 1} functions on the platform {platform}")

    def _deploy(self, platform: str, name: str, *more: str) -> str:
        """Return the image from which it runs, "" for none."""
        folder = self._folder / name
        folder.mkdir()
        (folder / "function.yaml").write_text(_CONFIG.format(name=name, image=self.namespace))
        (folder / "main.py").write_text(_HANDLER)
        where = ("--platform", platform, "-n", self.namespace)
        self.fnbuild("deploy", "--path", str(folder), *where, *more)
        function = json.loads(self.fnbuild("get", "function", name, *where, "-o", "json"))
        return str(function["status"].get("containerImage", ""))

    def _remove(self, platform: str) -> None:
        where = ("--platform", platform, "-n", self.namespace)
        functions = json.loads(self.fnbuild("get", "functions", *where, "-o", "json"))
        names = [function["metadata"]["name"] for function in functions]
        for some in range(0, len(names), 10):
            self.fnbuild("delete", "function", *names[some : some + 10], *where)

    def fnbuild(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "fnbuild", *arguments]
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stderr or done.stdout}")
        return done.stdout

    @contextlib.contextmanager
    def dashboard(self) -> Iterator[RunningDashboard]:
        """Yield a dashboard of both platforms, once it shows every function."""
        command = [sys.executable, "-m", "fnbuild", "dashboard", "-n", self.namespace]
        platforms = [argument for name in _PLATFORMS for argument in ("--show", name)]
        where = ["--listen", "127.0.0.1:0", "--health", "127.0.0.1:0"]
        log = self._folder / "dashboard.txt"
        with log.open("w") as output:
            process = subprocess.Popen(
                [*command, *platforms, *where], env=self._env, stdout=output, stderr=output
            )
        try:
            match = wait_until("a dashboard", lambda: _ADDRESS.search(log.read_text()))
            dashboard = RunningDashboard(int(match[1]), process.pid)
            wanted = 2 * self._of_each + 1
            wait_until("all functions", lambda: len(dashboard.functions()) >= wanted)
            yield dashboard
        finally:
            process.terminate()
            process.wait()


class RunningDashboard:
    """A running dashboard, with one connection for requests."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self.pid = pid
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        """Return the reply's body; raise RuntimeError unless the status is 200."""
        self._connection.request(method, path, body, headers or {})
        reply = self._connection.getresponse()
        text = reply.read()
        if reply.status != 200:
            raise RuntimeError(f"{method} {path}: {reply.status} {text[:300]!r}")
        return text

    def functions(self) -> dict[str, Any]:
        functions: dict[str, Any] = json.loads(self.ask("GET", "/api/functions"))
        return functions

    def invoke(self, name: str, body: bytes, path: str = "/", kind: str = "image/jpeg") -> bytes:
        headers = {
            "X-Nuclio-Function-Name": name,
            "X-Nuclio-Path": path,
            "Content-Type": kind,
        }
        return self.ask("POST", "/api/function_invocations", body, headers)

    def chat(self, first: int, count: int) -> None:
        """Let the function `CHATTY` write lines into its log."""
        body = json.dumps({"first": first, "count": count}).encode()
        self.invoke(CHATTY, body, "/say", "application/json")

    @property
    def peak(self) -> float:
        """Return its peak memory in MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024


def wait_until(condition: str, probe: Callable[[], Any]) -> Any:
    """Return the first true result of `probe`."""
    deadline = time.monotonic() + _TIMEOUT
    while not (result := probe()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"after {_TIMEOUT:.0f} s there is not yet {condition}")
        time.sleep(0.05)
    return result
