"""The same pixels from every form of an image, whichever library decodes it."""

import io
import subprocess
import sys
from typing import Any

import cv2
import nuclio_sdk
import numpy as np
import pytest
from PIL import Image

from fnbuild import vision
from fnbuild.runtime.protocols.instances import Instance
from fnbuild.vision import ImageError, decode, decode_image, open_image
from tests.vision.conftest import base64_of, encoded, event_of, request_of

pytestmark = pytest.mark.system

NOISE = np.random.default_rng(3)


def difference(first, second):
    assert first.shape == second.shape
    return int(np.abs(first.astype(int) - second.astype(int)).max())


def forms(image):
    """A photograph as (file, the pixels that it shows) by the form's name."""
    rgb = np.asarray(image)
    grey = np.asarray(image.convert("L"))
    alpha = image.copy()
    alpha.putalpha(Image.fromarray(grey))
    low = NOISE.integers(0, 255, grey.shape)
    deep_grey = (grey.astype(np.uint16) << 8) + low.astype(np.uint16)
    deep = (rgb.astype(np.uint16) << 8) + low[:, :, None].astype(np.uint16)
    few = image.quantize(64)
    cmyk = image.convert("CMYK")
    black = image.convert("1")
    palette = np.asarray(few.convert("RGB"))

    def shown(data):
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def jpeg(picture, **options):
        data = encoded(picture, "JPEG", **options)
        return data, shown(data)

    def opencv(suffix, array):
        return cv2.imencode(suffix, array[:, :, ::-1] if array.ndim == 3 else array)[1].tobytes()

    def wide(array):
        return np.dstack([array] * 3)

    return {
        "jpeg": jpeg(image, quality=90),
        "jpeg 4:4:4": jpeg(image, quality=95, subsampling=0),
        "jpeg progressive": jpeg(image, progressive=True),
        "jpeg grey": jpeg(image.convert("L")),
        "jpeg cmyk": jpeg(cmyk),
        "jpeg rgb": jpeg(image, keep_rgb=True),
        "mpo": (encoded(image, "MPO", quality=95), shown(encoded(image, "JPEG", quality=95))),
        "png": (encoded(image), rgb),
        "png grey": (encoded(image.convert("L")), wide(grey)),
        "png grey alpha": (encoded(alpha.convert("LA")), wide(grey)),
        "png alpha": (encoded(alpha), rgb),
        "png palette": (encoded(few), palette),
        "png palette 4 bit": (
            encoded(image.quantize(16), bits=4),
            np.asarray(image.quantize(16).convert("RGB")),
        ),
        "png palette alpha": (encoded(few, transparency=bytes(range(64))), palette),
        "png 1 bit": (encoded(black), wide(np.asarray(black.convert("L")))),
        "png 16 bit grey": (opencv(".png", deep_grey), wide(grey)),
        "png 16 bit": (opencv(".png", deep), rgb),
        "webp": (
            encoded(image, "WEBP", quality=90),
            shown(encoded(image, "WEBP", quality=90)),
        ),
        "webp lossless": (encoded(image, "WEBP", lossless=True), rgb),
        "webp alpha": (encoded(alpha, "WEBP", lossless=True, exact=True), rgb),
        "bmp": (encoded(image, "BMP"), rgb),
        "bmp grey": (encoded(image.convert("L"), "BMP"), wide(grey)),
        "bmp palette": (encoded(few, "BMP"), palette),
        "bmp 1 bit": (encoded(black, "BMP"), wide(np.asarray(black.convert("L")))),
        "tiff": (encoded(image, "TIFF"), rgb),
        "tiff lzw": (encoded(image, "TIFF", compression="tiff_lzw"), rgb),
        "tiff big": (encoded(image, "TIFF", big_tiff=True), rgb),
        "tiff grey": (encoded(image.convert("L"), "TIFF"), wide(grey)),
        "tiff palette": (encoded(few, "TIFF"), palette),
        "tiff 1 bit": (
            encoded(black, "TIFF", compression="group4"),
            wide(np.asarray(black.convert("L"))),
        ),
        "tiff ycbcr": (
            encoded(image.convert("YCbCr"), "TIFF"),
            np.asarray(image.convert("YCbCr").convert("RGB")),
        ),
        "tiff cmyk": (encoded(cmyk, "TIFF"), np.asarray(cmyk.convert("RGB"))),
        "tiff 16 bit grey": (encoded(Image.fromarray(deep_grey), "TIFF"), wide(grey)),
        "tiff 16 bit": (opencv(".tiff", deep), rgb),
    }


def pillow_forms(image):
    """Return those that OpenCV would decode to other pixels, or not at all."""
    rgb = np.asarray(image)
    alpha = image.copy()
    alpha.putalpha(image.convert("L"))
    few = image.quantize(64)
    return {
        "gif": (encoded(few, "GIF"), np.asarray(few.convert("RGB"))),
        "gif transparent": (encoded(few, "GIF", transparency=3), np.asarray(few.convert("RGB"))),
        "tiff alpha": (encoded(alpha, "TIFF"), rgb),
    }


def test_every_form_shows_its_pixels(backend, small):
    for form, (data, pixels) in forms(small).items():
        image = decode(request_of(data))
        assert image.dtype == np.uint8, form
        assert difference(image, pixels) <= 2, form
        assert image.flags.c_contiguous, form
        assert image.flags.writeable, form


def test_the_order_of_colours(backend, small):
    for form, (data, _) in forms(small).items():
        event = request_of(data)
        rgb, bgr = decode(event), decode(event, mode="BGR")
        assert np.array_equal(rgb, bgr[:, :, ::-1]), form
        assert bgr.flags.c_contiguous, form


