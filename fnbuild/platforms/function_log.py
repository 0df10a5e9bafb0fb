"""The log of a function: JSON lines that its processors append. Reading, following, rotating."""

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

from fnbuild.platforms import ALL_RECORDS, LogOptions, LogRecord
from fnbuild.platforms.logs import parse_log_line

MAX_SIZE = 16 << 20
_POLL_SECONDS = 0.1
_ROTATION_SECONDS = 1.0
_TAIL_BYTES = 64 << 10


def rotated_path(path: Path) -> Path:
    """Return the path of the rotated file."""
    return path.with_name(path.name + ".1")


def rotate(path: Path, max_size: int = MAX_SIZE) -> bool:
    """Copy the content to the rotated file and truncate the log once it exceeds `max_size` bytes.

    The file itself stays, since processors hold it open in append mode.
    """
    draft = path.with_name(path.name + ".new")
    try:
        if path.stat().st_size <= max_size:
            return False
        with path.open("rb") as source, draft.open("wb", buffering=0) as target:
            draft.chmod(0o600)
            shutil.copyfileobj(source, target)
            draft.replace(rotated_path(path))
            # Copy what was written meanwhile; almost nothing can be lost before the truncation.
            while piece := source.read():
                target.write(piece)
            os.truncate(path, 0)
    except FileNotFoundError:
        return False
    return True


def append(path: Path, level: str, message: str) -> None:
    """Append a record of the supervisor to the function's log; it is lost on a full disk."""
    record = {"time": time.time() * 1000, "level": level, "name": "supervisor", "message": message}
    with contextlib.suppress(OSError), path.open("ab") as file:
        file.write(json.dumps(record).encode() + b"\n")


def last_messages(path: Path, start: int, count: int = 20) -> str:
    """Return the last messages after offset `start`, one per line."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            # After a rotation all of the file is newer than `start`.
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
            start = 0  # after a rotation all of it is newer
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n"):
                return
            start += len(line)
            yield parse_log_line(line, 0.0), start


def read(path: Path, options: LogOptions = ALL_RECORDS) -> Iterator[LogRecord]:
    """Return an iterator over the records, oldest first, starting with those of the rotated file.

    The position in the log is fixed on return, so that a record written after the call is not
    skipped. Following ends when the file is deleted.
    """
    with contextlib.ExitStack() as stack:
        files, rotated = _open_files(path, stack)
        if options.tail is not None:
            _seek_tail(files, options.tail)
        lines = _lines(path, files, rotated, options.stop if options.follow else None)
        if not options.follow:
            # Lines written during the reading are added to the last `tail` lines.
            lines = islice(lines, options.tail)
        return _records(stack.pop_all(), lines, options.since)


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
    """Open the existing files, the rotated one first, and return them with its inode."""
    while True:
        files: list[BinaryIO] = []
        inode = _inode(rotated_path(path))
        for candidate in (rotated_path(path), path):
            with contextlib.suppress(FileNotFoundError):
                files.append(stack.enter_context(candidate.open("rb")))
        if _inode(rotated_path(path)) == inode:  # otherwise the log was rotated meanwhile
            return files, inode


def _inode(path: Path) -> int:
    """Return the inode of the file, 0 if it does not exist."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _seek_tail(files: list[BinaryIO], tail: int) -> None:
    """Move the files' positions to the start of the last `tail` lines."""
    for file in reversed(files):
        tail -= _seek_tail_of_file(file, tail)


def _seek_tail_of_file(file: BinaryIO, lines: int) -> int:
    """Move to the start of the last `lines` lines; return how many of them the file has."""
    end = file.seek(0, os.SEEK_END)
    if not end or not lines:
        return 0
    # The line break at the end does not start another line.
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


def _lines(path: Path, files: list[BinaryIO], rotated: int, stop: Event | None) -> Iterator[bytes]:
    """Yield the lines of the files; with `stop`, continue with new lines of the last file.

    `rotated` is the inode of the rotated file.
    """
    for file in files[:-1]:
        yield from file
    for file in files[-1:]:
        while stop is None or not stop.is_set():
            position = file.tell()
            line = file.readline()
            if (inode := _inode(rotated_path(path))) != rotated:
                # The line just read may be newer already; the rotated file has the rest.
                rotated = inode
                yield from _rotated_lines(path, position)
                file.seek(0, os.SEEK_END)  # seeking to the end first empties the buffer
                file.seek(0)
            elif line.endswith(b"\n") or (line and stop is None):
                yield line
            elif stop is None or not path.exists():
                return
            else:
                file.seek(position)  # the rest of the line is not written yet
                stop.wait(_POLL_SECONDS)


def _rotated_lines(path: Path, position: int) -> list[bytes]:
    """Return the lines of the rotated file from the position on, after the rotation has ended."""
    with contextlib.suppress(FileNotFoundError), rotated_path(path).open("rb") as file:
        deadline = time.monotonic() + _ROTATION_SECONDS
        while (
            path.stat().st_size >= os.fstat(file.fileno()).st_size and time.monotonic() < deadline
        ):
            time.sleep(_POLL_SECONDS / 100)
        file.seek(position)
        return file.readlines()
    return []
