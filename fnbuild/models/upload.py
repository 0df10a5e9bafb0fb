"""Upload a model: files that the target has already are skipped, all others are checked."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fnbuild.errors import InputError
from fnbuild.models.local_files import LocalFile
from fnbuild.progress import Progress
from fnbuild.runtime.storage.digests import file_sha256, model_sha256
from fnbuild.runtime.storage.fetch import format_mebibytes

_CHUNK = 1 << 20
_PROGRESS_SECONDS = 1.0
_PART_SUFFIX = ".fnbuild-part"
_WRITE_HINTS = {
    errno.ENOSPC: "remove files that are no longer needed, or use a larger volume",
    errno.EDQUOT: "remove files that are no longer needed, or ask for a larger quota",
    errno.EROFS: "mount the volume for writing, without `readOnly`",
    errno.EACCES: "allow this user to write there, or run as the owner of the folder",
}

CountBytes = Callable[[int], None]
"""A callback for the number of bytes that have been sent since the last call."""


class ModelTarget(Protocol):
    """A place that a model is uploaded to."""

    def stored_sha256(self, file: LocalFile) -> str:
        """Return the sha256 of the file's present version in the target; "" without one."""

    def store(self, file: LocalFile, sha256: str, count: CountBytes) -> None:
        """Store the file with its hash; an incomplete earlier upload may be continued."""

    def paths(self) -> list[str]:
        """Return the paths of all files in the target."""


@dataclass(frozen=True, slots=True)
class UploadResult:
    """The outcome of an upload: `sha256` is the model's, `others` are files of other origin."""

    sha256: str
    uploaded: int
    skipped: int
    others: tuple[str, ...]


def upload_files(
    files: Sequence[LocalFile], target: ModelTarget, progress: Progress
) -> UploadResult:
    """Upload the files that are missing or differ, and report the progress."""
    counter = _Counter(sum(file.size for file in files), progress)
    hashes: dict[str, str] = {}
    skipped = 0
    for file in files:
        digest = hashes[file.path] = file.sha256()
        counter.path = file.path
        if target.stored_sha256(file) == digest:
            skipped += 1
            counter.skip(file.size)
            continue
        progress(f"uploading {file.path} ({format_mebibytes(file.size)})")
        target.store(file, digest, counter.count)
    others = tuple(sorted(set(target.paths()) - set(hashes)))
    return UploadResult(model_sha256(hashes), len(files) - skipped, skipped, others)


class _Counter:
    """The bytes of an upload, reported from time to time."""

    def __init__(self, total: int, progress: Progress):
        self.path = ""
        self._total = total
        self._sent = 0
        self._progress = progress
        self._reported = time.monotonic()

    def skip(self, size: int) -> None:
        self._sent += size

    def count(self, size: int) -> None:
        self._sent += size
        now = time.monotonic()
        if now - self._reported > _PROGRESS_SECONDS:
            self._reported = now
            sizes = f"{format_mebibytes(self._sent)} of {format_mebibytes(self._total)}"
            self._progress(f"uploading {self.path}: {sizes}")


class FolderTarget:
    """A folder of this machine."""

    def __init__(self, folder: Path):
        self._folder = folder

    def stored_sha256(self, file: LocalFile) -> str:
        path = self._folder / file.path
        if not path.is_file() or path.stat().st_size != file.size:
            return ""
        return file_sha256(str(path))

    def store(self, file: LocalFile, sha256: str, count: CountBytes) -> None:
        path = self._folder / file.path
        part = path.with_name(f"{path.name}{_PART_SUFFIX}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with file.source.open("rb") as source, part.open("ab") as copy:
                if copy.tell() > file.size:
                    copy.truncate(0)
                source.seek(copy.tell())
                count(copy.tell())
                while chunk := source.read(_CHUNK):
                    copy.write(chunk)
                    count(len(chunk))
            if file_sha256(str(part)) != sha256:
                # It was the part of another version.
                shutil.copyfile(file.source, part)
            os.replace(part, path)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                part.unlink(missing_ok=True)
            raise _write_error(path, error) from error

    def paths(self) -> list[str]:
        return [
            path.relative_to(self._folder).as_posix()
            for path in self._folder.rglob("*")
            if path.is_file() and not path.name.endswith(_PART_SUFFIX)
        ]

    def move(self, source: str, destination: str) -> None:
        """Move a file. Raises `InputError` if the destination exists."""
        path = self._folder / destination
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                raise InputError(f"{path} exists already", hint="rename or remove it")
            (self._folder / source).rename(path)
        except OSError as error:
            raise _write_error(path, error) from error

    def remove(self, path: str) -> None:
        """Remove a file, which need not exist."""
        file = self._folder / path
        try:
            if file.exists():  # otherwise a read-only folder would be an error
                file.unlink()
        except OSError as error:
            raise InputError(f"cannot remove {file}: {error.strerror}") from error


def _write_error(path: Path, error: OSError) -> InputError:
    hint = _WRITE_HINTS.get(error.errno or 0)
    return InputError(f"cannot write {path}: {error.strerror}", hint=hint)
