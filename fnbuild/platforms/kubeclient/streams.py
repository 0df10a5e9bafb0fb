"""Streamed responses of the API: watches and container logs."""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec

from fnbuild.errors import InputError, NotFoundError, UnavailableError
from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient.errors import GoneError, RequestSubject
from fnbuild.platforms.kubeclient.kinds import Kind
from fnbuild.platforms.kubeclient.transport import ApiRequest, Transport

_CHUNK_SIZE = 65536
_DOCKER_LINE_SIZE = 16 * 1024
_TIMESTAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:)(\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ")
# Written by a node into the log of a container that no longer exists.
_NODE_MESSAGE = b"unable to retrieve container logs for "
_RETRY_SECONDS = 0.2
_MAX_OUTAGE_SECONDS = 15.0

ListObjects = Callable[[], tuple[list[Raw], str]]


@dataclass(frozen=True, slots=True)
class ApiStream:
    """A streamed response of the API: the request that opens it, and its subject."""

    transport: Transport
    request: ApiRequest
    subject: RequestSubject
    kind: Kind

    def open(self, silence: float | None, **query: str) -> AbstractContextManager[Any]:
        request = replace(self.request, query=self.request.query | query)
        return self.transport.stream(request, self.subject, silence)


def watch(
    stream: ApiStream, list_objects: ListObjects, seconds: float
) -> Iterator[tuple[str, Raw]]:
    """Yield the listed objects, then changes, for a number of seconds.

    If the server no longer has the watched version, the watch restarts with a list; objects that
    disappeared in between are reported as DELETED.
    """
    end = time.monotonic() + seconds
    objects: dict[str, Raw] = {}
    while True:
        items, version = list_objects()
        current = {_uid(item): item for item in items}
        for uid in objects.keys() - current.keys():
            yield "DELETED", objects[uid]
        for uid, item in current.items():
            before = objects.get(uid)
            if before is None or _resource_version(before) != _resource_version(item):
                yield "ADDED" if before is None else "MODIFIED", item
        objects = current
        for change, item in _changes(stream, version, end):
            if change == "DELETED":
                objects.pop(_uid(item), None)
            else:
                objects[_uid(item)] = item
            yield change, {"apiVersion": stream.kind.api_version, "kind": stream.kind.name, **item}
        if time.monotonic() >= end:
            return


def _changes(stream: ApiStream, version: str, end: float) -> Iterator[tuple[str, Raw]]:
    """Yield changes since a version until `end`, or until the server no longer has the version."""
    answered = time.monotonic()
    while (left := end - time.monotonic()) > 0:
        parameters = {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(math.ceil(left)),
        }
        try:
            with stream.open(left, **parameters) as reply:
                answered = time.monotonic()
                for line in iter_lines(reply):
                    change, item = _decode_event(stream, line)
                    version = _resource_version(item)
                    if change != "BOOKMARK":
                        yield change, item
                    if time.monotonic() >= end:
                        return
        except GoneError:
            return
        except UnavailableError:
            if time.monotonic() - answered > _MAX_OUTAGE_SECONDS:
                raise
        time.sleep(max(0.0, min(_RETRY_SECONDS, end - time.monotonic())))


def _decode_event(stream: ApiStream, line: bytes) -> tuple[str, Raw]:
    event = msgspec.json.decode(line)
    change, item = str(event["type"]), event["object"]
    if change == "ERROR":
        status = int(item.get("code") or 500)
        raise stream.transport.error_of(status, msgspec.json.encode(item), stream.subject)
    return change, item


def _uid(item: Raw) -> str:
    return str(item["metadata"].get("uid", ""))


def _resource_version(item: Raw) -> str:
    return str(item["metadata"].get("resourceVersion", ""))


def read_log(stream: ApiStream) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a container's log with the node's time in nanoseconds since the epoch.

    There are none if the pod or container does not exist or has not started (status 400).
    """
    with (
        contextlib.suppress(NotFoundError, InputError),
        stream.open(None, timestamps="true", follow="false") as reply,
    ):
        yield from timestamped_lines(reply)


def timestamped_lines(reply: Any) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a log, each with its timestamp."""
    minute: tuple[bytes, bytes] | None = None
    start = moment = 0
    for line in iter_lines(reply):
        stamp = _TIMESTAMP.match(line)
        if stamp is None:
            # Older nodes write continuation lines; other lines are messages of the node.
            if moment and not line.startswith(_NODE_MESSAGE):
                yield moment, line
            continue
        if (stamp[1], stamp[4]) != minute:
            minute = stamp[1], stamp[4]
            begun = datetime.fromisoformat((stamp[1] + b"00" + stamp[4]).decode())
            start = int(begun.timestamp()) * 10**9
        moment = start + int(stamp[2]) * 10**9 + int((stamp[3] or b"").ljust(9, b"0"))
        yield moment, _join_pieces(line[stamp.end() :])


def _join_pieces(text: bytes) -> bytes:
    """Join a long line: Docker splits it into pieces, and nodes write a timestamp before each."""
    pieces, at = [], 0
    while stamp := _TIMESTAMP.match(text, at + _DOCKER_LINE_SIZE):
        pieces.append(text[at : at + _DOCKER_LINE_SIZE])
        at = stamp.end()
    return b"".join([*pieces, text[at:]]) if pieces else text


def iter_lines(reply: Any) -> Iterator[bytes]:
    """Yield the lines of a response as they arrive. A lost connection ends the iteration."""
    import urllib3

    rest = b""
    try:
        for piece in reply.stream(_CHUNK_SIZE):
            *complete, rest = (rest + piece).split(b"\n")
            yield from complete
    except (urllib3.exceptions.HTTPError, OSError):
        return
    if rest:
        yield rest
