"""Port forwarding to a pod through the API server, as in `kubectl port-forward`.

Each connection has its own WebSocket. The official client's relay buffers without limit and ends
the response when the request's side is shut down; this module has a relay of its own.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

from fnbuild.errors import FnbuildError
from fnbuild.platforms.kubeclient import connection_errors, kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.errors import RequestInfo

_PROTOCOL = "v4.channel.k8s.io"
_DATA, _ERROR = 0, 1
_CHUNK_SIZE = 32 * 1024
_BUFFER_SIZE = 1024 * 1024
"""Bytes that wait for the local side before the pod's side has to wait."""
_SEND_BUFFER = 1024 * 1024
_HALF_CLOSED_SECONDS = 120.0
_CONNECT_SECONDS = 30.0


@contextlib.contextmanager
def forward_port(cluster: Cluster, namespace: str, pod: str, port: int = 8080) -> Iterator[str]:
    """`http://127.0.0.1:NNNNN`, which is the pod's port while the block lasts.

    Raises `ForbiddenError` without the right to forward, and `UnavailableError` when the pod does
    not run.
    """
    forward = _PortForward(cluster, namespace, pod, port)
    try:
        yield forward.address
    finally:
        forward.close()


class _PortForward:
    """A listener, and a thread for each of its connections."""

    def __init__(self, cluster: Cluster, namespace: str, pod: str, port: int):
        self._cluster = cluster
        self._target = (namespace, pod, port)
        # What stands in the way is told at once, and the first connection need not wait.
        self._ready: list[Any] = [self._tunnel()]
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._wake, self._stop = socket.socketpair()
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def close(self) -> None:
        """End the listener and all connections."""
        self._ended.set()
        self._stop.close()  # what waits for the other end sees it at once
        self._accepting.join()
        for thread in self._threads:
            thread.join()
        self._listener.close()
        self._wake.close()
        for tunnel in self._ready:
            tunnel.shutdown()

    def _tunnel(self) -> Any:
        namespace, pod, port = self._target
        return _open_websocket(self._cluster, namespace, pod, port)

    def _accept(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while not self._ended.is_set():
            if self._listener.fileno() not in {number for number, _ in poll.poll()}:
                continue
            with contextlib.suppress(OSError):
                local, _ = self._listener.accept()
                self._threads = [one for one in self._threads if one.is_alive()]
                thread = threading.Thread(target=self._serve, args=(local,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, local: socket.socket) -> None:
        with local:
            try:
                tunnel = self._ready.pop()
            except IndexError:
                try:
                    tunnel = self._tunnel()
                except FnbuildError:
                    return  # whoever connected sees it end: the pod is gone
            try:
                _Relay(local, tunnel, self._wake).run()
            except (OSError, ValueError):
                return
            finally:
                with contextlib.suppress(OSError):
                    tunnel.shutdown()


class _Relay:
    """One connection: bytes of the local side as frames to the pod, and the other way."""

    def __init__(self, local: socket.socket, tunnel: Any, wake: socket.socket):
        self._local = local
        self._tunnel = tunnel
        self._wake = wake
        self._frames = b""
        self._answer = bytearray()
        self._begun: set[int] = set()
        self._asking = True
        self._answering = True
        self._heard = time.monotonic()

    def run(self) -> None:
        """Until the pod has said all, the local side is gone, or the forward ends."""
        self._local.setblocking(False)
        while self._answering or self._answer:
            poll = select.poll()
            poll.register(self._wake, select.POLLIN)
            poll.register(self._local, self._local_events())
            if self._answering:
                poll.register(self._tunnel.sock, self._tunnel_events())
            decrypted = self._reading() and _has_decrypted_bytes(self._tunnel.sock)
            ready = dict(poll.poll(0 if decrypted else 1000))
            if self._wake.fileno() in ready:
                return
            if not self._asking and time.monotonic() - self._heard > _HALF_CLOSED_SECONDS:
                return
            if not self._of_local(ready.get(self._local.fileno(), 0)):
                return
            if self._answering:
                events = ready.get(self._tunnel.sock.fileno(), 0)
                self._of_tunnel(events | (select.POLLIN if decrypted else 0))

    def _reading(self) -> bool:
        return self._answering and len(self._answer) < _BUFFER_SIZE

    def _local_events(self) -> int:
        asking = self._asking and self._answering and not self._frames
        return (select.POLLIN if asking else 0) | (select.POLLOUT if self._answer else 0)

    def _tunnel_events(self) -> int:
        reading = select.POLLIN if self._reading() else 0
        return reading | (select.POLLOUT if self._frames else 0)

    def _of_local(self, events: int) -> bool:
        """Whether the local side is still there."""
        if events & select.POLLOUT:
            sent = self._local.send(self._answer[:_CHUNK_SIZE])
            del self._answer[:sent]
        if events & select.POLLIN and self._asking:
            data = self._local.recv(_CHUNK_SIZE)
            if data:
                self._frames = _data_frame(data)
            else:
                # The API cannot tell the pod of it; the answer may still come.
                self._asking = False
                self._heard = time.monotonic()
        return not events & (select.POLLERR | select.POLLHUP)

    def _of_tunnel(self, events: int) -> None:
        if events & select.POLLOUT and self._frames:
            sent = self._tunnel.sock.send(self._frames)
            self._frames = self._frames[sent:]
        if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
            self._receive()

    def _receive(self) -> None:
        from websocket import ABNF, WebSocketException

        try:
            opcode, frame = self._tunnel.recv_data_frame(True)
        except WebSocketException:
            self._answering = False
            return
        self._heard = time.monotonic()
        if opcode == ABNF.OPCODE_CLOSE:
            self._answering = False
        elif opcode == ABNF.OPCODE_BINARY and frame.data:
            channel, data = frame.data[0], frame.data[1:]
            if channel not in self._begun:
                self._begun.add(channel)  # the first frame repeats the port's number
            elif channel == _DATA:
                self._answer += data
            elif channel == _ERROR and data:
                self._answering = False


def _data_frame(data: bytes) -> bytes:
    from websocket import ABNF

    made: bytes = ABNF.create_frame(bytes([_DATA]) + data, ABNF.OPCODE_BINARY).format()
    return made


def _has_decrypted_bytes(sock: Any) -> bool:
    """Whether bytes are decrypted already, so that no poll tells of them."""
    return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0


def _open_websocket(cluster: Cluster, namespace: str, pod: str, port: int) -> Any:
    """A WebSocket to one port of the pod."""
    from websocket import WebSocketBadStatusException, WebSocketException, create_connection

    wire = cluster.wire
    request = RequestInfo(
        "create", kinds.POD, namespace, pod, "portforward", cluster.server, cluster.context
    )
    path = kinds.POD.path(namespace, pod, "portforward")
    url = f"{wire.access.url}{path}?ports={port}".replace("http", "ws", 1)
    headers = {}
    if (authorization := wire.access.authorization()) is not None:
        headers["Authorization"] = authorization
    try:
        tunnel = create_connection(
            url,
            header=headers,
            subprotocols=[_PROTOCOL],
            timeout=_CONNECT_SECONDS,
            skip_utf8_validation=True,
            **wire.access.websocket_options(),
        )
        tunnel.settimeout(None)
    except WebSocketBadStatusException as error:
        raise wire.refused(error.status_code, error.resp_body or b"", request) from error
    except (WebSocketException, OSError) as error:
        raise connection_errors.connection_error(error, wire.place, wire.access.proxy) from error
    # A send behind poll must not wait: the pod may be waiting for its answer to be taken.
    assert tunnel.sock is not None
    tunnel.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    return tunnel
