"""Start `fnbuild` commands by forking a process that has imported it, which saves the imports.

Each command is a process with its own arguments, environment and streams. It runs the code of
`python -m fnbuild`.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

ROOT = Path(__file__).parent.parent
_MODULES = (
    "fnbuild.cli.app",
    "fnbuild.cli.deploy",
    "fnbuild.cli.listing",
    "fnbuild.cli.supervisor",
    "fnbuild.dashboard.server",
    "fnbuild.platforms.process.platform",
)
_MAX_REQUEST_BYTES = 1 << 17


class ForkedProcess:
    """A command that was started by fork. Its methods are those of `subprocess.Popen`."""

    def __init__(self, arguments: Sequence[str], status: IO[bytes], pid: int):
        self.args = arguments
        self.pid = pid
        self.returncode: int | None = None
        self._status = status

    def poll(self) -> int | None:
        return self._read_status(0)

    def wait(self, timeout: float | None = None) -> int:
        status = self._read_status(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(list(self.args), timeout or 0)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _read_status(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._status, selectors.EVENT_READ)
                if not selector.select(timeout):
                    return None
            with self._status:
                status = self._status.readline()
            assert status, "the fork server has ended"
            self.returncode = os.waitstatus_to_exitcode(int(status))
        return self.returncode


def start(
    arguments: Sequence[str],
    env: Mapping[str, str],
    *,
    stdout: IO[str] | IO[bytes],
    stderr: IO[str] | IO[bytes],
) -> ForkedProcess:
    """Start `fnbuild` with these arguments and environment, and an empty stdin."""
    reader, writer = os.pipe()
    status = os.fdopen(reader, "rb", 0)
    request = json.dumps({"arguments": list(arguments), "environment": dict(env)}).encode()
    assert len(request) <= _MAX_REQUEST_BYTES, "the environment is too large"
    with _lock:
        server = _server().requests
        socket.send_fds(server, [request], [stdout.fileno(), stderr.fileno(), writer])
        os.close(writer)
        pid = int(status.readline())
    return ForkedProcess(arguments, status, pid)


def run(
    arguments: Sequence[str], env: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run `fnbuild` to its end and return its output."""
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        process = start(arguments, env, stdout=stdout, stderr=stderr)
        try:
            returncode = process.wait(timeout)
        except BaseException:
            process.kill()
            raise
        for stream in (stdout, stderr):
            stream.seek(0)
        return subprocess.CompletedProcess(
            list(arguments), returncode, stdout.read(), stderr.read()
        )


_lock = threading.Lock()


class _Server(NamedTuple):
    """The fork server of this process. It ends when the connection for requests is closed."""

    requests: socket.socket
    process: subprocess.Popen[bytes]


@functools.cache
def _server() -> _Server:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with far:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.forkserver", str(far.fileno())],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[far.fileno()],
        )
    server = _Server(near, process)
    atexit.register(_end, server)
    return server


def _end(server: _Server) -> None:
    server.requests.close()
    server.process.wait()


def _serve(requests: socket.socket) -> bool:
    """Fork a process for each request. Return True in such a process, False at the end."""
    children: dict[int, int] = {}
    wakeup, wakeup_writer = os.pipe()
    os.set_blocking(wakeup_writer, False)
    signal.set_wakeup_fd(wakeup_writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    selector = selectors.DefaultSelector()
    selector.register(requests, selectors.EVENT_READ)
    selector.register(wakeup, selectors.EVENT_READ)
    while True:
        ready = {key.fileobj for key, _ in selector.select()}
        if wakeup in ready:
            os.read(wakeup, 4096)
            _report_exits(children)
        if requests not in ready:
            continue
        request, streams, _, _ = socket.recv_fds(requests, _MAX_REQUEST_BYTES, 3)
        if not request:
            return False
        pid = os.fork()
        if not pid:
            selector.close()
            _prepare_command(json.loads(request), *streams[:2])
            return True
        for stream in streams[:2]:
            os.close(stream)
        os.write(streams[2], b"%d\n" % pid)
        children[pid] = streams[2]


def _report_exits(children: dict[int, int]) -> None:
    """Write the statuses of ended processes to those that wait for them."""
    for pid, status in list(children.items()):
        ended, number = os.waitpid(pid, os.WNOHANG)
        if ended:
            with contextlib.suppress(BrokenPipeError):  # nobody waits for it
                os.write(status, b"%d\n" % number)
            os.close(status)
            del children[pid]


def _prepare_command(request: dict[str, object], stdout: int, stderr: int) -> None:
    """Give this process the streams, signals, environment and arguments of the command."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.closerange(3, 1024)
    environment, arguments = request["environment"], request["arguments"]
    assert isinstance(environment, dict)
    assert isinstance(arguments, list)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.argv = ["fnbuild", *arguments]


def main() -> None:
    requests = socket.socket(fileno=int(sys.argv[1]))
    for module in _MODULES:
        importlib.import_module(module)
    assert threading.active_count() == 1, "a fork copies only one thread"
    gc.freeze()
    if _serve(requests):
        requests.detach()
        runpy.run_module("fnbuild", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
