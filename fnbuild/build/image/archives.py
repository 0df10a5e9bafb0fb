"""Tar files that an engine unpacks at `/`, and that are the same for the same content.

A COPY of a folder gives BuildKit's folders the time of the build, and so its layer another digest
each time. An archive has an entry for every folder, those above the files among them.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from fnbuild.build.image.folders import Folders
from fnbuild.build.image.layer import MTIME

Entry = tuple[str, Path | bytes]
"""A path in the image, and the file, link or folder that is to be there, or a file's bytes."""

_BUFFER_BYTES = 1 << 20


def write(file: Path, entries: Iterable[Entry], there: Folders | None = None) -> None:
    """Write an archive of files, links and folders by their absolute paths in the image.

    Everything is root's; modes are 0755 and, for files that nobody may execute, 0644. `there` are
    the folders that the image has, which stay as they are.
    """
    known = there or Folders()
    given = {known.real(path).lstrip("/"): source for path, source in entries}
    folders = {str(one) for path in given for one in PurePosixPath(path).parents} - {"."}
    # Names are bytes, whatever their encoding is; this format keeps them.
    with tarfile.TarFile(
        file, "w", format=tarfile.GNU_FORMAT, copybufsize=_BUFFER_BYTES
    ) as archive:
        for path in sorted({*given, *folders}, key=os.fsencode):
            _add(archive, path, given.get(path), known)


def _add(archive: tarfile.TarFile, path: str, source: Path | bytes | None, known: Folders) -> None:
    entry = tarfile.TarInfo(path)
    entry.mtime = MTIME
    entry.mode = 0o755
    if isinstance(source, bytes):
        entry.mode, entry.size = 0o644, len(source)
        archive.addfile(entry, io.BytesIO(source))
    elif source is None or (source.is_dir() and not source.is_symlink()):
        entry.type = tarfile.DIRTYPE
        entry.uid, entry.gid, entry.mode = known.owners.get(f"/{path}", (0, 0, 0o755))
        archive.addfile(entry)
    elif source.is_symlink():
        entry.type, entry.mode, entry.linkname = tarfile.SYMTYPE, 0o777, os.readlink(source)
        archive.addfile(entry)
    else:
        with source.open("rb") as content:
            about = os.fstat(content.fileno())
            entry.mode = 0o755 if about.st_mode & 0o100 else 0o644
            entry.size = about.st_size
            archive.addfile(entry, content)
