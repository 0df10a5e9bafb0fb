"""The listening sockets of functions, and their ports.

The supervisor opens a function's listening sockets and lends them to processors, so a port never
closes while a function has one. Fixed ports are chosen below the kernel's range for outgoing
connections: after a restart, any client could take a port inside that range.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection
from dataclasses import dataclass, field

from fnbuild.builder.grpc_packages import serves_grpc
from fnbuild.errors import ConflictError, PlatformError, PreconditionError
from fnbuild.function.types import Function
from fnbuild.platforms.addresses import LOOPBACK, candidate_ports, listen_hosts, port_owner
from fnbuild.platforms.settings import listen_setting, requested_port
from fnbuild.store import FunctionRow, Store

_BACKLOG = 4096


ANY_ADDRESS = "0.0.0.0"  # noqa: S104 (compared only, not a default)


@dataclass(slots=True)
class Listeners:
    """The open sockets of a function: of its http trigger, one per address, and its admin port.

    `grpc` are those of its gRPC port, one per address, if it has one.
    """

    http: list[socket.socket]
    admin: socket.socket
    grpc: list[socket.socket] = field(default_factory=list)

    @property
    def port(self) -> int:
        port: int = self.http[0].getsockname()[1]
        return port

    @property
    def admin_port(self) -> int:
        port: int = self.admin.getsockname()[1]
        return port

    @property
    def grpc_port(self) -> int:
        """The gRPC port, 0 if there is none."""
        port: int = self.grpc[0].getsockname()[1] if self.grpc else 0
        return port

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(listener.getsockname()[0] for listener in self.http)

    @property
    def descriptors(self) -> tuple[int, ...]:
        return tuple(listener.fileno() for listener in self._all)

    @property
    def _all(self) -> tuple[socket.socket, ...]:
        return (*self.http, self.admin, *self.grpc)

    def close(self, keep: Listeners | None = None) -> None:
        """Close the sockets, except those that `keep` contains as well."""
        kept = {id(listener) for listener in keep._all} if keep else set()
        for listener in self._all:
            if id(listener) not in kept:
                listener.close()


def open_listeners(
    hosts: Collection[str], port: int, admin_port: int, avoid: Collection[int] = ()
) -> Listeners:
    """Open sockets on `port` of every host; 0 selects a free port that is not in `avoid`.

    Raises `ConflictError` if a fixed port is in use. The admin port is replaced if it is in use,
    since no client depends on it.
    """
    http = bind_port(hosts, port) if port else _bind_free(hosts, avoid)
    try:
        admin = bind_port([LOOPBACK], admin_port) if admin_port else _bind_free([LOOPBACK], avoid)
    except ConflictError:
        admin = _bind_free([LOOPBACK], avoid)
    except BaseException:
        for listener in http:
            listener.close()
        raise
    return Listeners(http, admin[0])


def bind_port(hosts: Collection[str], port: int) -> list[socket.socket]:
    """Open listening sockets on one port of several addresses, or raise `ConflictError`."""
    listeners: list[socket.socket] = []
    try:
        for host in hosts:
            listeners.append(_listen(host, port))
    except OSError as cause:
        for listener in listeners:
            listener.close()
        raise _bind_error(host, port, cause) from cause
    return listeners


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def _bind_error(host: str, port: int, cause: OSError) -> ConflictError | PlatformError:
    if cause.errno == errno.EADDRINUSE:
        holder = port_owner(port)
        by = f" by {holder}" if holder else ""
        return ConflictError(
            f"port {port} on {host} is taken{by}",
            hint="end that program, or set another port: spec.triggers.<name>.attributes.port",
        )
    if cause.errno == errno.EACCES:
        return ConflictError(
            f"this user may not listen on port {port}",
            hint="set a port above 1023: spec.triggers.<name>.attributes.port",
        )
    return PlatformError(f"cannot listen on {host}:{port}: {cause.strerror}")


def _bind_free(hosts: Collection[str], avoid: Collection[int]) -> list[socket.socket]:
    for port in candidate_ports():
        if port in avoid:
            continue
        try:
            return bind_port(hosts, port)
        except ConflictError:
            continue
    raise PlatformError("there is no free port for the function")


def peer_pid(connected: socket.socket) -> int:
    """Return the process at the other end of a unix socket: for a client, the listening one."""
    size = struct.calcsize("3i")
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid: int = struct.unpack("3i", credentials)[0]
    return pid


def open_listeners_for(
    function: Function, row: FunctionRow, current: Listeners | None, store: Store
) -> Listeners:
    """Open the sockets for this configuration, reusing those of `current` where possible.

    The port is that of the http trigger, else the recorded one, else a free one. Raises
    `ConflictError` if it is in use. The gRPC port is the recorded one, unless that is in use.
    """
    hosts, _ = listen_hosts(listen_setting(function))
    port = requested_port(function) or row.http_port
    others = [other for other in store.functions() if _row_key(other) != _row_key(row)]
    for other in others:
        if port and other.http_port == port:
            raise ConflictError(
                f"port {port} belongs to function {other.name} in namespace {other.namespace}",
                hint=f"choose another port, or delete {other.name}",
            )
    taken = {
        port for other in others for port in (other.http_port, other.admin_port, other.grpc_port)
    }
    if current is None:
        listeners = open_listeners(hosts, port, row.admin_port, taken)
    elif port != current.port:
        listeners = Listeners(bind_port(hosts, port), current.admin)
    else:
        listeners = Listeners(_open_on_same_port(hosts, port, current.http), current.admin)
    if serves_grpc(function):
        try:
            listeners.grpc = _open_grpc(hosts, row.grpc_port, current, taken)
        except BaseException:
            listeners.close(keep=current)
            raise
    return listeners


def _open_grpc(
    hosts: tuple[str, ...], port: int, current: Listeners | None, avoid: Collection[int]
) -> list[socket.socket]:
    if current is not None and current.grpc:
        return _open_on_same_port(hosts, current.grpc_port, current.grpc)
    try:
        return bind_port(hosts, port) if port else _bind_free(hosts, avoid)
    except ConflictError:
        return _bind_free(hosts, avoid)


def _row_key(row: FunctionRow) -> tuple[str, str]:
    return row.namespace, row.name


def _open_on_same_port(
    hosts: tuple[str, ...], port: int, current: list[socket.socket]
) -> list[socket.socket]:
    """Return the sockets of `current` for these hosts, and new ones for hosts that have none."""
    current_sockets = {listener.getsockname()[0]: listener for listener in current}
    missing = [host for host in hosts if host not in current_sockets]
    if missing and ANY_ADDRESS in (*hosts, *current_sockets):
        raise PreconditionError(
            f"port {port} cannot change between all addresses and single ones while it is in use",
            hint="change the port as well: spec.triggers.<name>.attributes.port",
        )
    opened = dict(zip(missing, bind_port(missing, port), strict=True))
    return [current_sockets.get(host) or opened[host] for host in hosts]
