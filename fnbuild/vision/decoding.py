"""Decode images to pixels, with equal results by OpenCV and by Pillow.

Images are turned upright by their EXIF tag, transparency is dropped, 16-bit values lose their lower
byte, and only the first frame is decoded.
"""

import contextlib
import io
import warnings
from typing import Any, Iterator, Optional

from .image_headers import (
    SUPPORTED_FORMATS,
    ImageError,
    check_not_truncated,
    check_size,
    read_header,
)
from .optional_libraries import cv2, numpy
from .request_body import image_file

_DECODE_ERROR = "the image cannot be decoded%s; send an undamaged " + SUPPORTED_FORMATS + " file"
_MODES = ("RGB", "BGR", "L")
_ORIENTATION = 0x0112
# EXIF's values as Pillow's numbers of transpositions.
_TRANSPOSITIONS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}


def decode(
    event: Any, key: str = "image", *, mode: str = "RGB", max_pixels: Optional[int] = None
) -> Any:
    """Return the image of an event as a NumPy array of uint8, upright: height x width x 3.

    The image is base64 at `key` of the JSON body, or the body itself. `mode` is "RGB", "BGR", or
    "L" for grey (height x width). Raises `ImageError` for an invalid request, and
    `ImageTooLargeError` for more than `max_pixels`, before anything is decoded; see `check_size`.
    """
    return decode_image(image_file(event, key), mode=mode, max_pixels=max_pixels)


def decode_image(data: bytes, *, mode: str = "RGB", max_pixels: Optional[int] = None) -> Any:
    """Return the image in the bytes of an image file as an array, like `decode`."""
    _check_mode(mode, _MODES)
    if numpy is None:
        raise ImportError(
            "decoding to an array needs NumPy in the function's environment; "
            "open_image returns a Pillow image without it"
        )
    header = read_header(data)
    check_size((header.width, header.height), max_pixels)
    if cv2 is not None and (header.plain or not _has_pillow()):
        if not header.plain:
            raise ImageError(
                "a %s file like this can be decoded only where Pillow is installed; "
                "send a JPEG or PNG file" % header.kind
            )
        check_not_truncated(data, header)
        return _decode_with_opencv(data, header.kind, mode)
    image = _decode_with_pillow(data, "L" if mode == "L" else "RGB", max_pixels)
    array = numpy.array(image)
    return numpy.ascontiguousarray(array[:, :, ::-1]) if mode == "BGR" else array


def open_image(
    event: Any, key: str = "image", *, mode: str = "RGB", max_pixels: Optional[int] = None
) -> Any:
    """Return the image of an event as an upright Pillow image of mode "RGB" or "L"."""
    _check_mode(mode, ("RGB", "L"))
    data = image_file(event, key)
    header = read_header(data)
    check_size((header.width, header.height), max_pixels)
    return _decode_with_pillow(data, mode, max_pixels)


def _check_mode(mode: str, modes: Any) -> None:
    if mode not in modes:
        raise ValueError('"%s" is not a mode; use %s' % (mode, ", ".join(modes)))


def _decode_with_opencv(data: bytes, kind: str, mode: str) -> Any:
    # The JPEG decoder produces grey and RGB directly, which is faster than a conversion.
    jpeg_grey = mode == "L" and kind == "JPEG"
    to_rgb = getattr(cv2, "IMREAD_COLOR_RGB", None) if mode == "RGB" else None
    flags = cv2.IMREAD_GRAYSCALE if jpeg_grey else to_rgb or cv2.IMREAD_COLOR
    try:
        image = cv2.imdecode(numpy.frombuffer(data, numpy.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        raise ImageError(_DECODE_ERROR % "")
    if mode == "L" and not jpeg_grey:
        return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    if mode == "RGB" and to_rgb is None:
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return image


def _has_pillow() -> bool:
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        return False
    return True


def _decode_with_pillow(data: bytes, mode: str, max_pixels: Optional[int]) -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise ImportError(
            "decoding images needs OpenCV (opencv-python-headless) or Pillow "
            "in the function's environment"
        ) from None
    with _pillow_limits(Image):
        try:
            with Image.open(io.BytesIO(data)) as image:
                check_size(image.size, max_pixels)
                if mode == "L" and image.format in ("JPEG", "MPO"):
                    image.draft("L", image.size)
                image.load()
                # Pillow turns TIFF files when it loads them, and drops the tag.
                return _transpose(_convert_mode(image, mode), _orientation(image))
        except (ImageError, MemoryError):
            raise
        # A hostile file can make a decoder raise anything.
        except Exception as error:  # noqa: BLE001
            # Pillow's message for an unknown file contains the address of an object.
            reason = "" if "cannot identify" in str(error) else " (%s)" % error
            raise ImageError(_DECODE_ERROR % reason) from None


@contextlib.contextmanager
def _pillow_limits(pillow: Any) -> Iterator[None]:
    """Disable Pillow's own limit of pixels, and its warnings about unusual files."""
    limit = pillow.MAX_IMAGE_PIXELS
    pillow.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        pillow.MAX_IMAGE_PIXELS = limit


def _convert_mode(image: Any, mode: str) -> Any:
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        raise ImageError("the image has 32 bits per sample, which is not supported")
    if image.mode.startswith("I"):
        # Pillow would clip values above 255.
        image = image.convert("I").point(lambda value: value * (1.0 / 256)).convert("L")
    # Pillow warns when it drops the transparency of a palette.
    image.info.pop("transparency", None)
    return image if image.mode == mode else image.convert(mode)


def _orientation(image: Any) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    # A damaged tag is ignored, as in OpenCV.
    except Exception:  # noqa: BLE001
        return 1


def _transpose(image: Any, orientation: int) -> Any:
    turn = _TRANSPOSITIONS.get(orientation)
    return image if turn is None else image.transpose(turn)
