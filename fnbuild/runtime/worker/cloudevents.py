"""Fill events from CloudEvents: structured (one JSON object) or binary (headers `ce-…`).

As in Nuclio (pkg/processor/cloudevent), the source is the kind of the event's trigger. Nuclio
supports version 0.1 only; this module also supports 0.2 to 1.0.
"""

import base64
import binascii
import datetime
import json
import re
import sys
from typing import Any, Dict, List, Optional, Tuple

STRUCTURED = "structured"
BINARY = "binary"

_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,6})\d*)?"
    r"(?:[Zz]|([+-])(\d\d):(\d\d))\Z"
)
# The names of version 0.1, and those of all later ones.
_NAMES_0_1 = {
    "id": "eventID",
    "type": "eventType",
    "version": "cloudEventsVersion",
    "time": "eventTime",
    "content_type": "contentType",
}
_NAMES = {
    "id": "id",
    "type": "type",
    "version": "specversion",
    "time": "time",
    "content_type": "datacontenttype",
}
_ATTRIBUTES = frozenset(_NAMES.values()) | {
    "source", "subject", "dataschema", "schemaurl", "datacontentencoding", "data", "data_base64",
}  # fmt: skip


def content_mode(content_type: str, fields: List[Tuple[str, str]]) -> str:
    """Return the mode in which a request carries a CloudEvent: STRUCTURED, BINARY, or empty."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in ("application/cloudevents", "application/cloudevents+json"):
        return STRUCTURED
    for name, _ in fields:
        if name.lower() in ("ce-specversion", "ce-cloudeventsversion"):
            return BINARY
    return ""


def fill_event(event: Any, mode: str, trigger_info: Any) -> None:
    """Set the event's attributes from the CloudEvent that it carries."""
    if mode == BINARY:
        # Most workers never see a CloudEvent.
        from urllib.parse import unquote

        headers = {name.lower(): value for name, value in event.headers.items()}
        # Later versions escape characters that headers cannot hold.
        unescape = str if "ce-cloudeventsversion" in headers else unquote
        values = {name[3:]: unescape(text) for name, text in headers.items() if name[:3] == "ce-"}
        names = _NAMES_0_1 if "cloudeventsversion" in values else _NAMES
        names = {key: name.lower() for key, name in names.items()}
        _set_attributes(event, values, names, trigger_info)
        event.type_version = values.get("eventtypeversion", "")
        return
    envelope = _parse_envelope(event)
    if envelope is None:
        return
    names = _NAMES_0_1 if "cloudEventsVersion" in envelope else _NAMES
    _set_attributes(event, envelope, names, trigger_info)
    event.type_version = _text(envelope.get("eventTypeVersion"))
    event.content_type = _text(envelope.get(names["content_type"]))
    event.body = _decode_data(envelope, event.content_type)
    if names is _NAMES_0_1:
        extensions = envelope.get("extensions")
        event.headers.update(extensions if isinstance(extensions, dict) else {})
    else:
        extensions = {key: value for key, value in envelope.items() if key not in _ATTRIBUTES}
        event.headers.update(extensions)


def _set_attributes(
    event: Any, values: Dict[str, Any], names: Dict[str, str], trigger_info: Any
) -> None:
    event.id = _text(values.get(names["id"])) or event.id
    event.type = _text(values.get(names["type"]))
    event.version = _text(values.get(names["version"]))
    event.timestamp = _parse_time(_text(values.get(names["time"]))) or event.timestamp
    event.trigger = trigger_info(_text(values.get("source")), _text(values.get("name")))


def _parse_envelope(event: Any) -> Optional[Dict[str, Any]]:
    try:
        envelope = json.loads(str(event.raw_body, "utf-8"))
    except (ValueError, RecursionError) as problem:
        sys.stderr.write(
            "The body should be a CloudEvent but is not JSON, so it stays bytes: %s\n" % problem
        )
        return None
    return envelope if isinstance(envelope, dict) else None


def _decode_data(envelope: Dict[str, Any], content_type: str) -> Any:
    """Return the event's data like the body of a request with its content type."""
    encoded = envelope.get("data_base64")
    data = envelope.get("data")
    if encoded is None and str(envelope.get("datacontentencoding", "")).lower() == "base64":
        encoded = data
    if isinstance(encoded, str):
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError) as problem:
            sys.stderr.write("The data of the CloudEvent is not base64: %s\n" % problem)
            return encoded.encode("utf-8")
    if data is None:
        return b""
    kind = content_type.partition(";")[0].strip().lower()
    is_json = not kind or kind.endswith(("/json", "+json"))
    return data.encode("utf-8") if isinstance(data, str) and not is_json else data


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _parse_time(text: str) -> Optional[datetime.datetime]:
    """Return the time in UTC without a time zone, like the timestamps of events."""
    match = _TIME.match(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, hours, minutes = match.groups()
    try:
        moment = datetime.datetime(
            int(year), int(month), int(day), int(hour), int(minute), min(int(second), 59),
            int((fraction or "0").ljust(6, "0")),
        )  # fmt: skip
        offset = datetime.timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
        return moment + offset if sign == "-" else moment - offset
    except (ValueError, OverflowError):
        return None
