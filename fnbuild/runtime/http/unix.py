"""Unix sockets at paths of any length.

The kernel takes 107 bytes for the address of a unix socket, which a data directory deep in a home
directory soon exceeds. An open descriptor gives the same file a short name below /proc/self/fd.
"""

import contextlib
import errno
import os
import socket
from typing import Iterator, Union

Path = Union[str, "os.PathLike[str]"]

_LONGEST = 107
# PyPy has no name for it.
_O_PATH = getattr(os, "O_PATH", 0o10000000)


def listen(path: Path, backlog: int = 128) -> socket.socket:
    """A socket that listens at `path`, which only this user may connect to.

    It appears there all at once and replaces one that nobody listens on any more. OSError, with
    EADDRINUSE when somebody does listen there.
    """
    folder, name = os.path.split(os.path.abspath(os.fspath(path)))
    if _answers(os.path.join(folder, name)):
        raise OSError(errno.EADDRINUSE, "another process listens on this socket", os.fspath(path))
    directory = os.open(folder, _O_PATH | os.O_DIRECTORY)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Bound under a name that is short whatever the socket's own is called.
    first = ".%d-%d" % (os.getpid(), sock.fileno())
    try:
        # The mode of the file to come, without a moment in which it is wider. The process's umask
        # would not do: it is shared by all threads.
        os.fchmod(sock.fileno(), 0o600)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(first, dir_fd=directory)
        sock.bind("/proc/self/fd/%d/%s" % (directory, first))
        sock.listen(backlog)
        os.rename(first, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        sock.close()
        with contextlib.suppress(OSError):
            os.unlink(first, dir_fd=directory)
        raise
    finally:
        os.close(directory)
    return sock


def connect(path: Path, timeout: Union[float, None] = None) -> socket.socket:
    """A connection to the socket at `path`; `timeout` in seconds for this and every later wait.

    OSError (FileNotFoundError, ConnectionRefusedError, socket.timeout …).
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        with _short(path) as address:
            sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    address = os.fspath(path)
    if len(os.fsencode(address)) <= _LONGEST:
        yield address
        return
    descriptor = os.open(address, _O_PATH)
    try:
        yield "/proc/self/fd/%d" % descriptor
    finally:
        os.close(descriptor)


def _answers(path: str) -> bool:
    try:
        connect(path, timeout=1.0).close()
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except OSError:
        # Full or slow to accept, or not ours to connect to: in use all the same.
        return True
    return True
