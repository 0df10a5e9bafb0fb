"""The code of a revision, extracted from its image to the data directory.

Only files from the function's folder are extracted. They all have the modification time that
fnbuild sets in images; files that other build lines add (mostly weights) have another.
"""

from __future__ import annotations

import contextlib
import copy
import io
import os
import socket
import tarfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from fnbuild import trees
from fnbuild.builder.image.runtime_tree import FILE_TIMESTAMP
from fnbuild.builder.sources.archives import UnpackedTree, add_tar_member
from fnbuild.builder.sources.limits import DEFAULT_LIMITS
from fnbuild.datadir import data_dir, make_private_dir
from fnbuild.errors import InputError, PlatformError
from fnbuild.function.types import Raw
from fnbuild.names import CODE_FOLDER
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.labels import READER_LABEL, RevisionRecord

# An extraction never takes this long.
_MAX_READING_SECONDS = 3600.0


def extract_code(engine: Engine, revision: RevisionRecord) -> Path | None:
    """Return the folder with the code of a revision; None if its image is gone or has none."""
    if not revision.image_id:
        return None
    folder = _code_folder(revision)
    if folder.is_dir():
        return folder
    if engine.image(revision.image_id) is None:
        return None
    partial = make_private_dir(folder.parent) / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        if not _extract_files(engine, revision, partial):
            return None
        # Another process may have extracted the same code.
        with contextlib.suppress(OSError):
            partial.rename(folder)
        return folder
    except (InputError, OSError, tarfile.TarError) as error:
        raise PlatformError(
            f"the code of {revision.key.name} cannot be extracted from its image: {error}"
        ) from error
    finally:
        trees.try_remove(partial)


def remove_code(revision: RevisionRecord) -> None:
    """Remove the extracted code, which `extract_code` extracts again when needed."""
    if revision.image_id:
        trees.try_remove(_code_folder(revision))


def _code_folder(revision: RevisionRecord) -> Path:
    return data_dir() / "images" / revision.image_id.rpartition(":")[2][:32]


def _extract_files(engine: Engine, revision: RevisionRecord, folder: Path) -> bool:
    """Copy the code through a container that never starts; return False if there is none."""
    for abandoned in abandoned_readers(engine):
        engine.remove(abandoned["Id"])
    name = f"{revision.key.trial_name}-{uuid.uuid4().hex[:8]}"
    labels = {READER_LABEL: f"{_process_scope()}:{os.getpid()}"}
    container = engine.create(
        name, {"Image": revision.image_id, "Cmd": ["processor"], "Labels": labels}
    )
    try:
        chunks = engine.download_archive(container, CODE_FOLDER)
        if chunks is None:
            return False
        folder.mkdir(mode=0o700)
        _unpack(chunks, folder)
    finally:
        engine.remove(container)
    return any(folder.iterdir())


def abandoned_readers(engine: Engine) -> list[Raw]:
    """List the containers of processes that were killed while they read."""
    return [listed for listed in engine.containers((READER_LABEL,)) if _is_abandoned(listed)]


def _is_abandoned(listed: Raw) -> bool:
    machine, _, pid = str(listed["Labels"][READER_LABEL]).rpartition(":")
    old = time.time() - float(listed.get("Created") or 0) > _MAX_READING_SECONDS
    runs = pid.isdecimal() and trees.process_exists(int(pid))
    return old or (machine == _process_scope() and not runs)


def _process_scope() -> str:
    """Return the scope in which a process id is unique: the machine and its pid namespace."""
    name = socket.gethostname()
    with contextlib.suppress(OSError):
        return f"{name}:{os.stat('/proc/self/ns/pid').st_ino}"
    return name


def _unpack(chunks: Iterator[bytes], folder: Path) -> None:
    # The files are not packed, so the limit of the ratio cannot apply.
    tree = UnpackedTree(folder, CODE_FOLDER, DEFAULT_LIMITS.unpacked_bytes, DEFAULT_LIMITS)
    with tarfile.open(fileobj=_ChunkReader(chunks), mode="r|") as archive:
        for member in archive:
            name = member.name.partition("/")[2]
            if not name or member.mtime != FILE_TIMESTAMP:
                continue
            relative = copy.copy(member)  # `replace` is missing before 3.11.4
            relative.name = name
            if member.islnk():
                relative.linkname = member.linkname.partition("/")[2]
            add_tar_member(tree, archive, relative)
    tree.create_links()


class _ChunkReader(io.RawIOBase):
    """A file object that reads chunks of bytes once."""

    def __init__(self, chunks: Iterator[bytes]):
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._rest) < size:
            chunk = next(self._chunks, b"")
            if not chunk:
                break
            self._rest += chunk
        size = len(self._rest) if size < 0 else size
        data, self._rest = self._rest[:size], self._rest[size:]
        return data
