"""Unpack a model that is one archive. Nothing in an archive is trusted."""

import os
import stat
import tarfile
import zipfile
from typing import IO, Iterator, List, Set

from .errors import StorageError

_SUFFIXES = (".zip", ".tar", ".tgz", ".tar.gz")
_CHUNK = 1 << 20
# Weights hardly shrink; an archive that exceeds both limits is made to fill a disk.
_MAX_RATIO = 200
_MIN_LIMIT = 64 << 20
_MAX_MEMBERS = 200_000


def is_archive(name: str) -> bool:
    """Return True if KServe unpacks a file of this name, too. Archives of TorchServe stay."""
    return name.lower().endswith(_SUFFIXES)


def unpack_archive(archive: str, folder: str) -> List[str]:
    """Unpack the archive into the folder; return the relative paths of the files."""
    tree = _Tree(folder, os.path.basename(archive), os.path.getsize(archive))
    try:
        if archive.lower().endswith(".zip"):
            _unzip(archive, tree)
        else:
            _untar(archive, tree)
    except StorageError:
        raise
    except (NotImplementedError, RuntimeError) as problem:
        text = "%s cannot be unpacked: %s" % (tree.name, problem)
        raise StorageError(text, "pack it without encryption, with zip or gzip") from None
    # Each compression has errors of its own; those of gzip and bzip2 are OSErrors without a number.
    except Exception as problem:
        if isinstance(problem, OSError) and problem.errno is not None:
            raise
        raise StorageError("%s is damaged: %s" % (tree.name, problem), "upload it again") from None
    return sorted(tree.files)


class _Tree:
    """The folder that files are unpacked to, with its limits."""

    def __init__(self, folder: str, name: str, packed: int) -> None:
        self.name = name
        self.files: Set[str] = set()
        self._folder = folder
        self._left = max(_MIN_LIMIT, packed * _MAX_RATIO)

    def add(self, member: str, content: IO[bytes]) -> None:
        path = self._checked(member)
        target = os.path.join(self._folder, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as file:
            for chunk in self._chunks(content):
                file.write(chunk)
        self.files.add(path)

    def read_to_end(self, stream: IO[bytes]) -> None:
        """Read what follows the last member: the checksum of a compression is at its end."""
        for _chunk in self._chunks(stream):
            pass

    def _chunks(self, content: IO[bytes]) -> Iterator[bytes]:
        for chunk in iter(lambda: content.read(_CHUNK), b""):
            self._left -= len(chunk)
            if self._left < 0:
                raise StorageError("%s unpacks to more than its size allows" % self.name)
            yield chunk

    def refuse(self, member: str, reason: str) -> StorageError:
        return StorageError("%s: the member %r is refused: %s" % (self.name, member[:120], reason))

    def _checked(self, member: str) -> str:
        parts = [part for part in member.split("/") if part not in ("", ".")]
        if member.startswith(("/", "\\")) or ".." in parts or "\0" in member or not parts:
            raise self.refuse(member, "its name leads out of the archive")
        if len(self.files) >= _MAX_MEMBERS:
            raise StorageError("%s has more than %d members" % (self.name, _MAX_MEMBERS))
        return "/".join(parts)


def _unzip(archive: str, tree: _Tree) -> None:
    with zipfile.ZipFile(archive) as members:
        for info in members.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0
            if info.filename.endswith("/"):
                continue
            if kind not in (0, stat.S_IFREG):
                raise tree.refuse(info.filename, "it is not a regular file")
            with members.open(info) as content:
                tree.add(info.filename, content)


def _untar(archive: str, tree: _Tree) -> None:
    with tarfile.open(archive) as members:
        for member in members:
            if member.isdir():
                continue
            content = members.extractfile(member) if member.isreg() else None
            if content is None:
                raise tree.refuse(member.name, "it is not a regular file")
            with content:
                tree.add(member.name, content)
        if members.fileobj is not None:
            tree.read_to_end(members.fileobj)  # type: ignore[arg-type]
