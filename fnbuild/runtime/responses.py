"""From what a handler returned to a status, headers and a body.

The table is Nuclio's (nuclio_sdk/response.py, pkg/processor/trigger/http/trigger.go). On purpose
different: a list is JSON and no batch, header values that are numbers or booleans become text, and
bytes inside a tuple stay bytes.
"""

import json
import re
from typing import Any, Callable, List, Tuple

Headers = List[Tuple[str, str]]

_TEXT = "text/plain"
_JSON = "application/json"
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
# Control characters could start a second header or a second reply.
_FORBIDDEN = re.compile("[\x00-\x08\x0a-\x1f\x7f]")
# The server frames its messages itself.
_OWN = frozenset(["content-length", "transfer-encoding", "connection", "keep-alive", "upgrade"])
_BODILESS = (204, 304)


class ReplyError(Exception):
    """The handler returned what HTTP cannot carry."""


class Answer:
    """A reply ready for the wire."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Responder:
    """Turns return values into answers; `encoder` is nuclio_sdk.json_encoder.Encoder."""

    def __init__(self, response_class: Any, encoder: Callable[..., Any]) -> None:
        self._response_class = response_class
        self._slow = encoder()
        # The SDK's encoder works in Python throughout, which is needed for NaN alone.
        self._fast = json.JSONEncoder(allow_nan=False, default=self._slow.default)

    def answer(self, output: Any) -> Answer:
        """The answer for any return value that is no generator; ReplyError when there is none."""
        try:
            return self._answer(output)
        except ReplyError:
            raise
        except UnicodeEncodeError as problem:
            raise ReplyError("the reply holds text that UTF-8 cannot carry: %s" % problem) from None
        except (TypeError, ValueError, RecursionError, OverflowError) as problem:
            raise ReplyError(
                "the reply cannot be written as JSON: %s: %s" % (type(problem).__name__, problem)
            ) from None

    def _answer(self, output: Any) -> Answer:
        if isinstance(output, str):
            return _plain(200, output.encode("utf-8"))
        if isinstance(output, (dict, list)):
            return Answer(200, [("Content-Type", _JSON)], self._json(output))
        if isinstance(output, tuple) and len(output) == 2:
            return self._from_pair(output)
        if isinstance(output, self._response_class):
            return self._from_response(output)
        return _plain(200, to_bytes(output))

    def _from_pair(self, output: Tuple[Any, Any]) -> Answer:
        status, body = check_status(output[0]), output[1]
        if isinstance(body, (str, bytes, bytearray, memoryview)):
            return _plain(status, to_bytes(body))
        return Answer(status, [("Content-Type", _JSON)], self._json(body))

    def _from_response(self, response: Any) -> Answer:
        status = check_status(response.status_code)
        body = response.body
        content_type = response.content_type
        headers = check_headers(response.headers)
        named = [value for name, value in headers if name.lower() == "content-type"]
        headers = [pair for pair in headers if pair[0].lower() != "content-type"]
        if isinstance(body, dict):
            data, content_type = json.dumps(body).encode("utf-8"), _JSON
        elif isinstance(body, list):
            data = self._json(body)
            content_type = _JSON if content_type == _TEXT else content_type
        else:
            data = b"" if body is None and status in _BODILESS else to_bytes(body)
        # A type given among the headers says more than the SDK's own default.
        if named and content_type == _TEXT:
            content_type = named[-1]
        kind = check_header("Content-Type", content_type)
        return Answer(status, [("Content-Type", kind), *headers], data)

    def _json(self, value: Any) -> bytes:
        try:
            return self._fast.encode(value).encode("utf-8")
        except ValueError:
            # NaN and infinity: the SDK writes them as strings.
            return str(self._slow.encode(value)).encode("utf-8")


def to_bytes(value: Any) -> bytes:
    """Bytes as they are, text as UTF-8, anything else as `str` writes it (None too)."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    return str(value).encode("utf-8")


def check_status(status: Any) -> int:
    """The status as a number from 200 to 599; 0 means 200, as in Nuclio."""
    try:
        number = int(status)
    except (TypeError, ValueError):
        raise ReplyError("the reply's status %r is no number" % (status,)) from None
    if number == 0:
        return 200
    if isinstance(status, bool) or not 200 <= number <= 599:
        raise ReplyError("the reply's status %r is not between 200 and 599" % (status,))
    return number


def check_headers(headers: Any) -> Headers:
    """The handler's headers as text; a list of values becomes several headers."""
    if not headers:
        return []
    if not isinstance(headers, dict):
        raise ReplyError("the reply's headers are a %s, not a dict" % type(headers).__name__)
    found: Headers = []
    for key, value in headers.items():
        name = key.decode("latin-1") if isinstance(key, bytes) else str(key)
        if not _NAME.match(name):
            raise ReplyError("%r cannot be the name of a header" % name)
        if name.lower() in _OWN:
            continue
        for item in value if isinstance(value, (list, tuple)) else [value]:
            found.append((name, check_header(name, item)))
    return found


def check_header(name: str, value: Any) -> str:
    """The header's value as text; line breaks would be a second header and are refused."""
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    if _FORBIDDEN.search(text):
        raise ReplyError("the value of header %s holds a line break or control character" % name)
    return text


def _plain(status: int, body: bytes) -> Answer:
    return Answer(status, [("Content-Type", _TEXT)], body)
