"""Write and deploy functions, and inspect their processes."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import textwrap
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from fnbuild.deploy import pipeline
from fnbuild.platforms import Deployment, PlanOptions

NAMESPACE = "nuclio"

_CONFIG = """\
metadata:
  name: {name}
spec:
  handler: main:handler
  runtime: python:3.11
{spec}"""

_CODE = """\
def handler(context, event):
    return "{word}"
"""


class Author:
    def __init__(self, home: Path):
        self.home = home
        self.progress: list[str] = []

    def write(self, word: str = "hello", *, name: str = "greeter", spec: str = "") -> Path:
        """Write a function that answers every request with the word."""
        return self.write_code(_CODE.format(word=word), name=name, spec=spec)

    def write_code(self, code: str, *, name: str = "greeter", spec: str = "") -> Path:
        folder = self.home / name
        folder.mkdir(exist_ok=True)
        lines = textwrap.indent(textwrap.dedent(spec).strip(), "  ")
        (folder / "function.yaml").write_text(_CONFIG.format(name=name, spec=lines))
        (folder / "main.py").write_text(textwrap.dedent(code))
        return folder

    def deploy(self, folder: Path, **options: Any) -> Deployment:
        request = pipeline.DeployRequest(path=folder, options=PlanOptions(**options))
        return pipeline.deploy(request, self.progress.append)


def invoke(port: int, path: str = "/", timeout: float = 60.0) -> str:
    """Return the body of a response with status 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        text = reply.read().decode()
        assert reply.status == 200, (reply.status, text)
        return text
    finally:
        connection.close()


def processes(data: Path) -> list[int]:
    """Return the ids of all supervisors, processors, workers and commands of the data directory."""
    mark = b"FNBUILD_DATA_DIR=" + os.fsencode(data)
    return [int(path.name) for path in Path("/proc").iterdir() if _has(path, mark)]


def _has(process: Path, variable: bytes) -> bool:
    try:
        return variable in (process / "environ").read_bytes().split(b"\0")
    except OSError:  # no process, or it has just ended
        return False


def alive(pid: int) -> bool:
    """Return True if the process runs. Its files are open until its last thread has ended."""
    process = Path("/proc", str(pid))
    try:
        ended = "Z" in (process / "stat").read_text().rpartition(")")[2][:3]
        return not ended or len(list((process / "task").iterdir())) > 1
    except OSError:
        return False


def end_everything(data: Path) -> None:
    """Kill all processes of the data directory, like a crash of the machine."""
    ended: set[int] = set()

    def none_left() -> bool:
        # Some processes end with others, and a supervisor may just have started new ones.
        for pid in (running := processes(data)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        ended.update(running)
        return not running

    assert wait_for(none_left)
    # A process leaves the list before the last of its files is closed.
    assert wait_for(lambda: not any(alive(pid) for pid in ended))


def refuses(port: int) -> bool:
    """Return True if connections to the port are refused."""
    try:
        socket.create_connection(("127.0.0.1", port), 60).close()
    except ConnectionRefusedError:
        return True
    return False


def wait_for(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    """Wait until the condition is true or the time is up, and return its last value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return value


def take_port(listener: socket.socket, port: int) -> None:
    """Listen on the port of a killed process, which is freed a moment after its end."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    assert wait_for(lambda: _binds(listener, port))
    listener.listen()


def _binds(listener: socket.socket, port: int) -> bool:
    try:
        listener.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True
