"""Start servers, wait for their workers, and end them with all their processes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from . import processes
from .catalog import CACHE, FOLDER, Server, load_catalog
from .client import ask
from .forms import FORMS, GRPC_SCHEME
from .workloads import Workload, handler_environment

READY_TIMEOUT = 90.0
_POLL = 0.005


class StartError(Exception):
    """The server did not start, or replies incorrectly; the message has the reason."""


@dataclass
class RunningServer:
    """A running server. `cold_start` is the seconds from its command to its first correct reply."""

    server: Server
    workload: Workload
    port: int
    grpc_port: int
    mark: str
    folder: Path
    process: subprocess.Popen[bytes]
    cold_start: float = 0.0
    pids: list[int] = field(default_factory=list)

    @property
    def url(self) -> str:
        form = FORMS[self.workload.form]
        if form.scheme == GRPC_SCHEME:
            return f"{GRPC_SCHEME}://127.0.0.1:{self.grpc_port}"
        return f"http://127.0.0.1:{self.port}{form.path or self.server.path}"

    def signed(self) -> dict[int, float]:
        """Return the handler's processes and when each was ready (time.monotonic)."""
        workers = {}
        for path in (self.folder / "ready").iterdir():
            if path.name.isdigit():
                workers[int(path.name)] = float(path.read_text())
        return workers

    def loop(self, seconds: float) -> list[dict[str, float]]:
        """Run a `loop`; return the result of each of its processes."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{seconds}\n".encode())
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise StartError(f"{self.server.name} ended: {_log_tail(self.folder)}")
        parts: list[dict[str, float]] = json.loads(line)
        return parts


@contextlib.contextmanager
def running_server(server: Server, workload: Workload) -> Iterator[RunningServer]:
    """Yield the server with the workload's handler, and end it after the block."""
    folder = Path(tempfile.mkdtemp(prefix=f"bench-{server.name}-"))
    (folder / "ready").mkdir()
    mark = uuid.uuid4().hex
    began = time.monotonic()
    process = None
    try:
        ports = free_port(), free_port()
        process = _start(server, workload, folder, ports, mark)
        started = RunningServer(server, workload, *ports, mark, folder, process)
        _await_ready(started)
        started.cold_start = time.monotonic() - began
        _await_workers(started)
        started.pids = processes.marked_processes(mark)
        yield started
    finally:
        processes.terminate(mark)
        if process is not None:
            _reap(process)
        shutil.rmtree(folder, ignore_errors=True)


def _start(
    server: Server, workload: Workload, folder: Path, ports: tuple[int, int], mark: str
) -> subprocess.Popen[bytes]:
    catalog = load_catalog()
    python = catalog.environments[server.environment].python
    places = {
        "python": python,
        "own_python": sys.executable,
        "bin": python.parent,
        "apps": FOLDER / "apps",
        "port": ports[0],
        "workers": server.workers,
    }
    environment = {
        **os.environ,
        **handler_environment(workload.name, folder / "ready"),
        processes.MARK: mark,
        "BENCH_PORT": str(ports[0]),
        "BENCH_GRPC_PORT": str(ports[1]),
        "BENCH_WORKERS": str(server.workers),
        "BENCH_FOLDER": str(folder),
        "BENCH_BODY": str(workload.body_file),
        "HOME": str(CACHE / "home"),
    }
    (CACHE / "home").mkdir(parents=True, exist_ok=True)
    loops = server.kind == "loop"
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [part.format(**places) for part in server.command],
            env=environment,
            cwd=FOLDER / "apps",
            stdin=subprocess.PIPE if loops else subprocess.DEVNULL,
            stdout=subprocess.PIPE if loops else log,
            stderr=log,
            start_new_session=True,
        )


def _await_ready(started: RunningServer) -> None:
    if started.server.kind == "loop":
        assert started.process.stdout is not None
        if started.process.stdout.readline() != b"ready\n":
            raise StartError(_log_tail(started.folder))
        return
    deadline = time.monotonic() + READY_TIMEOUT
    payload = started.workload.payloads[0]
    last = "nothing listened"
    while time.monotonic() < deadline:
        if started.process.poll() is not None:
            raise StartError(f"it ended while it started: {_log_tail(started.folder)}")
        try:
            status, reply = ask(started.url, started.workload, payload)
        except OSError as problem:
            last = str(problem)
        else:
            if status == 200 and reply == payload.expected:
                return
            last = f"status {status}: {str(reply)[:200]}"
        time.sleep(_POLL)
    raise StartError(
        f"no right reply within {READY_TIMEOUT:.0f} s ({last}): {_log_tail(started.folder)}"
    )


def _await_workers(started: RunningServer) -> None:
    """Wait for all workers; the first reply may come before."""
    workers = started.server.workers
    deadline = time.monotonic() + READY_TIMEOUT
    while len(live_workers(started)) < workers:
        if time.monotonic() > deadline:
            raise StartError(f"{len(live_workers(started))} of {workers} workers are ready")
        time.sleep(_POLL)


def live_workers(started: RunningServer) -> dict[int, float]:
    """Return the handler's processes that still run, and when each was ready."""
    return {
        pid: ready for pid, ready in started.signed().items() if Path(f"/proc/{pid}/stat").exists()
    }


def _reap(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    try:
        process.wait(5.0)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _log_tail(folder: Path) -> str:
    lines = (folder / "log").read_text(errors="replace").strip().splitlines()
    return " / ".join(lines[-4:]) or "it said nothing"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
