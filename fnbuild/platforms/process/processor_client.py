"""A client of the control sockets of processors.

Commands ask processors directly, so that they show the true state even without a supervisor. The
supervisor uses the asynchronous functions.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from pathlib import Path

import msgspec

from fnbuild.platforms.process.listeners import Listeners, peer_pid
from fnbuild.platforms.processor_status import ProcessorStatus, decode_status
from fnbuild.runtime import sockets

_TIMEOUT = 2.0
_MAX_RESPONSE_SIZE = 8 << 20


_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS))


class ProcessorUnreachableError(Exception):
    """A processor does not answer on its control socket. If `gone`, no process listens there.

    `exhausted` is True if this process has no descriptors or memory left for the request.
    """

    def __init__(self, gone: bool, cause: OSError | None = None):
        super().__init__("gone" if gone else "no answer")
        self.gone = gone
        self.exhausted = cause is not None and cause.errno in _EXHAUSTED


def _encode_request(method: str, target: str) -> bytes:
    head = f"{method} {target} HTTP/1.1\r\nHost: processor\r\nConnection: close\r\n"
    return f"{head}Content-Length: 0\r\n\r\n".encode()


def _response_body(response: bytes) -> bytes:
    head, separator, body = response.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    if not separator or not status or not status[0].startswith(b"2"):
        raise ProcessorUnreachableError(gone=False)
    return body


def _decode_status(body: bytes) -> ProcessorStatus:
    try:
        return decode_status(body)
    except msgspec.MsgspecError as error:
        raise ProcessorUnreachableError(gone=False) from error


def read_status(control: Path, timeout: float = _TIMEOUT) -> ProcessorStatus:
    """Return the status of a processor within `timeout` seconds.

    Raises `ProcessorUnreachableError`.
    """
    return _decode_status(request(control, "/status", timeout))


def request(control: Path, target: str, timeout: float = _TIMEOUT) -> bytes:
    """Return the body of the response to a GET; raise `ProcessorUnreachableError` unless 2xx."""
    return _response_body(_send(control, "GET", target, timeout))


def post(control: Path, target: str, timeout: float) -> bytes:
    """Return the body of the response to a POST, whatever its status.

    Raises `ProcessorUnreachableError`.
    """
    return _send(control, "POST", target, timeout).partition(b"\r\n\r\n")[2]


def _send(control: Path, method: str, target: str, timeout: float) -> bytes:
    with _connect(control, timeout) as link:
        try:
            link.sendall(_encode_request(method, target))
            response = bytearray()
            while len(response) < _MAX_RESPONSE_SIZE and (piece := link.recv(65536)):
                response += piece
        except OSError as error:
            raise ProcessorUnreachableError(gone=False) from error
    return bytes(response)


def _connect(control: Path, timeout: float = _TIMEOUT) -> socket.socket:
    try:
        return sockets.connect_unix(control, timeout)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise ProcessorUnreachableError(gone=True) from error
    except OSError as error:
        raise ProcessorUnreachableError(gone=False, cause=error) from error


def listening_pid(control: Path) -> int | None:
    """Return the process that listens on the control socket, None if there is none."""
    try:
        with _connect(control) as link:
            return peer_pid(link)
    except ProcessorUnreachableError:
        return None


async def request_async(
    control: Path, method: str, target: str, timeout: float = _TIMEOUT
) -> bytes:
    """Return the body of the response; raise `ProcessorUnreachableError` unless 2xx."""
    try:
        async with asyncio.timeout(timeout):
            return _response_body(await _exchange(control, _encode_request(method, target)))
    except OSError as error:
        raise ProcessorUnreachableError(gone=False) from error


async def read_status_async(control: Path, timeout: float = _TIMEOUT) -> ProcessorStatus:
    """Return the status of a processor, as `read_status` does."""
    return _decode_status(await request_async(control, "GET", "/status", timeout))


async def _exchange(control: Path, request: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    # Connecting to a unix socket does not block.
    with _connect(control) as link:
        link.setblocking(False)
        await loop.sock_sendall(link, request)
        response = bytearray()
        while len(response) < _MAX_RESPONSE_SIZE and (piece := await loop.sock_recv(link, 65536)):
            response += piece
    return bytes(response)


def _grpc_count(message: bytes) -> int:
    """Return the number of sockets for gRPC; older processors, which have none, do not send it."""
    numbers = message.split()[1:]
    return int(numbers[1]) if len(numbers) > 1 else 0


def borrow_listeners(control: Path) -> Listeners | None:
    """Receive the listening sockets of a running processor; None if it does not send them.

    With them a new supervisor takes over from one that died.
    """
    try:
        with _connect(control) as link:
            link.sendall(b"LISTENERS\n")
            message, descriptors, _, _ = socket.recv_fds(link, 4096, 32)
    except (ProcessorUnreachableError, OSError):
        return None
    listeners = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    for listener in listeners:
        listener.setblocking(False)
    grpc_count = _grpc_count(message)
    first = len(listeners) - grpc_count
    if first >= 2:
        return Listeners(listeners[: first - 1], listeners[first - 1], listeners[first:])
    for listener in listeners:
        listener.close()
    return None
