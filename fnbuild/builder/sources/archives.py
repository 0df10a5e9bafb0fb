"""Archives of code: recognized by their content, unpacked member by member, unsafe ones refused.

An archive may come from anywhere, so nothing in it is trusted: each name is checked, links are
created last and must stay inside, and the unpacked size is counted while it is written. Owners,
times and privileged mode bits are not restored.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, Literal, NoReturn, cast

from fnbuild.builder.sources.limits import SourceLimits, format_mebibytes
from fnbuild.builder.staging import printable_path
from fnbuild.errors import InputError

_END = struct.Struct("<4s4H2LH")
_END_MAGIC = b"PK\x05\x06"
_LOCATOR = struct.Struct("<4sLQL")
_LOCATOR_MAGIC = b"PK\x06\x07"
_END_64 = struct.Struct("<4sQ2H2L4Q")
_END_64_MAGIC = b"PK\x06\x06"
_HEADER = struct.Struct("<4s24x3H12x")
_HEADER_MAGIC = b"PK\x01\x02"
_LONGEST_COMMENT = 0xFFFF


def count_zip_members(path: Path, most: int) -> int:
    """Count the entries of the central directory, up to `most` + 1.

    The count that the archive itself declares is not trusted. For a file that is not a zip archive
    the count is 0, and `zipfile` reports the error.
    """
    with path.open("rb") as file:
        directory = _zip_directory(file)
        if directory is None:
            return 0
        start, size = directory
        file.seek(start)
        count = read = 0
        while read < size and count <= most:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                break
            magic, name, extra, comment = _HEADER.unpack(header)
            if magic != _HEADER_MAGIC:
                break
            file.seek(name + extra + comment, os.SEEK_CUR)
            read += _HEADER.size + name + extra + comment
            count += 1
        return count


def _zip_directory(file: IO[bytes]) -> tuple[int, int] | None:
    """Return the offset and size of the central directory; None without an end record."""
    length = file.seek(0, os.SEEK_END)
    begin = max(0, length - _END.size - _LONGEST_COMMENT)
    file.seek(begin)
    tail = file.read()
    position = tail.rfind(_END_MAGIC)
    if position < 0 or position + _END.size > len(tail):
        return None
    end = begin + position
    size = _END.unpack_from(tail, position)[5]
    # As zipfile does: by its size, counted back from its end, since something may precede the zip.
    large = _zip64_directory(file, end)
    if large is not None:
        end, size = large
    return (end - size, size) if size <= end else None


def _zip64_directory(file: IO[bytes], end: int) -> tuple[int, int] | None:
    """Return the same for a zip64 archive, whose own end record precedes the ordinary one."""
    place = end - _LOCATOR.size - _END_64.size
    if place < 0:
        return None
    file.seek(place)
    record, locator = file.read(_END_64.size), file.read(_LOCATOR.size)
    if not (record.startswith(_END_64_MAGIC) and locator.startswith(_LOCATOR_MAGIC)):
        return None
    return place, _END_64.unpack(record)[8]


_DRIVE = re.compile(r"[A-Za-z]:")
_CHUNK = 1 << 20
_MAX_NAME_LENGTH = 4000
_UNPACK_HINT = "unpack it yourself, look at what it holds, and give its folder"
# What macOS puts beside the files of an archive.
_MACOS_METADATA = ("__MACOSX", ".DS_Store")

_MemberKind = Literal["folder", "file", "link"]


def member_error(archive: str, member: str, why: str, hint: str = _UNPACK_HINT) -> InputError:
    """The error for a member that is not unpacked."""
    name = printable_path(member)
    name = name if len(name) <= 120 else name[:119] + "…"
    return InputError(f"{archive}: the member {name!r} is refused: {why}", hint=hint)


class UnpackedTree:
    """Writes members below `root`. `archive` names it in messages; `packed` is its size in bytes.

    A member's folders may come after it, or not at all.
    """

    def __init__(self, root: Path, archive: str, packed: int, limits: SourceLimits):
        self.root = root
        self.archive = archive
        self._packed = packed
        self._limits = limits
        self._members = 0
        self._written = 0
        self._kinds: dict[str, _MemberKind] = {"": "folder"}
        self._links: dict[str, str] = {}

    @property
    def most(self) -> int:
        """The number of members that an archive may hold."""
        return self._limits.members

    def expect(self, members: int) -> None:
        """Raise `InputError` if the count exceeds the limit for an archive."""
        if members > self._limits.members:
            raise InputError(
                f"{self.archive} holds more than {self._limits.members} members", hint=_UNPACK_HINT
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
            raise member_error(
                self.archive, name, f"it is a link to {printable_path(target)!r}, which is no file"
            )
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
        raise member_error(
            self.archive, name, f"it is a link that leads out, to {printable_path(target)!r}"
        )

    def _placed(self, name: str, kind: _MemberKind) -> str | None:
        """The path of a new member, whose folder is there; None for what is not unpacked."""
        path = self._checked(name)
        if path is None:
            return None
        if path in self._kinds:
            raise member_error(self.archive, name, "there is another member with that name")
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
            raise member_error(
                self.archive, name, f"{printable_path(path)!r} is no folder, but another member"
            )
        for each in reversed(missing):
            (self.root / each).mkdir(mode=0o755)
            self._kinds[each] = "folder"

    def _checked(self, name: str) -> str | None:
        """The path below the root that a name means; None for what nobody misses."""
        self._members += 1
        self.expect(self._members)
        if name.startswith(("/", "\\")) or _DRIVE.match(name):
            raise member_error(self.archive, name, "its name is an absolute path")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise member_error(self.archive, name, "its name leads out of the archive")
        if "\0" in name or len(name) > _MAX_NAME_LENGTH:
            raise member_error(self.archive, name, "no file can have its name")
        if len(parts) > self._limits.depth:
            deepest = self._limits.depth
            raise member_error(self.archive, name, f"it is nested more than {deepest} folders deep")
        if parts and (parts[0] in _MACOS_METADATA or parts[-1] in _MACOS_METADATA):
            return None
        return "/".join(parts)

    def _count(self, length: int) -> None:
        self._written += length
        limits = self._limits
        if self._written > limits.unpacked:
            raise InputError(
                f"{self.archive} unpacks to more than {format_mebibytes(limits.unpacked)}",
                hint=_UNPACK_HINT,
            )
        if self._written > max(limits.harmless, limits.ratio * self._packed):
            raise InputError(
                f"{self.archive} unpacks to more than {limits.ratio} times its size"
                f" ({format_mebibytes(self._packed)}): that is how archives are made that fill a"
                " disk",
                hint=_UNPACK_HINT,
            )


ArchiveKind = Literal["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"]

ARCHIVE_SUFFIXES = (".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".tbz2", ".txz", ".tar", ".zip")

_MAGIC: tuple[tuple[bytes, ArchiveKind], ...] = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x1f\x8b", "tar.gz"),
    (b"BZh", "tar.bz2"),
    (b"\xfd7zXZ\x00", "tar.xz"),
)
_TAR_MAGIC_AT = 257
# Formats that people pack code with and that nothing here can read.
_UNSUPPORTED = (
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (b"Rar!", "RAR"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
)
# Headers of a tar are read whole, so a forged length would fill the memory.
_MAX_READ_BYTES = 8 << 20
_MAX_TARGET_LENGTH = 4096
_DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError),
    RecursionError,  # from tarfile, for a chain of a thousand headers
)


def archive_kind(path: Path) -> ArchiveKind | None:
    """What kind of archive a file is, by its first bytes; None when it is none.

    Raises `InputError` for a file that cannot be read and for an archive of a foreign format.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_TAR_MAGIC_AT + 8)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    for magic, name in _UNSUPPORTED:
        if head.startswith(magic):
            raise InputError(
                f"{path.name} is a {name} archive, which is not understood",
                hint="pack it as .zip, .tar.gz, .tar.xz or .tar.bz2, or unpack it yourself",
            )
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    return "tar" if head[_TAR_MAGIC_AT:].startswith(b"ustar") else None


