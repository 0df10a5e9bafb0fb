"""The metadata and shapes of ONNX files, read without a package."""

from __future__ import annotations

from pathlib import Path

import pytest

from fnbuild.errors import InputError
from fnbuild.models.readers.onnx_file import read_onnx

MODELS = Path(__file__).resolve().parents[2] / "data" / "yolo"


def test_metadata_and_shapes_are_read() -> None:
    model = read_onnx(MODELS / "segment.onnx")
    assert model.metadata["names"] == "{0: 'cat', 1: 'dog'}"
    assert model.metadata["task"] == "segment"
    assert model.inputs == (("batch", 3, 64, 64),)
    assert model.outputs == (("batch", 8, 4), ("batch", 2, 16, 16))


def test_sizes_that_are_not_fixed_have_names() -> None:
    assert read_onnx(MODELS / "v8-any-size.onnx").inputs == (("batch", 3, "height", "width"),)


@pytest.mark.parametrize("length", [0, 1, 100, 400])
def test_an_incomplete_file_is_one_clear_error(tmp_path: Path, length: int) -> None:
    path = tmp_path / "part.onnx"
    path.write_bytes((MODELS / "v8.onnx").read_bytes()[:length])
    with pytest.raises(InputError, match=r"part\.onnx is not an ONNX file, or it is incomplete"):
        read_onnx(path)


@pytest.mark.parametrize(
    "content", [b"<html>not found</html>", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04"]
)
def test_another_file_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not an ONNX file"):
        read_onnx(path)
