"""The event of the handler: the real nuclio_sdk.Event with lazy attributes.

Body, headers and fields are computed on first access. Names and types are those of Nuclio's http
trigger (pkg/processor/trigger/http/event.go on valyala/fasthttp) and of nuclio_sdk/event.py.
"""

import datetime
import json
import sys
from functools import lru_cache
from typing import Any, Callable, Dict, List, Optional, Tuple

from .. import wire
from . import cloudevents

_EPOCH = datetime.datetime(1970, 1, 1)


def _count_references() -> Optional[int]:
    """Return the reference count of an object in one local variable; None if unsupported."""
    if not hasattr(sys, "getrefcount"):
        return None
    probe = object()
    return sys.getrefcount(probe)


UNSHARED_REFERENCES = _count_references()
"""The reference count of an event that the handler has not kept."""


class LazyAttribute:
    """An attribute that is computed on first access and then stored in the instance."""

    def __init__(self, name: str, compute: Callable[[Any], Any]) -> None:
        self._name = name
        self._compute = compute

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        value = self._compute(instance)
        instance.__dict__[self._name] = value
        return value


class EventBody:
    """The body of an event, possibly in memory shared with the processor.

    JSON is parsed directly from there, without a copy of the body.
    """

    _raw: wire.Body
    content_type: str

    @property
    def raw_body(self) -> wire.Body:
        """The body as received; fnbuild.vision reads images from it."""
        if isinstance(self._raw, memoryview):
            self._copy(self._raw)
        return self._raw

    def copy_body(self) -> bytearray:
        """Return a copy of the body as received, which the caller may change."""
        return bytearray(self._raw)

    def parsed(self) -> Any:
        """Return the body parsed by its content type."""
        body = parse_body(self._raw, self.content_type)
        return self.raw_body if body is self._raw else body

    def release_body(self, is_referenced: bool) -> None:
        """Release shared memory; an event that is still referenced gets a copy of its body."""
        if isinstance(self._raw, memoryview):
            if is_referenced:
                self._copy(self._raw)
            else:
                self._raw.release()

    def _copy(self, view: memoryview) -> None:
        self._raw = bytes(view)
        view.release()


def make_event_class(sdk: Any) -> Any:
    """Return the event class for a release of nuclio_sdk: `Event(meta, body, trigger)`.

    `meta` comes from the trigger; `trigger` is the TriggerInfo.
    """

    class Event(EventBody, sdk.Event):  # type: ignore[misc]
        def __init__(self, meta: wire.Meta, raw: wire.Body, trigger: Any) -> None:
            super().__init__(
                content_type=meta["ct"],
                trigger=trigger,
                method=meta["m"],
                path=normalize_path(meta["p"]),
                size=len(raw),
                timestamp=_EPOCH + datetime.timedelta(seconds=meta["ts"]),
                url=meta["u"],
                shard_id=0,
                num_shards=0,
                _type="",
                type_version="",
                version="",
                _id=meta["i"],
            )
            # The SDK's defaults would hide the lazy attributes.
            for name in ("body", "headers", "fields"):
                self.__dict__.pop(name, None)
            self._meta = meta
            self._raw = raw
            mode = cloudevents.content_mode(meta["ct"], meta["h"])
            if mode:
                cloudevents.fill_event(self, mode, sdk.TriggerInfo)

        body = LazyAttribute("body", lambda self: self.parsed())
        headers = LazyAttribute("headers", lambda self: _headers(self._meta))
        fields = LazyAttribute("fields", lambda self: parse_query(self._meta["q"]))

        @property
        def written_headers(self) -> List[Tuple[str, str]]:
            """The names and values of the headers as received."""
            return list(self._meta["h"])

        def to_json(self) -> str:
            # The SDK reads the instance's dictionary, in which these must exist.
            _ = self.body, self.headers, self.fields
            return str(sdk.Event.to_json(self))

    Event.__qualname__ = "Event"
    Event.__module__ = sdk.Event.__module__
    return Event


def split_batch(meta: wire.Meta, body: Any) -> List[Tuple[wire.Meta, bytes]]:
    """Return meta and body of the events that `triggers.batch` has joined."""
    items = []
    start = 0
    for event_meta, size in zip(meta["batch"], meta["sizes"]):  # noqa: B905 - no strict in 3.6
        items.append((event_meta, bytes(body[start : start + size])))
        start += size
    return items


def is_json(content_type: str) -> bool:
    """Return True for JSON, with or without parameters such as a charset."""
    return content_type.partition(";")[0].strip().lower() == "application/json"


def parse_body(raw: wire.Body, content_type: str) -> Any:
    """Return the parsed JSON, or `raw` for other types and, with a message on stderr, bad JSON."""
    if not is_json(content_type):
        return raw
    try:
        return json.loads(str(raw, "utf-8"))
    except (ValueError, RecursionError) as problem:
        sys.stderr.write("The body should be JSON but is not, so it stays bytes: %s\n" % problem)
        return raw


@lru_cache(maxsize=512)
def canonical_name(name: str) -> str:
    """Return a header's name as fasthttp writes it: `x-nuclio-logs` as `X-Nuclio-Logs`."""
    return "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))


def _headers(meta: wire.Meta) -> Dict[str, str]:
    # Names from a configuration file are used as written; those of requests have no fixed case.
    return dict(meta["h"]) if meta.get("as_written") else canonical_headers(meta["h"])


def canonical_headers(pairs: List[Tuple[str, str]]) -> Dict[str, str]:
    """Return headers by canonical name; of several with one name, the last one counts."""
    return {canonical_name(name): _decode_header(value) for name, value in pairs}


def parse_query(query: str) -> Dict[str, str]:
    """Return the decoded arguments of a query; of several with one name, the last one counts."""
    if not query:
        return {}
    from urllib.parse import unquote_plus

    fields: Dict[str, str] = {}
    for part in query.split("&"):
        if part:
            name, _, value = part.partition("=")
            fields[unquote_plus(name)] = unquote_plus(value)
    return fields


def normalize_path(path: str) -> str:
    """Return the path without double slashes and dot segments, as fasthttp does."""
    if "//" not in path and "/." not in path:
        return path
    parts: List[str] = []
    for part in path.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part and part != ".":
            parts.append(part)
    tail = "/" if parts and path.endswith(("/", "/.", "/..")) else ""
    return "/" + "/".join(parts) + tail


def _decode_header(value: str) -> str:
    # The request parser decodes Latin-1, while most clients send UTF-8.
    if all(character < "\x80" for character in value):
        return value
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value
