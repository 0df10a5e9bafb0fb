"""The key that signs sessions: a file in the data directory, outside the database.

A copy of the database, such as a backup, is therefore not enough to make a session.
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from fnbuild.errors import StoreError

NAME = "session.key"
_BYTES = 32


def session_key(directory: Path) -> bytes:
    """Return the key of a data directory, which is created on first use.

    A key that other users could read, or that is truncated, is replaced, which ends its sessions.
    """
    path = directory / NAME
    try:
        return _read(path) or _create(path)
    except OSError as error:
        raise StoreError(
            f"cannot use {path}: {error.strerror}",
            hint=f"the owner of {directory} must be able to read and write it",
        ) from error


def _read(path: Path) -> bytes:
    """Return the key, or b"" if there is none or it cannot be trusted."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return b""
    with open(descriptor, "rb") as file:
        key = file.read()
        mode = os.fstat(descriptor).st_mode
    if len(key) == _BYTES and not mode & (stat.S_IRWXG | stat.S_IRWXO):
        return key
    with suppress(FileNotFoundError):
        path.unlink()
    return b""


def _create(path: Path) -> bytes:
    """Write a new key unless another process did so first; return the stored key."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_BYTES))
            file.flush()
            os.fsync(descriptor)
        # Linking never overwrites and shows the file whole, so two dashboards agree on one key.
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    return path.read_bytes()
