"""Which folders are functions: one, or all that lie below another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from fnbuild import trees
from fnbuild.cli.watch import SKIPPED_FOLDERS
from fnbuild.function.files import CONFIG_NAMES

VARIANT_PATTERNS = ("function-*.yaml", "function-*.yml")
"""Patterns of the variants of function.yaml that CVAT's functions have, as function-gpu.yaml."""


def is_function_folder(folder: Path) -> bool:
    """Return True if the folder has a function.yaml."""
    return any((folder / name).is_file() for name in CONFIG_NAMES)


def configurations_of(path: Path) -> list[Path]:
    """Return the path itself, or all configurations of a folder, each to be read as a function.

    A folder with a function.yaml represents that file; its variants, such as function-gpu.yaml,
    follow it. For a folder without either, the configurations below it are returned, by name. A
    folder without any is returned itself, and reading it reports what is missing.
    """
    if not path.is_dir():
        return [path]
    own = _configurations_in(path, [entry.name for entry in path.iterdir() if entry.is_file()])
    return (
        own or [file for files in sorted(_configurations_below(path)) for file in files] or [path]
    )


def _configurations_below(folder: Path) -> Iterator[list[Path]]:
    for place, folders, files in trees.walk(folder):
        folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS]
        if own := _configurations_in(Path(place), files):
            yield own
            # What lies inside a function is its own.
            folders.clear()


def _configurations_in(folder: Path, files: Iterable[str]) -> list[Path]:
    names = set(files)
    variants = sorted(
        name for name in names if any(fnmatchcase(name, pattern) for pattern in VARIANT_PATTERNS)
    )
    main = [] if names.isdisjoint(CONFIG_NAMES) else [folder]
    return [*main, *(folder / name for name in variants)]


def find_configurations(top: Path, patterns: Sequence[str]) -> list[Path]:
    """Every configuration file below a folder, by path; one inside another function's folder too.

    A folder gives its files of the first pattern that fits any. Links to folders are not followed,
    as CVAT's scripts do not (shell patterns, `**`), so that none is found twice or for ever.
    """
    found: list[Path] = []
    for place, folders, files in trees.walk(top):
        folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS]
        fitting = ([one for one in files if fnmatchcase(one, each)] for each in patterns)
        found += (Path(place, name) for name in next(filter(None, fitting), ()))
    return sorted(found)
