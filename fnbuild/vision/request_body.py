"""Read the body of a request without decoding its image to text.

An image is nearly all of a request. Its base64 is located in the raw bytes and decoded in place;
only the rest goes through the JSON parser. Unusual bodies are parsed as a whole.
"""

import binascii
import json
import os
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple

from .image_headers import SUPPORTED_FORMATS, ImageError, file_kind

try:
    from pybase64 import b64decode as _fast_b64decode  # type: ignore[import-not-found]
except ImportError:
    _fast_b64decode = None

# The keys at which CVAT sends images: one, or two in re-identification.
IMAGE_KEYS = ("image", "image0", "image1")

# Shorter strings are parsed faster by the JSON parser.
_LONG_STRING = 1024
# A body with more strings is parsed faster by the JSON parser.
_MAX_STRINGS = 2000
# Replaces a string that was cut out; clients cannot guess it.
_PLACEHOLDER = "cut-" + binascii.hexlify(os.urandom(16)).decode("ascii") + "-"

_WHITESPACE = b" \t\r\n"
_BYTES = (bytes, bytearray, memoryview)

# `values` is the JSON object, with memoryviews in place of strings that were cut out; `file` is the
# whole body if it is an image file.
BodyContent = NamedTuple("BodyContent", [("values", Dict[str, Any]), ("file", Optional[bytes])])


def fields(event: Any, without: Iterable[str] = IMAGE_KEYS) -> Dict[str, Any]:
    """Return the JSON object of an event's body without images: `threshold`, `pos_points` etc.

    Empty if the body is an image file. Raises `ImageError` if the body is neither.
    """
    values = read_body(event).values
    left_out = frozenset(without)
    return {
        key: str(value, "utf-8") if isinstance(value, memoryview) else value
        for key, value in values.items()
        if key not in left_out
    }


def image_file(event: Any, key: str = "image") -> bytes:
    """Return the bytes of an event's image file: from base64 at `key`, or the body itself.

    Raises `ImageError` if there is none.
    """
    body = read_body(event, key)
    if body.file is not None:
        return body.file
    value = body.values.get(key)
    if not isinstance(value, (str, memoryview)):
        raise ImageError('the key "%s" is missing: the image file in base64' % key)
    return _from_base64(value, key)


def read_body(event: Any, key: str = "image") -> BodyContent:
    """Return the content of an event's body, which is cached in the event."""
    instance = getattr(event, "instance", None)
    if instance is not None and instance.files:
        # An event of an inference protocol has its image files as they came.
        return BodyContent(instance.values, instance.files.get(key))
    source = _body_source(event)
    cached = getattr(event, "__dict__", {}).get("_vision")
    if cached is not None and cached[0] is source:
        return cached[1]  # type: ignore[no-any-return]
    content = _read_content(event, source, key)
    event._vision = (source, content)
    return content


def _body_source(event: Any) -> Any:
    """Return the raw body, or the parsed body if the event already has it."""
    if "body" not in getattr(event, "__dict__", {}):
        raw = getattr(event, "raw_body", None)
        if isinstance(raw, _BYTES):
            return raw
    return event.body


def _read_content(event: Any, source: Any, key: str) -> BodyContent:
    if isinstance(source, _BYTES):
        raw = source if isinstance(source, bytes) else bytes(source)
        if raw[:64].lstrip(_WHITESPACE)[:1] not in (b"{", b""):
            return BodyContent({}, _check_image_file(raw))
        values = _parse_with_views(raw, frozenset((key, *IMAGE_KEYS)))
        if values is not None:
            return BodyContent(values, None)
        source = _parse_json(event, raw)
    if not isinstance(source, dict):
        raise ImageError(
            'the body is not a JSON object: send {"%s": the image file in base64}' % key
        )
    return BodyContent(source, None)


def _check_image_file(raw: bytes) -> bytes:
    try:
        file_kind(raw)
    except ImageError:
        message = "the body is neither a JSON object nor a %s file" % SUPPORTED_FORMATS
        raise ImageError(message) from None
    return raw


