"""Elements of tensors in typed fields, as raw bytes and in JSON."""

import struct

import pytest

from fnbuild.runtime.grpc_server import proto
from fnbuild.runtime.grpc_server.contents import (
    TensorError,
    contents_to_raw,
    has_field,
    raw_to_contents,
    values_to_raw,
)

CASES = [
    ("BOOL", "bool_contents", [True, False], b"\x01\x00"),
    ("INT8", "int_contents", [-128, 127], struct.pack("<2b", -128, 127)),
    ("INT16", "int_contents", [-3, 300], struct.pack("<2h", -3, 300)),
    ("INT32", "int_contents", [-3, 1 << 30], struct.pack("<2i", -3, 1 << 30)),
    ("INT64", "int64_contents", [-1, 1 << 60], struct.pack("<2q", -1, 1 << 60)),
    ("UINT8", "uint_contents", [0, 255], b"\x00\xff"),
    ("UINT16", "uint_contents", [1, 65535], struct.pack("<2H", 1, 65535)),
    ("UINT32", "uint_contents", [1, 1 << 31], struct.pack("<2I", 1, 1 << 31)),
    ("UINT64", "uint64_contents", [1, 1 << 63], struct.pack("<2Q", 1, 1 << 63)),
    ("FP32", "fp32_contents", [1.5, -0.25], struct.pack("<2f", 1.5, -0.25)),
    ("FP64", "fp64_contents", [1.1, 2.2], struct.pack("<2d", 1.1, 2.2)),
    ("BYTES", "bytes_contents", [b"\xff\xd8", b""], b"\x02\x00\x00\x00\xff\xd8\x00\x00\x00\x00"),
]


def contents():
    return proto.message_class("InferTensorContents")()


@pytest.mark.parametrize(("datatype", "field", "elements", "raw"), CASES)
def test_typed_elements_are_raw_bytes_and_back(datatype, field, elements, raw):
    typed = contents()
    getattr(typed, field).extend(elements)
    assert contents_to_raw(datatype, typed) == raw
    back = contents()
    raw_to_contents(datatype, raw, back)
    assert back == typed
    assert has_field(datatype)


def test_json_values_of_any_depth_are_raw_bytes():
    assert values_to_raw("INT16", [[1, 2], [3, [4]]]) == struct.pack("<4h", 1, 2, 3, 4)
    assert values_to_raw("BYTES", ["é"]) == b"\x02\x00\x00\x00" + "é".encode()
    assert values_to_raw("FP32", 2) == struct.pack("<f", 2)


@pytest.mark.parametrize("datatype", ["FP16", "BF16", "", "FP99"])
def test_types_without_a_field_are_raw_only(datatype):
    assert not has_field(datatype)
    with pytest.raises(TensorError, match="raw contents only"):
        contents_to_raw(datatype, contents())


@pytest.mark.parametrize(
    ("datatype", "raw"),
    [("INT32", b"12345"), ("BYTES", b"\x01\x00"), ("BYTES", b"\x05\x00\x00\x00abc")],
)
def test_raw_bytes_of_the_wrong_length_are_refused(datatype, raw):
    with pytest.raises(TensorError):
        raw_to_contents(datatype, raw, contents())


def test_elements_out_of_range_are_refused():
    with pytest.raises(TensorError, match="INT8"):
        values_to_raw("INT8", [1000])
    with pytest.raises(TensorError, match="FP32"):
        values_to_raw("FP32", ["x"])
