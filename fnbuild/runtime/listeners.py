"""Listening sockets: inherited from a supervisor, or opened here; handed on to whoever adopts."""

import array
import errno
import os
import socket
from typing import List

from .config import ConfigFileError, Listener

_BACKLOG = 1024
_SO_DOMAIN = 39


def open_listener(listener: Listener, what: str) -> socket.socket:
    """A listening, non-blocking socket; ConfigFileError in clear words when there can be none."""
    if listener.fd is not None:
        return _inherited(listener.fd, what)
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((listener.host, listener.port))
        sock.listen(_BACKLOG)
    except OSError as problem:
        sock.close()
        place = "%s port %d" % (listener.host, listener.port)
        if problem.errno == errno.EADDRINUSE:
            raise ConfigFileError(
                "listeners.%s: %s is taken by another program" % (what, place)
            ) from None
        raise ConfigFileError(
            "listeners.%s: cannot listen on %s: %s" % (what, place, problem.strerror)
        ) from None
    sock.setblocking(False)
    return sock


def _inherited(fd: int, what: str) -> socket.socket:
    try:
        sock = socket.socket(fileno=fd)
        family = sock.getsockopt(socket.SOL_SOCKET, _SO_DOMAIN)
        listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as problem:
        raise ConfigFileError(
            "listeners.%s.fd: %d is no inherited socket: %s" % (what, fd, problem.strerror)
        ) from None
    if not listening:
        raise ConfigFileError("listeners.%s.fd: the socket %d does not listen" % (what, fd))
    # Python before 3.7 takes any descriptor for IPv4.
    sock = socket.socket(family, socket.SOCK_STREAM, fileno=sock.detach())
    os.set_inheritable(fd, False)
    sock.setblocking(False)
    return sock


def send(connection: socket.socket, listeners: List[socket.socket]) -> None:
    """Send the sockets in one message, so that another process goes on listening on them."""
    fds = array.array("i", [sock.fileno() for sock in listeners])
    names = b"LISTENERS %d\n" % len(listeners)
    connection.sendmsg([names], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
