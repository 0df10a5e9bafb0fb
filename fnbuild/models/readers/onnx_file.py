"""Read what an ONNX file says about itself, without a package and without its weights.

The file is one message of Protocol Buffers: ModelProto of onnx/onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fnbuild.errors import InputError

# Numbers of fields, by message.
_MODEL_GRAPH, _MODEL_METADATA = 7, 14
_GRAPH_TENSOR, _GRAPH_INPUT, _GRAPH_OUTPUT = 5, 11, 12
_TENSOR_ENTRY = 13
_VALUE_TYPE, _TYPE_TENSOR, _TENSOR_SHAPE, _SHAPE_SIZE = 2, 1, 2, 1
_SIZE_NUMBER, _SIZE_NAME = 1, 2
_KEY, _VALUE = 1, 2

# Kinds of encoding.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}

Shape = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class OnnxDescription:
    """The metadata of a model, and the shapes of its inputs and outputs.

    `weight_files` are the files beside it that have its weights, for weights in files of their own.
    """

    metadata: dict[str, str]
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    weight_files: frozenset[str] = frozenset()


def read_onnx(path: Path) -> OnnxDescription:
    """Return the description of a file. Raises `InputError` if it is not an ONNX file."""
    try:
        description = _read_model(memoryview(path.read_bytes()))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, IndexError):
        description = None
    if description is None:
        raise InputError(
            f"{path} is not an ONNX file, or it is incomplete",
            hint="export the model again, and copy the whole file",
        )
    return description


def _read_model(data: memoryview) -> OnnxDescription | None:
    metadata: dict[str, str] = {}
    shapes: dict[int, list[Shape]] = {_GRAPH_INPUT: [], _GRAPH_OUTPUT: []}
    weight_files: set[str] = set()
    has_graph = False
    for number, value in _fields(data):
        if number == _MODEL_METADATA:
            entry = dict(_fields(_message(value)))
            metadata[_text(entry.get(_KEY, b""))] = _text(entry.get(_VALUE, b""))
        elif number == _MODEL_GRAPH:
            has_graph = True
            for part, item in _fields(_message(value)):
                if part in shapes:
                    shapes[part].append(_read_shape(_message(item)))
                elif part == _GRAPH_TENSOR:
                    weight_files.update(_locations(_message(item)))
    if not has_graph:
        return None
    inputs, outputs = tuple(shapes[_GRAPH_INPUT]), tuple(shapes[_GRAPH_OUTPUT])
    return OnnxDescription(metadata, inputs, outputs, frozenset(weight_files))


def _locations(tensor: memoryview) -> Iterator[str]:
    """Yield the file of a tensor that is not in the model itself."""
    for number, value in _fields(tensor):
        if number == _TENSOR_ENTRY:
            entry = dict(_fields(_message(value)))
            if _text(entry.get(_KEY, b"")) == "location":
                yield _text(entry.get(_VALUE, b""))


def _read_shape(data: memoryview) -> Shape:
    """Return the sizes of a value: numbers, and names of those that are not fixed."""
    for step in (_VALUE_TYPE, _TYPE_TENSOR, _TENSOR_SHAPE):
        data = _message(dict(_fields(data)).get(step, memoryview(b"")))
    sizes: list[int | str] = []
    for number, value in _fields(data):
        if number == _SHAPE_SIZE:
            size = dict(_fields(_message(value)))
            fixed = size.get(_SIZE_NUMBER)
            sizes.append(fixed if isinstance(fixed, int) else _text(size.get(_SIZE_NAME, b"?")))
    return tuple(sizes)


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field. Raises ValueError or IndexError."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        encoding = tag & 7
        if encoding == _VARINT:
            value, place = _varint(data, place)
            yield tag >> 3, value
            continue
        if encoding == _BYTES:
            size, place = _varint(data, place)
        elif encoding in _FIXED_SIZES:
            size = _FIXED_SIZES[encoding]
        else:
            raise ValueError(encoding)
        if tag >> 3 == 0 or place + size > len(data):
            raise ValueError(size)
        yield tag >> 3, data[place : place + size]
        place += size


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError(value)


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError(value)
    return value


def _text(value: int | memoryview | bytes) -> str:
    if isinstance(value, int):
        raise ValueError(value)
    return bytes(value).decode()
