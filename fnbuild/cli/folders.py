"""Which folders are functions: one, or all that lie below another."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
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


def configurations(top: Path, patterns: Sequence[str]) -> list[Path]:
    """Every configuration file below a folder, by path; one inside another function's folder too.

    A folder gives its files of the first pattern that fits any. Links to folders are not followed,
    as CVAT's scripts do not (shell patterns, `**`), so that none is found twice or for ever.
    """
    found: list[Path] = []
    for place, folders, files in os.walk(top):
        folders[:] = [name for name in folders if name not in SKIPPED]
        fitting = ([one for one in files if fnmatchcase(one, each)] for each in patterns)
        found += (Path(place, name) for name in next(filter(None, fitting), ()))
    return sorted(found)
