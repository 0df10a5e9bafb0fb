"""`fnbuild run`: a processor in the foreground that runs a function from its folder.

The listening socket belongs to this process and is inherited by the processor, so that the port
stays the same and no connection is refused while the processor is replaced.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from fnbuild import trees
from fnbuild.builder import (
    environment,
    grpc_packages,
    interpreter,
    requirements,
    sdk,
    torch_index,
)
from fnbuild.builder.processor_settings import readiness_seconds, start_seconds
from fnbuild.errors import BuildError, NotReadyError, PlatformError
from fnbuild.function.reader import LoadedFunction
from fnbuild.function.types import Function, Raw
from fnbuild.hosts import is_loopback
from fnbuild.platforms import LogRecord, Progress
from fnbuild.platforms.clean_environment import clean_environment
from fnbuild.platforms.logs import parse_log_line
from fnbuild.platforms.process.foreground_records import Registration, make_record
from fnbuild.platforms.process.layout import run_dir
from fnbuild.platforms.process.processor_client import ProcessorUnreachableError, read_status
from fnbuild.platforms.process.processor_config import (
    RevisionPaths,
    platform_warnings,
    processor_config,
)
from fnbuild.platforms.settings import requested_port
from fnbuild.runtime.http import client

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1

_POLL_INTERVAL = 0.02
_GRACE_PERIOD = 5.0
_OUTPUT_TIMEOUT = 1.0
_FOLDER_PREFIX = "fnbuild-run-"


@dataclass(frozen=True, slots=True)
class ForegroundConfig:
    """The configuration of a foreground processor."""

    function: Function
    settings: Raw
    warnings: tuple[str, ...]


def prepare_processor(loaded: LoadedFunction, progress: Progress) -> ForegroundConfig:
    """Choose the interpreter and create the Python environment that the function needs."""
    function = loaded.function
    chosen = interpreter.choose_interpreter(function)
    needed = torch_index.prefer_cpu_builds(
        requirements.collect_requirements(function, loaded.folder), function
    )
    python = environment.ensure_environment(chosen, needed, progress)
    paths = RevisionPaths(
        0,
        str(loaded.folder.resolve()),
        str(python or chosen.path),
        str(sdk.ensure_sdk(chosen.version)),
    )
    warnings = platform_warnings(function, needed)
    if chosen.warning:
        warnings = (chosen.warning, *warnings)
    # An overlay for writes would hide later changes of the files.
    config = {**processor_config(function, paths), "immutable": False}
    if grpc_packages.serves_grpc(function):
        own_python = grpc_packages.GrpcPython(sys.version_info[:2], grpc_packages.own_system())
        with suppress(BuildError):
            grpc_packages.ensure_local_packages(own_python, progress)
        config["grpc_packages"] = str(grpc_packages.local_packages_folder(own_python))
    return ForegroundConfig(function, config, warnings)


class ForegroundProcessor:
    """A processor and its socket. As a context manager, it stops the processor at the end.

    `on_record` is called with each record of the log, in a thread. Unless `listed`, other commands
    and dashboards do not see the function, and port 0 is always a free one.
    """

    def __init__(
        self,
        config: ForegroundConfig,
        host: str,
        port: int,
        on_record: Callable[[LogRecord], object],
        *,
        listed: bool = True,
    ):
        self.config = config
        self._listed = listed
        self._on_record = on_record
        port = port or (requested_port(config.function) if listed else 0)
        self._socket = _bind_socket(host, port)
        # Open in any case, since a changed configuration may list gRPC.
        self._grpc_socket = _bind_socket(host, 0)
        trees.remove_abandoned(_FOLDER_PREFIX)
        self._folder = tempfile.TemporaryDirectory(prefix=f"{_FOLDER_PREFIX}{os.getpid()}-")
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: Thread | None = None
        self._generation = 0
        self._registration: Registration | None = None

    def __enter__(self) -> ForegroundProcessor:
        return self

    def __exit__(self, *_: object) -> None:
        if self._registration is not None:
            self._registration.close()
        self.stop()
        self._socket.close()
        self._grpc_socket.close()
        self._folder.cleanup()

    @property
    def url(self) -> str:
        host, port = self._socket.getsockname()[:2]
        return f"http://{host}:{port}"

    @property
    def grpc_port(self) -> int:
        """The port for gRPC, 0 if the function does not serve it."""
        if not grpc_packages.serves_grpc(self.config.function):
            return 0
        port: int = self._grpc_socket.getsockname()[1]
        return port

    @property
    def ended(self) -> int | None:
        """The processor's exit status, None while it runs."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        """Start a processor. Does not wait until it is ready."""
        self._generation += 1
        path = Path(self._folder.name) / f"processor-{self._generation}.json"
        descriptors = [self._socket.fileno(), self._grpc_socket.fileno()]
        listeners = {
            "http": {"fd": descriptors[0]},
            "grpc": {"fd": descriptors[1]},
            "admin": None,
            "control": self._control_socket,
        }
        log = {**self.config.settings["log"], "format": "json"}
        config = {**self.config.settings, "listeners": listeners, "log": log}
        config["neighbours"] = str(run_dir())
        if not is_loopback(self._socket.getsockname()[0]):
            config["allowed_hosts"] = None
        path.write_text(json.dumps(config))
        path.chmod(0o600)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fnbuild.runtime.processor", "--config", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=clean_environment(os.environ),
            pass_fds=descriptors,
            # Ctrl-C reaches every process of the terminal, and a second signal would abort
            # requests in flight. So the processor gets only the signal of `stop`.
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - there is one thread, and one system call
        )
        self._reader = Thread(target=self._read_log, args=(self._process,), daemon=True)
        self._reader.start()
        if self._listed:
            self._register()

    def _register(self) -> None:
        """Make the function visible to other commands and dashboards."""
        host, port = self._socket.getsockname()[:2]
        ports = (port, self.grpc_port)
        record = make_record(self.config.function, host, ports, self._control_socket)
        if self._registration is None:
            self._registration = Registration(record)
        else:
            self._registration.update(record)

    def _read_log(self, process: subprocess.Popen[bytes]) -> None:
        """Parse each line of the processor's output and pass it on, until the processor ends."""
        assert process.stdout is not None
        with process.stdout as output:
            for line in output:
                self._on_record(parse_log_line(line, time.time()))

    def wait_ready(self) -> float:
        """Wait until all workers are ready, and return the duration in seconds.

        Raises `NotReadyError` with the handler's error.
        """
        began = time.monotonic()
        deadline = began + start_seconds(self.config.function) + _GRACE_PERIOD
        while time.monotonic() < deadline:
            if self.ended is not None:
                self._join_reader()
                raise NotReadyError(f"the processor ended with exit status {self.ended}")
            with suppress(ProcessorUnreachableError):  # it is still starting
                status = read_status(Path(self._control_socket), _GRACE_PERIOD)
                if status.state == "ready":
                    return time.monotonic() - began
                if status.state == "unhealthy":
                    name = self.config.function.metadata.name
                    raise NotReadyError(
                        f"{name} did not become ready", detail=status.message or None
                    )
            time.sleep(_POLL_INTERVAL)
        raise NotReadyError("the function was not ready in time")

    def reload(self, *, restart: bool) -> float:
        """Reload the code, or restart the workers one by one; return the duration in seconds.

        Raises `NotReadyError` with the traceback of the first worker that fails.
        """
        began = time.monotonic()
        seconds = readiness_seconds(self.config.function) + _GRACE_PERIOD
        body = json.dumps({"restart": restart}).encode()
        try:
            _, _, reply = client.request(
                "POST", self._control_socket, "/reload", body, timeout=seconds
            )
        except OSError as error:
            raise PlatformError(f"the processor does not answer: {error}") from error
        answers: dict[str, str] = json.loads(reply)["workers"]
        for answer in answers.values():
            if answer != "ok":
                raise NotReadyError("the change does not load", detail=answer)
        return time.monotonic() - began

    def replace(self, config: ForegroundConfig) -> None:
        """Restart the processor with a new configuration, on the same socket."""
        self.stop()
        self.config = config
        self.start()

    def stop(self) -> None:
        """Stop the processor after its requests in flight."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(max(_GRACE_PERIOD, self._longest_event) + _GRACE_PERIOD)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._join_reader()

    def _join_reader(self) -> None:
        # A child process of the handler may keep the pipe open.
        if self._reader is not None:
            self._reader.join(_OUTPUT_TIMEOUT)

    @property
    def _longest_event(self) -> float:
        triggers = self.config.settings["triggers"].values()
        return max((float(trigger["termination_timeout"]) for trigger in triggers), default=0.0)

    @property
    def _control_socket(self) -> str:
        return str(Path(self._folder.name) / f"control-{self._generation}.sock")


def _end_with_parent() -> None:
    """Have the kernel send SIGTERM to the processor when `fnbuild run` dies."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _bind_socket(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(512)
    except OSError as error:
        listener.close()
        raise PlatformError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            hint="`--port` takes another; 0 takes a free one" if port else None,
        ) from error
    return listener
