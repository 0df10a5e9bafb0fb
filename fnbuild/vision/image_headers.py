"""Read kind and size from the header of an image file.

A small file with an enormous size is rejected before decoding uses memory.
"""

import os
import re
import struct
from typing import Dict, NamedTuple, Optional, Tuple

from .errors import RequestError

SUPPORTED_FORMATS = "JPEG, PNG, WebP, BMP, GIF or TIFF"


# 8192 x 8192 pixels, 192 MiB as RGB: more than cameras have, and decoded within seconds.
MAX_PIXELS = 2**26
MAX_PIXELS_VARIABLE = "FNBUILD_MAX_PIXELS"


class ImageError(RequestError):
    """The request has no image that can be decoded."""


class ImageTooLargeError(ImageError):
    """The image has more pixels than the limit allows."""

    reply_status = 413


# `width` and `height` are in stored pixels, before the EXIF tag is applied, and 0 if only the
# decoder knows them. `start` is the first possible offset of the pixels. `plain` is False for files
# that OpenCV and Pillow decode differently.
ImageHeader = NamedTuple(
    "ImageHeader",
    [("kind", str), ("width", int), ("height", int), ("start", int), ("plain", bool)],
)

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"BM", "BMP"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"P6\n", "PPM"),
)

_PPM = re.compile(rb"P6\n([0-9]{1,9}) ([0-9]{1,9})\n255\n")
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MARKERS_WITHOUT_LENGTH = frozenset(range(0xD0, 0xD9)) | {0x01}
_SCAN, _END = 0xDA, 0xD9

_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _SAMPLES, _EXTRA = 256, 257, 258, 262, 277, 338
# White is zero, black is zero, RGB, palette, CMYK, YCbCr.
_PLAIN_PHOTOMETRICS = (0, 1, 2, 3, 5, 6)
_TIFF_NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q"}


def read_header(data: bytes) -> ImageHeader:
    """Return the header of an encoded image. Raises `ImageError` if it is invalid or truncated."""
    if not data:
        raise ImageError("the image is empty")
    kind = file_kind(data)
    if kind not in _HEADER_READERS:
        return ImageHeader(kind, 0, 0, 0, False)
    try:
        header = _HEADER_READERS[kind](data)
    except (struct.error, IndexError):
        header = None
    if header is None or header.width <= 0 or header.height <= 0:
        raise ImageError("the image is a damaged or truncated %s file" % kind)
    return header


def file_kind(data: bytes) -> str:
    """Return the kind of an image file by its first bytes, such as `PNG`.

    Raises `ImageError` for other files.
    """
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        return "AVIF"
    raise ImageError("the image is not a %s file" % SUPPORTED_FORMATS)


def _jpeg_header(data: bytes) -> Optional[ImageHeader]:
    position = 2
    while True:
        # Damaged files have bytes between segments, which all decoders skip.
        position = data.find(b"\xff", position)
        if position < 0:
            return None
        marker = data[position + 1]
        if marker in (0x00, 0xFF):
            position += 1
        elif marker in _MARKERS_WITHOUT_LENGTH:
            position += 2
        elif marker in (_SCAN, _END):
            return None
        else:
            length = struct.unpack_from(">H", data, position + 2)[0]
            if marker in _FRAME_MARKERS:
                height, width = struct.unpack_from(">HH", data, position + 5)
                return ImageHeader("JPEG", width, height, position + 2 + length, True)
            position += 2 + length


def _png_header(data: bytes) -> Optional[ImageHeader]:
    if data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return ImageHeader("PNG", width, height, 33, True)


def _webp_header(data: bytes) -> Optional[ImageHeader]:
    form = data[12:16]
    if form == b"VP8X":
        low = struct.unpack_from("<HBHB", data, 24)
        return ImageHeader(
            "WEBP", 1 + low[0] + (low[1] << 16), 1 + low[2] + (low[3] << 16), 30, True
        )
    if form == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return ImageHeader("WEBP", 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), 25, True)
    if form == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return ImageHeader("WEBP", width & 0x3FFF, height & 0x3FFF, 30, True)
    return None


