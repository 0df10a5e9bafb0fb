"""Convert a handler's return value to a status, headers and a body.

The rules are Nuclio's (nuclio_sdk/response.py, pkg/processor/trigger/http/trigger.go). Deliberate
differences: a list is JSON, not a batch; header values that are numbers or booleans become text;
bytes in a tuple stay bytes; and a value that JSON cannot encode is an error that names the value,
where Nuclio sends its `repr`.
"""

import base64
import json
import numbers
import re
from typing import Any, Callable, Iterator, List, Optional, Tuple

from .. import wire
from .coroutines import GeneratorItems

Headers = List[Tuple[str, str]]

_TEXT = "text/plain"
_JSON = "application/json"
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
# Control characters could start a second header or a second reply.
_FORBIDDEN = re.compile("[\x00-\x08\x0a-\x1f\x7f]")
# Headers that the server writes itself.
_SERVER_HEADERS = frozenset(
    ["content-length", "transfer-encoding", "connection", "keep-alive", "upgrade"]
)
_BODILESS = (204, 304)


_RETURN = "return text, bytes, a number, a list, a dict or a context.Response"
_JSON_HAS = "JSON has texts, numbers, true, false, null, lists and objects"
# Values without parts; keys of objects have these types, too.
_SCALARS = (str, int, float, type(None))
# NumPy's numbers are registered as numbers.
_AS_TEXT = (str, numbers.Number, tuple, type(None))


class ReplyError(Exception):
    """The handler returned a value that cannot be sent."""


class WorkerReply:
    """A converted reply. `rest` are the items of a generator that follow the body.

    If `one_message` is True, even a large body is sent in one message.
    """

    __slots__ = ("body", "headers", "rest", "status")

    one_message = False

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.rest: Optional[GeneratorItems] = None

    def meta(self, started: float, duration: float) -> wire.Meta:
        """Return the meta of the message with this reply; times are in seconds."""
        return {"s": self.status, "h": self.headers, "t": (started, duration)}


class SplitReply(WorkerReply):
    """The requests for each instance of a request, whose bodies follow one another."""

    __slots__ = ("_routes", "_sizes")

    one_message = True

    def __init__(self, bodies: List[bytes], part_route: wire.Meta, join_route: wire.Meta) -> None:
        WorkerReply.__init__(self, 200, [], b"".join(bodies))
        self._routes = part_route, join_route
        self._sizes = [len(body) for body in bodies]

    def meta(self, started: float, duration: float) -> wire.Meta:
        meta = WorkerReply.meta(self, started, duration)
        return dict(meta, a=[*self._routes, self._sizes])


