"""Replies with files: the handler names a file in a header of its reply.

As in Nuclio (pkg/processor/trigger/http/trigger.go), a missing file gives 404, and a file can be
deleted after it is sent. Paths are resolved as in the worker: its `/opt/nuclio`, its working
directory. If the request itself has the header, no file is sent, since some handlers return the
headers of the request.
"""

import mmap
import os
import stat
from typing import List, NamedTuple, Optional, Tuple, Union

from ..http.messages import Body
from ..processor.pending_event import Headers

PATH_HEADER = "x-nuclio-filestream-path"
DELETE_HEADER = "x-nuclio-filestream-delete-after-send"

# Smaller files are read at once; larger ones are mapped, and read as they are sent.
_MIN_MAPPED = 1 << 20
_FALSE_VALUES = ("", "0", "f", "false", "no")


class FileReplyError(Exception):
    """The file cannot be sent; the message names it."""


class FileReply(NamedTuple):
    """The file that a reply names, and the reply's other headers."""

    path: str
    delete: bool
    headers: Headers


def file_reply(headers: Headers) -> Optional[FileReply]:
    """Return the file that the headers name, or None."""
    path, delete = "", False
    others: List[Tuple[str, str]] = []
    for name, value in headers:
        lowered = name.lower()
        if lowered == PATH_HEADER:
            path = value
        elif lowered == DELETE_HEADER:
            delete = value.strip().lower() not in _FALSE_VALUES
        else:
            others.append((name, value))
    return FileReply(path, delete, others) if path else None


def read_file(file: FileReply, worker_pid: int) -> Body:
    """Return the file's content, mapped if it is large.

    The path is resolved in the file system of the process `worker_pid`, 0 if it has ended. Raises
    FileReplyError.
    """
    try:
        descriptor, place = _open_at_worker_path(file.path, worker_pid)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise FileReplyError(
                    "the handler names %r as its reply, which is not a file" % file.path
                )
            body = _read_or_map(descriptor, status.st_size)
        finally:
            os.close(descriptor)
        if file.delete:
            # The open or mapped content stays until it is sent.
            os.unlink(place)
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        text = "the handler names the file %r as its reply: %s" % (file.path, reason)
        raise FileReplyError(text) from None
    return body


def _open_at_worker_path(path: str, worker_pid: int) -> Tuple[int, str]:
    """Open the file that has this path for the worker; return it, and its path in this process."""
    if worker_pid:
        place = "/proc/%d/%s/%s" % (worker_pid, "root" if os.path.isabs(path) else "cwd", path)
        try:
            return _open_file(place), place
        except OSError:
            if os.path.exists("/proc/%d/root/" % worker_pid):
                raise
    # The worker has ended, or its root is not accessible: most files have the same path here.
    return _open_file(path), path


def _open_file(path: str) -> int:
    # Non-blocking, since opening a pipe would wait for a writer.
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


def _read_or_map(descriptor: int, size: int) -> Union[bytes, memoryview]:
    if size < _MIN_MAPPED:
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
