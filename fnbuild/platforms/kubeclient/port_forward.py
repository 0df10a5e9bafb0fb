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

from fnbuild.errors import ConflictError, FnbuildError
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.websockets import open_websocket

_DATA, _ERROR = 0, 1
_CHUNK_SIZE = 32 * 1024
_BUFFER_SIZE = 1024 * 1024
"""The number of buffered bytes above which no more are read from the pod."""
_HALF_CLOSED_SECONDS = 120.0


@contextlib.contextmanager
def forward_port(
    cluster: Cluster, namespace: str, pod: str, port: int = 8080, *, local_port: int = 0
) -> Iterator[str]:
    """Forward a local port to the pod's port during the block; yield `http://127.0.0.1:NNNNN`.

    The local port is a free one unless `local_port` says which.

    Raises `ForbiddenError` without the permission to forward, and `UnavailableError` if the pod is
    not running.
    """
    forward = _PortForward(cluster, namespace, pod, port, local_port)
    try:
        yield forward.address
    finally:
        forward.close()


class _PortForward:
    """A listener with a thread for each connection."""

    def __init__(self, cluster: Cluster, namespace: str, pod: str, port: int, local_port: int):
        self._cluster = cluster
        self._target = (namespace, pod, port)
        self._listener = _listen(local_port)
        # Opening a tunnel now reports errors early, and the first connection does not have to wait.
        try:
            self._unused_tunnels: list[Any] = [self._open_tunnel()]
        except BaseException:
            self._listener.close()
            raise
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._wake, self._stop = socket.socketpair()
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def close(self) -> None:
        """Close the listener and all connections."""
        self._ended.set()
        self._stop.close()  # wakes all threads that poll the other end
        self._accepting.join()
        for thread in self._threads:
            thread.join()
        self._listener.close()
        self._wake.close()
        for tunnel in self._unused_tunnels:
            tunnel.shutdown()

    def _open_tunnel(self) -> Any:
        namespace, pod, port = self._target
        return open_websocket(self._cluster, namespace, pod, "portforward", {"ports": str(port)})

    def _accept(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while not self._ended.is_set():
            if self._listener.fileno() not in {number for number, _ in poll.poll()}:
                continue
            with contextlib.suppress(OSError):
                local, _ = self._listener.accept()
                self._threads = [alive for alive in self._threads if alive.is_alive()]
                thread = threading.Thread(target=self._serve, args=(local,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, local: socket.socket) -> None:
        with local:
            try:
                tunnel = self._unused_tunnels.pop()
            except IndexError:
                try:
                    tunnel = self._open_tunnel()
                except FnbuildError:
                    return  # closes the client's connection: the pod is gone
            try:
                _Relay(local, tunnel, self._wake).run()
            except (OSError, ValueError):
                return
            finally:
                with contextlib.suppress(OSError):
                    tunnel.shutdown()


def _listen(port: int) -> socket.socket:
    """Return a listener on the loopback. Raises `ConflictError` if the port is in use."""
    try:
        return socket.create_server(("127.0.0.1", port), backlog=64)
    except OSError as error:
        raise ConflictError(
            f"port {port} of this machine cannot be used: {error.strerror}",
            hint="name another one, or 0 for any",
        ) from error


class _Relay:
    """A connection: relays bytes of the local client as frames to the pod, and back."""

    def __init__(self, local: socket.socket, tunnel: Any, wake: socket.socket):
        self._local = local
        self._tunnel = tunnel
        self._wake = wake
        self._frames = b""
        self._outgoing = bytearray()
        self._open_channels: set[int] = set()
        self._local_open = True
        self._tunnel_open = True
        self._last_activity = time.monotonic()

    def run(self) -> None:
        """Relay until the pod's response is complete, the client is gone, or the forward ends."""
        self._local.setblocking(False)
        while self._tunnel_open or self._outgoing:
            poll = select.poll()
            poll.register(self._wake, select.POLLIN)
            poll.register(self._local, self._local_events())
            if self._tunnel_open:
                poll.register(self._tunnel.sock, self._tunnel_events())
            decrypted = self._accepts_data() and _has_decrypted_bytes(self._tunnel.sock)
            ready = dict(poll.poll(0 if decrypted else 1000))
            if self._wake.fileno() in ready:
                return
            if (
                not self._local_open
                and time.monotonic() - self._last_activity > _HALF_CLOSED_SECONDS
            ):
                return
            if not self._serve_local(ready.get(self._local.fileno(), 0)):
                return
            if self._tunnel_open:
                events = ready.get(self._tunnel.sock.fileno(), 0)
                self._serve_tunnel(events | (select.POLLIN if decrypted else 0))

    def _accepts_data(self) -> bool:
        return self._tunnel_open and len(self._outgoing) < _BUFFER_SIZE

    def _local_events(self) -> int:
        asking = self._local_open and self._tunnel_open and not self._frames
        return (select.POLLIN if asking else 0) | (select.POLLOUT if self._outgoing else 0)

    def _tunnel_events(self) -> int:
        reading = select.POLLIN if self._accepts_data() else 0
        return reading | (select.POLLOUT if self._frames else 0)

    def _serve_local(self, events: int) -> bool:
        """Serve the local side; return False if it is gone."""
        if events & select.POLLOUT:
            sent = self._local.send(self._outgoing[:_CHUNK_SIZE])
            del self._outgoing[:sent]
        if events & select.POLLIN and self._local_open:
            data = self._local.recv(_CHUNK_SIZE)
            if data:
                self._frames = _data_frame(data)
            else:
                # The protocol cannot half-close; the response may still arrive.
                self._local_open = False
                self._last_activity = time.monotonic()
        return not events & (select.POLLERR | select.POLLHUP)

    def _serve_tunnel(self, events: int) -> None:
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
            self._tunnel_open = False
            return
        self._last_activity = time.monotonic()
        if opcode == ABNF.OPCODE_CLOSE:
            self._tunnel_open = False
        elif opcode == ABNF.OPCODE_BINARY and frame.data:
            channel, data = frame.data[0], frame.data[1:]
            if channel not in self._open_channels:
                self._open_channels.add(channel)  # the first frame repeats the port number
            elif channel == _DATA:
                self._outgoing += data
            elif channel == _ERROR and data:
                self._tunnel_open = False


def _data_frame(data: bytes) -> bytes:
    from websocket import ABNF

    frame: bytes = ABNF.create_frame(bytes([_DATA]) + data, ABNF.OPCODE_BINARY).format()
    return frame


def _has_decrypted_bytes(sock: Any) -> bool:
    """Return True if TLS holds decrypted bytes, which poll does not report."""
    return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
