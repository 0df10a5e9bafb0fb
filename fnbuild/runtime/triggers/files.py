"""Replies that are files: the handler names one in a header of its reply, and it is streamed.

As in Nuclio (pkg/processor/trigger/http/trigger.go), a file that is not there is a 404, and one
that is to be deleted is. The path is the worker's: its `/opt/nuclio`, its folder. Only the
handler's reply names a file; a request that carries the header is refused one, since there are
handlers that send back the headers that came.
"""

import mmap
import os
import stat
from typing import List, NamedTuple, Optional, Tuple, Union

from ..exchange import Headers
from ..http.messages import Body

PATH = "x-nuclio-filestream-path"
DELETE = "x-nuclio-filestream-delete-after-send"

# Below this size a file is read at once; above, the kernel brings in what is being sent.
_MAPPED = 1 << 20
_NO = ("", "0", "f", "false", "no")


class FileError(Exception):
    """The file cannot be sent; the text names it."""


class Wanted(NamedTuple):
    """What a reply's headers ask for, and the headers that are left."""

    path: str
    delete: bool
    headers: Headers


def wanted(headers: Headers) -> Optional[Wanted]:
    """The file that the headers name, if they do."""
    path, delete = "", False
    left: List[Tuple[str, str]] = []
    for name, value in headers:
        lowered = name.lower()
        if lowered == PATH:
            path = value
        elif lowered == DELETE:
            delete = value.strip().lower() not in _NO
        else:
            left.append((name, value))
    return Wanted(path, delete, left) if path else None


def content(file: Wanted, worker: int) -> Body:
    """The file's content, without holding a large one in memory.

    `worker` is the process whose view of the file system counts; 0 when it is gone. Raises
    FileError.
    """
    try:
        descriptor, place = _open(file.path, worker)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise FileError("the handler names %r as its reply, which is no file" % file.path)
            body = _content(descriptor)
        finally:
            os.close(descriptor)
        if file.delete:
            # What is open or mapped stays until it is sent.
            os.unlink(place)
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        text = "the handler names the file %r as its reply: %s" % (file.path, reason)
        raise FileError(text) from None
    return body


def _open(path: str, worker: int) -> Tuple[int, str]:
    """The open file, and the path by which this process reaches it."""
    if worker:
        place = "/proc/%d/%s/%s" % (worker, "root" if os.path.isabs(path) else "cwd", path)
        try:
            return _descriptor(place), place
        except OSError:
            if os.path.exists("/proc/%d/root/" % worker):
                raise
    # It has ended since, or its view cannot be had: most files are where everybody sees them.
    return _descriptor(path), path


def _descriptor(path: str) -> int:
    # A pipe would wait for a writer.
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


def _content(descriptor: int) -> Union[bytes, memoryview]:
    if os.fstat(descriptor).st_size < _MAPPED:
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
