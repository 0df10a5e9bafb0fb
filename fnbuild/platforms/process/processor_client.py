"""Asking a processor, over its control socket, how it is.

The supervisor asks without blocking; commands ask in the plain way, so they tell the truth about
functions even while no supervisor runs.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from pathlib import Path

import msgspec

from fnbuild.platforms.process.listeners import peer_pid
from fnbuild.platforms.processor_status import ProcessorStatus, decode_status
from fnbuild.runtime import sockets

_TIMEOUT = 2.0
_MAX_REPLY_SIZE = 8 << 20


_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS))


class ProcessorUnreachableError(Exception):
    """Nobody answers at a control socket; `gone` when nobody listens there at all.

    `exhausted` is True if the caller had no descriptor or memory left to ask with.
    """

    def __init__(self, gone: bool, cause: OSError | None = None):
        super().__init__("gone" if gone else "no answer")
        self.gone = gone
        self.exhausted = cause is not None and cause.errno in _EXHAUSTED


def _encode_request(method: str, target: str) -> bytes:
    head = f"{method} {target} HTTP/1.1\r\nHost: processor\r\nConnection: close\r\n"
    return f"{head}Content-Length: 0\r\n\r\n".encode()


def _response_body(reply: bytes) -> bytes:
    head, found, body = reply.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    if not found or not status or not status[0].startswith(b"2"):
        raise ProcessorUnreachableError(gone=False)
    return body


def _decode_status(body: bytes) -> ProcessorStatus:
    try:
        return decode_status(body)
    except msgspec.MsgspecError as error:
        raise ProcessorUnreachableError(gone=False) from error


def read_status(control: Path, patience: float = _TIMEOUT) -> ProcessorStatus:
    """The status of the processor at this control socket; waits `patience` seconds at most.

    Raises `Unreachable`.
    """
    return _decode_status(request(control, "/status", patience))


def request(control: Path, target: str, patience: float = _TIMEOUT) -> bytes:
    """The body of the processor's reply to a GET; raises `Unreachable` unless it is a 2xx."""
    with _connect(control, patience) as link:
        try:
            link.sendall(_encode_request("GET", target))
            reply = bytearray()
            while len(reply) < _MAX_REPLY_SIZE and (piece := link.recv(65536)):
                reply += piece
        except OSError as error:
            raise ProcessorUnreachableError(gone=False) from error
    return _response_body(bytes(reply))


def _connect(control: Path, patience: float = _TIMEOUT) -> socket.socket:
    try:
        return sockets.connect_unix(control, patience)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise ProcessorUnreachableError(gone=True) from error
    except OSError as error:
        raise ProcessorUnreachableError(gone=False, cause=error) from error


def listening_pid(control: Path) -> int | None:
    """The process that listens on the control socket, as the kernel knows it."""
    try:
        with _connect(control) as link:
            return peer_pid(link)
    except ProcessorUnreachableError:
        return None


async def request_async(
    control: Path, method: str, target: str, patience: float = _TIMEOUT
) -> bytes:
    """The body of the processor's reply; raises `Unreachable` unless it is a 2xx."""
    try:
        async with asyncio.timeout(patience):
            return _response_body(await _exchange(control, _encode_request(method, target)))
    except OSError as error:
        raise ProcessorUnreachableError(gone=False) from error


async def read_status_async(control: Path, patience: float = _TIMEOUT) -> ProcessorStatus:
    """As `read_status`, without blocking the event loop."""
    return _decode_status(await request_async(control, "GET", "/status", patience))


async def _exchange(control: Path, request: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    # Connecting to a unix socket is over at once: it has a queue, and nobody far away.
    with _connect(control) as link:
        link.setblocking(False)
        await loop.sock_sendall(link, request)
        reply = bytearray()
        while len(reply) < _MAX_REPLY_SIZE and (piece := await loop.sock_recv(link, 65536)):
            reply += piece
    return bytes(reply)


def borrow_listeners(control: Path) -> list[socket.socket]:
    """The listening sockets of a running processor: those of http first, the admin one last.

    This is how a new supervisor takes over from one that died. Raises `Unreachable`.
    """
    with _connect(control) as link:
        try:
            link.sendall(b"LISTENERS\n")
            _, descriptors, _, _ = socket.recv_fds(link, 4096, 16)
        except OSError as error:
            raise ProcessorUnreachableError(gone=False) from error
    sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    for one in sockets:
        one.setblocking(False)
    return sockets
