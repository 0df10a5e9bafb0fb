"""Sockets: listeners that are opened or inherited, and unix sockets at paths of any length.

The kernel limits the address of a unix socket to 107 bytes, which a data directory deep in a home
directory soon exceeds. An open descriptor gives the same file a short name below /proc/self/fd.
"""

import array
import contextlib
import errno
import os
import socket
from typing import Iterator, List, Union

from .config import ConfigFileError, ListenerConfig

SocketPath = Union[str, "os.PathLike[str]"]

_MAX_ADDRESS_LENGTH = 107
# PyPy has no name for it.
_O_PATH = getattr(os, "O_PATH", 0o10000000)

BACKLOG = 1024
_SO_DOMAIN = 39


def listen_unix(path: SocketPath, backlog: int = 128) -> socket.socket:
    """Return a socket that listens at `path` and accepts connections from this user only.

    It appears there atomically and replaces a socket without a listener. Raises OSError, with
    EADDRINUSE if another process listens there.
    """
    folder, name = os.path.split(os.path.abspath(os.fspath(path)))
    if _is_in_use(os.path.join(folder, name)):
        raise OSError(errno.EADDRINUSE, "another process listens on this socket", os.fspath(path))
    directory = os.open(folder, _O_PATH | os.O_DIRECTORY)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Bound under a short temporary name, however long the final one is.
    temporary = ".%d-%d" % (os.getpid(), sock.fileno())
    try:
        # Sets the mode of the file before it exists. The umask would affect all threads.
        os.fchmod(sock.fileno(), 0o600)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=directory)
        sock.bind("/proc/self/fd/%d/%s" % (directory, temporary))
        sock.listen(backlog)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        sock.close()
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    finally:
        os.close(directory)
    return sock


def connect_unix(path: SocketPath, timeout: Union[float, None] = None) -> socket.socket:
    """Return a connection to the socket at `path`.

    `timeout` is in seconds, for this and each later operation. Raises OSError (FileNotFoundError,
    ConnectionRefusedError, socket.timeout …).
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        with _short_address(path) as address:
            sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def _short_address(path: SocketPath) -> Iterator[str]:
    address = os.fspath(path)
    if len(os.fsencode(address)) <= _MAX_ADDRESS_LENGTH:
        yield address
        return
    descriptor = os.open(address, _O_PATH)
    try:
        yield "/proc/self/fd/%d" % descriptor
    finally:
        os.close(descriptor)


def _is_in_use(path: str) -> bool:
    try:
        connect_unix(path, timeout=1.0).close()
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except OSError:
        # A full backlog, a slow process or missing permission: in use all the same.
        return True
    return True


def open_listener(listener: ListenerConfig, name: str, listen: bool = True) -> socket.socket:
    """Return a listening, non-blocking socket; raise ConfigFileError if that is not possible.

    With `listen` False, a socket that is not inherited is only bound to its address.
    """
    if listener.fd is not None:
        return _inherit_listener(listener.fd, name)
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((listener.host, listener.port))
        if listen:
            sock.listen(BACKLOG)
    except OSError as problem:
        sock.close()
        address = "%s port %d" % (listener.host, listener.port)
        if problem.errno == errno.EADDRINUSE:
            raise ConfigFileError(
                "listeners.%s: %s is in use by another program" % (name, address)
            ) from None
        raise ConfigFileError(
            "listeners.%s: cannot listen on %s: %s" % (name, address, problem.strerror)
        ) from None
    sock.setblocking(False)
    return sock


def _inherit_listener(fd: int, name: str) -> socket.socket:
    try:
        sock = socket.socket(fileno=fd)
        family = sock.getsockopt(socket.SOL_SOCKET, _SO_DOMAIN)
        listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as problem:
        raise ConfigFileError(
            "listeners.%s.fd: %d is not an inherited socket: %s" % (name, fd, problem.strerror)
        ) from None
    if not listening:
        raise ConfigFileError("listeners.%s.fd: socket %d is not listening" % (name, fd))
    # Python before 3.7 assumes IPv4 for any descriptor.
    sock = socket.socket(family, socket.SOCK_STREAM, fileno=sock.detach())
    os.set_inheritable(fd, False)
    sock.setblocking(False)
    return sock


def send_listeners(
    connection: socket.socket, listeners: List[socket.socket], grpc: List[socket.socket]
) -> None:
    """Send the sockets to another process in one message, which then listens on them too.

    The message has the number of sockets, and of those at its end that are for gRPC.
    """
    fds = array.array("i", [sock.fileno() for sock in [*listeners, *grpc]])
    message = b"LISTENERS %d %d\n" % (len(fds), len(grpc))
    connection.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