def _bmp_header(data: bytes) -> Optional[ImageHeader]:
    size = struct.unpack_from("<I", data, 14)[0]
    form = "<HH" if size == 12 else "<ii"
    width, height = struct.unpack_from(form, data, 18)
    # A negative height means that the first row is the upper one.
    return ImageHeader("BMP", width, abs(height), 14 + size, True)


def _ppm_header(data: bytes) -> Optional[ImageHeader]:
    # Only the form that stands for pixels from an inference protocol.
    match = _PPM.match(data)
    if match is None:
        return None
    width, height = int(match.group(1)), int(match.group(2))
    if len(data) < match.end() + 3 * width * height:
        return None
    return ImageHeader("PPM", width, height, match.end(), True)


def _gif_header(data: bytes) -> Optional[ImageHeader]:
    width, height = struct.unpack_from("<HH", data, 6)
    # The size may be missing; the frames have their own.
    return ImageHeader("GIF", max(1, width), max(1, height), 13, False)


def _tiff_header(data: bytes) -> Optional[ImageHeader]:
    order = "<" if data[:1] == b"I" else ">"
    tags = _tiff_tags(data, order, data[2:4] in (b"+\0", b"\0+"))
    width, height = tags.get(_WIDTH, 0), tags.get(_HEIGHT, 0)
    plain = (
        _EXTRA not in tags
        and tags.get(_BITS, 1) <= 16
        and tags.get(_PHOTOMETRIC, 1) in _PLAIN_PHOTOMETRICS
        and tags.get(_SAMPLES, 1) in (1, 3, 4)
    )
    return ImageHeader("TIFF", width, height, 8, plain)


def _tiff_tags(data: bytes, order: str, big: bool) -> Dict[int, int]:
    """Return the first number of each tag in the first directory."""
    count_form, entry_size, field = ("Q", 20, 12) if big else ("H", 12, 8)
    position = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    count = struct.unpack_from(order + count_form, data, position)[0]
    position += struct.calcsize(count_form)
    tags = {}  # type: Dict[int, int]
    for start in range(position, position + min(count, 4096) * entry_size, entry_size):
        tag, form = struct.unpack_from(order + "HH", data, start)
        length = struct.unpack_from(order + ("Q" if big else "I"), data, start + 4)[0]
        letter = _TIFF_NUMBERS.get(form)
        if letter is None or not length:
            continue
        value = start + field
        if struct.calcsize(letter) * length > entry_size - field:
            value = struct.unpack_from(order + ("Q" if big else "I"), data, value)[0]
        tags.setdefault(tag, struct.unpack_from(order + letter, data, value)[0])
    return tags


_HEADER_READERS = {
    "JPEG": _jpeg_header,
    "PNG": _png_header,
    "WEBP": _webp_header,
    "BMP": _bmp_header,
    "PPM": _ppm_header,
    "GIF": _gif_header,
    "TIFF": _tiff_header,
}


def check_size(size: Tuple[int, int], max_pixels: Optional[int]) -> None:
    """Raise `ImageTooLargeError` if an image of this width and height exceeds the limit.

    The limit is `max_pixels`, or the variable FNBUILD_MAX_PIXELS, or else `MAX_PIXELS`.
    """
    width, height = size
    limit = _default_limit() if max_pixels is None else max_pixels
    if width * height > limit:
        raise ImageTooLargeError(
            "the image has %d x %d = %d pixels, more than the limit of %d; send a smaller "
            "image, or raise the limit by the function's variable %s or the handler's max_pixels"
            % (width, height, width * height, limit, MAX_PIXELS_VARIABLE)
        )


def _default_limit() -> int:
    text = os.environ.get(MAX_PIXELS_VARIABLE, "").strip()
    if not text:
        return MAX_PIXELS
    if not text.isdigit() or int(text) < 1:
        raise ValueError(
            "%s is a number of pixels above zero, not %r" % (MAX_PIXELS_VARIABLE, text)
        )
    return int(text)


def check_not_truncated(data: bytes, header: ImageHeader) -> None:
    """Raise `ImageError` for a file whose end is missing.

    Older releases of OpenCV silently fill the rest of such an image with grey.
    """
    end = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}.get(header.kind)
    if end is not None and data.rfind(end, header.start) < 0:
        raise ImageError("the image is truncated: the end of the %s file is missing" % header.kind)
