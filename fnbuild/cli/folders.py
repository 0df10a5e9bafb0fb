"""Which folders are functions: one, or all that lie below another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from fnbuild.cli.watching import SKIPPED
from fnbuild.spec.locate import NAMES


def is_function(folder: Path) -> bool:
    """Whether the folder has a function.yaml."""
    return any((folder / name).is_file() for name in NAMES)


def functions_of(path: Path) -> list[Path]:
    """The path itself, or the functions below a folder that is none itself, by name.

    A folder without any gives itself: whoever reads it says what is missing there.
    """
    if not path.is_dir() or is_function(path):
        return [path]
    return sorted(_below(path)) or [path]


def _below(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in SKIPPED]
        if not set(files).isdisjoint(NAMES):
            yield Path(place)
            # What lies inside a function is its own.
            folders.clear()
