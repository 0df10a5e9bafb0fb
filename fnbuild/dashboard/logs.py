"""Logs of functions: of one replica as Nuclio gives them, and of all together for the page."""

from __future__ import annotations

import json
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from threading import Event

import anyio.to_thread
import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from fnbuild.dashboard.answers import json_response
from fnbuild.dashboard.endpoints import Endpoint
from fnbuild.dashboard.namespaces import NAMESPACE, namespace_of
from fnbuild.dashboard.records import Followed
from fnbuild.dashboard.services import services_of
from fnbuild.errors import NotFoundError, UsageError
from fnbuild.platforms import LogRecord, Platform
from fnbuild.spec.quantities import duration
from fnbuild.spec.types import Raw

_LEVELS = {"debug": 0, "info": 1, "warn": 2, "warning": 2, "error": 3}
_UNASKED_TAIL = 1000
_SILENCE = 15.0
_STREAM = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
_SINCE = "From when on: `10m` ago, seconds since the epoch, or a time such as 2026-01-31T12:00:00Z."


@dataclass(frozen=True, slots=True)
class _Log:
    """Which part of which function's log is wanted. `replica` "" stands for all."""

    platform: Platform
    namespace: str
    name: str
    since: float | None
    tail: int | None
    least: int = 0
    replica: str = ""

    def read(self, until: Event | None, *, follow: bool) -> Iterator[LogRecord]:
        records = self.platform.logs(
            self.namespace,
            self.name,
            follow=follow,
            since=self.since,
            tail=self.tail,
            until=until,
        )
        return filter(self._wanted, records)

    def _wanted(self, record: LogRecord) -> bool:
        level = _LEVELS.get(record.level, _LEVELS["error"])
        return level >= self.least and self.replica in ("", record.fields.get("pod", self.replica))


async def replicas(request: Request) -> Response:
    """The names of what runs of a function (pkg/dashboard/resource/function.go)."""
    platform, namespace, name = await _function(request)
    names = await anyio.to_thread.run_sync(platform.replicas, namespace, name)
    return json_response({"names": names})


async def replica_log(request: Request) -> Response:
    """One replica's log as lines of JSON, as they come unless `follow` says no."""
    platform, namespace, name = await _function(request)
    replica = request.path_params["replica"]
    names = await anyio.to_thread.run_sync(platform.replicas, namespace, name)
    if replica not in names:
        raise NotFoundError(
            f"{name} has no replica {replica}", hint=f"it has {', '.join(names) or 'none'} now"
        )
    query = request.query_params
    log = _Log(
        platform,
        namespace,
        name,
        _since(query.get("since", "")),
        _count("tailLines", query.get("tailLines", "")),
        replica=replica,
    )
    follow = query.get("follow", "true").lower() != "false"
    return await _streamed(log, _line, "text/plain; charset=utf-8", follow=follow)


async def log(request: Request) -> Response:
    """The log of all replicas as one: a JSON object, or with `follow` server-sent events."""
    platform, namespace, name = await _function(request)
    query = request.query_params
    since = _since(query.get("since", ""))
    tail = _count("tail", query.get("tail", ""))
    follow = query.get("follow", "").lower() in ("true", "1")
    if tail == 0 and follow:
        # From now on, and not from when the log has been opened.
        since, tail = max(since or 0.0, time.time()), None
    if tail is None and since is None:
        tail = _UNASKED_TAIL
    found = _Log(platform, namespace, name, since, tail, _least(query.get("level", "")))
    if follow:
        return await _streamed(found, _event, "text/event-stream", follow=True)
    async with services_of(request).reading.whole():
        text = await anyio.to_thread.run_sync(_records, found)
    return Response(text, media_type="application/json")


def _records(log: _Log) -> bytes:
    return _json({"records": [_object(one) for one in log.read(None, follow=False)]})


async def _function(request: Request) -> tuple[Platform, str, str]:
    namespace, inventory = namespace_of(request), services_of(request).inventory
    listed = await inventory.function(namespace, request.path_params["name"])
    return inventory.platform(listed.platform), namespace, listed.deployment.name


