"""The keeper of a TorchServe server on this machine: it starts the server again when it dies.

python -m fnbuild.platforms.torchserve.keeper FOLDER

The folder has `state.json` with what to start, and gets `keeper.lock`, held while the keeper lives,
`server.json`, the running server, and `restarts.json`. A server whose keeper was killed goes on
serving, and the next keeper adopts it. TERM ends keeper and server.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from fnbuild.datadir import LockHolder, hold_lock
from fnbuild.platforms import function_log
from fnbuild.platforms.leases import process_identity
from fnbuild.platforms.revision_records import timestamp
from fnbuild.platforms.torchserve.server_log import LOG_CONFIG

STATE_NAME = "state.json"
LOCK_NAME = "keeper.lock"
RESTARTS_NAME = "restarts.json"

_SERVER_NAME = "server.json"
_LOG_CONFIG_NAME = "log4j2.xml"
_STABLE_SECONDS = 60.0
_MAX_PAUSE = 30.0
_STOP_SECONDS = 1.0
_ROTATION_SECONDS = 5.0
_PAUSE = 0.05
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


class Launch(msgspec.Struct, frozen=True):
    """The server to start: the interpreter that has torchserve, its files, and variables."""

    python: str
    config_path: str
    store: str
    log: str
    variables: dict[str, str]


class ServerProcess(msgspec.Struct, frozen=True):
    """A running server: the leader of its process group, and what identifies this process."""

    pid: int
    identity: str
    socket_folder: str

    @property
    def is_alive(self) -> bool:
        return bool(self.identity) and process_identity(self.pid) == self.identity


class RestartCount(msgspec.Struct, frozen=True):
    """The number of restarts, and the ISO 8601 time of the last one."""

    count: int = 0
    time: str = ""


S = TypeVar("S", bound=msgspec.Struct)


def read_struct(path: Path, kind: type[S]) -> S | None:
    """Return the content of a JSON file, None if there is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None


def write_struct(path: Path, value: msgspec.Struct) -> None:
    """Write a JSON file atomically."""
    draft = path.with_name(path.name + ".new")
    draft.write_bytes(msgspec.json.encode(value))
    draft.replace(path)


def read_server(folder: Path) -> ServerProcess | None:
    """Return the running server of the folder, None if none runs."""
    server = read_struct(folder / _SERVER_NAME, ServerProcess)
    return server if server is not None and server.is_alive else None


def read_restarts(folder: Path) -> RestartCount:
    return read_struct(folder / RESTARTS_NAME, RestartCount) or RestartCount()


def stop_server(folder: Path, server: ServerProcess | None = None) -> None:
    """End the server with its workers, first politely, and remove its files.

    `server` is that of the folder, for a caller that knows it.
    """
    server = server or read_struct(folder / _SERVER_NAME, ServerProcess)
    if server is not None:
        if server.is_alive or _has_orphans(server.pid, folder):
            _end_group(server.pid)
        if Path(server.socket_folder).is_symlink():
            shutil.rmtree(Path(server.socket_folder).parent, ignore_errors=True)
    (folder / _SERVER_NAME).unlink(missing_ok=True)
    shutil.rmtree(folder / "tmp", ignore_errors=True)


def _has_orphans(group: int, folder: Path) -> bool:
    """Return True if a server runs in the folder whose group has lost its leader."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.getpgid(int(process.name)) == group and (process / "cwd").samefile(folder):
                return True
    return False


def _end_group(leader: int) -> None:
    """End a process group, by force if it takes too long."""
    deadline = time.monotonic() + _STOP_SECONDS
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGTERM)
        while time.monotonic() < deadline:
            with suppress(ChildProcessError):
                os.waitpid(leader, os.WNOHANG)  # otherwise it stays in its group
            os.killpg(leader, 0)
            time.sleep(_PAUSE)
        os.killpg(leader, signal.SIGKILL)


class Keeper:
    """Keeps the server of a folder running until it is told to end, or the folder is removed."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._launch = msgspec.json.decode((folder / STATE_NAME).read_bytes(), type=Launch)
        self._ended = False
        # They stay pending until `_wait` takes them.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)

    def run(self) -> None:
        """Start or adopt the server, and start it again each time that it ends."""
        attempt = 0
        while not self._ended:
            server = read_server(self._folder) or self._start()
            started = time.monotonic()
            while server.is_alive and not self._ended:
                self._wait(_ROTATION_SECONDS)
                function_log.rotate(Path(self._launch.log))
                self._ended = self._ended or not (self._folder / STATE_NAME).exists()
            if self._ended:
                stop_server(self._folder, server)
                return
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)  # workers may outlive their server
            attempt = 0 if time.monotonic() - started > _STABLE_SECONDS else attempt + 1
            restarts = RestartCount(read_restarts(self._folder).count + 1, timestamp())
            write_struct(self._folder / RESTARTS_NAME, restarts)
            self._wait(min(_MAX_PAUSE, 2.0**attempt / 4))

    def _wait(self, seconds: float) -> None:
        """Wait until a process of the server or this keeper is to end."""
        received = signal.sigtimedwait(_SIGNALS, seconds)
        self._ended = received is not None and received.si_signo != signal.SIGCHLD

    def _start(self) -> ServerProcess:
        stop_server(self._folder)
        launch, sockets = self._launch, str(self._socket_folder())
        environment = {**os.environ, **launch.variables, "TMPDIR": sockets, "TEMP": sockets}
        del environment["PYTHONPATH"]  # that of this process
        log_config = self._folder / _LOG_CONFIG_NAME
        log_config.write_text(LOG_CONFIG)
        command = [launch.python, "-m", "ts.model_server", "--start", "--foreground", "--ncs"]
        command += ["--ts-config", launch.config_path, "--model-store", launch.store]
        command += ["--log-config", str(log_config)]
        with Path(launch.log).open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                umask=0o077,
                start_new_session=True,
                preexec_fn=partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, _SIGNALS),  # noqa: PLW1509
            )
        server = ServerProcess(process.pid, process_identity(process.pid), sockets)
        write_struct(self._folder / _SERVER_NAME, server)
        return server

    def _socket_folder(self) -> Path:
        """Return a folder for models and sockets, whose names have to be short."""
        temporary = self._folder / "tmp"
        temporary.mkdir()
        link = Path(tempfile.mkdtemp(prefix="fnbuild-")) / "ts"
        link.symlink_to(temporary)
        return link


def main(folder: Path) -> None:
    """Keep the server of the folder running in a process of its own, unless another one does."""
    if os.fork():
        os._exit(0)

    def refuse(holder: LockHolder) -> None:
        sys.exit(f"{folder} has a keeper already: {holder}")

    with hold_lock(folder / LOCK_NAME, "kept", refuse):
        Keeper(folder).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
