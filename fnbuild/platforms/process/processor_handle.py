"""Processors as the supervisor sees them: started or adopted, watched, told to drain, ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from fnbuild.errors import PlatformError
from fnbuild.platforms.process.daemon import clean_environment
from fnbuild.platforms.process.isolation import FunctionUser, prepare_user, processor_python
from fnbuild.platforms.process.layout import (
    FunctionKey,
    announce_port,
    remove_launch_files,
    run_dir,
)
from fnbuild.platforms.process.listeners import Listeners
from fnbuild.platforms.process.processor_client import (
    ProcessorUnreachableError,
    listening_pid,
    read_status_async,
    request_async,
)
from fnbuild.platforms.processor_status import ProcessorStatus
from fnbuild.runtime import sockets

_KILL_SECONDS = 5.0

AcceptMode = Literal["immediately", "when-ready"]
"""Whether a processor takes connections, and answers 503, before its workers are ready."""

log = logging.getLogger(__name__)


class ProcessorHandle:
    """One running processor. `ended` is set when its process is gone, whoever started it."""

    def __init__(
        self,
        key: FunctionKey,
        revision: int,
        pid: int,
        child: subprocess.Popen[bytes] | None = None,
    ):
        self.key = key
        self.revision = revision
        self.pid = pid
        self.control = key.control(revision)
        self.ended = asyncio.Event()
        self.draining = False
        self._terminating = False
        self.exit_status = 0
        self.log_start = 0
        self.started = time.monotonic()
        self.can_probe = True
        """False if this process itself lacked the descriptors or memory for the last question."""
        self._child = child
        self._pidfd = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._handle_end)

    def __str__(self) -> str:
        return f"processor of {self.key} revision {self.revision} (pid {self.pid})"

    def _handle_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        if self._child is not None:
            self.exit_status = self._child.wait()
        remove_launch_files(self.key, self.revision)
        self.ended.set()
        log.info("%s ended: %s", self, self.end_description)

    @property
    def end_description(self) -> str:
        """How it ended; nobody but a parent learns the exit status of a process."""
        if self._child is None:
            return "ended"
        if self.exit_status < 0:
            with contextlib.suppress(ValueError):
                return f"was ended by {signal.Signals(-self.exit_status).name}"
        return f"ended with exit status {self.exit_status}"

    async def status(self) -> ProcessorStatus | None:
        """What it says about itself; None when it does not answer."""
        try:
            status = await read_status_async(self.control)
        except ProcessorUnreachableError as problem:
            self.can_probe = not problem.exhausted
            return None
        self.can_probe = True
        return status if status.pid == self.pid else None

    async def drain(self) -> None:
        """Ask it to end once its open connections are served; does not wait for that."""
        self.draining = True
        try:
            await request_async(self.control, "POST", "/drain")
        except ProcessorUnreachableError:
            self._terminating = True
            self.signal(signal.SIGTERM)

    async def stop(self, grace: float) -> None:
        """End it now: what is in flight has `grace` seconds, idle connections have none."""
        self.draining = True
        if not self._terminating:
            # A second SIGTERM would cut off what is in flight.
            self._terminating = True
            self.signal(signal.SIGTERM)
        if not await self.wait(grace):
            await self.kill()

    async def kill(self) -> None:
        """End it without asking; its workers go with it."""
        self.draining = True
        self.signal(signal.SIGKILL)
        if not await self.wait(_KILL_SECONDS):
            raise PlatformError(f"{self} does not end, not even by SIGKILL")

    async def wait(self, seconds: float) -> bool:
        """Wait for its end; False when it lives on."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), seconds)
        return self.ended.is_set()

    def signal(self, number: signal.Signals) -> None:
        if not self.ended.is_set():
            # Through the descriptor: the number could be another process's by now.
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def release(self) -> None:
        """Stop watching it and leave it running."""
        if not self.ended.is_set():
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            if self._child is not None:
                # It outlives its parent on purpose; Python would complain about that.
                self._child.returncode = 0


