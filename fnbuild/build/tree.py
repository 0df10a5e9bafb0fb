"""The files of a function's folder that count as its code, and the hash over them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fnbuild import trees
from fnbuild.errors import BuildError

# Version control, what tools keep for themselves, and what an interpreter makes again.
_SKIPPED_NAMES = frozenset(
    (
        *(".git", ".hg", ".svn", ".bzr", ".DS_Store"),
        *("__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints"),
        *(".tox", ".nox", ".venv"),
    )
)
_SKIPPED_SUFFIXES = (".pyc", ".pyo")


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to copy. `path` is relative; `source` is a file on disk or the bytes themselves."""

    kind: Literal["folder", "file", "link"]
    path: str
    source: Path | bytes = b""
    executable: bool = False
    target: str = ""


@dataclass(slots=True)
class Contents:
    """Entries by their path, and what was left out that a user should know of."""

    entries: dict[str, Entry] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        """Add it, in place of an entry with the same path."""
        self.entries[entry.path] = entry

    def __iter__(self) -> Iterator[Entry]:
        """Entries in the order of their paths' bytes, so folders come before what is in them."""
        for path in sorted(self.entries, key=os.fsencode):
            yield self.entries[path]


def contents(folder: Path, excluded: Path | None = None) -> Contents:
    """What the folder holds. Raises `BuildError` for what can be neither read nor copied.

    `excluded` is a folder that is left out wherever it is met: the data directory, which may lie
    inside the function's folder.
    """
    root = os.path.realpath(folder)
    out = None if excluded is None else os.path.realpath(excluded)
    found = Contents()
    waiting = [""]
    while waiting:
        waiting += _collect(root, waiting.pop(), out, found)
    return found


def _collect(root: str, folder: str, out: str | None, collected: Contents) -> list[str]:
    """Add the entries of one folder; return its subfolders, which have to be read as well."""
    if folder.count(os.sep) >= trees.DEEPEST:
        raise BuildError(
            f"{shown(folder[:120])}… is nested more than {trees.DEEPEST} folders deep",
            hint="remove it, or move it out of the function's folder",
        )
    deeper: list[str] = []
    try:
        with os.scandir(os.path.join(root, folder)) as listing:
            children = list(listing)
    except OSError as error:
        raise _unreadable(folder or root, error) from error
    for child in children:
        if child.name in _SKIPPED_NAMES or child.name.endswith(_SKIPPED_SUFFIXES):
            continue
        path = os.path.join(folder, child.name)
        try:
            mode = child.stat(follow_symlinks=False).st_mode
        except OSError as error:
            raise _unreadable(path, error) from error
        if stat.S_ISLNK(mode):
            collected.add(Entry("link", path, target=_inside(root, path)))
        elif stat.S_ISREG(mode):
            collected.add(Entry("file", path, Path(child.path), bool(mode & stat.S_IXUSR)))
        elif not stat.S_ISDIR(mode):
            collected.warnings.append(f"{shown(path)} is {_special(mode)}; it is not copied")
        elif child.path != out and not os.path.exists(os.path.join(child.path, "pyvenv.cfg")):
            collected.add(Entry("folder", path))
            deeper.append(path)
    return deeper


def _special(mode: int) -> str:
    if stat.S_ISSOCK(mode):
        return "a socket"
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a device"


def _inside(root: str, path: str) -> str:
    """The relative target of a link; the link must stay in the folder, step by step."""
    link = os.path.join(root, path)
    try:
        raw = os.readlink(link)
    except OSError as error:
        raise _unreadable(path, error) from error
    here = os.path.dirname(link)
    # The last step stays unresolved: a link to a link remains one in the copy.
    aim = os.path.join(here, raw)
    aim = os.path.join(os.path.realpath(os.path.dirname(aim)), os.path.basename(aim))
    aim = os.path.normpath(aim)
    for place in (aim, os.path.realpath(link)):
        if place != root and not place.startswith(root.rstrip("/") + "/"):
            raise BuildError(
                f"the link {shown(path)} leads out of the function's folder, to {shown(raw)}",
                hint="copy the file into the folder, or remove the link",
            )
    return os.path.relpath(aim, here)


def hash_of(found: Contents, copy: Path | None = None) -> str:
    """SHA-256 (hex) over paths, executable bits, link targets and contents.

    With `copy` the contents are read from the copy, so the hash is of what was really copied.
    """
    total = hashlib.sha256()
    for entry in found:
        source = entry.source if copy is None else copy / entry.path
        content = b""
        if entry.kind == "file":
            content = _file_hash(source, entry.path)
        elif entry.kind == "link":
            content = os.fsencode(entry.target)
        kind = "program" if entry.executable else entry.kind
        for part in (kind.encode(), os.fsencode(entry.path), content):
            total.update(len(part).to_bytes(8, "big"))
            total.update(part)
    return total.hexdigest()


def _file_hash(source: Path | bytes, path: str) -> bytes:
    if isinstance(source, bytes):
        return hashlib.sha256(source).digest()
    try:
        with source.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: OSError) -> BuildError:
    if isinstance(error, FileNotFoundError):
        return BuildError(
            f"{shown(path)} vanished while the folder was read", hint="try again when it is at rest"
        )
    return BuildError(
        f"cannot read {shown(path)}: {error.strerror}",
        hint="make it readable, or move it out of the function's folder",
    )


def shown(path: str) -> str:
    """A path that can be printed, whatever bytes its name has."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
