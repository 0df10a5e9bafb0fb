"""Files of the process platform in the data directory.

run/supervisor.sock, run/supervisor.lock        one supervisor per data directory
run/down                                        touched by each `fnbuild down`
run/<namespace>.<name>.<revision>.sock          the control socket of a processor
run/<namespace>.<name>.<revision>.json          the configuration of a running processor
neighbours/<namespace>.<name>.<revision>.json   the port of a processor, for isolated functions
platform.yaml                                   settings of the platform on this machine
users.json                                      the user of each isolated function
supervisor.log                                  the log of the supervisor
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from fnbuild.datadir import data_dir, function_dir, make_private_dir, revision_dir
from fnbuild.errors import ConflictError
from fnbuild.platforms import base

CONFIG_NAME = "processor.json"

log = logging.getLogger(__name__)


class FunctionKey(base.FunctionKey):
    """A function, and where it is kept."""

    __slots__ = ()

    @property
    def log(self) -> Path:
        return function_dir(*self) / "log.jsonl"

    @property
    def revisions(self) -> Path:
        return function_dir(*self) / "revisions"

    def config(self, revision: int) -> Path:
        return revision_dir(self.namespace, self.name, revision) / CONFIG_NAME

    def control(self, revision: int) -> Path:
        return run_dir() / f"{self.namespace}.{self.name}.{revision}.sock"

    def announcement(self, revision: int) -> Path:
        return data_dir() / "neighbours" / f"{self.namespace}.{self.name}.{revision}.json"

    def launch(self, revision: int) -> Path:
        return run_dir() / f"{self.namespace}.{self.name}.{revision}.json"


def run_dir() -> Path:
    return make_private_dir(data_dir() / "run")


def supervisor_socket() -> Path:
    return run_dir() / "supervisor.sock"


def supervisor_lock() -> Path:
    return run_dir() / "supervisor.lock"


def down_marker() -> Path:
    return run_dir() / "down"


def supervisor_log() -> Path:
    return data_dir() / "supervisor.log"


class _Identity(msgspec.Struct):
    namespace: str
    name: str
    revision: int


class _LaunchFile(msgspec.Struct):
    function: _Identity


# Made at import, as in fnbuild.platforms.processor_status.
_LAUNCH_DECODER = msgspec.json.Decoder(_LaunchFile)


def launched_processors() -> Iterator[tuple[FunctionKey, int]]:
    """The function and revision of every processor that was started and not cleaned up after."""
    for path in sorted(run_dir().glob("*.json")):
        try:
            function = _LAUNCH_DECODER.decode(path.read_bytes()).function
        except msgspec.MsgspecError:
            _remove(path)  # half written by a supervisor that was killed
            continue
        except FileNotFoundError:
            continue
        except OSError as error:
            # It may belong to a processor that serves, so it has to stay.
            log.warning("%s cannot be read: %s", path, error)
            continue
        yield FunctionKey(function.namespace, function.name), function.revision


def announce_port(key: FunctionKey, revision: int, port: int) -> Path:
    """Publish the function's port to isolated functions, and return the folder with all ports.

    They may not read the processor's own configuration: it has the function's environment.
    """
    path = key.announcement(revision)
    path.parent.mkdir(mode=0o755, exist_ok=True)
    path.write_text(json.dumps({"listeners": {"http": {"port": port}}}))
    path.chmod(0o644)
    return path.parent


def remove_launch_files(key: FunctionKey, revision: int) -> None:
    """Remove the files in `run/` of a processor that has ended.

    A file that cannot be removed is logged and stays. The next supervisor notices that no process
    listens there and tries again.
    """
    _remove(key.launch(revision))
    _remove(key.control(revision))
    _remove(key.announcement(revision))


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s cannot be removed: %s", path, error)


def mark_down() -> None:
    """Note that everything is to be stopped now."""
    now = time.time_ns()
    # A full disk must not keep anybody from stopping what runs.
    with contextlib.suppress(OSError):
        down_marker().touch(mode=0o600)
        os.utime(down_marker(), ns=(now, now))


def last_down() -> int:
    """A number that each `mark` changes; 0 before the first."""
    try:
        return down_marker().stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def check_not_down_since(known: int, name: str) -> None:
    """Raise `ConflictError` where everything was stopped since `last` gave that number."""
    if last_down() != known:
        raise ConflictError(
            f"{name} was not started: `fnbuild down` has stopped everything meanwhile",
            hint="what ran before comes back with `fnbuild up`; deploy it again for the change",
        )