class ReplyConverter:
    """A converter of return values to replies; `encoder` is nuclio_sdk.json_encoder.Encoder."""

    def __init__(self, response_class: Any, encoder: Callable[..., Any]) -> None:
        self._response_class = response_class
        self._sdk_encoder = encoder()
        self._sdk_encoder.default = _encode_default
        # The SDK's encoder is pure Python, and needed for NaN only.
        self._json_encoder = json.JSONEncoder(allow_nan=False, default=_encode_default)

    def write_arrays(self) -> None:
        """From now on, write NumPy's arrays and numbers as lists and numbers."""
        self._json_encoder = json.JSONEncoder(allow_nan=False, default=_encode_array)
        self._sdk_encoder.default = _encode_array

    def convert(self, output: Any) -> WorkerReply:
        """Return the reply for any value except a generator; raise ReplyError if it is invalid."""
        try:
            return self._convert(output)
        except ReplyError:
            raise
        except UnicodeEncodeError as problem:
            raise ReplyError(
                "the reply contains text that UTF-8 cannot encode: %s" % problem
            ) from None
        except (TypeError, ValueError, RecursionError, OverflowError) as problem:
            raise ReplyError(
                "the reply cannot be converted to text: %s: %s" % (type(problem).__name__, problem)
            ) from None

    def convert_item(self, item: Any) -> bytes:
        """Return the bytes of a generator's item after the first; may raise ReplyError."""
        return self.convert(getattr(item, "body", item)).body

    def _convert(self, output: Any) -> WorkerReply:
        if isinstance(output, str):
            return _plain(200, output.encode("utf-8"))
        if isinstance(output, (dict, list)):
            return WorkerReply(200, [("Content-Type", _JSON)], self._json(output))
        if isinstance(output, tuple) and len(output) == 2:
            return self._from_pair(output)
        if isinstance(output, self._response_class):
            return self._from_response(output)
        return _plain(200, to_bytes(output))

    def _from_pair(self, output: Tuple[Any, Any]) -> WorkerReply:
        status, body = status_number(output[0]), output[1]
        if isinstance(body, (str, bytes, bytearray, memoryview)):
            return _plain(status, to_bytes(body))
        return WorkerReply(status, [("Content-Type", _JSON)], self._json(body))

    def _from_response(self, response: Any) -> WorkerReply:
        status = status_number(response.status_code)
        body = response.body
        content_type = response.content_type
        headers = header_pairs(response.headers)
        header_types = [value for name, value in headers if name.lower() == "content-type"]
        headers = [pair for pair in headers if pair[0].lower() != "content-type"]
        if isinstance(body, dict):
            data, content_type = self._json(body), _JSON
        elif isinstance(body, list):
            data = self._json(body)
            content_type = _JSON if content_type == _TEXT else content_type
        else:
            data = b"" if body is None and status in _BODILESS else to_bytes(body)
        # A type in the headers takes precedence over the SDK's default.
        if header_types and content_type == _TEXT:
            content_type = header_types[-1]
        if content_type is None:
            content_type = _TEXT
        if not isinstance(content_type, str):
            raise ReplyError(
                "the reply's content_type is a %s, not a string: %r"
                % (type_name(content_type), content_type)
            )
        kind = header_text("Content-Type", content_type)
        return WorkerReply(status, [("Content-Type", kind), *headers], data)

    def _json(self, value: Any) -> bytes:
        try:
            return self._encode(value)
        except (TypeError, ValueError, RecursionError, OverflowError) as problem:
            culprit = find_unserialisable(value)
            if not culprit:
                culprit = "%s: %s" % (type(problem).__name__, problem)
            raise ReplyError("the reply cannot be written as JSON: " + culprit) from None

    def _encode(self, value: Any) -> bytes:
        try:
            return self._json_encoder.encode(value).encode("utf-8")
        except ValueError:
            # NaN and infinity: the SDK writes them as strings.
            return str(self._sdk_encoder.encode(value)).encode("utf-8")


# Stands for a response to an event of a batch that the handler did not return.
NO_RESPONSE = object()


def match_responses(identities: List[str], output: Any, missing: Any = NO_RESPONSE) -> List[Any]:
    """Return the handler's response to each event, or `missing`.

    Responses are matched by `event_id`, as in Nuclio, or by position if none has one. Raises
    ReplyError if the output is not a list, or has another length and no event_id.
    """
    count = len(identities)
    if not isinstance(output, (list, tuple)):
        raise ReplyError(
            "for a batch of %d events the handler returned a %s, not a list of responses"
            % (count, type(output).__name__)
        )
    named = {
        str(response.event_id): response
        for response in output
        if getattr(response, "event_id", None)
    }
    if named:
        return [named.get(identity, missing) for identity in identities]
    if len(output) != count:
        raise ReplyError(
            "for a batch of %d events the handler returned a list of %d without event_id"
            % (count, len(output))
        )
    return list(output)


def match_items(identities: List[str], items: Iterator[Any]) -> List[Any]:
    """Return the response to each event from the items of a handler that yields them.

    If it raises, the exception is the response to the events that have none.
    """
    responses: List[Any] = []
    try:
        responses.extend(items)
    # SystemExit and KeyboardInterrupt, too: they concern the events that are left.
    except BaseException as error:  # noqa: BLE001
        if not any(getattr(response, "event_id", None) for response in responses):
            responses += [error] * (len(identities) - len(responses))
        return match_responses(identities, responses, error)
    return match_responses(identities, responses)


def json_body(reply: WorkerReply, output: Any) -> bytes:
    """Return the body of a reply as JSON: numbers stay, text becomes a string, bytes `{"b64": …}`.

    `output` is the value that the reply was converted from. Raises ReplyError for a body with the
    type of JSON that is not JSON.
    """
    body = reply.body
    value: Any = getattr(output, "body", output)
    if isinstance(value, (int, float, type(None))):
        return json.dumps(value).encode("ascii")
    if dict(reply.headers).get("Content-Type", "").startswith(_JSON):
        if isinstance(value, (dict, list)):
            # It was written as JSON here.
            return body
        try:
            json.loads(body.decode("utf-8"))
        except (ValueError, RecursionError) as problem:
            raise ReplyError("its type is %s, and it is not JSON: %s" % (_JSON, problem)) from None
        return body
    try:
        value = body.decode("utf-8")
    except UnicodeDecodeError:
        value = {"b64": base64.b64encode(body).decode("ascii")}
    return json.dumps(value).encode("ascii")