def _parse_json(event: Any, raw: bytes) -> Any:
    """Parse the whole body as JSON, through the event if it caches the result."""
    body = event.body
    if not isinstance(body, _BYTES):
        return body
    try:
        return json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        raise ImageError("the body is not valid JSON") from None


def _parse_with_views(raw: bytes, keys: Iterable[str]) -> Optional[Dict[str, Any]]:
    """Return the body's object with views of the raw body at `keys`; None if that is unsafe."""
    cut = _cut_long_strings(raw, frozenset(key.encode("utf-8") for key in keys))
    if cut is None:
        return None
    rest, positions = cut
    try:
        values = json.loads(rest.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    view = memoryview(raw)
    count = 0
    for key, value in values.items():
        if isinstance(value, str) and value.startswith(_PLACEHOLDER):
            start, end = positions[int(value[len(_PLACEHOLDER) :])]
            values[key] = view[start:end]
            count += 1
    # A string that is nested deeper, or replaced by a later key of the same name, is missing here.
    return values if count == len(positions) else None


def _cut_long_strings(
    raw: bytes, keys: Iterable[bytes]
) -> Optional[Tuple[bytes, List[Tuple[int, int]]]]:
    """Return the body with placeholders for long strings at `keys`, and the strings' positions.

    The scan goes from string to string, so that a quote inside a string is never taken for a
    delimiter. None if a string does not end, or if there are too many.
    """
    rest = []  # type: List[bytes]
    positions = []  # type: List[Tuple[int, int]]
    copied = 0
    name, name_end = b"", 0
    position = raw.find(b'"')
    for _ in range(_MAX_STRINGS):
        if position < 0:
            rest.append(raw[copied:])
            return b"".join(rest), positions
        start, end = position + 1, _string_end(raw, position + 1)
        if end < 0:
            return None
        if end - start < _LONG_STRING:
            name, name_end = raw[start:end], end + 1
        # Only a colon separates a key and its value. Strings with escapes need the JSON parser.
        elif (
            name in keys
            and raw[name_end:position].strip(_WHITESPACE) == b":"
            and raw.find(b"\\", start, end) < 0
        ):
            rest += [raw[copied:start], ("%s%d" % (_PLACEHOLDER, len(positions))).encode("ascii")]
            positions.append((start, end))
            copied = end
        position = raw.find(b'"', end + 1)
    return None


def _string_end(raw: bytes, start: int) -> int:
    """Return the position of the quote that ends the string that starts at `start`, or -1."""
    end = raw.find(b'"', start)
    while end > 0:
        first = end
        while first > start and raw[first - 1] == 0x5C:
            first -= 1
        # After an even number of backslashes the quote is not escaped.
        if (end - first) % 2 == 0:
            break
        end = raw.find(b'"', end + 1)
    return end


def _from_base64(value: Any, key: str) -> bytes:
    if isinstance(value, str):
        try:
            value = memoryview(value.encode("ascii"))
        except UnicodeEncodeError:
            raise ImageError('"%s" is not base64' % key) from None
    # Web pages send data URLs from a canvas or a file reader.
    if bytes(value[:5]) == b"data:":
        comma = bytes(value[:200]).find(b",")
        value = value[comma + 1 :]
    data = _decode_base64(value)
    if data is None:
        # Some encoders break lines; other characters are an error.
        data = _decode_base64(bytes(value).translate(None, _WHITESPACE))
    if data is None:
        raise ImageError('"%s" is not base64' % key)
    if not data:
        raise ImageError("the image is empty")
    return data


def _decode_base64(value: Any) -> Optional[bytes]:
    """Return the bytes, or None if `value` is not strict base64."""
    try:
        if _fast_b64decode is not None:
            return bytes(_fast_b64decode(value, validate=True))
        data = binascii.a2b_base64(value)
    except ValueError:
        return None
    # The decoder skips invalid characters, so the result would be too short.
    padding = bytes(value[-2:]).count(b"=")
    return data if len(data) == len(value) // 4 * 3 - padding and not len(value) % 4 else None
