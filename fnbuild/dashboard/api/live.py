"""The list of functions as a stream: what a page shows without asking again."""

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
from fnbuild.dashboard.http import RefusedError
from fnbuild.dashboard.inventory import FunctionEntry, Inventory, Snapshot
from fnbuild.dashboard.requests import NAMESPACE_HEADER, function_namespace
from fnbuild.dashboard.services import services_of
from fnbuild.function.types import Raw

_MIN_INTERVAL_SECONDS = 0.5
"""Seconds between two lists at least."""

_KEEPALIVE_SECONDS = 15.0
"""Seconds after which a comment keeps the connection from looking dead to those in between."""


_MAX_STREAMS = 100
"""Streams that are open at most: each keeps a connection, and a namespace being asked about."""


class _EventStream(StreamingResponse):
    """One that counts while it is open."""

    _open: ClassVar[WeakSet[_EventStream]] = WeakSet()

    def __init__(self, events: AsyncIterator[bytes]):
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._open.add(self)

    @classmethod
    def room(cls) -> bool:
        return len(cls._open) < _MAX_STREAMS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._open.discard(self)


async def follow_functions(request: Request) -> Response:
    """Server-sent events: `functions` with the whole list, at once and after every change."""
    inventory, namespace = services_of(request).inventory, function_namespace(request)
    if not _EventStream.room():
        raise RefusedError(
            503,
            f"{_MAX_STREAMS} pages follow the list here already",
            hint="close some, or ask /api/functions from time to time",
            headers={"Retry-After": "10"},
        )
    return _EventStream(_events(inventory, namespace, values=is_writer(request)))


async def _events(inventory: Inventory, namespace: str, *, values: bool) -> AsyncIterator[bytes]:
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
            yield _encode_event(await inventory.view(namespace), values=values)
            change = asyncio.ensure_future(anext(watching))
    finally:
        change.cancel()
        await asyncio.gather(change, return_exceptions=True)
        await watching.aclose()


def _encode_event(view: Snapshot, *, values: bool) -> bytes:
    kind = ("live", values)
    if (event := view.encoded.get(kind)) is None:
        listed = {one.name: _without_code(one, values=values) for one in view.listed}
        event = b"event: functions\ndata: %b\n\n" % msgspec.json.encode({"functions": listed})
        view.encoded[kind] = event
    return event


def _without_code(one: FunctionEntry, *, values: bool) -> Raw:
    raw = objects.function_object(one, values=values)
    build = raw["spec"].get("build")
    if build:
        raw["spec"]["build"] = {
            key: value for key, value in build.items() if key != "functionSourceCode"
        }
    return raw


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "/api/live",
        ("GET",),
        "read",
        follow_functions,
        "Follow the list of functions: an event `functions` at once and after every change.",
        parameters={NAMESPACE_HEADER: "The namespace; the dashboard's own without."},
        gives={"text/event-stream": {"type": "string"}},
    ),
)
