"""Logs of functions: of one replica in Nuclio's format, and of all replicas for the page."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from threading import Condition, Event, Thread
from typing import ClassVar
from weakref import WeakSet

import anyio.to_thread
import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from fnbuild.dashboard.endpoints import JSON_OBJECT, Endpoint
from fnbuild.dashboard.http import json_response
from fnbuild.dashboard.requests import NAMESPACE_PARAMETER, function_namespace, requested_function
from fnbuild.dashboard.services import services_of
from fnbuild.errors import FnbuildError, NotFoundError, UnavailableError, UsageError
from fnbuild.function.quantities import parse_duration
from fnbuild.function.types import Raw
from fnbuild.platforms import LogOptions, LogRecord, Platform

# The most records that wait for a slow client before the reading of the log waits.
_MAX_BUFFERED = 5000
_STOP_CHECK_SECONDS = 0.5
_MAX_FOLLOWED = 100

LogReader = Callable[[Event], Iterator[LogRecord]]
"""Open a log, fixing the position in it; its records end soon after the event is set."""


class FollowedLog:
    """A log that a thread of its own reads, from `open` until `close`."""

    _running: ClassVar[WeakSet[FollowedLog]] = WeakSet()

    def __init__(self, read: LogReader):
        if len(self._running) >= _MAX_FOLLOWED:
            raise UnavailableError(
                f"{_MAX_FOLLOWED} logs are being followed here already",
                hint="close some pages, or request the log without `follow`",
            )
        self._running.add(self)
        self._read = read
        self._loop = asyncio.get_running_loop()
        self._available = asyncio.Event()
        self._condition = Condition()
        self._buffer: deque[LogRecord] = deque()
        self._stop = Event()
        self._is_open = asyncio.Event()
        self._ended = False
        self._error: FnbuildError | None = None

    async def open(self) -> None:
        """Start reading, and return once the position in the log is fixed.

        No record that is written after the return is missed. Raises the log's error if it cannot be
        opened. A caller that is cancelled meanwhile must call `close`.
        """
        Thread(target=self._run, name="follow a log", daemon=True).start()
        await self._is_open.wait()
        if self._ended and self._error is not None and not self._buffer:
            raise self._error

    def close(self) -> None:
        """Let the thread end, and make room for another log."""
        self._stop.set()
        self._running.discard(self)

    async def batches(self, silence: float) -> AsyncIterator[list[LogRecord]]:
        """Yield new records as they arrive, or [] after `silence` seconds without any.

        Ends with the log. Raises the error if the log failed.
        """
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._available.wait(), silence)
            self._available.clear()
            with self._condition:
                records, has_ended = list(self._buffer), self._ended
                self._buffer.clear()
                self._condition.notify_all()
            if records or not has_ended:
                yield records
            if has_ended:
                break
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            records = self._read(self._stop)
            self._notify(self._is_open)
            for record in records:
                if self._stop.is_set():
                    return
                self._put(record)
        except FnbuildError as error:
            self._error = error
        finally:
            with self._condition:
                self._ended = True
            self._notify(self._is_open)
            self._notify(self._available)

    def _put(self, record: LogRecord) -> None:
        with self._condition:
            while len(self._buffer) >= _MAX_BUFFERED and not self._stop.is_set():
                self._condition.wait(_STOP_CHECK_SECONDS)
            was_empty = not self._buffer
            self._buffer.append(record)
        if was_empty:
            self._notify(self._available)

    def _notify(self, event: asyncio.Event) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(event.set)


_LEVELS = {"debug": 0, "info": 1, "warn": 2, "warning": 2, "error": 3}
_DEFAULT_TAIL = 1000
_KEEPALIVE_SECONDS = 15.0
_STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
_TIME_FORMATS = "`10m` (ago), seconds since the epoch, or 2026-01-31T12:00:00Z"


@dataclass(frozen=True, slots=True)
class _LogQuery:
    """The records of a function's log to read. `replica` "" stands for all replicas."""

    platform: Platform
    namespace: str
    name: str
    options: LogOptions
    min_level: int = 0
    replica: str = ""

    def read(self, stop: Event) -> Iterator[LogRecord]:
        options = replace(self.options, stop=stop)
        return filter(self._matches, self.platform.logs(self.namespace, self.name, options))

    def _matches(self, record: LogRecord) -> bool:
        level = _LEVELS.get(record.level, _LEVELS["error"])
        replica = record.fields.get("pod", self.replica)
        return level >= self.min_level and self.replica in ("", replica)


async def list_replicas(request: Request) -> Response:
    """List the names of a function's replicas (pkg/dashboard/resource/function.go)."""
    entry, platform = await requested_function(request)
    namespace, name = function_namespace(request), entry.deployment.name
    names = await anyio.to_thread.run_sync(platform.replica_names, namespace, name)
    return json_response({"names": names})


async def get_replica_log(request: Request) -> Response:
    """Send one replica's log as lines of JSON, and follow it unless `follow` is false."""
    entry, platform = await requested_function(request)
    namespace, name = function_namespace(request), entry.deployment.name
    replica = request.path_params["replica"]
    names = await anyio.to_thread.run_sync(platform.replica_names, namespace, name)
    if replica not in names:
        raise NotFoundError(
            f"{name} has no replica {replica}", hint=f"it has {', '.join(names) or 'none'} now"
        )
    query = request.query_params
    options = LogOptions(
        follow=query.get("follow", "true").lower() != "false",
        since=_parse_time(query.get("since", "")),
        tail=_parse_count("tailLines", query.get("tailLines", "")),
    )
    log = _LogQuery(platform, namespace, name, options, replica=replica)
    return await _stream(log, _encode_line, "text/plain; charset=utf-8")


