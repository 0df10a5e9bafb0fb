"""Reads requirement files as pip does (nested files, comments, joined lines), without running it.

The result is one flat text with every local path made absolute, so that it means the same wherever
it is used, and equal texts mean equal packages.
"""

from __future__ import annotations

import re
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path

from fnbuild.errors import BuildError

_COMMENT = re.compile(r"(^|\s+)#.*$")
_NESTED = re.compile(r"(-r|--requirement|-c|--constraint)(?:\s*=\s*|\s+|(?<=^-[rc]))(\S.*)$")
_EDITABLE = re.compile(r"(?:-e|--editable)(?:\s*=\s*|\s+)(\S.*)$")
_LINKS = re.compile(r"(?:-f|--find-links)(?:\s*=\s*|\s+)(\S.*)$")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
# As in `file:./package` and `name[extra] @ file:///path`.
_FILE_URL = re.compile(r"(?:[\w.-]+\s*(\[[^\]]*\])?\s*@\s*)?file:(?://(?:localhost)?)?([^#?]+)")
_ARCHIVES = (".whl", ".tar.gz", ".tgz", ".tar.bz2", ".zip")
_LARGEST_BYTES = 1024 * 1024


@dataclass(slots=True)
class Flat:
    """Flat lines of files in `folder`, and the local packages that the lines name.

    `links` are folders and pages in which pip looks for packages. `places` maps each line to its
    file and its position there.
    """

    folder: Path
    requirements: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    sources: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)

    def read(self, path: Path, *, constraint: bool = False) -> None:
        """Add the lines of one file, by its real path, and of all the files it names."""
        if path in self.files:
            return  # named twice, or by a file that it names itself
        self.files.append(path)
        target = self.constraints if constraint else self.requirements
        for number, line in _lines(path):
            place = f"{path.relative_to(self.folder)}:{number}"
            if nested := _NESTED.match(line):
                self._nested(nested, path, place, constraint)
            else:
                flat = self._line(line, path.parent, place)
                self.places.setdefault(flat, place)
                target.append(flat)

    def _nested(self, match: re.Match[str], path: Path, place: str, constraint: bool) -> None:
        name = match[2].strip()
        as_constraint = constraint or match[1] in ("-c", "--constraint")
        if _URL.match(name):
            target = self.constraints if as_constraint else self.requirements
            target.append(f"{match[1]} {name}")
            return
        nested = inside(path.parent / name, self.folder)
        if nested is None or not nested.is_file():
            raise BuildError(
                f"{place}: {name} is not a file in the function's folder",
                hint="add the file, or remove the line",
            )
        self.read(nested, constraint=as_constraint)

    def _line(self, line: str, base: Path, place: str) -> str:
        if links := _LINKS.match(line):
            local = inside(base / links[1].strip(), self.folder)
            if local is None:
                return line
            # The path differs from revision to revision; only the content counts.
            self.links.append(local)
            return f"--find-links {local}"
        editable = _EDITABLE.match(line)
        # What is installed is a copy in an environment; there is nothing to edit.
        line = editable[1].strip() if editable else line
        requirement, semicolon, marker = line.partition(";")
        name, extras = split_extras(requirement.strip())
        if url := _FILE_URL.match(name):
            place_there = base / urllib.parse.unquote(url[2])
            if (there := inside(place_there, self.folder)) is not None:
                self.sources.append(there)
                return f"{there}{url[1] or extras}{semicolon}{marker}"
        if not looks_local(name):
            return line
        path = inside(base / name, self.folder)
        if path is None:
            raise BuildError(
                f"{place}: {name} is not in the function's folder",
                hint="add it to the folder, or name a published package",
            )
        self.sources.append(path)
        return f"{path}{extras}{semicolon}{marker}"


def split_extras(requirement: str) -> tuple[str, str]:
    """`./package[gpu]` as `./package` and `[gpu]`."""
    match = re.search(r"\[[\w,\s.-]+\]$", requirement)
    return (requirement[: match.start()], match[0]) if match else (requirement, "")


def looks_local(name: str) -> bool:
    """Whether a requirement is the path of a folder or an archive, and no published package."""
    if _URL.match(name) or name.startswith("-") or "@" in name:
        return False
    return name.startswith((".", "/")) or "/" in name or name.endswith(_ARCHIVES)


def inside(path: Path, folder: Path) -> Path | None:
    """The real path of what is there and lies in the folder, else None."""
    try:
        real = path.resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        return None  # nothing there, a name that no file can have, or a loop of links
    root = folder.resolve()
    return real if real == root or root in real.parents else None


def _lines(path: Path) -> list[tuple[int, str]]:
    """Logical lines with the number of their first line."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BuildError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > _LARGEST_BYTES:
        raise BuildError(f"{path} is larger than 1 MiB; that is no file of requirements")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BuildError(
            f"{path} is not UTF-8 text (byte {error.start})", hint="save it as UTF-8"
        ) from error
    found: list[tuple[int, str]] = []
    start, held = 0, ""
    for number, raw in enumerate(text.splitlines(), 1):
        start = start or number
        if raw.endswith("\\") and not raw.lstrip().startswith("#"):
            held += raw[:-1]
            continue
        line = _COMMENT.sub("", held + raw).strip()
        if line:
            found.append((start, line))
        start, held = 0, ""
    if held.strip():
        found.append((start, held.strip()))
    return found
