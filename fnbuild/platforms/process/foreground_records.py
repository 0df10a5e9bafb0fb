"""Records of the functions that `fnbuild run` serves, one for the lifetime of each process.

The process holds a lock on its record, which the kernel releases when the process ends. A record
without a lock is removed by the next process that reads it.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from fnbuild.datadir import data_dir, make_private_dir
from fnbuild.errors import ConfigError, PreconditionError
from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function, Raw, to_dict
from fnbuild.platforms import Deployment, FunctionKey, FunctionState
from fnbuild.platforms.process.processor_client import ProcessorUnreachableError, read_status
from fnbuild.platforms.processor_status import ProcessorStatus

_MAX_SIZE = 4 << 20


@dataclass(frozen=True, slots=True)
class ForegroundRecord:
    """A function in the foreground. `control` is the control socket of its processor."""

    namespace: str
    name: str
    host: str
    port: int
    process: int
    control: str
    config: Raw
    grpc_port: int = 0

    @property
    def key(self) -> FunctionKey:
        return FunctionKey(self.namespace, self.name)


class Registration:
    """The locked record of this process; `close` removes it."""

    def __init__(self, record: ForegroundRecord):
        self._path = _folder() / f"{os.getpid()}-{secrets.token_hex(4)}.json"
        draft = self._path.with_suffix(".new")
        self._descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # The record is locked before it gets its name, since unlocked ones are removed as stale.
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        self.update(record)
        draft.replace(self._path)

    def update(self, record: ForegroundRecord) -> None:
        content = json.dumps(asdict(record), default=str).encode()
        os.pwrite(self._descriptor, content, 0)
        os.ftruncate(self._descriptor, len(content))

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def records(namespace: str = "") -> list[ForegroundRecord]:
    """Return the functions that run in the foreground, newest first and each key once."""
    newest: dict[FunctionKey, ForegroundRecord] = {}
    for path in sorted(_paths(), key=_modified, reverse=True):
        record = _read(path)
        if record is not None and namespace in ("", record.namespace):
            newest.setdefault(record.key, record)
    return list(newest.values())


def find(key: FunctionKey) -> ForegroundRecord | None:
    return next((record for record in records(key.namespace) if record.key == key), None)


def change_counter() -> int:
    """Return a number that changes when a foreground function starts or stops."""
    return sum(_modified(path) for path in _paths())


def check_not_foreground(key: FunctionKey) -> None:
    """Raise `PreconditionError` for a function that only runs in the foreground."""
    record = find(key)
    if record is not None:
        raise PreconditionError(
            f"{key.name} is not deployed: it runs in the foreground (`fnbuild run`, process"
            f" {record.process})",
            hint="its log is in the terminal of that process, and Ctrl-C there ends it;"
            f" `fnbuild deploy {key.name} --path FOLDER` deploys it",
        )


def to_deployment(record: ForegroundRecord, platform: str) -> Deployment:
    """Return the function as a `Deployment`. Raises `ConfigError`."""
    function = function_from_dict(record.config, f"{record.namespace}/{record.name}")
    state, status = _state(record)
    address = f"{record.host}:{record.port}"
    return Deployment(
        function=function,
        platform=platform,
        state=state,
        message=f"it runs in the foreground (`fnbuild run`, process {record.process})",
        http_port=record.port,
        grpc_port=record.grpc_port,
        internal_urls=(address,),
        external_urls=(address,),
        replicas=(int(state == "ready"), 1),
        foreground=True,
        details={"foreground": True, "pid": record.process, "port": record.port},
        warnings=tuple(status.warnings) if status else (),
    )


def deployments(namespace: str, platform: str, project: str | None) -> Iterator[Deployment]:
    """Yield the namespace's functions whose configuration can be read."""
    for record in records(namespace):
        with suppress(ConfigError):
            entry = to_deployment(record, platform)
            if project in (None, entry.function.project):
                yield entry


def _state(record: ForegroundRecord) -> tuple[FunctionState, ProcessorStatus | None]:
    try:
        status = read_status(Path(record.control))
    except ProcessorUnreachableError:
        return "building", None  # it is being replaced, or its code does not start
    if status.state == "ready":
        return "ready", status
    return ("building" if status.state == "starting" else "unhealthy"), status


def make_record(
    function: Function, host: str, ports: tuple[int, int], control: str
) -> ForegroundRecord:
    """Describe a function that this process serves. `ports` are for HTTP and gRPC, or 0."""
    metadata = function.metadata
    # A listener on 0.0.0.0 is reachable by the loopback address as well.
    reachable = "127.0.0.1" if host in ("", "0.0.0.0") else host  # noqa: S104 - compared only
    return ForegroundRecord(
        metadata.namespace,
        metadata.name,
        reachable,
        ports[0],
        os.getpid(),
        control,
        to_dict(function),
        ports[1],
    )


def _folder() -> Path:
    return make_private_dir(data_dir() / "foreground")


def _paths() -> list[Path]:
    return list((data_dir() / "foreground").glob("*.json"))


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _read(path: Path) -> ForegroundRecord | None:
    """Read one record; remove it if its process has ended."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        with suppress(ValueError, TypeError):
            return ForegroundRecord(**json.loads(os.pread(descriptor, _MAX_SIZE, 0)))
    finally:
        os.close(descriptor)
    return None
