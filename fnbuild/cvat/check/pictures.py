"""The pictures of a check: sizes, modes and encodings that occur in datasets."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

import fnbuild
from fnbuild.cvat.request import ORIENTATION, EncodedImage, read_image
from fnbuild.cvat.shapes import Size

_SAMPLES = Path(fnbuild.__file__).parent / "dashboard/static/samples"
PHOTO = "photo"
LARGE = "8000x6000"
EQUAL_PAIRS = (("grey", "grey as RGB"), ("opaque alpha", "PNG"))
"""Names of pictures with equal pixels."""


@dataclass(frozen=True, slots=True)
class CheckPicture:
    """A picture, and the sizes to which the shapes in a reply may refer.

    CVAT stores pictures upright. A function that gets one with an EXIF tag may turn it or not.
    """

    name: str
    image: EncodedImage
    sizes: tuple[Size, ...]


def check_pictures(own: Iterable[Path] = (), skipped: Iterable[str] = ()) -> Iterator[CheckPicture]:
    """Yield the pictures, created as they are needed; last the user's own.

    These are read first. Raises `InputError` for one that is none.
    """
    images = [(str(path), read_image(path)) for path in own]
    photo = _photo()
    # Half the size is enough to compare modes, and saves time with slow models.
    small = photo.resize((photo.width // 2, photo.height // 2))
    for name, make in _PICTURES.items():
        if name not in skipped:
            yield _picture(name, make(photo if name == PHOTO else small), small.size)
    for name, image in images:
        yield CheckPicture(name, image, (image.size,))


def picture_names() -> list[str]:
    return list(_PICTURES)


def _picture(name: str, data: bytes, upright_size: Size) -> CheckPicture:
    with Image.open(io.BytesIO(data)) as image:
        encoded = EncodedImage(data, image.format or "", image.size)
    turned = (upright_size,) if name == "EXIF orientation" else ()
    return CheckPicture(name, encoded, (encoded.size, *turned))


def _photo(name: str = "astronaut") -> Image.Image:
    with Image.open(_SAMPLES / f"{name}.jpg") as image:
        return image.convert("RGB")


def _encode(image: Image.Image, encoding: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, encoding, **options)
    return out.getvalue()


def _turned(photo: Image.Image) -> bytes:
    tags = Image.Exif()
    tags[ORIENTATION] = 6
    return _encode(photo.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=tags)


def _sixteen_bits(photo: Image.Image) -> bytes:
    levels = photo.convert("L").convert("I").point(lambda level: level * 257)
    return _encode(levels.convert("I;16"))


_PICTURES: dict[str, Callable[[Image.Image], bytes]] = {
    PHOTO: lambda photo: _encode(photo, "JPEG", quality=95),
    "coffee": lambda _: _encode(_photo("coffee"), "JPEG", quality=95),
    "rocket": lambda _: _encode(_photo("rocket"), "JPEG", quality=95),
    "PNG": _encode,
    "opaque alpha": lambda photo: _encode(photo.convert("RGBA")),
    "grey as RGB": lambda photo: _encode(photo.convert("L").convert("RGB")),
    "grey": lambda photo: _encode(photo.convert("L")),
    "palette": lambda photo: _encode(photo.quantize(64)),
    "CMYK": lambda photo: _encode(photo.convert("CMYK"), "JPEG"),
    "16 bits": _sixteen_bits,
    "EXIF orientation": _turned,
    "1x1": lambda photo: _encode(photo.crop((0, 0, 1, 1))),
    "37x211": lambda photo: _encode(photo.resize((256, 256)).crop((100, 20, 137, 231))),
    LARGE: lambda photo: _encode(photo.resize((8000, 6000)), "JPEG", quality=60),
}
