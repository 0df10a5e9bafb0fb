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

from ..http.messages import Body
from ..processor.pending_event import Headers

PATH_HEADER = "x-nuclio-filestream-path"
DELETE_HEADER = "x-nuclio-filestream-delete-after-send"

# Below this size a file is read at once; above, the kernel brings in what is being sent.
_MIN_MAPPED = 1 << 20
_FALSE_VALUES = ("", "0", "f", "false", "no")


class FileReplyError(Exception):
    """The file cannot be sent; the text names it."""


class FileReply(NamedTuple):
    """What a reply's headers ask for, and the headers that are left."""

    path: str
    delete: bool
    headers: Headers


def file_reply(headers: Headers) -> Optional[FileReply]:
    """The file that the headers name, if they do."""
    path, delete = "", False
    left: List[Tuple[str, str]] = []
    for name, value in headers:
        lowered = name.lower()
        if lowered == PATH_HEADER:
            path = value
        elif lowered == DELETE_HEADER:
            delete = value.strip().lower() not in _FALSE_VALUES
        else:
            left.append((name, value))
    return FileReply(path, delete, left) if path else None


def read_file(file: FileReply, worker: int) -> Body:
    """The file's content, without holding a large one in memory.

    `worker` is the process whose view of the file system counts; 0 when it is gone. Raises
    FileError.
    """
    try:
        descriptor, place = _open_as_worker(file.path, worker)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise FileReplyError(
                    "the handler names %r as its reply, which is no file" % file.path
                )
            body = _read_or_map(descriptor)
        finally:
            os.close(descriptor)
        if file.delete:
            # What is open or mapped stays until it is sent.
            os.unlink(place)
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        text = "the handler names the file %r as its reply: %s" % (file.path, reason)
        raise FileReplyError(text) from None
    return body


def _open_as_worker(path: str, worker: int) -> Tuple[int, str]:
    """The open file, and the path by which this process reaches it."""
    if worker:
        place = "/proc/%d/%s/%s" % (worker, "root" if os.path.isabs(path) else "cwd", path)
        try:
            return _open_file(place), place
        except OSError:
            if os.path.exists("/proc/%d/root/" % worker):
                raise
    # It has ended since, or its view cannot be had: most files are where everybody sees them.
    return _open_file(path), path


def _open_file(path: str) -> int:
    # A pipe would wait for a writer.
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


def _read_or_map(descriptor: int) -> Union[bytes, memoryview]:
    if os.fstat(descriptor).st_size < _MIN_MAPPED:
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
