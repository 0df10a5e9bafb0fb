"""Tensors of V2: from JSON or binary data to values of the handler, and back.

The data of a tensor is little-endian and row-major, as on the wire; that of type BYTES is a list of
elements. NumPy is used if the handler's interpreter has it.
"""

import itertools
import struct
from functools import lru_cache
from typing import Any, Dict, Iterable, List, NamedTuple, Sequence, Tuple, Union

from .errors import ProtocolError

BYTES = "BYTES"

# The format of an element for `struct` and for NumPy.
FORMATS = {
    "BOOL": "?", "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q", "UINT8": "B",
    "UINT16": "H", "UINT32": "I", "UINT64": "Q", "FP16": "e", "FP32": "f", "FP64": "d",
}  # fmt: skip
DATATYPES = (*FORMATS, BYTES)

_SIZES = {name: struct.calcsize("<" + letter) for name, letter in FORMATS.items()}
# The types of values in JSON. A whole number may stand for a float.
_JSON_TYPES: Dict[str, Tuple[type, ...]] = {
    "BOOL": (bool,), "FP32": (float, int), "FP64": (float, int), BYTES: (str,)
}  # fmt: skip
_LENGTH = struct.Struct("<I")
# More dimensions than NumPy has.
MAX_RANK = 32

Shape = Tuple[int, ...]
Data = Union[bytes, bytearray, List[bytes]]


class Tensor(NamedTuple):
    """A named tensor."""

    name: str
    datatype: str
    shape: Shape
    data: Data

    @property
    def row_count(self) -> int:
        """The first dimension; 1 for a scalar."""
        return self.shape[0] if self.shape else 1

    def row(self, index: int) -> "Tensor":
        """Return a row as a tensor with one row."""
        shape = (1, *self.shape[1:])
        size = element_count(shape) * _SIZES.get(self.datatype, 1)
        return self._replace(shape=shape, data=self.data[index * size : (index + 1) * size])

    def values(self) -> List[Any]:
        """Return all elements in one list; elements of type BYTES as text if they are text."""
        if isinstance(self.data, list):
            return [text_or_bytes(item) for item in self.data]
        form = "<%d%s" % (element_count(self.shape), FORMATS[self.datatype])
        return list(struct.unpack(form, self.data))

    def to_handler(self) -> Any:
        """Return the tensor as a NumPy array, without NumPy as nested lists.

        A scalar is a number of Python. Elements of type BYTES are always in nested lists. Raises
        ProtocolError for a shape that NumPy does not have.
        """
        numpy = None if isinstance(self.data, list) or not self.shape else load_numpy()
        if numpy is None:
            values = self.values()
            return nest(values, self.shape) if self.shape else values[0]
        array = numpy.frombuffer(self.data, "<" + FORMATS[self.datatype])
        try:
            return array.reshape(self.shape)
        except ValueError as problem:
            # Beside a size of 0, others may be larger than NumPy's largest.
            raise _error(self.name, str(problem)) from None

    def binary_data(self) -> bytes:
        """Return the data of the binary extension."""
        if isinstance(self.data, list):
            return b"".join(
                itertools.chain.from_iterable((_LENGTH.pack(len(d)), d) for d in self.data)
            )
        return bytes(self.data)


@lru_cache(maxsize=None)
def load_numpy() -> Any:
    """Return NumPy, or None if the interpreter does not have it."""
    try:
        import numpy
    except ImportError:
        return None
    return numpy


def element_count(shape: Iterable[int]) -> int:
    """Return the number of elements of a shape."""
    count = 1
    for size in shape:
        count *= size
    return count


def nest(values: List[Any], shape: Sequence[int]) -> List[Any]:
    """Return the values in nested lists of the shape."""
    for size in reversed(shape[1:]):
        values = [values[at : at + size] for at in range(0, len(values), size)] if size else []
    return values


def flatten(values: Any) -> Tuple[List[Any], Shape]:
    """Return the elements of nested lists, and their shape; raise ValueError if it is irregular."""
    if not isinstance(values, (list, tuple)):
        return [values], ()
    flat, shape = list(values), [len(values)]
    while flat and isinstance(flat[0], (list, tuple)):
        sizes = {len(item) if isinstance(item, (list, tuple)) else -1 for item in flat}
        if len(sizes) > 1:
            raise ValueError("its lists have different lengths")
        shape.append(len(flat[0]))
        flat = list(itertools.chain.from_iterable(flat))
    return flat, tuple(shape)


def text_or_bytes(data: bytes) -> Union[str, bytes]:
    """Return UTF-8 text as a string, and anything else, such as an image file, as bytes."""
    try:
        text = bytes(data).decode("utf-8")
    except UnicodeDecodeError:
        return data
    # Image files have zeros, and most are not UTF-8.
    return data if "\0" in text else text


