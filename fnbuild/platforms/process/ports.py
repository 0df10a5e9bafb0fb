"""Which sockets a function gets: the same port as ever, on the hosts that it asks for."""

from __future__ import annotations

from fnbuild.errors import ConflictError, PreconditionError
from fnbuild.platforms.addresses import hosts_of
from fnbuild.platforms.process.sockets import Listeners, bind, open_listeners
from fnbuild.platforms.settings import listen_words, wanted_port
from fnbuild.spec.types import Function
from fnbuild.store import FunctionRow, Store

EVERY_HOST = "0.0.0.0"  # noqa: S104 (compared with, never a default)


def listeners_for(
    function: Function, row: FunctionRow, current: Listeners | None, store: Store
) -> Listeners:
    """The sockets for this configuration; those of `current` are used again where they fit.

    The port is the one that the http trigger names, else the recorded one, else a free one. Raises
    `ConflictError` when it is taken.
    """
    hosts, _ = hosts_of(listen_words(function))
    port = wanted_port(function) or row.http_port
    others = [one for one in store.functions() if (one.namespace, one.name) != _key(row)]
    for other in others:
        if port and other.http_port == port:
            raise ConflictError(
                f"port {port} belongs to function {other.name} in namespace {other.namespace}",
                hint=f"choose another port, or delete {other.name}",
            )
    if current is None:
        taken = {one.http_port for one in others} | {one.admin_port for one in others}
        return open_listeners(hosts, port, row.admin_port, taken)
    if port != current.port:
        return Listeners(bind(hosts, port), current.admin)
    return _same_port(hosts, port, current)


def _key(row: FunctionRow) -> tuple[str, str]:
    return row.namespace, row.name


def _same_port(hosts: tuple[str, ...], port: int, current: Listeners) -> Listeners:
    have = dict(zip(current.hosts, current.http, strict=True))
    missing = [host for host in hosts if host not in have]
    if missing and EVERY_HOST in (*hosts, *have):
        raise PreconditionError(
            f"port {port} cannot change between every address and single ones while it is served",
            hint="set another port with it: spec.triggers.<name>.attributes.port",
        )
    opened = dict(zip(missing, bind(missing, port), strict=True))
    return Listeners([have.get(host) or opened[host] for host in hosts], current.admin)
