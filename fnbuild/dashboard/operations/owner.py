"""Which dashboards of a data directory are alive: each holds a lock as long as it lives.

Beside its lock each has a folder for what it needs for a moment, which goes with it.
"""

from __future__ import annotations

import re
import secrets
import tempfile
from contextlib import ExitStack
from pathlib import Path

from fnbuild import trees
from fnbuild.datadir import LockHolder, data_dir, hold_lock, make_private_dir

_NAME = re.compile(r"[0-9a-f]{16}\Z")


class _LockedError(Exception):
    """Somebody has the lock."""


class OperationOwner:
    """One dashboard. `name` is what others know it by."""

    def __init__(self) -> None:
        self.name = secrets.token_hex(8)
        self._held = ExitStack()

    def appear(self) -> None:
        """Be alive from now on, and clear away those that are not."""
        self._held.enter_context(hold_lock(_lock_file(self.name), "served", _refuse))
        for path in _folder().glob("*.lock"):
            self.lives(path.stem)
        # What is killed half way leaves its temporary files where they are found again.
        tempfile.tempdir = str(make_private_dir(_temporary_folder(self.name)))

    def vanish(self) -> None:
        """Be gone, in order."""
        tempfile.tempdir = None
        _remove_files(self.name)
        self._held.close()

    def lives(self, name: str) -> bool:
        """Whether the dashboard of that name runs; what is left of a dead one is removed."""
        if not _NAME.match(name) or not _lock_file(name).exists():
            return False
        try:
            with hold_lock(_lock_file(name), "looked at", _refuse):
                _remove_files(name)
        except _LockedError:
            return True
        return False


def _remove_files(name: str) -> None:
    trees.try_remove(_temporary_folder(name))
    _lock_file(name).unlink(missing_ok=True)


def _folder() -> Path:
    return data_dir() / "dashboards"


def _lock_file(name: str) -> Path:
    return _folder() / f"{name}.lock"


def _temporary_folder(name: str) -> Path:
    return _folder() / f"{name}.tmp"


def _refuse(_: LockHolder) -> None:
    raise _LockedError
