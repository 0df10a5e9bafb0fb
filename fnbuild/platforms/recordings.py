"""Recorded requests of a function as files on this machine."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

from fnbuild.errors import InputError
from fnbuild.platforms.protocol import Platform
from fnbuild.runtime.recording import files


def read_recording(platform: Platform, namespace: str, name: str, folder: Path) -> int:
    """Copy the recorded requests of all replicas to a folder; return their number."""
    archives = platform.recordings(namespace, name, "export")
    unpack((io.BytesIO(data) for data in archives), name, folder)
    return len(files.stored_files(str(folder))[0])


def read_archive(path: Path, folder: Path) -> int:
    """Unpack an exported recording; return the number of requests. Raises `InputError`."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    with file:
        unpack([file], str(path), folder)
    return len(files.stored_files(str(folder))[0])


def unpack(archives: Iterable[io.BufferedIOBase], origin: str, folder: Path) -> None:
    """Unpack archives of recordings into a folder. Raises `InputError`."""
    try:
        files.make_folder(str(folder))
        for archive in archives:
            with tarfile.open(fileobj=archive, mode="r|") as tar:
                for member in tar:
                    _unpack_member(tar, member, folder)
    except tarfile.TarError as error:
        hint = "`fnbuild record NAME --export FILE` writes one"
        raise InputError(f"{origin} is no recording: {error}", hint=hint) from error
    except OSError as error:
        raise InputError(f"cannot unpack {origin}: {error.strerror}") from error


def _unpack_member(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Write a request or a picture; ignore everything else."""
    parent, name = os.path.split(member.name)
    source = tar.extractfile(member) if member.isfile() else None
    is_picture = parent == files.IMAGES and name not in (".", "..")
    if source is not None and (is_picture or (not parent and name.endswith(files.SUFFIX))):
        (folder / member.name).write_bytes(source.read())


def export_archive(platform: Platform, namespace: str, name: str, path: Path) -> int:
    """Write the recorded requests of all replicas to an archive; return their number."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="fnbuild-recording-") as folder:
        count = read_recording(platform, namespace, name, Path(folder))
        try:
            path.touch(mode=0o600)
            with path.open("wb") as file:
                files.write_archive(folder, file)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error
    return count
