"""Archives of code: told by their content, unpacked member by member, unsafe ones refused.

An archive comes from anywhere, so nothing in it is believed: each name is checked, links are made
last and must stay inside, and what is written is counted while it is written. Owners, times and the
bits that lend rights are not taken over.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, Literal, cast

from fnbuild.build.sources import zips
from fnbuild.build.sources.limits import Limits
from fnbuild.build.sources.members import Tree, refuse
from fnbuild.errors import InputError

Kind = Literal["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"]

SUFFIXES = (".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".tbz2", ".txz", ".tar", ".zip")

_MAGIC: tuple[tuple[bytes, Kind], ...] = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x1f\x8b", "tar.gz"),
    (b"BZh", "tar.bz2"),
    (b"\xfd7zXZ\x00", "tar.xz"),
)
_TAR_MAGIC_AT = 257
# Formats that people pack code with and that nothing here can read.
_FOREIGN = (
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (b"Rar!", "RAR"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
)
# Headers of a tar are read whole, so a forged length would fill the memory.
_LARGEST_READ = 8 << 20
_LONGEST_TARGET = 4096
_BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError),
    RecursionError,  # from tarfile, for a chain of a thousand headers
)


def kind_of(path: Path) -> Kind | None:
    """What kind of archive a file is, by its first bytes; None when it is none.

    Raises `InputError` for a file that cannot be read and for an archive of a foreign format.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_TAR_MAGIC_AT + 8)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    for magic, name in _FOREIGN:
        if head.startswith(magic):
            raise InputError(
                f"{path.name} is a {name} archive, which is not understood",
                hint="pack it as .zip, .tar.gz, .tar.xz or .tar.bz2, or unpack it yourself",
            )
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    return "tar" if head[_TAR_MAGIC_AT:].startswith(b"ustar") else None


def stem(name: str) -> str:
    """An archive's name without its suffixes, for the folder it is unpacked into."""
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def unpack(archive: Path, destination: Path, name: str, limits: Limits | None = None) -> None:
    """Unpack the archive into `destination`, which must not exist. `name` is for messages.

    Raises `InputError` that names the member at fault, or what is wrong with the whole; what was
    unpacked until then is left to the caller, who made the folder around it.
    """
    kind = kind_of(archive)
    if kind is None:
        raise InputError(f"{name} is no archive", hint="a .zip, .tar.gz, .tar.xz or .tar.bz2 is")
    destination.mkdir()
    packed = archive.stat().st_size
    tree = Tree(destination, name, packed, Limits() if limits is None else limits)
    try:
        if kind == "zip":
            _unzip(archive, tree)
        else:
            _untar(archive, kind, tree)
        tree.finish()
    except _BROKEN as error:
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


def _unzip(archive: Path, tree: Tree) -> None:
    # Opening the archive reads its whole directory into memory.
    tree.expect(zips.count_members(archive, tree.most))
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
                raise refuse(tree.archive, raw, "it is encrypted", "pack it without a password")
            elif kind == stat.S_IFLNK:
                with members.open(info) as file:
                    target = file.read(_LONGEST_TARGET + 1)
                tree.link(path, target.decode("utf-8", "surrogateescape"))
            elif kind in (0, stat.S_IFREG):
                with members.open(info) as file:
                    tree.file(path, file, executable=bool(mode & 0o111))
            else:
                raise refuse(tree.archive, raw, "it is a device or a pipe")


def _untar(archive: Path, kind: Kind, tree: Tree) -> None:
    with (
        _decompressed(archive, kind) as stream,
        tarfile.open(fileobj=_Bounded(stream), mode="r:") as members,
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
                raise refuse(tree.archive, info.name, "it is a device or a pipe")


def _decompressed(archive: Path, kind: Kind) -> IO[bytes]:
    if kind == "tar.gz":
        return cast("IO[bytes]", gzip.open(archive))
    if kind == "tar.bz2":
        return bz2.open(archive)
    if kind == "tar.xz":
        return lzma.open(archive)
    return archive.open("rb")


class _Bounded:
    """A file for tarfile that reads no more at once than a sound archive makes it read."""

    def __init__(self, file: IO[bytes]):
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LARGEST_READ:
            raise tarfile.ReadError(f"a header says that it has {size} bytes")
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
