"""Where the process platform keeps its files inside the data directory.

run/supervisor.sock, run/supervisor.lock        one supervisor a data directory
run/down                                        made anew by each `fnbuild down`
run/<namespace>.<name>.<revision>.sock          the control socket of a processor
run/<namespace>.<name>.<revision>.json          the configuration that processor was started with
supervisor.log                                  what the supervisor itself has to say
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from fnbuild.datadir import data_dir, function_dir, make_private, revision_dir
from fnbuild.platforms import keys

CONFIG_NAME = "processor.json"


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


def launched() -> Iterator[tuple[Key, int]]:
    """The function and revision of every processor that was started and not cleaned up after."""
    for path in sorted(run_dir().glob("*.json")):
        try:
            function = msgspec.json.decode(path.read_bytes(), type=_Launch).function
        except (OSError, msgspec.MsgspecError):
            path.unlink(missing_ok=True)  # half written by a supervisor that was killed
            continue
        yield Key(function.namespace, function.name), function.revision


def forget_launch(key: Key, revision: int) -> None:
    """Remove what a processor that has ended left in `run/`."""
    key.launch(revision).unlink(missing_ok=True)
    key.control(revision).unlink(missing_ok=True)
