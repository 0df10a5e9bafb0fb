"""The lock of the data directory that a dashboard holds while it runs.

Operations record its name, so that other dashboards can tell whether theirs have been abandoned.
Beside its lock each dashboard has a folder for temporary files, which is removed with it.
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
    """Another process holds the lock."""


class DashboardLock:
    """The lock of this dashboard. Operations record its `name` as their owner."""

    def __init__(self) -> None:
        self.name = secrets.token_hex(8)
        self._held = ExitStack()

    def acquire(self) -> None:
        """Take the lock, and remove the files of dashboards that have died.

        From now on this process creates temporary files in the dashboard's folder.
        """
        self._held.enter_context(hold_lock(_lock_file(self.name), "served", _refuse))
        for path in _folder().glob("*.lock"):
            self.is_alive(path.stem)
        # The temporary files of a killed dashboard are here, where the next one removes them.
        tempfile.tempdir = str(make_private_dir(_temporary_folder(self.name)))

    def release(self) -> None:
        """Remove this dashboard's files, and release the lock."""
        tempfile.tempdir = None
        _remove_files(self.name)
        self._held.close()

    def is_alive(self, name: str) -> bool:
        """Return True if the dashboard of that name runs; otherwise remove its files."""
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
