"""Which files of a folder have changed, asked again and again: works on every file system."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

PERIOD = 0.1
"""Seconds between two looks."""

_SETTLE = 0.02

SKIPPED = frozenset(
    {".git", ".hg", ".svn", "__pycache__", ".venv", "venv", ".mypy_cache", ".ruff_cache"}
    | {".pytest_cache", ".idea", ".vscode", ".ipynb_checkpoints", "node_modules"}
)
# What editors write beside the file they save.
_TEMPORARY = (".pyc", "~", ".swp", ".swx", ".tmp", ".bak")

Snapshot = dict[str, tuple[int, int, int]]


class Watcher:
    """Tells changes of the files below a folder since the last time it was asked."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._seen = self._look()

    def changed(self) -> set[Path]:
        """Files that are new, gone or different. A save that is still going on is waited for."""
        import time

        now = self._look()
        if now == self._seen:
            return set()
        while True:
            time.sleep(_SETTLE)
            later = self._look()
            if later == now:
                break
            now = later
        names = {name for name in now.keys() | self._seen.keys() if self._differs(name, now)}
        self._seen = now
        return {self._folder / name for name in names}

    def _differs(self, name: str, now: Snapshot) -> bool:
        return now.get(name) != self._seen.get(name)

    def _look(self) -> Snapshot:
        return dict(_files(str(self._folder), ""))


def _files(folder: str, prefix: str) -> Iterator[tuple[str, tuple[int, int, int]]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        # Removed while we looked: its files count as gone.
        return
    for entry in entries:
        if entry.name in SKIPPED or entry.name.endswith(_TEMPORARY):
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path, f"{prefix}{entry.name}/")
            else:
                status = entry.stat()
                mark = (status.st_mtime_ns, status.st_size, status.st_ino)
                yield prefix + entry.name, mark
        except OSError:
            continue
