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
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, Literal, NoReturn, cast

from fnbuild.builder.sources.limits import DEFAULT_LIMITS, SourceLimits, format_mebibytes
from fnbuild.builder.sources.zip_directory import count_zip_members
from fnbuild.builder.staging import printable_path
from fnbuild.errors import InputError
from fnbuild.function.source_text import shortened

_DRIVE = re.compile(r"[A-Za-z]:")
_CHUNK = 1 << 20
_MAX_NAME_LENGTH = 4000
_UNPACK_HINT = "unpack and check it yourself, and pass its folder"
# Metadata that macOS adds to archives.
_MACOS_METADATA = ("__MACOSX", ".DS_Store")

_MemberKind = Literal["folder", "file", "link"]

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
# Common formats that the standard library cannot read.
_UNSUPPORTED = (
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (b"Rar!", "RAR"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
)
# tarfile reads headers whole, so that a forged length would fill the memory.
_MAX_READ_BYTES = 8 << 20
_MAX_TARGET_LENGTH = 4096
_DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError),
    RecursionError,  # from tarfile, for a chain of a thousand headers
)


def member_error(archive: str, member: str, why: str, hint: str = _UNPACK_HINT) -> InputError:
    """Return the error for a member that is refused."""
    name = shortened(printable_path(member), 120)
    return InputError(f"{archive}: the member {name!r} is refused: {why}", hint=hint)


class UnpackedTree:
    """The folder that an archive is unpacked to; every member is checked before it is written.

    `archive` is its name in messages; `packed` is its size in bytes. A member's folders may follow
    it, or be missing.
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
    def max_members(self) -> int:
        """Return the maximum number of members."""
        return self._limits.members

    def check_count(self, members: int) -> None:
        """Raise `InputError` if the count exceeds the limit for an archive."""
        if members > self._limits.members:
            raise InputError(
                f"{self.archive} holds more than {self._limits.members} members", hint=_UNPACK_HINT
            )

    def add_folder(self, name: str) -> None:
        path = self._check_name(name)
        if path is not None:
            self._create_folders(path, name)

    def add_file(self, name: str, content: IO[bytes], *, executable: bool) -> None:
        path = self._new_path(name, "file")
        if path is None:
            return
        with open(self.root / path, "xb") as copy:
            while chunk := content.read(_CHUNK):
                self._count_bytes(len(chunk))
                copy.write(chunk)
            # Only this mode bit is restored: archives must not grant privileges.
            os.fchmod(copy.fileno(), 0o755 if executable else 0o644)

    def add_hard_link(self, name: str, target: str) -> None:
        """Add a hard link: another name of a file that came before."""
        path = self._new_path(name, "file")
        if path is None:
            return
        origin = self._check_name(target)
        if origin is None or origin == path or self._kinds.get(origin) != "file":
            raise member_error(
                self.archive,
                name,
                f"it is a link to {printable_path(target)!r}, which is not a file",
            )
        os.link(self.root / origin, self.root / path, follow_symlinks=False)

    def add_link(self, name: str, target: str) -> None:
        """Add a symbolic link. Links are created last, so that nothing is written through them."""
        path = self._new_path(name, "link")
        if path is None:
            return
        resolved = os.path.normpath(os.path.join(os.path.dirname(path), target))
        if not target or "\0" in target or os.path.isabs(target) or resolved.split("/")[0] == "..":
            self._refuse_link(name, target)
        self._links[path] = target

    def create_links(self) -> None:
        """Create the links, and check that each stays inside, also by way of others."""
        for path, target in self._links.items():
            os.symlink(target, self.root / path)
        root = os.path.realpath(self.root)
        for path, target in self._links.items():
            real = os.path.realpath(os.path.join(root, path))
            if real != root and not real.startswith(root + "/"):
                self._refuse_link(path, target)

    def _refuse_link(self, name: str, target: str) -> NoReturn:
        raise member_error(
            self.archive,
            name,
            f"it is a link that leads out of the archive, to {printable_path(target)!r}",
        )

    def _new_path(self, name: str, kind: _MemberKind) -> str | None:
        """Return the path of a new member, and create its folder; None if it is not unpacked."""
        path = self._check_name(name)
        if path is None:
            return None
        if path in self._kinds:
            raise member_error(self.archive, name, "there is another member with that name")
        self._create_folders(os.path.dirname(path), name)
        self._kinds[path] = kind
        return path

    def _create_folders(self, path: str, name: str) -> None:
        """Create a folder and its parents."""
        missing: list[str] = []
        while path not in self._kinds:
            missing.append(path)
            path = os.path.dirname(path)
        if self._kinds[path] != "folder":
            raise member_error(
                self.archive, name, f"{printable_path(path)!r} is another member, not a folder"
            )
        for folder in reversed(missing):
            (self.root / folder).mkdir(mode=0o755)
            self._kinds[folder] = "folder"

    def _check_name(self, name: str) -> str | None:
        """Return the path of a member below the root; None for metadata that is not unpacked."""
        self._members += 1
        self.check_count(self._members)
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

    def _count_bytes(self, length: int) -> None:
        self._written += length
        limits = self._limits
        if self._written > limits.unpacked_bytes:
            raise InputError(
                f"{self.archive} unpacks to more than {format_mebibytes(limits.unpacked_bytes)}",
                hint=_UNPACK_HINT,
            )
        if self._written > max(limits.ratio_min_bytes, limits.ratio * self._packed):
            raise InputError(
                f"{self.archive} unpacks to more than {limits.ratio} times its size"
                f" ({format_mebibytes(self._packed)}): such archives are made to fill a"
                " disk",
                hint=_UNPACK_HINT,
            )


def archive_kind(path: Path) -> ArchiveKind | None:
    """Return the kind of an archive by its first bytes; None if it is not an archive.

    Raises `InputError` for a file that cannot be read, and for unsupported formats.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_TAR_MAGIC_AT + 8)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    for magic, name in _UNSUPPORTED:
        if head.startswith(magic):
            raise InputError(
                f"{path.name} is a {name} archive, which is not supported",
                hint="pack it as .zip, .tar.gz, .tar.xz or .tar.bz2, or unpack it yourself",
            )
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    return "tar" if head[_TAR_MAGIC_AT:].startswith(b"ustar") else None


