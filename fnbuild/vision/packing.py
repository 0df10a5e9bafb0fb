"""Values with arrays as bytes, without pickle: data from elsewhere cannot run code.

The bytes are a magic number, the length of a JSON header, the header, and the arrays, which are
read without a copy.
"""

import base64
import binascii
import json
import struct
import zlib
from typing import Any, List, Sequence

from .arrays import to_array
from .optional_libraries import numpy

_MAGIC = b"FNBV"
_ALIGNMENT = 64
_ARRAY_KEY = "\0array"
_BYTES_KEY = "\0bytes"
_ARRAY_KINDS = "biufc"
# Of all states of a request.
_MAX_UNPACKED = 2**28


def pack(value: Any) -> bytes:
    """Return a value as bytes: JSON values, arrays, tensors, bytes, and dicts and lists of them.

    Raises TypeError for anything else.
    """
    buffers: List[bytes] = []
    header = json.dumps(_describe(value, buffers)).encode("ascii")
    parts = [_MAGIC, struct.pack("<I", len(header)), header]
    parts.append(bytes(-sum(map(len, parts)) % _ALIGNMENT))
    return b"".join(parts + buffers)


def unpack(data: Any) -> Any:
    """Return the value of bytes from `pack`; arrays share the memory of `data`.

    Raises ValueError if it is not one.
    """
    view = memoryview(data)
    start = len(_MAGIC) + 4
    if len(view) < start or bytes(view[: len(_MAGIC)]) != _MAGIC:
        raise ValueError("these bytes are not a packed value")
    try:
        (length,) = struct.unpack_from("<I", view, len(_MAGIC))
        header = json.loads(bytes(view[start : start + length]).decode("ascii"))
        end = start + length
        return _restore(header, view[end + -end % _ALIGNMENT :])
    except (LookupError, TypeError, OverflowError, RecursionError) as problem:
        raise ValueError("these bytes are not a packed value: %s" % problem) from None


def pack_text(value: Any) -> str:
    """Return a value as compressed base64, for JSON."""
    return base64.b64encode(zlib.compress(pack(value), 1)).decode("ascii")


def unpack_texts(texts: Sequence[Any]) -> List[Any]:
    """Return the value of each text from `pack_text`; raise ValueError if one is not such a text.

    Together they may have 256 MiB: a small text can be that of many bytes.
    """
    values, remaining = [], _MAX_UNPACKED
    for text in texts:
        data = _decompress(text, remaining)
        remaining -= len(data)
        values.append(unpack(data))
    return values


def _decompress(text: Any, limit: int) -> bytearray:
    try:
        stream = zlib.decompressobj()
        data = stream.decompress(base64.b64decode(text, validate=True), limit + 1)
    except (binascii.Error, zlib.error, TypeError) as problem:
        raise ValueError("this text is not a packed value: %s" % problem) from None
    if len(data) > limit:
        raise ValueError("the packed values have more than %d bytes" % _MAX_UNPACKED)
    if not stream.eof:
        raise ValueError("the text of a packed value is truncated")
    # Its arrays can be changed.
    return bytearray(data)


def _describe(value: Any, buffers: List[bytes]) -> Any:
    if isinstance(value, dict):
        if not all(isinstance(key, str) and key[:1] != "\0" for key in value):
            raise TypeError("the keys of a dictionary must be text")
        return {key: _describe(item, buffers) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_describe(item, buffers) for item in value]
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(value)
        return {_BYTES_KEY: [_append(data, buffers), len(data)]}
    array = to_array(value)
    if array.dtype.kind not in _ARRAY_KINDS:
        message = "a %s cannot be packed: use numbers, text, bytes, arrays, dicts and lists"
        raise TypeError(message % type(value).__name__)
    offset = _append(numpy.ascontiguousarray(array).tobytes(), buffers)
    return {_ARRAY_KEY: [array.dtype.str, list(array.shape), offset]}


def _append(data: bytes, buffers: List[bytes]) -> int:
    offset = sum(map(len, buffers))
    buffers += [data, bytes(-len(data) % _ALIGNMENT)]
    return offset


def _restore(value: Any, buffers: memoryview) -> Any:
    if isinstance(value, list):
        return [_restore(item, buffers) for item in value]
    if not isinstance(value, dict):
        return value
    if _BYTES_KEY in value:
        offset, length = value[_BYTES_KEY]
        return bytes(buffers[offset : offset + length])
    if _ARRAY_KEY in value:
        name, shape, offset = value[_ARRAY_KEY]
        dtype = numpy.dtype(name)
        if dtype.kind not in _ARRAY_KINDS or min(shape, default=0) < 0:
            raise ValueError("%s with the shape %s is no array of numbers" % (name, shape))
        count = int(numpy.prod(shape, dtype="int64"))
        array = numpy.frombuffer(buffers, dtype, count, offset) if count else numpy.empty(0, dtype)
        return array.reshape(shape)
    return {key: _restore(item, buffers) for key, item in value.items()}