def archive_stem(name: str) -> str:
    """An archive's name without its suffixes, for the folder it is unpacked into."""
    for suffix in ARCHIVE_SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def unpack_archive(
    archive: Path, destination: Path, name: str, limits: SourceLimits | None = None
) -> None:
    """Unpack the archive into `destination`, which must not exist. `name` is for messages.

    Raises `InputError` that names the member at fault, or what is wrong with the whole; what was
    unpacked until then is left to the caller, who made the folder around it.
    """
    kind = archive_kind(archive)
    if kind is None:
        raise InputError(f"{name} is no archive", hint="a .zip, .tar.gz, .tar.xz or .tar.bz2 is")
    destination.mkdir()
    packed = archive.stat().st_size
    tree = UnpackedTree(destination, name, packed, SourceLimits() if limits is None else limits)
    try:
        if kind == "zip":
            _unzip(archive, tree)
        else:
            _untar(archive, kind, tree)
        tree.finish()
    except _DAMAGED as error:
        raise InputError(
            f"{name} is damaged: {error or 'it ends too early'}",
            hint="fetch or pack it again; `tar tf` and `unzip -t` tell more",
        ) from error
    except NotImplementedError as error:
        raise InputError(
            f"{name} is packed in a way that is not understood: {error}",
            hint="pack it again with `zip -r` or `tar czf`",
        ) from error
    except OSError as error:
        # bz2 and gzip say so of damaged data, without an error number.
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise InputError(
            f"cannot unpack {name}: {error.strerror or error}",
            hint="set TMPDIR to a folder on a disk with more room" if full else None,
        ) from error


