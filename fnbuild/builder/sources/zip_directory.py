"""Count the members of a zip archive before `zipfile` reads its whole directory into memory."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import IO

_END = struct.Struct("<4s4H2LH")
_END_MAGIC = b"PK\x05\x06"
_LOCATOR = struct.Struct("<4sLQL")
_LOCATOR_MAGIC = b"PK\x06\x07"
_END_64 = struct.Struct("<4sQ2H2L4Q")
_END_64_MAGIC = b"PK\x06\x06"
_HEADER = struct.Struct("<4s24x3H12x")
_HEADER_MAGIC = b"PK\x01\x02"
_LONGEST_COMMENT = 0xFFFF


def count_zip_members(path: Path, limit: int) -> int:
    """Count the entries of the central directory, up to `limit` + 1.

    The declared count is not trusted. For a file that is not a zip archive the count is 0, and
    `zipfile` reports the error.
    """
    with path.open("rb") as file:
        directory = _zip_directory(file)
        if directory is None:
            return 0
        start, size = directory
        file.seek(start)
        count = read = 0
        while read < size and count <= limit:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                break
            magic, name, extra, comment = _HEADER.unpack(header)
            if magic != _HEADER_MAGIC:
                break
            file.seek(name + extra + comment, os.SEEK_CUR)
            read += _HEADER.size + name + extra + comment
            count += 1
        return count


def _zip_directory(file: IO[bytes]) -> tuple[int, int] | None:
    """Return the offset and size of the central directory; None without an end record."""
    length = file.seek(0, os.SEEK_END)
    begin = max(0, length - _END.size - _LONGEST_COMMENT)
    file.seek(begin)
    tail = file.read()
    position = tail.rfind(_END_MAGIC)
    if position < 0 or position + _END.size > len(tail):
        return None
    end = begin + position
    size = _END.unpack_from(tail, position)[5]
    # As in zipfile: by its size, counted back from its end, because data may precede the zip.
    zip64 = _zip64_directory(file, end)
    if zip64 is not None:
        end, size = zip64
    return (end - size, size) if size <= end else None


def _zip64_directory(file: IO[bytes], end: int) -> tuple[int, int] | None:
    """Return the same for a zip64 archive, whose own end record precedes the ordinary one."""
    place = end - _LOCATOR.size - _END_64.size
    if place < 0:
        return None
    file.seek(place)
    record, locator = file.read(_END_64.size), file.read(_LOCATOR.size)
    if not (record.startswith(_END_64_MAGIC) and locator.startswith(_LOCATOR_MAGIC)):
        return None
    return place, _END_64.unpack(record)[8]
