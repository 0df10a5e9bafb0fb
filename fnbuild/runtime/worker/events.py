"""What the handler gets as its event: the real nuclio_sdk.Event, made lazily.

Body, headers and fields are worked out when the handler first looks at them. Names and shapes are
those of Nuclio's http trigger (pkg/processor/trigger/http/event.go on valyala/fasthttp) and of
nuclio_sdk/event.py.
"""

import datetime
import json
import sys
from typing import Any, Callable, Dict, List, Tuple

from .. import wire
from . import cloudevents

_EPOCH = datetime.datetime(1970, 1, 1)
_canonical: Dict[str, str] = {}
_CANONICAL_CAP = 4096
# Where events find in their meta what they have in common.
_USUAL = "usual"
# How an event carries a CloudEvent, where it does.
_CLOUD_EVENT = "_cloud_event"


class LazyAttribute:
    """An attribute worked out on first access and then kept as the instance's own."""

    def __init__(self, name: str, make: Callable[[Any], Any]) -> None:
        self._name = name
        self._make = make

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        value = self._make(instance)
        instance.__dict__[self._name] = value
        return value


class EventBody:
    """The body of an event as it came, which may lie in memory that is shared with the processor.

    Text is parsed straight from there, which spares a copy of the whole body.
    """

    _raw: wire.Body
    content_type: str

    @property
    def raw_body(self) -> wire.Body:
        """The body as it came; fnbuild.vision reads images from it."""
        if isinstance(self._raw, memoryview):
            self._keep(self._raw)
        return self._raw

    def parsed(self) -> Any:
        """What the content type makes of it."""
        found = parse_body(self._raw, self.content_type)
        return self.raw_body if found is self._raw else found

    def settle(self, held: bool) -> None:
        """Let go of shared memory; an event that somebody still holds keeps its body."""
        if isinstance(self._raw, memoryview):
            if held:
                self._keep(self._raw)
            else:
                self._raw.release()

    def _keep(self, view: memoryview) -> None:
        self._raw = bytes(view)
        view.release()


def make_event_class(sdk: Any) -> Any:
    """The event class for the nuclio_sdk release at hand: `Event(meta, body, trigger, mark)`.

    `meta` is what `triggers.http` wrote, shared by all events with an equal one; `trigger` is the
    shared TriggerInfo, `mark` the event's id and its time in seconds since the epoch.
    """

    class Event(EventBody, sdk.Event):  # type: ignore[misc]
        def __init__(
            self, meta: wire.Meta, raw: wire.Body, trigger: Any, mark: Tuple[str, int]
        ) -> None:
            values = self.__dict__
            usual = meta.get(_USUAL)
            if usual is None:
                usual = meta[_USUAL] = self._attributes(meta)
            values.update(usual)
            values["id"] = mark[0]
            values["timestamp"] = _EPOCH + datetime.timedelta(seconds=mark[1])
            values["size"] = len(raw)
            values["trigger"] = trigger
            values["_raw"] = raw
            if _CLOUD_EVENT in usual:
                cloudevents.fill_event(self, usual[_CLOUD_EVENT], sdk.TriggerInfo)

        def _attributes(self, meta: wire.Meta) -> Dict[str, Any]:
            """What the SDK makes of an event, as far as equal metas have it in common."""
            sdk.Event.__init__(
                self,
                content_type=meta["ct"],
                method=meta["m"],
                path=normalize_path(meta["p"]),
                url=meta["u"],
                shard_id=0,
                num_shards=0,
                _type="",
                type_version="",
                version="",
            )
            # Nuclio's defaults stand in the way of the lazy ones.
            lazy = ("body", "headers", "fields")
            found = {key: value for key, value in self.__dict__.items() if key not in lazy}
            self.__dict__.clear()
            found["_meta"] = meta
            mode = cloudevents.content_mode(meta["ct"], meta["h"])
            if mode:
                found[_CLOUD_EVENT] = mode
            return found

        body = LazyAttribute("body", lambda self: self.parsed())
        headers = LazyAttribute("headers", lambda self: _headers(self._meta))
        fields = LazyAttribute("fields", lambda self: parse_query(self._meta["q"]))

        def to_json(self) -> str:
            # The SDK reads the instance's own attributes; these must exist by now.
            _ = self.body, self.headers, self.fields
            return str(sdk.Event.to_json(self))

    Event.__qualname__ = "Event"
    Event.__module__ = sdk.Event.__module__
    return Event


def is_json(content_type: str) -> bool:
    """Whether a body of this type is parsed; parameters such as a charset make no difference."""
    return content_type.partition(";")[0].strip().lower() == "application/json"


def parse_body(raw: wire.Body, content_type: str) -> Any:
    """The parsed JSON, or `raw` as it came; a note on stderr when that is no JSON."""
    if not is_json(content_type):
        return raw
    try:
        return json.loads(str(raw, "utf-8"))
    except (ValueError, RecursionError) as problem:
        sys.stderr.write("The body says it is JSON but is not, so it stays bytes: %s\n" % problem)
        return raw


def canonical_name(name: str) -> str:
    """A header's name as fasthttp writes it: `x-nuclio-logs` becomes `X-Nuclio-Logs`."""
    known = _canonical.get(name)
    if known is None:
        known = "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))
        if len(_canonical) < _CANONICAL_CAP:
            _canonical[name] = known
    return known


def _headers(meta: wire.Meta) -> Dict[str, str]:
    # Names that a file gives are the handler's own words; those of requests have no fixed spelling.
    return dict(meta["h"]) if meta.get("as_written") else canonical_headers(meta["h"])


def canonical_headers(pairs: List[Tuple[str, str]]) -> Dict[str, str]:
    """Headers by canonical name; of several with one name the last."""
    return {canonical_name(name): _decode_header(value) for name, value in pairs}


def parse_query(query: str) -> Dict[str, str]:
    """The query's arguments, decoded; of several with one name the last."""
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
    """The path without doubled slashes and dot segments, as fasthttp gives it."""
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
    # The request parser gives one character per byte; most clients mean UTF-8.
    if all(character < "\x80" for character in value):
        return value
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value
