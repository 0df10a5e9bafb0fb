"""The folder that an archive becomes: every member is checked before it is written."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import IO, Literal, NoReturn

from fnbuild.build.sources.limits import Limits, mebibytes
from fnbuild.build.tree import shown
from fnbuild.errors import InputError

_DRIVE = re.compile(r"[A-Za-z]:")
_CHUNK = 1 << 20
_LONGEST_NAME = 4000
_UNPACK = "unpack it yourself, look at what it holds, and give its folder"
# What macOS puts beside the files of an archive.
_LITTER = ("__MACOSX", ".DS_Store")

_Kind = Literal["folder", "file", "link"]


def refuse(archive: str, member: str, why: str, hint: str = _UNPACK) -> InputError:
    """The error for a member that is not unpacked."""
    name = shown(member)
    name = name if len(name) <= 120 else name[:119] + "…"
    return InputError(f"{archive}: the member {name!r} is refused: {why}", hint=hint)


class Tree:
    """Writes members below `root`. `archive` names it in messages; `packed` is its size in bytes.

    A member's folders may come after it, or not at all.
    """

    def __init__(self, root: Path, archive: str, packed: int, limits: Limits):
        self.root = root
        self.archive = archive
        self._packed = packed
        self._limits = limits
        self._members = 0
        self._written = 0
        self._kinds: dict[str, _Kind] = {"": "folder"}
        self._links: dict[str, str] = {}

    @property
    def most(self) -> int:
        """The number of members that an archive may hold."""
        return self._limits.members

    def expect(self, members: int) -> None:
        """Raise `InputError` if the count exceeds the limit for an archive."""
        if members > self._limits.members:
            raise InputError(
                f"{self.archive} holds more than {self._limits.members} members", hint=_UNPACK
            )

    def folder(self, name: str) -> None:
        path = self._checked(name)
        if path is not None:
            self._enter(path, name)

    def file(self, name: str, content: IO[bytes], *, executable: bool) -> None:
        path = self._placed(name, "file")
        if path is None:
            return
        with open(self.root / path, "xb") as copy:
            while chunk := content.read(_CHUNK):
                self._count(len(chunk))
                copy.write(chunk)
            # Of the rights, only this one counts: nothing that an archive says lends rights.
            os.fchmod(copy.fileno(), 0o755 if executable else 0o644)

    def again(self, name: str, target: str) -> None:
        """A hard link: another name of a file that came before."""
        path = self._placed(name, "file")
        if path is None:
            return
        origin = self._checked(target)
        if origin is None or origin == path or self._kinds.get(origin) != "file":
            raise refuse(self.archive, name, f"it is a link to {shown(target)!r}, which is no file")
        os.link(self.root / origin, self.root / path, follow_symlinks=False)

    def link(self, name: str, target: str) -> None:
        """A symbolic link. All are made at the end, so that nothing is written through one."""
        path = self._placed(name, "link")
        if path is None:
            return
        aim = os.path.normpath(os.path.join(os.path.dirname(path), target))
        if not target or "\0" in target or os.path.isabs(target) or aim.split("/")[0] == "..":
            self._leads_out(name, target)
        self._links[path] = target

    def finish(self) -> None:
        """Make the links, and look whether each stays inside, by way of others too."""
        for path, target in self._links.items():
            os.symlink(target, self.root / path)
        root = os.path.realpath(self.root)
        for path, target in self._links.items():
            real = os.path.realpath(os.path.join(root, path))
            if real != root and not real.startswith(root + "/"):
                self._leads_out(path, target)

    def _leads_out(self, name: str, target: str) -> NoReturn:
        raise refuse(self.archive, name, f"it is a link that leads out, to {shown(target)!r}")

    def _placed(self, name: str, kind: _Kind) -> str | None:
        """The path of a new member, whose folder is there; None for what is not unpacked."""
        path = self._checked(name)
        if path is None:
            return None
        if path in self._kinds:
            raise refuse(self.archive, name, "there is another member with that name")
        self._enter(os.path.dirname(path), name)
        self._kinds[path] = kind
        return path

    def _enter(self, path: str, name: str) -> None:
        """Make a folder, and those around it."""
        missing: list[str] = []
        while path not in self._kinds:
            missing.append(path)
            path = os.path.dirname(path)
        if self._kinds[path] != "folder":
            raise refuse(self.archive, name, f"{shown(path)!r} is no folder, but another member")
        for each in reversed(missing):
            (self.root / each).mkdir(mode=0o755)
            self._kinds[each] = "folder"

    def _checked(self, name: str) -> str | None:
        """The path below the root that a name means; None for what nobody misses."""
        self._members += 1
        self.expect(self._members)
        if name.startswith(("/", "\\")) or _DRIVE.match(name):
            raise refuse(self.archive, name, "its name is an absolute path")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise refuse(self.archive, name, "its name leads out of the archive")
        if "\0" in name or len(name) > _LONGEST_NAME:
            raise refuse(self.archive, name, "no file can have its name")
        if len(parts) > self._limits.depth:
            deepest = self._limits.depth
            raise refuse(self.archive, name, f"it is nested more than {deepest} folders deep")
        if parts and (parts[0] in _LITTER or parts[-1] in _LITTER):
            return None
        return "/".join(parts)

    def _count(self, length: int) -> None:
        self._written += length
        limits = self._limits
        if self._written > limits.unpacked:
            raise InputError(
                f"{self.archive} unpacks to more than {mebibytes(limits.unpacked)}", hint=_UNPACK
            )
        if self._written > max(limits.harmless, limits.ratio * self._packed):
            raise InputError(
                f"{self.archive} unpacks to more than {limits.ratio} times its size"
                f" ({mebibytes(self._packed)}): that is how archives are made that fill a disk",
                hint=_UNPACK,
            )
