"""Truncated, damaged and enormous images: one clear error, never a crash or a full memory."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from fnbuild import vision
from fnbuild.vision import (
    ImageError,
    ImageTooLargeError,
    decode,
    decode_image,
    image_headers,
    open_image,
)
from tests.vision.conftest import encoded, request_of

pytestmark = pytest.mark.system


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_truncated_files(backend, small, kind):
    data = encoded(small.quantize(64) if kind == "GIF" else small, kind)
    ends = {0, 1, 2, 3, 8, 20, 40, 200, len(data) // 3, len(data) * 2 // 3, len(data) - 200}
    for end in sorted(ends):
        with pytest.raises(ImageError):
            decode(request_of(data[:end]))


def test_a_jpeg_without_its_last_bytes(backend, small):
    for options in ({}, {"progressive": True}):
        data = encoded(small, "JPEG", **options)
        for end in (len(data) - 2, len(data) - 50):
            with pytest.raises(ImageError):
                decode(request_of(data[:end]))
        # Data that cameras append after the end is not part of the image.
        assert decode(request_of(data + bytes(100))).shape == (203, 301, 3)


def test_random_damage_ends_as_an_image_error_or_an_image(backend, small):
    random = np.random.default_rng(11)
    tiny = small.resize((64, 48))
    for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"):
        data = encoded(tiny, kind)
        for _ in range(60):
            broken = bytearray(data)
            for place in random.integers(0, min(len(data), 600), random.integers(1, 6)):
                broken[place] = random.integers(256)
            try:
                image = decode_image(bytes(broken), max_pixels=1_000_000)
            except ImageError:
                continue
            assert image.ndim == 3
            assert image.size <= 3_000_000


@pytest.mark.parametrize(
    "data",
    [b"hello", b"%PDF-1.7", b"%!PS-Adobe-3.0 EPSF-3.0", b"<svg/>", b"\0" * 100, b"RIFF1234WAVE"],
)
def test_files_that_are_not_images(backend, data):
    with pytest.raises(ImageError, match="not a JPEG, PNG"):
        decode(request_of(data))
    with pytest.raises(ImageError, match="not a JPEG, PNG"):
        open_image(request_of(data))


def claim(kind, width, height):
    """Return a small file that claims to have this size."""
    if kind == "PNG":
        head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        parts = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
        chunks = (
            struct.pack(">I", len(text)) + name + text + struct.pack(">I", zlib.crc32(name + text))
            for name, text in parts
        )
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
    if kind == "TIFF":
        tags = (256, 4, 1, width, 257, 4, 1, height)
        return struct.pack("<2sHIHHHIIHHIII", b"II", 42, 8, 2, *tags, 0)
    data = encoded(Image.new("L" if kind == "GIF" else "RGB", (300, 200)), kind)
    if kind == "JPEG":
        size = struct.pack(">HH", 200, 300)
        return data.replace(size, struct.pack(">HH", height, width), 1)
    if kind == "BMP":
        return data[:18] + struct.pack("<ii", width, -height) + data[26:]
    return data.replace(struct.pack("<HH", 300, 200), struct.pack("<HH", width, height))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "TIFF"])
def test_decompression_bombs(backend, kind):
    data = claim(kind, 50000, 50000)
    message = "50000 x 50000 = 2500000000 pixels, more than"
    with pytest.raises(ImageTooLargeError, match=message):
        decode(request_of(data))
    with pytest.raises(ImageTooLargeError, match=message):
        open_image(request_of(data))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"])
def test_above_64_megapixels_nothing_is_decoded(backend, kind, monkeypatch):
    def never(*_):
        raise AssertionError("something was decoded")

    monkeypatch.setattr(vision.decoding, "_decode_with_opencv", never)
    monkeypatch.setattr(vision.decoding, "_decode_with_pillow", never)
    width, height = (16000, 4195) if kind == "WEBP" else (8192, 8193)
    data = claim(kind, width, height)
    with pytest.raises(ImageTooLargeError) as raised:
        decode(request_of(data))
    assert raised.value.reply_status == 413
    message = f"{width} x {height} = {width * height} pixels, more than the limit of 67108864"
    assert message in str(raised.value)
    assert "FNBUILD_MAX_PIXELS" in str(raised.value)
    with pytest.raises(ImageTooLargeError):
        open_image(request_of(data))
    for limit in (width * height, 2**30):
        with pytest.raises((AssertionError, ImageError), match=r"decoded|truncated|damaged|Pillow"):
            decode(request_of(data), max_pixels=limit)
    monkeypatch.setenv("FNBUILD_MAX_PIXELS", str(2**30))
    with pytest.raises((AssertionError, ImageError), match=r"decoded|truncated|damaged|Pillow"):
        decode(request_of(data))


@pytest.mark.parametrize("value", ["many", "0", "-5", "1e9"])
def test_an_invalid_limit(monkeypatch, value, small):
    monkeypatch.setenv("FNBUILD_MAX_PIXELS", value)
    with pytest.raises(ValueError, match="FNBUILD_MAX_PIXELS is a number of pixels above zero"):
        decode(request_of(encoded(small, "PNG")))


def test_the_limit_can_be_set(backend, small):
    for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF"):
        event = request_of(encoded(small, kind))
        assert decode(event, max_pixels=301 * 203).shape == (203, 301, 3)
        with pytest.raises(
            ImageError, match="301 x 203 = 61103 pixels, more than the limit of 61102"
        ):
            decode(event, max_pixels=301 * 203 - 1)


def test_webp_headers(small):
    alpha = small.copy()
    alpha.putalpha(small.convert("L"))
    exif = Image.Exif()
    exif[0x0112] = 1
    for image, options in (
        (small, {}),
        (small, {"lossless": True}),
        (alpha, {}),
        (small, {"exif": exif}),
    ):
        header = image_headers.read_header(encoded(image, "WEBP", **options))
        assert (header.kind, header.width, header.height) == ("WEBP", 301, 203)


def test_large_images_cause_no_warning_and_pillows_limit_is_kept(monkeypatch):
    monkeypatch.setattr(vision.decoding, "cv2", None)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    data = encoded(Image.new("L", (100, 100)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_image(data).shape == (100, 100, 3)
    assert Image.MAX_IMAGE_PIXELS == 100