def _unzip(archive: Path, tree: UnpackedTree) -> None:
    # Opening the archive reads its whole directory into memory.
    tree.expect(count_zip_members(archive, tree.most))
    with zipfile.ZipFile(archive) as members:
        for info in members.infolist():
            raw = info.orig_filename
            # Some programs for Windows write its separator, against the format's rules.
            path = raw.replace("\\", "/")
            mode = info.external_attr >> 16 if info.create_system == 3 else 0
            kind = stat.S_IFMT(mode)
            if path.endswith("/") or kind == stat.S_IFDIR:
                tree.folder(path)
            elif info.flag_bits & 1:
                raise member_error(
                    tree.archive, raw, "it is encrypted", "pack it without a password"
                )
            elif kind == stat.S_IFLNK:
                with members.open(info) as file:
                    target = file.read(_MAX_TARGET_LENGTH + 1)
                tree.link(path, target.decode("utf-8", "surrogateescape"))
            elif kind in (0, stat.S_IFREG):
                with members.open(info) as file:
                    tree.file(path, file, executable=bool(mode & 0o111))
            else:
                raise member_error(tree.archive, raw, "it is a device or a pipe")


def _untar(archive: Path, kind: ArchiveKind, tree: UnpackedTree) -> None:
    with (
        _decompressed(archive, kind) as stream,
        tarfile.open(fileobj=_BoundedReads(stream), mode="r:") as members,
    ):
        for info in members:
            if info.isdir():
                tree.folder(info.name)
            elif info.issym():
                tree.link(info.name, info.linkname)
            elif info.islnk():
                tree.again(info.name, info.linkname)
            elif info.isreg():
                file = members.extractfile(info)
                assert file is not None
                with file:
                    tree.file(info.name, file, executable=bool(info.mode & 0o111))
            else:
                raise member_error(tree.archive, info.name, "it is a device or a pipe")


def _decompressed(archive: Path, kind: ArchiveKind) -> IO[bytes]:
    if kind == "tar.gz":
        return cast("IO[bytes]", gzip.open(archive))
    if kind == "tar.bz2":
        return bz2.open(archive)
    if kind == "tar.xz":
        return lzma.open(archive)
    return archive.open("rb")


class _BoundedReads:
    """A file for tarfile that reads no more at once than a sound archive makes it read."""

    def __init__(self, file: IO[bytes]):
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_READ_BYTES:
            raise tarfile.ReadError(f"a header says that it has {size} bytes")
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