def tensor_from_json(name: str, datatype: str, shape: Shape, values: Any) -> Tensor:
    """Return the tensor for the `data` of a request, flat or nested. Raises ProtocolError."""
    if datatype == "FP16":
        raise _error(name, "FP16 has binary data only")
    if not isinstance(values, list):
        raise _error(name, "data is not a list")
    try:
        flat, own_shape = flatten(values)
    except ValueError as problem:
        raise _error(name, "data: %s" % problem) from None
    if len(own_shape) > 1 and own_shape != shape:
        raise _error(name, "data has the shape %s, not %s" % (list(own_shape), list(shape)))
    if len(flat) != element_count(shape):
        message = "data has %d elements, and the shape %s has %d"
        raise _error(name, message % (len(flat), list(shape), element_count(shape)))
    valid = _JSON_TYPES.get(datatype, (int,))
    for kind in set(map(type, flat)):
        if kind not in valid:
            raise _error(
                name, "data has a value of type %s, which is not %s" % (_json_name(kind), datatype)
            )
    try:
        return Tensor(name, datatype, shape, _pack(datatype, flat))
    except (struct.error, OverflowError, UnicodeEncodeError):
        raise _error(name, "data has a value that %s cannot represent" % datatype) from None


def tensor_from_binary(name: str, datatype: str, shape: Shape, view: memoryview) -> Tensor:
    """Return the tensor for binary data, with a copy of it. Raises ProtocolError."""
    count = element_count(shape)
    if datatype == BYTES:
        elements = _split_elements(name, view, count)
        return Tensor(name, datatype, shape, elements)
    size = count * _SIZES[datatype]
    if len(view) != size:
        message = "binary_data_size is %d, and %s of the shape %s has %d bytes"
        raise _error(name, message % (len(view), datatype, list(shape), size))
    # Handlers may write to an array over a bytearray.
    return Tensor(name, datatype, shape, bytearray(view))


def tensor_from_value(name: str, datatype: str, value: Any) -> Tensor:
    """Return the tensor for a value of the handler: an array, nested lists or a scalar.

    Raises ValueError or TypeError if it has no such tensor.
    """
    numpy = None if datatype == BYTES else load_numpy()
    if numpy is not None:
        array = numpy.ascontiguousarray(value, "<" + FORMATS[datatype])
        shape = numpy.shape(value)
        return Tensor(name, datatype, tuple(shape), array.tobytes())
    if hasattr(value, "tolist"):
        value = value.tolist()
    flat, shape = flatten(value)
    try:
        return Tensor(name, datatype, shape, _pack(datatype, flat))
    except (struct.error, OverflowError) as problem:
        raise ValueError(str(problem)) from None


def join_rows(tensors: List[Tensor]) -> Tensor:
    """Return the rows of tensors with the same name; raise ValueError for different shapes."""
    first = tensors[0]
    if any(tensor.shape[1:] != first.shape[1:] for tensor in tensors):
        shapes = sorted({tensor.shape[1:] for tensor in tensors})
        text = " and ".join(str(list(shape)) for shape in shapes)
        raise ValueError("its rows have the shapes %s" % text)
    shape = (sum(tensor.shape[0] for tensor in tensors), *first.shape[1:])
    if first.datatype == BYTES:
        elements: List[Any] = [item for tensor in tensors for item in tensor.data]
        return first._replace(shape=shape, data=elements)
    return first._replace(shape=shape, data=b"".join([t.binary_data() for t in tensors]))


def _pack(datatype: str, flat: List[Any]) -> Data:
    if datatype == BYTES:
        return [item.encode("utf-8") if isinstance(item, str) else item for item in flat]
    return struct.pack("<%d%s" % (len(flat), FORMATS[datatype]), *flat)


def _split_elements(name: str, view: memoryview, count: int) -> List[bytes]:
    elements: List[bytes] = []
    at, end = 0, len(view)
    while at + _LENGTH.size <= end:
        (size,) = _LENGTH.unpack_from(view, at)
        at += _LENGTH.size + size
        if at > end:
            break
        elements.append(bytes(view[at - size : at]))
    if at != end:
        raise _error(name, "its binary data does not end after an element")
    if len(elements) != count:
        message = "its binary data has %d elements, and the shape has %d"
        raise _error(name, message % (len(elements), count))
    return elements


def _json_name(kind: type) -> str:
    names = {str: "text", int: "number", float: "fractional number", dict: "object", list: "list"}
    return names.get(kind, "null" if kind is type(None) else kind.__name__)


def _error(name: str, message: str) -> ProtocolError:
    return ProtocolError('the input "%s": %s' % (name, message))
