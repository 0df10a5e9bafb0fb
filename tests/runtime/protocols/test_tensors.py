"""Tensors from JSON and binary data, to values of the handler and back."""

from __future__ import annotations

import struct
from typing import Any

import numpy
import pytest

from fnbuild.runtime.protocols import tensors
from fnbuild.runtime.protocols.errors import ProtocolError
from fnbuild.runtime.protocols.tensors import (
    Tensor,
    join_rows,
    tensor_from_binary,
    tensor_from_json,
    tensor_from_value,
)

NUMBERS = [name for name in tensors.FORMATS if name not in ("BOOL", "FP16")]


@pytest.fixture(params=[True, False], ids=["numpy", "no-numpy"])
def with_numpy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if not request.param:
        monkeypatch.setattr(tensors, "load_numpy", lambda: None)
    return request.param


def binary(datatype: str, shape: tuple[int, ...], data: bytes) -> Tensor:
    return tensor_from_binary("x", datatype, shape, memoryview(data))


@pytest.mark.parametrize("datatype", NUMBERS)
def test_json_and_binary_data_give_the_same_tensor(datatype: str, with_numpy: bool) -> None:
    values = [[0, 1, 2], [3, 4, 100]]
    from_json = tensor_from_json("x", datatype, (2, 3), values)
    array = numpy.array(values, "<" + tensors.FORMATS[datatype])
    from_binary = binary(datatype, (2, 3), array.tobytes())
    assert from_json.binary_data() == from_binary.binary_data() == array.tobytes()
    value = from_binary.to_handler()
    assert isinstance(value, numpy.ndarray if with_numpy else list)
    assert numpy.array_equal(value, array)
    assert from_json.values() == [0, 1, 2, 3, 4, 100]
    back = tensor_from_value("x", datatype, value)
    assert (back.shape, back.binary_data()) == ((2, 3), array.tobytes())


def test_flat_data_is_row_major(with_numpy: bool) -> None:
    tensor = tensor_from_json("x", "INT32", (2, 2), [1, 2, 3, 4])
    assert numpy.array_equal(tensor.to_handler(), [[1, 2], [3, 4]])
    assert tensor.row(1).values() == [3, 4]
    assert tensor.row(1).shape == (1, 2)


def test_arrays_are_writable() -> None:
    array = binary("FP32", (2,), struct.pack("<2f", 1, 2)).to_handler()
    array[0] = 5
    assert array[0] == 5


def test_half_floats_are_binary_only(with_numpy: bool) -> None:
    tensor = binary("FP16", (2,), numpy.array([0.5, -2], "<f2").tobytes())
    assert list(tensor.to_handler()) == [0.5, -2]
    with pytest.raises(ProtocolError, match="FP16 has binary data only"):
        tensor_from_json("x", "FP16", (1,), [0.5])


def test_elements_of_type_bytes() -> None:
    jpeg = b"\xff\xd8\xff\xe0 image"
    tensor = binary("BYTES", (2,), struct.pack("<I", 2) + b"hi" + struct.pack("<I", 10) + jpeg)
    assert tensor.values() == ["hi", jpeg]
    assert tensor.row(1).data == [jpeg]
    assert tensor_from_json("x", "BYTES", (1,), ["h\u00e9"]).data == ["h\u00e9".encode()]
    assert tensor.binary_data() == struct.pack("<I2sI10s", 2, b"hi", 10, jpeg)


def test_text_with_zeros_is_a_file() -> None:
    assert tensors.text_or_bytes(b"BM\0\0") == b"BM\0\0"
    assert tensors.text_or_bytes("größe".encode()) == "größe"


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "message"),
    [
        ("FP32", (2,), [1.0], "data has 1 elements, and the shape [2] has 2"),
        ("FP32", (2, 2), [[1.0, 2.0, 3.0, 4.0]], "data has the shape [1, 4], not [2, 2]"),
        ("FP32", (2, 2), [[1.0, 2.0], [3.0]], "its lists have different lengths"),
        ("FP32", (1,), ["1.0"], "data has a value of type text, which is not FP32"),
        ("INT64", (1,), [1.5], "type fractional number, which is not INT64"),
        ("INT8", (1,), [True], "type bool, which is not INT8"),
        ("INT8", (1,), [200], "a value that INT8 cannot represent"),
        ("UINT64", (1,), [-1], "a value that UINT64 cannot represent"),
        ("BOOL", (1,), [1], "type number, which is not BOOL"),
        ("BYTES", (1,), [{}], "type object, which is not BYTES"),
        ("FP64", (1,), 5, "data is not a list"),
        ("FP64", (1,), [None], "type null"),
        ("BYTES", (1,), ["\ud800"], "a value that BYTES cannot represent"),
    ],
)
def test_invalid_json_data(datatype: str, shape: Any, data: Any, message: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        tensor_from_json("x", datatype, shape, data)
    assert message in str(caught.value)
    assert caught.value.reply_status == 400


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "message"),
    [
        ("FP32", (2,), b"1234", "binary_data_size is 4, and FP32 of the shape [2] has 8 bytes"),
        ("BYTES", (1,), b"\x05\0\0\0hi", "does not end after an element"),
        ("BYTES", (1,), b"\x05\0", "does not end after an element"),
        ("BYTES", (2,), b"\x02\0\0\0hi", "has 1 elements, and the shape has 2"),
    ],
)
def test_invalid_binary_data(datatype: str, shape: Any, data: bytes, message: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        binary(datatype, shape, data)
    assert message in str(caught.value)


def test_rows_are_joined() -> None:
    rows = [tensor_from_json("x", "FP32", (1, 2), [1.0, n]) for n in (1.0, 2.0)]
    assert join_rows(rows).shape == (2, 2)
    assert join_rows(rows).values() == [1.0, 1.0, 1.0, 2.0]
    odd = tensor_from_json("x", "FP32", (1, 3), [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"its rows have the shapes \[2\] and \[3\]"):
        join_rows([*rows, odd])


@pytest.mark.parametrize("value", [["a"], [[1], [1, 2]], None, {}])
def test_values_without_a_tensor(value: Any, with_numpy: bool) -> None:
    with pytest.raises((ValueError, TypeError)):
        tensor_from_value("x", "INT32", value)


@pytest.mark.parametrize("shape", [(1, 0, 10**30), (0, 1 << 62, 8)])
def test_a_shape_that_numpy_does_not_have_is_the_clients_mistake(shape: tuple[int, ...]) -> None:
    tensor = tensor_from_json("x", "FP32", shape, [])
    with pytest.raises(ProtocolError, match='the input "x": '):
        tensor.to_handler()