def test_greyscale(backend, small):
    for form, (data, pixels) in forms(small).items():
        grey = decode(request_of(data), mode="L")
        assert grey.ndim == 2, form
        expected = np.asarray(Image.fromarray(pixels).convert("L"))
        # A JPEG file stores luminance separately: where a colour was clipped at 255, it differs.
        away = 25 if form.startswith(("jpeg", "mpo")) else 2
        assert difference(grey, expected) <= away, form
        assert np.abs(grey.astype(int) - expected).mean() < 1.5, form


def test_greyscale_is_the_same_from_both_libraries(small, monkeypatch):
    files = {form: data for form, (data, _) in forms(small).items()}
    first = {form: decode_image(data, mode="L") for form, data in files.items()}
    monkeypatch.setattr(vision.decoding, "cv2", None)
    for form, data in files.items():
        assert difference(first[form], decode_image(data, mode="L")) <= 2, form


def test_forms_for_pillow(backend, small):
    for form, (data, pixels) in pillow_forms(small).items():
        if backend == "opencv":
            with pytest.raises(ImageError, match="only where Pillow is installed"):
                decode(request_of(data))
        else:
            assert difference(decode(request_of(data)), pixels) <= 2, form


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_images_are_rotated_upright(backend, small, kind):
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    # Transpositions that undo what the tag asks for, by Pillow's numbers.
    for orientation, undo in {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.items():
        lying = small if undo is None else small.transpose(undo)
        exif = Image.Exif()
        exif[0x0112] = orientation
        event = request_of(encoded(lying, kind, exif=exif, **options.get(kind, {})))
        for mode in ("RGB", "L"):
            expected = np.asarray(small if mode == "RGB" else small.convert("L"))
            decoded = decode(event, mode=mode)
            assert decoded.shape == expected.shape, orientation
            assert np.abs(decoded.astype(int) - expected).mean() < 2, orientation


def test_a_damaged_tag_is_ignored(backend, small):
    for exif in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\x01"):
        data = encoded(small, "JPEG", exif=exif)
        assert decode(request_of(data)).shape == (203, 301, 3)


def test_pillow_images(small):
    data = encoded(small)
    event = request_of(data)
    image = open_image(event)
    assert (image.mode, image.size) == ("RGB", small.size)
    assert image.tobytes() == small.tobytes()
    assert open_image(event, mode="L").mode == "L"
    assert open_image(event_of(data, "image/png")).size == small.size
    deep = np.asarray(small.convert("L")).astype(np.uint16) * 256 + 200
    sixteen = open_image(request_of(encoded(Image.fromarray(deep))), mode="L")
    assert difference(np.asarray(sixteen), np.asarray(small.convert("L"))) == 0


def test_other_events_and_raw_bodies(backend, small):
    data = encoded(small)
    expected = np.asarray(small)
    plain = nuclio_sdk.Event(body={"image": base64_of(data)})
    for event in (plain, event_of(data, "image/png"), nuclio_sdk.Event(body=data)):
        assert difference(decode(event), expected) == 0
    assert difference(decode_image(data), expected) == 0


def test_pixels_of_inference_protocols(backend, small):
    width, height = small.size
    file = b"P6\n%d %d\n255\n" % (width, height) + small.tobytes()
    assert np.array_equal(decode_image(file), np.asarray(small))
    assert decode_image(file, mode="L").shape == (height, width)
    with pytest.raises(ImageError, match="a damaged or truncated PPM file"):
        decode_image(file[:-1])
    with pytest.raises(vision.ImageTooLargeError):
        decode_image(file, max_pixels=10)


def test_files_of_an_inference_protocol_are_decoded_as_they_are(backend, small):
    event: Any = nuclio_sdk.Event(body="not looked at")
    event.instance = Instance({"threshold": 0.5}, {"image": encoded(small, "PNG")})
    assert np.array_equal(decode(event), np.asarray(small))
    assert vision.fields(event) == {"threshold": 0.5}
    with pytest.raises(ImageError, match='the key "image1" is missing'):
        decode(event, "image1")


@pytest.mark.parametrize("mode", ["F", "I"])
def test_measurements_are_not_images(backend, small, mode):
    with pytest.raises(ImageError):
        decode(request_of(encoded(small.convert(mode), "TIFF")))


def test_unknown_modes(small):
    event = request_of(encoded(small))
    with pytest.raises(ValueError, match='"RGBA" is not a mode; use RGB, BGR, L'):
        decode(event, mode="RGBA")
    with pytest.raises(ValueError, match='"BGR" is not a mode; use RGB, L'):
        open_image(event, mode="BGR")


LIBRARIES = """
import sys
for name in {missing!r}:
    sys.modules[name] = None
from fnbuild import vision
import types
event = types.SimpleNamespace(body=open({path!r}, "rb").read())
try:
    image = vision.{call}(event)
except Exception as error:
    print(type(error).__name__, error)
else:
    print(getattr(image, "shape", None) or image.size)
"""


@pytest.mark.parametrize(
    ("missing", "call", "message"),
    [
        (["cv2"], "decode", "(203, 301, 3)"),
        (["PIL"], "decode", "(203, 301, 3)"),
        (["cv2", "numpy"], "open_image", "(301, 203)"),
        (["cv2", "numpy"], "decode", "needs NumPy in the function's environment"),
        (["cv2", "PIL"], "decode", "needs OpenCV (opencv-python-headless) or Pillow"),
        (["PIL"], "open_image", "or Pillow in the function's environment"),
    ],
)
def test_environments_without_libraries(small, tmp_path, missing, call, message):
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(small))
    code = LIBRARIES.format(missing=missing, path=str(path), call=call)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert message in done.stdout
