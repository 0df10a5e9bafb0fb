"""Read requirement files as pip does: nested files, comments, joined lines, local packages.

The result is flat text with absolute paths, so that equal texts mean equal packages.
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
_FIND_LINKS = re.compile(r"(?:-f|--find-links)(?:\s*=\s*|\s+)(\S.*)$")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
# As in `file:./package` and `name[extra] @ file:///path`.
_FILE_URL = re.compile(r"(?:[\w.-]+\s*(\[[^\]]*\])?\s*@\s*)?file:(?://(?:localhost)?)?([^#?]+)")
_PACKAGE_SUFFIXES = (".whl", ".tar.gz", ".tgz", ".tar.bz2", ".zip")
_MAX_FILE_BYTES = 1024 * 1024


@dataclass(slots=True)
class FlatRequirements:
    """Flat lines of requirement files in `folder`.

    `own_packages` are the folders and archives that they name in place of published packages,
    `links` are folders and pages in which pip looks for packages. `places` maps each line to its
    file and line number.
    """

    folder: Path
    requirements: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    own_packages: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)

    def read(self, path: Path, *, constraint: bool = False) -> None:
        """Add the lines of a file, given by its real path, and of the files that it names."""
        if path in self.files:
            return  # named twice, or recursively
        self.files.append(path)
        target = self.constraints if constraint else self.requirements
        for number, line in _logical_lines(path):
            place = f"{path.relative_to(self.folder)}:{number}"
            if nested := _NESTED.match(line):
                self._read_nested(nested, path, place, constraint)
            else:
                flat = self._flat_line(line, path.parent, place)
                self.places.setdefault(flat, place)
                target.append(flat)

    def _read_nested(self, match: re.Match[str], path: Path, place: str, constraint: bool) -> None:
        name = match[2].strip()
        as_constraint = constraint or match[1] in ("-c", "--constraint")
        if _URL.match(name):
            target = self.constraints if as_constraint else self.requirements
            target.append(f"{match[1]} {name}")
            return
        nested = resolve_inside(path.parent / name, self.folder)
        if nested is None or not nested.is_file():
            raise BuildError(
                f"{place}: {name} is not a file in the function's folder",
                hint="add the file, or remove the line",
            )
        self.read(nested, constraint=as_constraint)

    def _flat_line(self, line: str, base: Path, place: str) -> str:
        if links := _FIND_LINKS.match(line):
            local = resolve_inside(base / links[1].strip(), self.folder)
            if local is None:
                return line
            # The path differs from revision to revision; only the content counts.
            self.links.append(local)
            return f"--find-links {local}"
        editable = _EDITABLE.match(line)
        # pip installs from a private copy.
        line = editable[1].strip() if editable else line
        requirement, semicolon, marker = line.partition(";")
        name, extras = split_extras(requirement.strip())
        if url := _FILE_URL.match(name):
            target = base / urllib.parse.unquote(url[2])
            if (local := resolve_inside(target, self.folder)) is not None:
                self.own_packages.append(local)
                return f"{local}{url[1] or extras}{semicolon}{marker}"
        if not is_local_path(name):
            return line
        path = resolve_inside(base / name, self.folder)
        if path is None:
            raise BuildError(
                f"{place}: {name} is not in the function's folder",
                hint="add it to the folder, or name a published package",
            )
        self.own_packages.append(path)
        return f"{path}{extras}{semicolon}{marker}"


def split_extras(requirement: str) -> tuple[str, str]:
    """Split `./package[gpu]` into `./package` and `[gpu]`."""
    match = re.search(r"\[[\w,\s.-]+\]$", requirement)
    return (requirement[: match.start()], match[0]) if match else (requirement, "")


def is_local_path(name: str) -> bool:
    """Return True if a requirement is the path of a folder or an archive."""
    if _URL.match(name) or name.startswith("-") or "@" in name:
        return False
    return name.startswith((".", "/")) or "/" in name or name.endswith(_PACKAGE_SUFFIXES)


def resolve_inside(path: Path, folder: Path) -> Path | None:
    """Return the real path if it exists and is in the folder, else None."""
    try:
        real = path.resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        return None  # it does not exist, its name is invalid, or its links form a loop
    root = folder.resolve()
    return real if real == root or root in real.parents else None


def _logical_lines(path: Path) -> list[tuple[int, str]]:
    """Return logical lines with the number of their first line."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BuildError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > _MAX_FILE_BYTES:
        raise BuildError(f"{path} is larger than 1 MiB, too large for a requirements file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BuildError(
            f"{path} is not UTF-8 text (byte {error.start})", hint="save it as UTF-8"
        ) from error
    result: list[tuple[int, str]] = []
    start, pending = 0, ""
    for number, raw_line in enumerate(text.splitlines(), 1):
        start = start or number
        if raw_line.endswith("\\") and not raw_line.lstrip().startswith("#"):
            pending += raw_line[:-1]
            continue
        line = _COMMENT.sub("", pending + raw_line).strip()
        if line:
            result.append((start, line))
        start, pending = 0, ""
    if pending.strip():
        result.append((start, pending.strip()))
    return result
