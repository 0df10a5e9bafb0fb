"""The elements of tensors: typed fields of gRPC messages, JSON values, and raw bytes.

Raw bytes are those of the binary data extension of V2: little-endian, in row-major order; each
element of a BYTES tensor follows its length.
"""

import struct
import sys
from array import array
from typing import Any, Iterable, Iterator, List, NamedTuple

_LENGTH = struct.Struct("<I")


class TensorError(Exception):
    """The elements of a tensor are invalid; the message says why."""


class _Datatype(NamedTuple):
    """The field with the elements, and their type code; "" for BYTES."""

    field: str
    code: str


# FP16 and BF16 have no field and no JSON form: they are raw in every message.
_DATATYPES = {
    "BOOL": _Datatype("bool_contents", "B"),
    "INT8": _Datatype("int_contents", "b"),
    "INT16": _Datatype("int_contents", "h"),
    "INT32": _Datatype("int_contents", "i"),
    "INT64": _Datatype("int64_contents", "q"),
    "UINT8": _Datatype("uint_contents", "B"),
    "UINT16": _Datatype("uint_contents", "H"),
    "UINT32": _Datatype("uint_contents", "I"),
    "UINT64": _Datatype("uint64_contents", "Q"),
    "FP32": _Datatype("fp32_contents", "f"),
    "FP64": _Datatype("fp64_contents", "d"),
    "BYTES": _Datatype("bytes_contents", ""),
}


def has_field(datatype: str) -> bool:
    """Return True if messages have a field for the elements of that type."""
    return datatype in _DATATYPES


def contents_to_raw(datatype: str, contents: Any) -> bytes:
    """Return the raw bytes of an InferTensorContents; raise TensorError."""
    kind = _kind(datatype)
    others = [field.name for field, _value in contents.ListFields() if field.name != kind.field]
    if others:
        raise TensorError("a %s tensor has %s, not %s" % (datatype, kind.field, others[0]))
    return _to_raw(datatype, kind, getattr(contents, kind.field))


def values_to_raw(datatype: str, values: Any) -> bytes:
    """Return the raw bytes of JSON values, nested or not; raise TensorError."""
    elements: Iterable[Any] = _flatten(values)
    if datatype == "BYTES":
        elements = [str(element).encode("utf-8") for element in elements]
    return _to_raw(datatype, _kind(datatype), elements)


def raw_to_contents(datatype: str, raw: bytes, contents: Any) -> None:
    """Add the elements to an InferTensorContents; raise TensorError."""
    kind = _kind(datatype)
    getattr(contents, kind.field).extend(_from_raw(datatype, kind, raw))


def _kind(datatype: str) -> _Datatype:
    kind = _DATATYPES.get(datatype)
    if kind is None:
        raise TensorError(
            "a tensor of type %s has raw contents only; the types with fields are %s"
            % (datatype or "(none)", ", ".join(_DATATYPES))
        )
    return kind


def _to_raw(datatype: str, kind: _Datatype, elements: Iterable[Any]) -> bytes:
    if not kind.code:
        pieces: List[bytes] = []
        for element in elements:
            pieces += (_LENGTH.pack(len(element)), element)
        return b"".join(pieces)
    try:
        return _little_endian(array(kind.code, elements)).tobytes()
    except (OverflowError, TypeError) as error:
        raise TensorError("not elements of type %s: %s" % (datatype, error)) from None


def _from_raw(datatype: str, kind: _Datatype, raw: bytes) -> Iterable[Any]:
    if not kind.code:
        return _split_bytes(raw)
    elements = array(kind.code)
    try:
        elements.frombytes(raw)
    except ValueError:
        raise TensorError("%d bytes are no %s elements" % (len(raw), datatype)) from None
    return _little_endian(elements)


def _split_bytes(raw: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(raw):
        if len(raw) - start < _LENGTH.size:
            raise TensorError("the last BYTES element has no length")
        end = start + _LENGTH.size + _LENGTH.unpack_from(raw, start)[0]
        if end > len(raw):
            raise TensorError("the last BYTES element is shorter than its length")
        yield raw[start + _LENGTH.size : end]
        start = end


def _little_endian(elements: "array[Any]") -> "array[Any]":
    if sys.byteorder == "big":
        elements.byteswap()
    return elements


def _flatten(values: Any) -> Iterator[Any]:
    if not isinstance(values, list):
        yield values
        return
    for value in values:
        # One level of generators for each dimension would slow down large flat lists.
        if isinstance(value, list):
            yield from _flatten(value)
        else:
            yield value