class _LogResponse(StreamingResponse):
    """The records of a log, which is closed however the response ends."""

    def __init__(
        self, followed: Followed, encode: Callable[[LogRecord], bytes], media_type: str
    ) -> None:
        silent = b": still here\n\n" if media_type == "text/event-stream" else b""
        pieces = _pieces(followed, encode, silent)
        super().__init__(pieces, media_type=media_type, headers=_STREAM)
        self._followed = followed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._followed.close()


async def _streamed(
    log: _Log, encode: Callable[[LogRecord], bytes], media_type: str, *, follow: bool
) -> Response:
    followed = Followed(partial(log.read, follow=follow))
    try:
        # A client that has the response's head receives everything that is written from then on.
        await followed.open()
    except BaseException:
        followed.close()
        raise
    return _LogResponse(followed, encode, media_type)


async def _pieces(
    followed: Followed, encode: Callable[[LogRecord], bytes], silent: bytes
) -> AsyncIterator[bytes]:
    # The head goes out at once: a function may be silent for long.
    yield silent
    async for records in followed.batches(_SILENCE):
        yield b"".join(map(encode, records)) or silent


def _event(record: LogRecord) -> bytes:
    return b"event: record\ndata: %b\n\n" % _json(_object(record))


def _object(record: LogRecord) -> Raw:
    """A record as the page gets it; `time` is in seconds since the epoch."""
    fields = dict(record.fields)
    return {
        "time": record.time,
        "level": record.level,
        "message": record.message,
        "worker": record.worker,
        "replica": fields.pop("pod", ""),
        "fields": fields,
    }


def _line(record: LogRecord) -> bytes:
    """A record as the processor wrote it, which is what Nuclio passes on."""
    known = {"time": record.time * 1000, "level": record.level, "message": record.message}
    if record.worker is not None:
        known["worker"] = record.worker
    return _json(known | record.fields) + b"\n"


def _json(value: Raw) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        # Halves of surrogate pairs, which a handler may have logged, have a form in JSON alone.
        return json.dumps(value).encode()


def _least(level: str) -> int:
    if level and level not in _LEVELS:
        raise UsageError(f"level: {level!r} is none", hint="one of debug, info, warn and error")
    return _LEVELS[level] if level else 0


def _count(name: str, text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise UsageError(f"{name}: {text!r} is no number of lines", hint="as in 100")
    return int(text)


def _since(text: str) -> float | None:
    """A time in seconds since the epoch, of whatever says one."""
    if not text:
        return None
    for read in (float, _ago, _moment):
        with suppress(ValueError):
            if math.isfinite(found := read(text)):
                return found
    raise UsageError(f"since: {text!r} is no time", hint=_SINCE)


def _ago(text: str) -> float:
    return time.time() - duration(text)


def _moment(text: str) -> float:
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "/api/functions/{name}/replicas",
        ("GET",),
        "read",
        replicas,
        "The names of what runs of a function.",
        parameters={NAMESPACE: "The namespace; the dashboard's own without."},
        gives={"application/json": {"type": "object"}},
    ),
    Endpoint(
        "/api/functions/{name}/logs/{replica}",
        ("GET",),
        "read",
        replica_log,
        "The log of one replica, as lines.",
        parameters={
            NAMESPACE: "The namespace; the dashboard's own without.",
            "?follow": "`false` ends with what there is now.",
            "?since": _SINCE,
            "?tailLines": "So many of the last lines.",
        },
        gives={"text/plain": {"type": "string"}},
    ),
    Endpoint(
        "/api/functions/{name}/logs",
        ("GET",),
        "read",
        log,
        "The log of a function; with `follow` as events `record`.",
        parameters={
            NAMESPACE: "The namespace; the dashboard's own without.",
            "?follow": "`true` goes on with what comes, as server-sent events.",
            "?since": _SINCE,
            "?tail": f"Look at so many of the last records; {_UNASKED_TAIL} without `since`.",
            "?level": "Of those, only the ones of this level and above.",
        },
        gives={
            "application/json": {"type": "object"},
            "text/event-stream": {"type": "string"},
        },
    ),
)
