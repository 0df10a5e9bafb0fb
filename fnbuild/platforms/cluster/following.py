"""Answers of the API that go on: watches, and logs of containers."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import msgspec

from fnbuild.errors import InputError, NotFoundError, UnavailableError
from fnbuild.platforms.cluster.faults import GoneError, Request
from fnbuild.platforms.cluster.kinds import Kind
from fnbuild.platforms.cluster.wire import Query, Wire
from fnbuild.spec.types import Raw

_PIECE = 65536
_PAUSE_SECONDS = 0.2
_PATIENCE_SECONDS = 15.0

Listed = Callable[[], tuple[list[Raw], str]]


def watch(  # noqa: PLR0913 (what a watch consists of)
    wire: Wire,
    kind: Kind,
    path: str,
    request: Request,
    query: Query,
    listed: Listed,
    seconds: float,
) -> Iterator[tuple[str, Raw]]:
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
            if before is None or _version(before) != _version(item):
                yield "ADDED" if before is None else "MODIFIED", item
        known = found
        for change, item in _changes(wire, path, request, query, version, end):
            if change == "DELETED":
                known.pop(_uid(item), None)
            else:
                known[_uid(item)] = item
            yield change, {"apiVersion": kind.api, "kind": kind.name, **item}
        if time.monotonic() >= end:
            return


def _changes(  # noqa: PLR0913
    wire: Wire, path: str, request: Request, query: Query, version: str, end: float
) -> Iterator[tuple[str, Raw]]:
    """Changes since a version, until the end or until the server no longer knows that version."""
    answered = time.monotonic()
    while (left := end - time.monotonic()) > 0:
        asked = query | {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(math.ceil(left)),
        }
        try:
            with wire.stream(path, request, asked, left) as reply:
                answered = time.monotonic()
                for line in lines(reply):
                    change, item = _event(wire, line, request)
                    version = _version(item)
                    if change != "BOOKMARK":
                        yield change, item
                    if time.monotonic() >= end:
                        return
        except GoneError:
            return
        except UnavailableError:
            if time.monotonic() - answered > _PATIENCE_SECONDS:
                raise
        time.sleep(max(0.0, min(_PAUSE_SECONDS, end - time.monotonic())))


def _event(wire: Wire, line: bytes, request: Request) -> tuple[str, Raw]:
    event = msgspec.json.decode(line)
    change, item = str(event["type"]), event["object"]
    if change == "ERROR":
        raise wire.refused(int(item.get("code") or 500), msgspec.json.encode(item), request)
    return change, item


def _uid(item: Raw) -> str:
    return str(item["metadata"].get("uid", ""))


def _version(item: Raw) -> str:
    return str(item["metadata"].get("resourceVersion", ""))


def log(wire: Wire, path: str, request: Request, query: Query) -> Iterator[tuple[int, bytes]]:
    """Lines of a container's log with the node's time in nanoseconds since the epoch.

    Nothing when pod or container is not there, or has not begun.
    """
    with (
        contextlib.suppress(NotFoundError, InputError),
        opened(wire, path, request, query) as reply,
    ):
        yield from stamped(reply)


def opened(
    wire: Wire, path: str, request: Request, query: Query
) -> contextlib.AbstractContextManager[Any]:
    """The answer with a log. The server says 400 of a container that has no log (yet)."""
    return wire.stream(path, request, query | {"timestamps": "true"}, None)


def stamped(reply: Any) -> Iterator[tuple[int, bytes]]:
    """The lines of a log, each with the time that the node wrote in front of it."""
    minute, start = b"", 0
    for line in lines(reply):
        stamp, _, text = line.partition(b" ")
        try:
            if stamp[:17] != minute:
                moment = datetime.fromisoformat(stamp[:17].decode() + "00+00:00")
                minute, start = stamp[:17], int(moment.timestamp()) * 10**9
            seconds, _, fraction = stamp[17:].removesuffix(b"Z").partition(b".")
            moment_ns = start + int(seconds) * 10**9 + int(fraction.ljust(9, b"0") or b"0")
        except ValueError:
            moment_ns, text = time.time_ns(), line
        yield moment_ns, text


def lines(reply: Any) -> Iterator[bytes]:
    """The lines of an answer as they come, without their ends. A cut connection ends them."""
    import urllib3

    rest = b""
    try:
        for piece in reply.stream(_PIECE):
            *whole, rest = (rest + piece).split(b"\n")
            yield from whole
    except (urllib3.exceptions.HTTPError, OSError):
        return
    if rest:
        yield rest