def to_bytes(value: Any) -> bytes:
    """Return bytes as they are, text as UTF-8, and numbers, None and tuples as `str` writes them.

    Raises ReplyError for any other value, and for a tuple that contains one.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if not isinstance(value, _AS_TEXT):
        raise ReplyError("the reply is a %s; %s" % (type_name(value), _remedy(value, _RETURN)))
    if isinstance(value, tuple):
        culprit = find_unserialisable(value)
        if culprit:
            raise ReplyError("the reply contains a value that exists in Python only: " + culprit)
    return str(value).encode("utf-8")


def _encode_default(value: Any) -> Any:
    """Return the value's `__log__`, as the SDK's encoder does; TypeError without one."""
    log = getattr(value, "__log__", None)
    if log is None:
        raise TypeError("%s is not JSON serializable" % type_name(value))
    return log()


def _encode_array(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else _encode_default(value)


def find_unserialisable(value: Any) -> str:
    """Return the location and type of the first value that JSON cannot encode, or "".

    For example: `[0]["points"][3] is a numpy.float32`.
    """
    # Not recursive, since deep nesting may be the error.
    waiting: List[Tuple[str, Any]] = [("", value)]
    seen = set()
    while waiting:
        path, item = waiting.pop()
        if isinstance(item, (dict, list, tuple)):
            if id(item) in seen:
                continue
            seen.add(id(item))
        if isinstance(item, dict):
            for key in item:
                if not isinstance(key, _SCALARS):
                    return "%s has the key %r, a %s" % (path or "it", key, type_name(key))
            children = [("%s[%s]" % (path, _quoted(key)), item[key]) for key in item]
            waiting.extend(reversed(children))
        elif isinstance(item, (list, tuple)):
            children = [("%s[%d]" % (path, number), part) for number, part in enumerate(item)]
            waiting.extend(reversed(children))
        elif not isinstance(item, _SCALARS) and not hasattr(item, "__log__"):
            return "%s is a %s; %s" % (path or "it", type_name(item), _remedy(item, _JSON_HAS))
    return ""


def _quoted(key: Any) -> str:
    return json.dumps(key) if isinstance(key, str) else repr(key)


def type_name(value: Any) -> str:
    """Return the name of the value's type with its package, as in `numpy.float32`."""
    kind = type(value)
    package = str(getattr(kind, "__module__", "")).partition(".")[0]
    return (
        kind.__qualname__
        if package in ("builtins", "__main__", "")
        else "%s.%s" % (package, kind.__qualname__)
    )


def _remedy(value: Any, default: str) -> str:
    if hasattr(value, "tolist"):
        return "its tolist() returns a value that JSON can encode"
    return default


def status_number(status: Any) -> int:
    """Return the status as a number from 200 to 599; 0 means 200, as in Nuclio."""
    try:
        number = int(status)
    except (TypeError, ValueError):
        raise ReplyError("the reply's status %r is not a number" % (status,)) from None
    if number == 0:
        return 200
    if isinstance(status, bool) or not 200 <= number <= 599:
        raise ReplyError("the reply's status %r is not between 200 and 599" % (status,))
    return number


def header_pairs(headers: Any) -> Headers:
    """Return the handler's headers as text; a list of values becomes several headers."""
    if not headers:
        return []
    if not isinstance(headers, dict):
        raise ReplyError("the reply's headers are a %s, not a dict" % type(headers).__name__)
    pairs: Headers = []
    for key, value in headers.items():
        name = key.decode("latin-1") if isinstance(key, bytes) else str(key)
        if not _NAME.match(name):
            raise ReplyError("%r cannot be the name of a header" % name)
        if name.lower() in _SERVER_HEADERS:
            continue
        for item in value if isinstance(value, (list, tuple)) else [value]:
            pairs.append((name, header_text(name, item)))
    return pairs


def header_text(name: str, value: Any) -> str:
    """Return the header's value as text; raise ReplyError for control characters."""
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    if _FORBIDDEN.search(text):
        raise ReplyError("the value of header %s contains a line break or control character" % name)
    return text


def _plain(status: int, body: bytes) -> WorkerReply:
    return WorkerReply(status, [("Content-Type", _TEXT)], body)


def failure_reply(text: str) -> WorkerReply:
    """Return the reply to an event whose handler failed."""
    body = text.encode("utf-8", "backslashreplace")
    return WorkerReply(500, [("Content-Type", "text/plain")], body)