def archive_stem(name: str) -> str:
    """Return an archive's name without its suffixes, for the folder that it is unpacked to."""
    for suffix in ARCHIVE_SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def unpack_archive(
    archive: Path, destination: Path, name: str, limits: SourceLimits = DEFAULT_LIMITS
) -> None:
    """Unpack the archive to `destination`, which must not exist. `name` is for messages.

    Raises `InputError` that names the faulty member, or describes the damage. Members that were
    unpacked before the error remain.
    """
    kind = archive_kind(archive)
    if kind is None:
        raise InputError(
            f"{name} is not an archive", hint="use a .zip, .tar.gz, .tar.xz or .tar.bz2"
        )
    destination.mkdir()
    tree = UnpackedTree(destination, name, archive.stat().st_size, limits)
    try:
        if kind == "zip":
            _unzip(archive, tree)
        else:
            _untar(archive, kind, tree)
        tree.create_links()
    except _DAMAGED as error:
        raise InputError(
            f"{name} is damaged: {error or 'it ends too early'}",
            hint="download or pack it again; `tar tf` and `unzip -t` give details",
        ) from error
    except NotImplementedError as error:
        raise InputError(
            f"{name} uses an unsupported compression: {error}",
            hint="pack it again with `zip -r` or `tar czf`",
        ) from error
    except OSError as error:
        # bz2 and gzip raise it for damaged data, without an error number.
        disk_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise InputError(
            f"cannot unpack {name}: {error.strerror or error}",
            hint="set TMPDIR to a folder on a disk with more space" if disk_full else None,
        ) from error


def _unzip(archive: Path, tree: UnpackedTree) -> None:
    # Opening the archive reads its whole directory into memory.
    tree.check_count(count_zip_members(archive, tree.max_members))
    with zipfile.ZipFile(archive) as members:
        for info in members.infolist():
            raw = info.orig_filename
            # Some Windows programs write backslashes, against the format's rules.
            path = raw.replace("\\", "/")
            mode = info.external_attr >> 16 if info.create_system == 3 else 0
            kind = stat.S_IFMT(mode)
            if path.endswith("/") or kind == stat.S_IFDIR:
                tree.add_folder(path)
            elif info.flag_bits & 1:
                raise member_error(
                    tree.archive, raw, "it is encrypted", "pack it without a password"
                )
            elif kind == stat.S_IFLNK:
                with members.open(info) as file:
                    target = file.read(_MAX_TARGET_LENGTH + 1)
                tree.add_link(path, target.decode("utf-8", "surrogateescape"))
            elif kind in (0, stat.S_IFREG):
                with members.open(info) as file:
                    tree.add_file(path, file, executable=bool(mode & 0o111))
            else:
                raise member_error(tree.archive, raw, "it is a device or a pipe")


def _untar(archive: Path, kind: ArchiveKind, tree: UnpackedTree) -> None:
    with (
        _decompressed(archive, kind) as stream,
        tarfile.open(fileobj=_BoundedReads(stream), mode="r:") as members,
    ):
        for info in members:
            add_tar_member(tree, members, info)


def add_tar_member(tree: UnpackedTree, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    """Unpack a member whose content comes next in the archive."""
    if member.isdir():
        tree.add_folder(member.name)
    elif member.issym():
        tree.add_link(member.name, member.linkname)
    elif member.islnk():
        tree.add_hard_link(member.name, member.linkname)
    elif member.isreg():
        file = archive.extractfile(member)
        assert file is not None
        with file:
            tree.add_file(member.name, file, executable=bool(member.mode & 0o111))
    else:
        raise member_error(tree.archive, member.name, "it is a device or a pipe")


def _decompressed(archive: Path, kind: ArchiveKind) -> IO[bytes]:
    if kind == "tar.gz":
        return cast("IO[bytes]", gzip.open(archive))
    if kind == "tar.bz2":
        return bz2.open(archive)
    if kind == "tar.xz":
        return lzma.open(archive)
    return archive.open("rb")


class _BoundedReads:
    """A file for tarfile that limits the size of one read."""

    def __init__(self, file: IO[bytes]):
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_READ_BYTES:
            raise tarfile.ReadError(f"a header says that it has {size} bytes")
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
