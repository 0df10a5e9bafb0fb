"""A function's log: JSON lines that its processors append, read, followed and kept small."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from threading import Event
from typing import BinaryIO

from fnbuild.platforms import LogRecord
from fnbuild.platforms.logs import parse_log_line

MAX_SIZE = 16 << 20
_POLL_SECONDS = 0.1
_ROTATION_SECONDS = 1.0
_TAIL_BYTES = 64 << 10


def rotated_path(path: Path) -> Path:
    """Where the records before the last rotation are."""
    return path.with_name(path.name + ".1")


def rotate(path: Path, largest: int = MAX_SIZE) -> bool:
    """Move the content aside once it is larger than `largest` bytes.

    The file itself stays, emptied: processors hold it open in append mode and go on writing to it.
    """
    half = path.with_name(path.name + ".new")
    try:
        if path.stat().st_size <= largest:
            return False
        with path.open("rb") as source, half.open("wb", buffering=0) as target:
            half.chmod(0o600)
            shutil.copyfileobj(source, target)
            half.replace(rotated_path(path))
            # What was written meanwhile: between its end and this line there is next to nothing.
            while piece := source.read():
                target.write(piece)
            os.truncate(path, 0)
    except FileNotFoundError:
        return False
    return True


def append(path: Path, level: str, message: str) -> None:
    """Add the supervisor's own word to the function's log; a full disk loses it."""
    record = {"time": time.time() * 1000, "level": level, "name": "supervisor", "message": message}
    with contextlib.suppress(OSError), path.open("ab") as file:
        file.write(json.dumps(record).encode() + b"\n")


def last_messages(path: Path, start: int, count: int = 20) -> str:
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
    records = (parse_log_line(line, 0.0) for line in lines[-count:])
    return "\n".join(record.message for record in records)


def records_after(path: Path, start: int) -> Iterator[tuple[LogRecord, int]]:
    """Return the complete records after offset `start`, each with its end offset."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        if start > file.seek(0, os.SEEK_END):
            start = 0  # rotated since: all of it is newer
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n"):
                return
            start += len(line)
            yield parse_log_line(line, 0.0), start


def read(
    path: Path,
    *,
    follow: bool = False,
    since: float | None = None,
    tail: int | None = None,
    until: Event | None = None,
) -> Iterator[LogRecord]:
    """Return an iterator over the records, oldest first, starting with those of the rotated file.

    `since` is in seconds since the epoch. The position in the log is fixed on return, so that a
    record written after the call is not skipped. With `follow` the iterator continues with new
    records until the file is deleted or `until` is set.
    """
    with contextlib.ExitStack() as stack:
        files, aside = _open_files(path, stack)
        if tail is not None:
            _seek_tail(files, tail)
        lines = _lines(path, files, aside, (until or Event()) if follow else None)
        if not follow:
            # Lines written during the reading are added to the last `tail` lines.
            lines = islice(lines, tail)
        return _records(stack.pop_all(), lines, since)


def _records(
    files: contextlib.ExitStack, lines: Iterator[bytes], since: float | None
) -> Iterator[LogRecord]:
    """Parse the lines; close the files at the end."""
    with files:
        last = 0.0
        for line in lines:
            record = parse_log_line(line, last or time.time())
            last = record.time
            if since is None or last >= since:
                yield record


def _open_files(path: Path, stack: contextlib.ExitStack) -> tuple[list[BinaryIO], int]:
    """The files that there are, the rotated one first, and its inode."""
    while True:
        files: list[BinaryIO] = []
        aside = _inode(rotated_path(path))
        for one in (rotated_path(path), path):
            with contextlib.suppress(FileNotFoundError):
                files.append(stack.enter_context(one.open("rb")))
        if _inode(rotated_path(path)) == aside:  # else a rotation came between
            return files, aside


def _inode(path: Path) -> int:
    """Which file has that name now; 0 for none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _seek_tail(files: list[BinaryIO], tail: int) -> None:
    """Go on to where the last `tail` lines begin, in whichever of the files that is."""
    for file in reversed(files):
        tail -= _seek_tail_of_file(file, tail)


def _seek_tail_of_file(file: BinaryIO, lines: int) -> int:
    """Go to the beginning of the last `lines` lines; how many of them the file has."""
    end = file.seek(0, os.SEEK_END)
    if not end or not lines:
        return 0
    # What ends the last line does not begin one.
    file.seek(end - 1)
    position = end - 1 if file.read(1) == b"\n" else end
    missing = lines
    while position:
        size = min(_TAIL_BYTES, position)
        position -= size
        file.seek(position)
        piece = file.read(size)
        if (breaks := piece.count(b"\n")) >= missing:
            file.seek(position + len(piece.rsplit(b"\n", missing)[0]) + 1)
            return lines
        missing -= breaks
    file.seek(0)
    return lines - missing + 1


def _lines(path: Path, files: list[BinaryIO], aside: int, until: Event | None) -> Iterator[bytes]:
    """The lines of the files; of the last one, with `until`, those that are still to come, too.

    `aside` is the inode of the rotated file.
    """
    for file in files[:-1]:
        yield from file
    for file in files[-1:]:
        while until is None or not until.is_set():
            position = file.tell()
            line = file.readline()
            if (now := _inode(rotated_path(path))) != aside:
                # What was just read may be newer already: all that was is in the rotated file.
                aside = now
                yield from _rotated_lines(path, position)
                file.seek(0, os.SEEK_END)  # by way of the end, for that empties the buffer
                file.seek(0)
            elif line.endswith(b"\n") or (line and until is None):
                yield line
            elif until is None or not path.exists():
                return
            else:
                file.seek(position)  # the rest of a line is still to be written
                until.wait(_POLL_SECONDS)


def _rotated_lines(path: Path, position: int) -> list[bytes]:
    """The lines of the rotated file from that position on, once the rotation is over."""
    with contextlib.suppress(FileNotFoundError), rotated_path(path).open("rb") as file:
        ends = time.monotonic() + _ROTATION_SECONDS
        while path.stat().st_size >= os.fstat(file.fileno()).st_size and time.monotonic() < ends:
            time.sleep(_POLL_SECONDS / 100)
        file.seek(position)
        return file.readlines()
    return []
