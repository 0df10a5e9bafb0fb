"""The list of functions as a stream of server-sent events, which the page follows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import ClassVar
from weakref import WeakSet

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from fnbuild.dashboard import objects
from fnbuild.dashboard.auth.middleware import is_writer
from fnbuild.dashboard.endpoints import Endpoint
from fnbuild.dashboard.function_entries import FunctionEntry
from fnbuild.dashboard.http import RefusedError
from fnbuild.dashboard.inventory import Inventory, Snapshot
from fnbuild.dashboard.requests import NAMESPACE_PARAMETER, function_namespace
from fnbuild.dashboard.services import services_of
from fnbuild.function.types import Raw

_MIN_INTERVAL_SECONDS = 0.5
"""The least time between two lists."""

_KEEPALIVE_SECONDS = 15.0
"""The interval of comments, so that proxies do not take the connection for dead."""

_MAX_STREAMS = 100
"""The most open streams: each keeps a connection, and its namespace is polled."""


class _EventStream(StreamingResponse):
    """A stream that is counted while it is open."""

    _open: ClassVar[WeakSet[_EventStream]] = WeakSet()

    def __init__(self, events: AsyncIterator[bytes]):
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._open.add(self)

    @classmethod
    def has_room(cls) -> bool:
        return len(cls._open) < _MAX_STREAMS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._open.discard(self)


async def follow_functions(request: Request) -> Response:
    """Send an event `functions` with the whole list at once and after every change."""
    inventory, namespace = services_of(request).inventory, function_namespace(request)
    if not _EventStream.has_room():
        raise RefusedError(
            503,
            f"{_MAX_STREAMS} pages already follow the list of this dashboard",
            hint="close some, or request /api/functions at intervals",
            headers={"Retry-After": "10"},
        )
    return _EventStream(_events(inventory, namespace, show_values=is_writer(request)))


async def _events(
    inventory: Inventory, namespace: str, *, show_values: bool
) -> AsyncIterator[bytes]:
    yield b"retry: 1000\n\n"
    sent, watching = 0.0, inventory.watch(namespace)
    change = asyncio.ensure_future(anext(watching))
    try:
        while True:
            done, _ = await asyncio.wait({change}, timeout=_KEEPALIVE_SECONDS)
            if not done:
                yield b": still here\n\n"
                continue
            change.result()
            await asyncio.sleep(max(0.0, sent + _MIN_INTERVAL_SECONDS - time.monotonic()))
            sent = time.monotonic()
            yield _encode_event(await inventory.snapshot(namespace), show_values=show_values)
            change = asyncio.ensure_future(anext(watching))
    finally:
        change.cancel()
        await asyncio.gather(change, return_exceptions=True)
        await watching.aclose()


def _encode_event(snapshot: Snapshot, *, show_values: bool) -> bytes:
    key = ("live", show_values)
    if (event := snapshot.encoded.get(key)) is None:
        functions = {
            entry.name: _object_without_code(entry, show_values=show_values)
            for entry in snapshot.entries
        }
        event = b"event: functions\ndata: %b\n\n" % msgspec.json.encode({"functions": functions})
        snapshot.encoded[key] = event
    return event


def _object_without_code(entry: FunctionEntry, *, show_values: bool) -> Raw:
    raw = objects.function_object(entry, show_values=show_values)
    build = raw["spec"].get("build")
    if build:
        raw["spec"]["build"] = {
            key: value for key, value in build.items() if key != "functionSourceCode"
        }
    return raw


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "/api/live",
        "GET",
        "read",
        follow_functions,
        "Follow the list of functions: an event `functions` at once and after every change.",
        parameters=NAMESPACE_PARAMETER,
        response_content={"text/event-stream": {"type": "string"}},
    ),
)
