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
from fnbuild.platforms import FunctionKey

CONFIG_NAME = "processor.json"

log = logging.getLogger(__name__)


def log_path(key: FunctionKey) -> Path:
    return function_dir(*key) / "log.jsonl"


def revisions_dir(key: FunctionKey) -> Path:
    return function_dir(*key) / "revisions"


def models_dir(key: FunctionKey) -> Path:
    """Return the folder of downloaded models; the function's user may write to its parent."""
    return function_dir(*key) / "home" / "models"


def recording_dir(key: FunctionKey) -> Path:
    """Return the folder of recorded requests; the function's user may write to its parent."""
    return function_dir(*key) / "home" / "recording"


def config_path(key: FunctionKey, revision: int) -> Path:
    """Return the path of the revision's recorded processor configuration."""
    return revision_dir(*key, revision) / CONFIG_NAME


def launch_path(key: FunctionKey, revision: int) -> Path:
    """Return the path of the configuration that the running processor was started with."""
    return run_dir() / f"{key.namespace}.{key.name}.{revision}.json"


def control_socket(key: FunctionKey, revision: int) -> Path:
    return run_dir() / f"{key.namespace}.{key.name}.{revision}.sock"


def announcement_path(key: FunctionKey, revision: int) -> Path:
    """Return the path of the processor's port, which isolated functions may read."""
    return data_dir() / "neighbours" / f"{key.namespace}.{key.name}.{revision}.json"


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
    runtime: str = ""


# Created at import, as in fnbuild.platforms.processor_status.
_LAUNCH_DECODER = msgspec.json.Decoder(_LaunchFile)


def launched_processors() -> Iterator[tuple[FunctionKey, int]]:
    """Yield the function and revision of every processor that has a launch file."""
    for path in sorted(run_dir().glob("*.json")):
        try:
            function = _LAUNCH_DECODER.decode(path.read_bytes()).function
        except msgspec.MsgspecError:
            _remove(path)  # a killed supervisor did not finish writing it
            continue
        except FileNotFoundError:
            continue
        except OSError as error:
            # It may belong to a running processor, so it is kept.
            log.warning("%s cannot be read: %s", path, error)
            continue
        yield FunctionKey(function.namespace, function.name), function.revision


def launched_runtime(key: FunctionKey, revision: int) -> str:
    """Return the digest of the runtime that the processor was started with, "" if unknown."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return _LAUNCH_DECODER.decode(launch_path(key, revision).read_bytes()).runtime
    return ""


def announce_port(key: FunctionKey, revision: int, port: int) -> Path:
    """Publish the function's port to isolated functions, and return the folder with all ports.

    They may not read the processor's configuration, which contains the function's environment.
    """
    path = announcement_path(key, revision)
    path.parent.mkdir(mode=0o755, exist_ok=True)
    path.write_text(json.dumps({"listeners": {"http": {"port": port}}}))
    path.chmod(0o644)
    return path.parent


def remove_runtime_files(key: FunctionKey, revision: int) -> None:
    """Remove the files of a processor that has ended: in `run/`, and its announced port.

    A failure is logged. The next supervisor notices that no process listens there and tries again.
    """
    _remove(launch_path(key, revision))
    _remove(control_socket(key, revision))
    _remove(announcement_path(key, revision))


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s cannot be removed: %s", path, error)


def mark_down() -> None:
    """Record that all functions are stopped now."""
    now = time.time_ns()
    # A full disk must not prevent the stop.
    with contextlib.suppress(OSError):
        down_marker().touch(mode=0o600)
        os.utime(down_marker(), ns=(now, now))


def last_down() -> int:
    """Return the timestamp of the last `fnbuild down`, 0 if there was none."""
    try:
        return down_marker().stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def check_no_down_since(previous_down: int, name: str) -> None:
    """Raise `ConflictError` if `fnbuild down` ran since `last_down` returned `previous_down`.

    A deploy that started before `fnbuild down` must not start its function afterwards.
    """
    if last_down() != previous_down:
        raise ConflictError(
            f"{name} was not started, because `fnbuild down` ran meanwhile",
            hint="`fnbuild up` starts the previous revision; deploy again to apply the change",
        )
