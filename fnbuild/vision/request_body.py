"""The body of a request, without making text of its image.

An image is nearly all of a request. Its base64 is found in the raw bytes, cut out, and decoded in
place; only the small rest goes through the JSON parser, which so judges everything as it always
does. Whatever is unusual is left to a parse of the whole body.
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

# Shorter strings cost less in the JSON parser than here.
_LONG_STRING = 1024
# A body of so many strings is no usual request; the JSON parser is quicker at it.
_MAX_STRINGS = 2000
# Stands for a string that was cut out; nobody outside can guess it.
_PLACEHOLDER = "cut-" + binascii.hexlify(os.urandom(16)).decode("ascii") + "-"

_WHITESPACE = b" \t\r\n"
_BYTES = (bytes, bytearray, memoryview)

# `values` is the JSON object, in which a memoryview stands for a string that was cut out; `file`
# is the whole body where that is an image file.
BodyContent = NamedTuple("BodyContent", [("values", Dict[str, Any]), ("file", Optional[bytes])])


def fields(event: Any, without: Iterable[str] = IMAGE_KEYS) -> Dict[str, Any]:
    """The request's JSON object without its images: `threshold`, `pos_points` and the like.

    Empty when the body is an image file. Raises `ImageError` when it is neither.
    """
    values = read_body(event).values
    left_out = frozenset(without)
    return {
        key: str(value, "utf-8") if isinstance(value, memoryview) else value
        for key, value in values.items()
        if key not in left_out
    }


def image_file(event: Any, key: str = "image") -> bytes:
    """The encoded image of a request: from base64 at `key`, or the body itself.

    Raises `ImageError` when there is none.
    """
    found = read_body(event, key)
    if found.file is not None:
        return found.file
    value = found.values.get(key)
    if not isinstance(value, (str, memoryview)):
        raise ImageError('the key "%s" is missing: the image file in base64' % key)
    return _from_base64(value, key)


def read_body(event: Any, key: str = "image") -> BodyContent:
    """What the body holds; worked out once for an event."""
    source = _body_source(event)
    known = getattr(event, "__dict__", {}).get("_vision")
    if known is not None and known[0] is source:
        return known[1]  # type: ignore[no-any-return]
    found = _read_content(event, source, key)
    event._vision = (source, found)
    return found


def _body_source(event: Any) -> Any:
    """The raw body as long as nobody has asked for the parsed one, which then is the cheaper."""
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
        raise ImageError('the body is no JSON object: send {"%s": the image file in base64}' % key)
    return BodyContent(source, None)


def _check_image_file(raw: bytes) -> bytes:
    try:
        file_kind(raw)
    except ImageError:
        message = "the body is neither a JSON object nor a %s file" % SUPPORTED_FORMATS
        raise ImageError(message) from None
    return raw


def _parse_json(event: Any, raw: bytes) -> Any:
    """The whole body through the JSON parser; by the event itself where that keeps the result."""
    body = event.body
    if not isinstance(body, _BYTES):
        return body
    try:
        return json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        raise ImageError("the body is not valid JSON") from None


def _parse_with_views(raw: bytes, keys: Iterable[str]) -> Optional[Dict[str, Any]]:
    """The body's object with views of the raw body at `keys`; None when it needs a full parse."""
    cut = _cut_long_strings(raw, frozenset(key.encode("utf-8") for key in keys))
    if cut is None:
        return None
    rest, places = cut
    try:
        values = json.loads(rest.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    view = memoryview(raw)
    found = 0
    for key, value in values.items():
        if isinstance(value, str) and value.startswith(_PLACEHOLDER):
            start, end = places[int(value[len(_PLACEHOLDER) :])]
            values[key] = view[start:end]
            found += 1
    # One that is nested deeper, or that a later key of the same name replaced, is missing here.
    return values if found == len(places) else None


def _cut_long_strings(
    raw: bytes, keys: Iterable[bytes]
) -> Optional[Tuple[bytes, List[Tuple[int, int]]]]:
    """The body with marks instead of long strings at `keys`, and where those strings are.

    Goes from string to string, so that a quote inside a string is never taken for a delimiter.
    None when a string does not end, or there are too many of them.
    """
    rest = []  # type: List[bytes]
    places = []  # type: List[Tuple[int, int]]
    copied = 0
    name, name_end = b"", 0
    place = raw.find(b'"')
    for _ in range(_MAX_STRINGS):
        if place < 0:
            rest.append(raw[copied:])
            return b"".join(rest), places
        start, end = place + 1, _string_end(raw, place + 1)
        if end < 0:
            return None
        if end - start < _LONG_STRING:
            name, name_end = raw[start:end], end + 1
        # Between a key and its value there is a colon. Escapes are the JSON parser's business.
        elif (
            name in keys
            and raw[name_end:place].strip(_WHITESPACE) == b":"
            and raw.find(b"\\", start, end) < 0
        ):
            rest += [raw[copied:start], ("%s%d" % (_PLACEHOLDER, len(places))).encode("ascii")]
            places.append((start, end))
            copied = end
        place = raw.find(b'"', end + 1)
    return None


def _string_end(raw: bytes, start: int) -> int:
    """The place of the quote that ends the string whose text begins at `start`; -1 without one."""
    end = raw.find(b'"', start)
    while end > 0:
        first = end
        while first > start and raw[first - 1] == 0x5C:
            first -= 1
        # After an even number of backslashes the quote itself is not escaped.
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
    # Web pages send what a canvas or a file reader gives them.
    if bytes(value[:5]) == b"data:":
        comma = bytes(value[:200]).find(b",")
        value = value[comma + 1 :]
    data = _decode_base64(value)
    if data is None:
        # Some encoders break lines; whoever sends anything else is told so.
        data = _decode_base64(bytes(value).translate(None, _WHITESPACE))
    if data is None:
        raise ImageError('"%s" is not base64' % key)
    if not data:
        raise ImageError("the image is empty")
    return data


def _decode_base64(value: Any) -> Optional[bytes]:
    """The bytes, or None when `value` is not base64 to the last letter."""
    try:
        if _fast_b64decode is not None:
            return bytes(_fast_b64decode(value, validate=True))
        data = binascii.a2b_base64(value)
    except (binascii.Error, ValueError):
        return None
    # The decoder skips letters that do not belong; then fewer bytes come out.
    padding = bytes(value[-2:]).count(b"=")
    return data if len(data) == len(value) // 4 * 3 - padding and not len(value) % 4 else None
