"""Functions in archives, as far as that needs no TorchServe."""

from __future__ import annotations

import os
from email.parser import BytesParser
from typing import Any

import pytest

from fnbuild.runtime.torchserve.archive_handler import make_request, request_body, select_gpu


@pytest.mark.parametrize(
    ("visible", "gpu_id", "expected"),
    [
        (None, None, ""),
        (None, 0, "0"),
        (None, 1, "1"),
        ("2,3", None, ""),
        ("2,3", 0, "2"),
        ("2,3", 1, "3"),
        ("GPU-aa,GPU-bb", 1, "GPU-bb"),
    ],
)
def test_the_assigned_gpu_is_the_only_visible_one(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, gpu_id: int | None, expected: str
) -> None:
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    select_gpu(gpu_id)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == expected


@pytest.mark.parametrize(
    ("row", "content_type", "expected"),
    [
        ({"body": bytearray(b"\xff\xd8")}, "image/jpeg", b"\xff\xd8"),
        ({"body": bytearray(b"")}, "", b""),
        ({"data": bytearray(b"x")}, "", b"x"),
        # As rows are without TS_DECODE_INPUT_REQUEST, or behind an envelope.
        ({"body": {"a": 1}}, "application/json", b'{"a": 1}'),
        ({"body": "text"}, "text/plain", b"text"),
        ([1, 2], "application/json", b"[1, 2]"),
        ({"x": 1}, "application/json", b'{"x": 1}'),
        ({"a b": bytearray(b"1&2")}, "application/x-www-form-urlencoded", b"a+b=1%262"),
        ({}, "application/x-www-form-urlencoded", b""),
    ],
)
def test_the_body_of_an_event_is_that_of_the_request(
    row: Any, content_type: str, expected: bytes
) -> None:
    assert request_body(row, {}, content_type) == (content_type, expected)


@pytest.mark.parametrize("name", ["data", "body"])
def test_a_form_with_the_only_part_data_or_body_is_that_part(name: str) -> None:
    headers = {name: {"content-type": "image/jpeg"}}
    row = {name: bytearray(b"\xff\xd8")}
    assert request_body(row, headers, "multipart/form-data; boundary=x") == (
        "image/jpeg",
        b"\xff\xd8",
    )


def test_another_form_is_joined_with_its_boundary() -> None:
    content_type = 'multipart/form-data; boundary="a b"'
    row = {"image": bytearray(b"\xff\xd8\r\n"), "threshold": "0.5"}
    headers = {"image": {"content-type": "image/jpeg"}, "threshold": {"content-type": ""}}

    kind, body = request_body(row, headers, content_type)

    message: Any = BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    image, threshold = message.get_payload()
    assert image.get_param("name", header="content-disposition") == "image"
    assert image.get_content_type() == "image/jpeg"
    assert image.get_payload(decode=True) == b"\xff\xd8\r\n"
    assert threshold.get_payload() == "0.5"


def test_an_event_has_the_headers_of_the_request_and_the_rest_of_its_path() -> None:
    headers = {
        "Content-Type": "image/jpeg",
        "X-Case": "kept",
        "explain": "False",
        "url_path": "tiles/3",
        "body": {"content-type": "image/jpeg"},
    }
    meta, body = make_request({"body": b"x"}, headers, "id-1")

    assert (meta["i"], meta["m"], meta["p"], meta["ct"]) == (
        "id-1",
        "POST",
        "/tiles/3",
        "image/jpeg",
    )
    assert meta["h"] == [("Content-Type", "image/jpeg"), ("X-Case", "kept")]
    assert body == b"x"
