"""Handles of processors in the supervisor: start, attach to, watch, drain and stop processors."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import IO, Any, Literal

import fnbuild
from fnbuild.builder import grpc_packages
from fnbuild.errors import PlatformError
from fnbuild.platforms import FunctionKey
from fnbuild.platforms.gpu_groups import ensure_group_folder
from fnbuild.platforms.process.isolation import (
    FunctionUser,
    grpc_python,
    prepare_user,
    runtime_command,
)
from fnbuild.platforms.process.layout import (
    announce_port,
    config_path,
    control_socket,
    launch_path,
    launched_runtime,
    log_path,
    remove_runtime_files,
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
"""Accept connections immediately, with status 503 until ready, or only when ready."""

log = logging.getLogger(__name__)


class ProcessorHandle:
    """A running processor. `ended` is set when its process has ended."""

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
        self.control = control_socket(key, revision)
        self.ended = asyncio.Event()
        self.draining = False
        self._terminating = False
        self.exit_status = 0
        self.log_start = 0
        self.started = time.monotonic()
        self.can_probe = True
        """False if this process lacked descriptors or memory for the last status request."""
        self.runtime = ""
        """The `runtime_digest` at the start of the processor, "" if it is unknown."""
        self.notice = ""
        """A message for the function's state while the processor is ready."""
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
        remove_runtime_files(self.key, self.revision)
        self.ended.set()
        log.info("%s ended: %s", self, self.end_description)

    @property
    def end_description(self) -> str:
        """Describe the end; only a parent process learns the exit status."""
        if self._child is None:
            return "ended"
        if self.exit_status < 0:
            with contextlib.suppress(ValueError):
                return f"was ended by {signal.Signals(-self.exit_status).name}"
        return f"ended with exit status {self.exit_status}"

    async def status(self) -> ProcessorStatus | None:
        """Return the processor's status; None if it does not answer."""
        try:
            status = await read_status_async(self.control)
        except ProcessorUnreachableError as error:
            self.can_probe = not error.exhausted
            return None
        self.can_probe = True
        return status if status.pid == self.pid else None

    async def drain(self) -> None:
        """Ask the processor to end after its open connections, without waiting for the end."""
        self.draining = True
        try:
            await request_async(self.control, "POST", "/drain")
        except ProcessorUnreachableError:
            self._terminating = True
            self.signal(signal.SIGTERM)

    async def stop(self, grace: float) -> None:
        """Stop the processor: requests in flight get `grace` seconds, idle connections none."""
        self.draining = True
        if not self._terminating:
            # A second SIGTERM would abort requests in flight.
            self._terminating = True
            self.signal(signal.SIGTERM)
        if not await self.wait(grace):
            await self.kill()

    async def kill(self) -> None:
        """Kill the processor and its workers."""
        self.draining = True
        self.signal(signal.SIGKILL)
        if not await self.wait(_KILL_SECONDS):
            raise PlatformError(f"{self} does not end, not even by SIGKILL")

    async def wait(self, seconds: float) -> bool:
        """Wait for the end of the processor; return False if it still runs."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), seconds)
        return self.ended.is_set()

    def signal(self, number: signal.Signals) -> None:
        if not self.ended.is_set():
            # A signal by process id could reach another process with the same id.
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def release(self) -> None:
        """Stop watching the processor and leave it running."""
        if not self.ended.is_set():
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            if self._child is not None:
                # It outlives its parent on purpose; otherwise Python would warn about that.
                self._child.returncode = 0


def runtime_digest() -> str:
    """Return a digest of the runtime's code on the disk, which new processes execute."""
    folder = Path(fnbuild.__file__).parent / "runtime"
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(b"%s\0" % os.fsencode(path.relative_to(folder)))
        digest.update(path.read_bytes())
    return digest.hexdigest()


def start_processor(
    key: FunctionKey, revision: int, listeners: Listeners, accept: AcceptMode, *, gpu: bool = False
) -> ProcessorHandle:
    """Start the processor of a staged revision on the function's sockets.

    Raises `PlatformError` if the configuration is missing or the process cannot be created.
    """
    try:
        config = json.loads(config_path(key, revision).read_bytes())
        user = prepare_user(key, revision, str(config["interpreter"]), gpu=gpu)
        config["accept"] = accept
        config["runtime"] = runtime_digest()
        child, size = _spawn(key, revision, config, listeners, user)
        processor = _make_handle(key, revision, child)
    except (OSError, ValueError, KeyError) as error:
        raise PlatformError(f"cannot start revision {revision} of {key.name}: {error}") from error
    processor.runtime = config["runtime"]
    processor.log_start = size
    log.info("%s started", processor)
    return processor


