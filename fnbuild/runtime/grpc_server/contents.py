"""The elements of tensors: typed fields of gRPC messages, JSON values, and raw bytes.

Raw bytes are those of the binary data extension of V2: little-endian, in row-major order; each
element of a BYTES tensor follows its length.
"""

import struct
from array import array
from typing import Any, Iterable, Iterator, List, Tuple

_LENGTH = struct.Struct("<I")


class TensorError(Exception):
    """The elements of a tensor are invalid; the message says why."""


# The field with the elements, and their type code; "" for BYTES. FP16 and BF16 have no field and no
# JSON form: they are raw in every message.
_DATATYPES = {
    "BOOL": ("bool_contents", "B"),
    "INT8": ("int_contents", "b"),
    "INT16": ("int_contents", "h"),
    "INT32": ("int_contents", "i"),
    "INT64": ("int64_contents", "q"),
    "UINT8": ("uint_contents", "B"),
    "UINT16": ("uint_contents", "H"),
    "UINT32": ("uint_contents", "I"),
    "UINT64": ("uint64_contents", "Q"),
    "FP32": ("fp32_contents", "f"),
    "FP64": ("fp64_contents", "d"),
    "BYTES": ("bytes_contents", ""),
}


def has_field(datatype: str) -> bool:
    """Return True if messages have a field for the elements of that type."""
    return datatype in _DATATYPES


def contents_to_raw(datatype: str, contents: Any) -> bytes:
    """Return the raw bytes of an InferTensorContents; raise TensorError."""
    name, code = _field_and_code(datatype)
    others = [field.name for field, _value in contents.ListFields() if field.name != name]
    if others:
        raise TensorError("a %s tensor has %s, not %s" % (datatype, name, others[0]))
    return _to_raw(datatype, code, getattr(contents, name))


def values_to_raw(datatype: str, values: Any) -> bytes:
    """Return the raw bytes of JSON values, nested or not; raise TensorError."""
    elements: Iterable[Any] = _flatten(values)
    if datatype == "BYTES":
        elements = [str(element).encode("utf-8") for element in elements]
    return _to_raw(datatype, _field_and_code(datatype)[1], elements)


def raw_to_contents(datatype: str, raw: bytes, contents: Any) -> None:
    """Add the elements to an InferTensorContents; raise TensorError."""
    name, code = _field_and_code(datatype)
    field = getattr(contents, name)
    if not code:
        field.extend(_split_bytes(raw))
        return
    elements = array(code)
    try:
        elements.frombytes(raw)
    except ValueError:
        raise TensorError("%d bytes are no %s elements" % (len(raw), datatype)) from None
    field.extend(elements)


def _field_and_code(datatype: str) -> Tuple[str, str]:
    if datatype not in _DATATYPES:
        raise TensorError(
            "a tensor of type %s has raw contents only; the types with fields are %s"
            % (datatype or "(none)", ", ".join(_DATATYPES))
        )
    return _DATATYPES[datatype]


def _to_raw(datatype: str, code: str, elements: Iterable[Any]) -> bytes:
    if not code:
        pieces: List[bytes] = []
        for element in elements:
            pieces += (_LENGTH.pack(len(element)), element)
        return b"".join(pieces)
    try:
        # Machines with wheels of grpcio are little-endian.
        return array(code, elements).tobytes()
    except (OverflowError, TypeError) as error:
        raise TensorError("not elements of type %s: %s" % (datatype, error)) from None


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


def _flatten(values: Any) -> Iterator[Any]:
    for value in values if isinstance(values, list) else [values]:
        # Not one generator for each element of a flat list.
        if isinstance(value, list):
            yield from _flatten(value)
        else:
            yield value
