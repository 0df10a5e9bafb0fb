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
from fnbuild.platforms.kubeclient.errors import GoneError, RequestInfo
from fnbuild.platforms.kubeclient.kinds import Kind
from fnbuild.platforms.kubeclient.transport import ApiCall, Transport

_CHUNK_SIZE = 65536
_DOCKER_LINE_SIZE = 16 * 1024
_TIMESTAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:)(\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ")
# What a node says in a log when the container is gone.
_NODE_MESSAGE = b"unable to retrieve container logs for "
_RETRY_SECONDS = 0.2
_MAX_OUTAGE_SECONDS = 15.0

ListObjects = Callable[[], tuple[list[Raw], str]]


@dataclass(frozen=True, slots=True)
class ApiStream:
    """What is followed, and how it is asked for."""

    wire: Transport
    call: ApiCall
    request: RequestInfo
    kind: Kind

    def opened(self, silence: float | None, **query: str) -> AbstractContextManager[Any]:
        call = replace(self.call, query=self.call.query | query)
        return self.wire.stream(call, self.request, silence)


def watch(source: ApiStream, listed: ListObjects, seconds: float) -> Iterator[tuple[str, Raw]]:
    """What `listed` finds, then what changes, for so many seconds.

    A watch whose place in history is gone begins anew with a list, and what vanished meanwhile is
    told as DELETED.
    """
    end = time.monotonic() + seconds
    known: dict[str, Raw] = {}
    while True:
        items, version = listed()
        found = {_uid(item): item for item in items}
        for uid in known.keys() - found.keys():
            yield "DELETED", known[uid]
        for uid, item in found.items():
            before = known.get(uid)
            if before is None or _resource_version(before) != _resource_version(item):
                yield "ADDED" if before is None else "MODIFIED", item
        known = found
        for change, item in _changes(source, version, end):
            if change == "DELETED":
                known.pop(_uid(item), None)
            else:
                known[_uid(item)] = item
            yield change, {"apiVersion": source.kind.api, "kind": source.kind.name, **item}
        if time.monotonic() >= end:
            return


def _changes(source: ApiStream, version: str, end: float) -> Iterator[tuple[str, Raw]]:
    """Changes since a version, until the end or until the server no longer knows that version."""
    answered = time.monotonic()
    while (left := end - time.monotonic()) > 0:
        asked = {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(math.ceil(left)),
        }
        try:
            with source.opened(left, **asked) as reply:
                answered = time.monotonic()
                for line in iter_lines(reply):
                    change, item = _decode_event(source, line)
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


def _decode_event(source: ApiStream, line: bytes) -> tuple[str, Raw]:
    event = msgspec.json.decode(line)
    change, item = str(event["type"]), event["object"]
    if change == "ERROR":
        status = int(item.get("code") or 500)
        raise source.wire.refused(status, msgspec.json.encode(item), source.request)
    return change, item


def _uid(item: Raw) -> str:
    return str(item["metadata"].get("uid", ""))


def _resource_version(item: Raw) -> str:
    return str(item["metadata"].get("resourceVersion", ""))


def read_log(source: ApiStream, *, follow: bool = False) -> Iterator[tuple[int, bytes]]:
    """Lines of a container's log with the node's time in nanoseconds since the epoch.

    Nothing when pod or container is not there, or has not begun: the server says 400 then.
    """
    with (
        contextlib.suppress(NotFoundError, InputError),
        source.opened(None, timestamps="true", follow=str(follow).lower()) as reply,
    ):
        yield from timestamped_lines(reply)


def timestamped_lines(reply: Any) -> Iterator[tuple[int, bytes]]:
    """The lines of a log, each with the time that the node wrote in front of it."""
    minute: tuple[bytes, bytes] | None = None
    start = moment = 0
    for line in iter_lines(reply):
        stamp = _TIMESTAMP.match(line)
        if stamp is None:
            # Of an older node it belongs to the one before; else the node itself says something.
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
    """A long line in one: Docker keeps it in pieces, and nodes write a time before each."""
    pieces, at = [], 0
    while stamp := _TIMESTAMP.match(text, at + _DOCKER_LINE_SIZE):
        pieces.append(text[at : at + _DOCKER_LINE_SIZE])
        at = stamp.end()
    return b"".join([*pieces, text[at:]]) if pieces else text


def iter_lines(reply: Any) -> Iterator[bytes]:
    """The lines of an answer as they come, without their ends. A cut connection ends them."""
    import urllib3

    rest = b""
    try:
        for piece in reply.stream(_CHUNK_SIZE):
            *whole, rest = (rest + piece).split(b"\n")
            yield from whole
    except (urllib3.exceptions.HTTPError, OSError):
        return
    if rest:
        yield rest
