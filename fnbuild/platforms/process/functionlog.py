"""A function's log: JSON lines that its processors append, read, followed and kept small."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from fnbuild.platforms import LogRecord
from fnbuild.platforms.loglines import parse

LARGEST = 16 << 20
_POLL_SECONDS = 0.1
_TAIL_BYTES = 64 << 10


def older(path: Path) -> Path:
    """Where the records before the last rotation are."""
    return path.with_name(path.name + ".1")


def rotate(path: Path, largest: int = LARGEST) -> bool:
    """Move the content aside once it is larger than `largest` bytes.

    The file itself stays, emptied: processors hold it open in append mode and go on writing to it.
    """
    try:
        if path.stat().st_size <= largest:
            return False
        half = path.with_name(path.name + ".new")
        shutil.copyfile(path, half)
        half.chmod(0o600)
        half.replace(older(path))
        os.truncate(path, 0)
    except FileNotFoundError:
        return False
    return True


def append(path: Path, level: str, message: str) -> None:
    """Add the supervisor's own word to the function's log; a full disk loses it."""
    record = {"time": time.time() * 1000, "level": level, "name": "supervisor", "message": message}
    with contextlib.suppress(OSError), path.open("ab") as file:
        file.write(json.dumps(record).encode() + b"\n")


def last_words(path: Path, start: int, count: int = 20) -> str:
    """The last messages written after offset `start`, as text."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            # The file may have been rotated since: then all of it is newer than `start`.
            begin = start if start <= end else 0
            file.seek(max(begin, end - _TAIL_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return ""
    records = (parse(line, 0.0) for line in lines[-count:])
    return "\n".join(record.message for record in records)


def read(
    path: Path, *, follow: bool = False, since: float | None = None, tail: int | None = None
) -> Iterator[LogRecord]:
    """Records, oldest first, the rotated file's before; `since` in seconds since the epoch.

    With `follow` it goes on with what is written until the file itself is gone.
    """
    with contextlib.ExitStack() as stack:
        files: list[BinaryIO] = []
        for one in (older(path), path):
            with contextlib.suppress(FileNotFoundError):
                files.append(stack.enter_context(one.open("rb")))
        records = _records(files, whole_lines=follow)
        if since is not None:
            moment = since
            records = (record for record in records if record.time >= moment)
        if tail is not None:
            records = iter(deque(records, maxlen=tail))
        yield from records
        if follow and files:
            yield from _followed(path, files[-1])


def _records(files: list[BinaryIO], *, whole_lines: bool) -> Iterator[LogRecord]:
    last = 0.0
    for file in files:
        for line in file:
            if whole_lines and not line.endswith(b"\n"):
                file.seek(-len(line), os.SEEK_CUR)  # the rest is still to be written
                break
            record = parse(line, last)
            last = record.time
            yield record


def _followed(path: Path, file: BinaryIO) -> Iterator[LogRecord]:
    last = time.time()
    rest = b""
    while True:
        piece = file.readline()
        if piece.endswith(b"\n"):
            record = parse(rest + piece, last)
            rest, last = b"", record.time
            yield record
            continue
        rest += piece
        if os.fstat(file.fileno()).st_size < file.tell():
            file.seek(0)  # emptied by a rotation
            rest = b""
            continue
        if not path.exists():
            return
        time.sleep(_POLL_SECONDS)
