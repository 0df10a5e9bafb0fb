"""Where the process platform keeps its files inside the data directory.

run/supervisor.sock, run/supervisor.lock        one supervisor a data directory
run/down                                        made anew by each `fnbuild down`
run/<namespace>.<name>.<revision>.sock          the control socket of a processor
run/<namespace>.<name>.<revision>.json          the configuration that processor was started with
neighbours/<namespace>.<name>.<revision>.json   its port, for functions that are isolated
platform.yaml                                   how the platform is set up on this machine
users.json                                      which user each isolated function has
supervisor.log                                  what the supervisor itself has to say
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import msgspec

from fnbuild.datadir import data_dir, function_dir, make_private, revision_dir
from fnbuild.platforms import keys

CONFIG_NAME = "processor.json"

log = logging.getLogger(__name__)


class Key(keys.Key):
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
    return make_private(data_dir() / "run")


def supervisor_socket() -> Path:
    return run_dir() / "supervisor.sock"


def supervisor_lock() -> Path:
    return run_dir() / "supervisor.lock"


def down_mark() -> Path:
    return run_dir() / "down"


def supervisor_log() -> Path:
    return data_dir() / "supervisor.log"


class _Identity(msgspec.Struct):
    namespace: str
    name: str
    revision: int


class _Launch(msgspec.Struct):
    function: _Identity


# Made at import, as in fnbuild.platforms.processors.
_LAUNCH = msgspec.json.Decoder(_Launch)


def launched() -> Iterator[tuple[Key, int]]:
    """The function and revision of every processor that was started and not cleaned up after."""
    for path in sorted(run_dir().glob("*.json")):
        try:
            function = _LAUNCH.decode(path.read_bytes()).function
        except msgspec.MsgspecError:
            _remove(path)  # half written by a supervisor that was killed
            continue
        except FileNotFoundError:
            continue
        except OSError as error:
            # It may belong to a processor that serves, so it has to stay.
            log.warning("%s cannot be read: %s", path, error)
            continue
        yield Key(function.namespace, function.name), function.revision


def announce(key: Key, revision: int, port: int) -> Path:
    """Publish the function's port to isolated functions, and return the folder with all ports.

    They may not read the processor's own configuration: it has the function's environment.
    """
    path = key.announcement(revision)
    path.parent.mkdir(mode=0o755, exist_ok=True)
    path.write_text(json.dumps({"listeners": {"http": {"port": port}}}))
    path.chmod(0o644)
    return path.parent


def forget_launch(key: Key, revision: int) -> None:
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
