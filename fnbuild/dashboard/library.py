"""Folders of functions: the library that a dashboard offers, and what an upload holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fnbuild import trees
from fnbuild.errors import NotFoundError, Report
from fnbuild.spec.locate import NAMES, made_of
from fnbuild.spec.reader import check_text
from fnbuild.spec.types import Function

_SKIPPED = frozenset({".git", "__pycache__", "node_modules", ".venv", "venv"})
_DEEPEST = 8
_LARGEST = 4 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """A function in a folder. `place` is where, relative to that folder; "" is the folder itself.

    `text` is its configuration, `files` how many it has.
    """

    place: str
    folder: Path
    text: str
    function: Function
    report: Report
    files: int
    config: str
    """The name of its configuration file."""


def functions_in(folder: Path) -> list[Found]:
    """The functions in a folder, at whatever depth, by place; none inside another."""
    return [_found(folder, one) for one in sorted(_folders(folder, 0))]


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    if any((folder / name).is_file() for name in NAMES):
        yield folder
        return
    if depth < _DEEPEST:
        for one in folder.iterdir():
            if one.is_dir() and not one.is_symlink() and one.name not in _SKIPPED:
                yield from _folders(one, depth + 1)


def _found(root: Path, folder: Path) -> Found:
    config = next(folder / name for name in NAMES if (folder / name).is_file())
    with config.open("rb") as file:
        data = file.read(_LARGEST)
    with made_of(folder, "", ""):
        function, report = check_text(data, config.name, code=folder)
    files = sum(len(names) for _, _, names in trees.walk(folder))
    place = folder.relative_to(root).as_posix()
    return Found(
        "" if place == "." else place,
        folder,
        data.decode("utf-8-sig", "replace"),
        function or Function(),
        report,
        files,
        config.name,
    )


class Library:
    """The functions of one folder, walked when it is first asked for; None for an empty one."""

    def __init__(self, root: Path | None):
        self._root = root

    @cached_property
    def functions(self) -> dict[str, Found]:
        """By name, such as `opencv/face-haar`; none of what cannot be read."""
        if self._root is None or not self._root.is_dir():
            return {}
        return {one.place: one for one in functions_in(self._root) if not one.report.errors}

    def folder(self, name: str) -> Path:
        """That of a function. `NotFoundError` for a name that is none of the library's."""
        found = self.functions.get(name)
        if found is None:
            known = ", ".join(self.functions) or "it is empty"
            raise NotFoundError(f"the library has no function {name!r}", hint=f"known: {known}")
        return found.folder