def _spawn(
    key: FunctionKey,
    revision: int,
    config: dict[str, Any],
    listeners: Listeners,
    user: FunctionUser | None,
) -> tuple[subprocess.Popen[bytes], int]:
    """Start the process; return it and the size of its log before the start."""
    descriptors = [*listeners.descriptors]
    control = control_socket(key, revision)
    control.unlink(missing_ok=True)
    http = [{"fd": listener.fileno(), "port": listeners.port} for listener in listeners.http]
    config["listeners"] = {
        "http": http[0] if len(http) == 1 else http,
        "admin": {"fd": listeners.admin.fileno()},
        "control": str(control),
    }
    if listeners.grpc:
        grpc = [{"fd": listener.fileno()} for listener in listeners.grpc]
        config["listeners"]["grpc"] = grpc
        config["grpc_packages"] = str(grpc_packages.local_packages_folder(grpc_python()))
    config["neighbours"] = str(run_dir())
    with contextlib.ExitStack() as stack:
        group = (config.get("sleep") or {}).get("group")
        if group:
            folder = ensure_group_folder(group["name"])
            group["folder"] = str(folder)
            # The number of a deleted revision may be used again.
            group["instance"] = f"{revision}-{config_path(key, revision).stat().st_mtime_ns}"
        if user is not None:
            if group:
                # The function's user may not pass its parent.
                descriptors.append(opened := os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
                stack.callback(os.close, opened)
                group["folder"] = f"/proc/self/fd/{opened}"
            config["neighbours"] = str(announce_port(key, revision, listeners.port))
            # The function's user may not create sockets in `run/`, so it cannot replace one there.
            listening = stack.enter_context(sockets.listen_unix(control))
            config["listeners"]["control"] = {"fd": listening.fileno()}
            descriptors.append(listening.fileno())
        path = _write_launch_file(key, revision, config)
        argument = str(path)
        if user is not None:
            file = stack.enter_context(_open_for_user(path, user))
            argument = f"/proc/self/fd/{file.fileno()}"
            descriptors.append(file.fileno())
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        sink = os.open(log_path(key), flags, 0o600)
        stack.callback(os.close, sink)
        size = os.fstat(sink).st_size
        command = runtime_command(user, "processor", "--config", argument)
        child = subprocess.Popen(
            command.arguments,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            pass_fds=descriptors,
            **command.options,
        )
    return child, size


def _open_for_user(path: Path, user: FunctionUser) -> IO[bytes]:
    """Open the configuration for the function's user, who may not read its folder."""
    os.chown(path, 0, user.number)
    path.chmod(0o640)
    return path.open("rb")


def _make_handle(
    key: FunctionKey, revision: int, child: subprocess.Popen[bytes]
) -> ProcessorHandle:
    try:
        return ProcessorHandle(key, revision, child.pid, child)
    except OSError:
        # A processor that cannot be watched would run in parallel with its successor.
        child.kill()
        child.wait()
        raise


def _write_launch_file(key: FunctionKey, revision: int, config: dict[str, Any]) -> Path:
    path = launch_path(key, revision)
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(config, indent=1))
    draft.chmod(0o600)
    draft.replace(path)
    return path


async def attach_processor(key: FunctionKey, revision: int) -> ProcessorHandle | None:
    """Return a handle of a processor that another supervisor started; None if it has ended.

    The kernel names the process that listens on the control socket, so another process with the
    same id is never mistaken for it.
    """
    pid = listening_pid(control_socket(key, revision))
    if pid is None:
        remove_runtime_files(key, revision)
        return None
    try:
        processor = ProcessorHandle(key, revision, pid)
    except ProcessLookupError:
        remove_runtime_files(key, revision)
        return None
    processor.runtime = launched_runtime(key, revision)
    status = await processor.status()
    processor.draining = status is not None and status.state == "draining"
    log.info("attached to %s", processor)
    return processor