async def get_log(request: Request) -> Response:
    """Return the log of all replicas as a JSON object, or with `follow` as server-sent events."""
    entry, platform = await requested_function(request)
    namespace, name = function_namespace(request), entry.deployment.name
    query = request.query_params
    since = _parse_time(query.get("since", ""))
    tail = _parse_count("tail", query.get("tail", ""))
    follow = query.get("follow", "").lower() in ("true", "1")
    if tail == 0 and follow:
        # From the time of the request, not from when the log is open.
        since, tail = max(since or 0.0, time.time()), None
    if tail is None and since is None:
        tail = _DEFAULT_TAIL
    options = LogOptions(follow, since, tail)
    log = _LogQuery(platform, namespace, name, options, _parse_level(query.get("level", "")))
    if follow:
        return await _stream(log, _encode_event, "text/event-stream")
    async with services_of(request).reading_limiter.admit_to_slot():
        text = await anyio.to_thread.run_sync(_encode_records, log)
    return Response(text, media_type="application/json")


def _encode_records(log: _LogQuery) -> bytes:
    records = log.read(Event())
    return _encode_json({"records": [_record_object(record) for record in records]})


class _LogResponse(StreamingResponse):
    """The records of a log, which is closed when the response ends in any way."""

    def __init__(
        self, followed: FollowedLog, encode: Callable[[LogRecord], bytes], media_type: str
    ) -> None:
        keepalive = b": still here\n\n" if media_type == "text/event-stream" else b""
        chunks = _encode_batches(followed, encode, keepalive)
        super().__init__(chunks, media_type=media_type, headers=_STREAM_HEADERS)
        self._followed = followed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._followed.close()


async def _stream(
    log: _LogQuery, encode: Callable[[LogRecord], bytes], media_type: str
) -> Response:
    followed = FollowedLog(log.read)
    try:
        # Once a client has the head of the response, it receives every further record.
        await followed.open()
    except BaseException:
        followed.close()
        raise
    return _LogResponse(followed, encode, media_type)


async def _encode_batches(
    followed: FollowedLog, encode: Callable[[LogRecord], bytes], keepalive: bytes
) -> AsyncIterator[bytes]:
    # Send the head at once, because the first record may come late.
    yield keepalive
    async for records in followed.batches(_KEEPALIVE_SECONDS):
        yield b"".join(map(encode, records)) or keepalive


def _encode_event(record: LogRecord) -> bytes:
    return b"event: record\ndata: %b\n\n" % _encode_json(_record_object(record))


def _record_object(record: LogRecord) -> Raw:
    """Return a record as an object for the page; `time` is in seconds since the epoch."""
    fields = dict(record.fields)
    return {
        "time": record.time,
        "level": record.level,
        "message": record.message,
        "worker": record.worker,
        "replica": fields.pop("pod", ""),
        "fields": fields,
    }


def _encode_line(record: LogRecord) -> bytes:
    """Encode a record as the processor wrote it, as Nuclio does."""
    line = {"time": record.time * 1000, "level": record.level, "message": record.message}
    if record.worker is not None:
        line["worker"] = record.worker
    return _encode_json(line | record.fields) + b"\n"


def _encode_json(value: Raw) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        # Lone surrogates, which a handler may have logged, exist in JSON but not in UTF-8.
        return json.dumps(value).encode()


def _parse_level(level: str) -> int:
    if level and level not in _LEVELS:
        raise UsageError(
            f"level: {level!r} is not a level", hint="one of debug, info, warn and error"
        )
    return _LEVELS[level] if level else 0


def _parse_count(name: str, text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise UsageError(f"{name}: {text!r} is not a number of lines", hint="as in 100")
    return int(text)


def _parse_time(text: str) -> float | None:
    """Parse a time in any supported format into seconds since the epoch."""
    if not text:
        return None
    for parse in (float, _parse_age, _parse_timestamp):
        with suppress(ValueError):
            if math.isfinite(seconds := parse(text)):
                return seconds
    raise UsageError(f"since: {text!r} is not a time", hint=f"as in {_TIME_FORMATS}")


def _parse_age(text: str) -> float:
    return time.time() - parse_duration(text)


def _parse_timestamp(text: str) -> float:
    timestamp = datetime.fromisoformat(text)
    return (timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)).timestamp()


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "/api/functions/{name}/replicas",
        "GET",
        "read",
        list_replicas,
        "List the names of a function's replicas.",
        parameters=NAMESPACE_PARAMETER,
        response_content=JSON_OBJECT,
    ),
    Endpoint(
        "/api/functions/{name}/logs/{replica}",
        "GET",
        "read",
        get_replica_log,
        "Get the log of one replica as lines.",
        parameters={
            **NAMESPACE_PARAMETER,
            "?follow": "`false` ends after the existing lines.",
            "?since": f"The time of the first record: {_TIME_FORMATS}.",
            "?tailLines": "The number of last lines.",
        },
        response_content={"text/plain": {"type": "string"}},
    ),
    Endpoint(
        "/api/functions/{name}/logs",
        "GET",
        "read",
        get_log,
        "Get the log of a function; with `follow` as events `record`.",
        parameters={
            **NAMESPACE_PARAMETER,
            "?follow": "`true` sends existing and new records as server-sent events.",
            "?since": f"The time of the first record: {_TIME_FORMATS}.",
            "?tail": f"The number of last records to read; {_DEFAULT_TAIL} without `since`.",
            "?level": "The lowest level of the records to return.",
        },
        response_content={
            "application/json": {"type": "object"},
            "text/event-stream": {"type": "string"},
        },
    ),
)
