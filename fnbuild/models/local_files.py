"""The files of a model on this machine, before an upload."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from fnbuild import trees
from fnbuild.errors import InputError
from fnbuild.runtime.storage.digests import file_sha256

_SKIPPED = (".fnbuild", ".git", "__pycache__", ".DS_Store")


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file to upload; `path` is relative to the model's folder."""

    path: str
    source: Path
    size: int

    def sha256(self) -> str:
        """Return the sha256 of the content. Raises `InputError` if it cannot be read."""
        try:
            return file_sha256(str(self.source))
        except OSError as error:
            raise InputError(f"cannot read {self.source}: {error.strerror}") from error


def local_files(source: Path) -> list[LocalFile]:
    """Return the files of a folder, or one file, sorted by path.

    Raises `InputError` for a missing or empty folder, and for devices and broken links.
    """
    if not source.exists():
        raise InputError(f"{source} does not exist")
    if source.is_file():
        return [LocalFile(source.name, source, source.stat().st_size)]
    files = []
    for folder, folders, names in trees.walk(source):
        folders[:] = [name for name in folders if name not in _SKIPPED]
        for name in names:
            if name not in _SKIPPED:
                files.append(_local_file(source, Path(folder, name)))
    if not files:
        raise InputError(f"{source} has no files")
    return sorted(files, key=lambda file: file.path)


def _local_file(top: Path, path: Path) -> LocalFile:
    relative = path.relative_to(top).as_posix()
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path} is not a regular file", hint="remove it from the model's folder")
    try:
        os.fsencode(relative).decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"the name of {relative!r} is not UTF-8", hint="rename the file") from None
    return LocalFile(relative, path, status.st_size)