def start_processor(
    key: FunctionKey, revision: int, listeners: Listeners, accept: AcceptMode, *, gpu: bool = False
) -> ProcessorHandle:
    """Start the processor of a staged revision on the function's sockets.

    Raises `PlatformError` when its configuration is gone or the process cannot be made.
    """
    try:
        config = json.loads(key.config(revision).read_bytes())
        user = prepare_user(key, revision, str(config["interpreter"]), gpu=gpu)
        config["accept"] = accept
        child, size = _spawn(key, revision, config, listeners, user)
        processor = _make_handle(key, revision, child)
    except (OSError, ValueError, KeyError) as error:
        raise PlatformError(f"cannot start revision {revision} of {key.name}: {error}") from error
    processor.log_start = size
    log.info("%s started", processor)
    return processor


@dataclass(slots=True)
class _ProcessOptions:
    """The parameters of a processor's start besides its configuration."""

    python: str
    descriptors: list[int]
    environment: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


def _spawn(
    key: FunctionKey,
    revision: int,
    config: dict[str, Any],
    listeners: Listeners,
    user: FunctionUser | None,
) -> tuple[subprocess.Popen[bytes], int]:
    """Start the process; return it, and the size of its log until then."""
    start = _ProcessOptions(sys.executable, [*listeners.descriptors])
    control = key.control(revision)
    control.unlink(missing_ok=True)
    http = [{"fd": one.fileno(), "port": listeners.port} for one in listeners.http]
    config["listeners"] = {
        "http": http[0] if len(http) == 1 else http,
        "admin": {"fd": listeners.admin.fileno()},
        "control": str(control),
    }
    config["neighbours"] = str(run_dir())
    with contextlib.ExitStack() as stack:
        if user is not None:
            config["neighbours"] = str(announce_port(key, revision, listeners.port))
            # Its user may make no socket in `run/`, so that it cannot replace one there either.
            listening = stack.enter_context(sockets.listen_unix(control))
            config["listeners"]["control"] = {"fd": listening.fileno()}
            start.descriptors.append(listening.fileno())
        path = _write_launch_file(key, revision, config)
        argument = str(path)
        if user is not None:
            opened = stack.enter_context(_run_as_user(path, user, start))
            argument = f"/proc/self/fd/{opened.fileno()}"
            start.descriptors.append(opened.fileno())
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        sink = os.open(key.log, flags, 0o600)
        stack.callback(os.close, sink)
        size = os.fstat(sink).st_size
        child = subprocess.Popen(
            [start.python, "-m", "fnbuild.runtime.processor", "--config", argument],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env=clean_environment(os.environ) | start.environment,
            cwd="/",
            pass_fds=start.descriptors,
            start_new_session=True,
            **start.options,
        )
    return child, size


def _run_as_user(path: Path, user: FunctionUser, start: _ProcessOptions) -> IO[bytes]:
    """Run the process as the user; return the configuration, whose folder it may not read."""
    start.python, start.environment = processor_python(), user.environment
    start.options = {"user": user.number, "group": user.number, "extra_groups": user.groups}
    os.chown(path, 0, user.number)
    path.chmod(0o640)
    return path.open("rb")


def _make_handle(
    key: FunctionKey, revision: int, child: subprocess.Popen[bytes]
) -> ProcessorHandle:
    try:
        return ProcessorHandle(key, revision, child.pid, child)
    except OSError:
        # A processor without a descriptor to watch it by would serve beside its successor.
        child.kill()
        child.wait()
        raise


def _write_launch_file(key: FunctionKey, revision: int, config: dict[str, Any]) -> Path:
    path = key.launch(revision)
    half = path.with_suffix(".new")
    half.write_text(json.dumps(config, indent=1))
    half.chmod(0o600)
    half.replace(path)
    return path


async def adopt_processor(key: FunctionKey, revision: int) -> ProcessorHandle | None:
    """The processor that another supervisor started, or None when it is gone.

    Who listens on the control socket is told by the kernel, so a process that got the same number
    by chance is never mistaken for it.
    """
    pid = listening_pid(key.control(revision))
    if pid is None:
        remove_launch_files(key, revision)
        return None
    try:
        processor = ProcessorHandle(key, revision, pid)
    except ProcessLookupError:
        remove_launch_files(key, revision)
        return None
    status = await processor.status()
    processor.draining = status is not None and status.state == "draining"
    log.info("%s adopted", processor)
    return processor
