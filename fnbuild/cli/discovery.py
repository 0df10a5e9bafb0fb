"""Find the configuration files of functions in a folder and below it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from fnbuild import trees
from fnbuild.cli.watch import SKIPPED_FOLDERS
from fnbuild.function.files import CONFIG_NAMES

VARIANT_PATTERNS = ("function-*.yaml", "function-*.yml")
"""Patterns of variants of function.yaml, such as CVAT's function-gpu.yaml."""


def is_function_folder(folder: Path) -> bool:
    """Return True if the folder has a function.yaml."""
    return any((folder / name).is_file() for name in CONFIG_NAMES)


def configurations_of(path: Path) -> list[Path]:
    """Return the path itself, or all configurations of a folder.

    A folder stands for its function.yaml; variants such as function-gpu.yaml follow it. If the
    folder has neither, return the configurations below it, sorted by name. If there are none,
    return the folder, so that reading it reports the missing file.
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
            # Folders inside a function belong to it.
            folders.clear()


def _configurations_in(folder: Path, files: Iterable[str]) -> list[Path]:
    names = set(files)
    variants = sorted(
        name for name in names if any(fnmatchcase(name, pattern) for pattern in VARIANT_PATTERNS)
    )
    main = [] if names.isdisjoint(CONFIG_NAMES) else [folder]
    return [*main, *(folder / name for name in variants)]


def find_configurations(top: Path, patterns: Sequence[str]) -> list[Path]:
    """Return every configuration file below a folder, sorted, including nested functions.

    Each folder contributes its files of the first pattern that matches any. Links to folders are
    not followed, as in CVAT's scripts (shell patterns, `**`), so that no file appears twice.
    """
    configurations: list[Path] = []
    for place, folders, files in trees.walk(top):
        folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS]
        matches = ([name for name in files if fnmatchcase(name, pattern)] for pattern in patterns)
        configurations += (Path(place, name) for name in next(filter(None, matches), ()))
    return sorted(configurations)
