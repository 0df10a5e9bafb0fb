"""Draw smooth lines, translucent areas and legible text on a photograph with Pillow."""

from __future__ import annotations

import io
import math
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageOps

from fnbuild.cvat.shapes import Box, Mask, Point
from fnbuild.function.labels import Colour

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

DARK: Colour = (16, 18, 22)
LIGHT: Colour = (255, 255, 255)

# Pillow's own font has little beyond ASCII; these system fonts have other letters.
SYSTEM_FONTS = (
    *("NotoSans-Regular.ttf", "DejaVuSans.ttf", "LiberationSans-Regular.ttf", "FreeSans.ttf"),
    *("NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf"),
    *("NotoEmoji-Regular.ttf", "Symbola.ttf", "unifont.ttf", "unifont.otf"),
    *("Arial Unicode.ttf", "arial.ttf"),
)
# Not a character: fonts draw their glyph for missing characters.
_NO_CHARACTER = "\uffff"


@contextmanager
def unlimited_image_size() -> Iterator[None]:
    """Let Pillow read images of any size: they are the user's own files."""
    largest, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = largest


def open_rgb(data: bytes) -> Image.Image:
    """Return the image upright and in 8-bit RGB, as CVAT's page shows it.

    Images of more than 8 bits are scaled by their brightest pixel; transparent areas become white.
    """
    with unlimited_image_size(), Image.open(io.BytesIO(data)) as opened:
        image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I") or image.mode == "F":
        deep = image.convert("F")
        _, brightest = deep.getextrema()
        scale = 255 / brightest if isinstance(brightest, float) and brightest > 0 else 1.0
        return deep.point(lambda value: value * scale + 0).convert("L").convert("RGB")
    if image.has_transparency_data:
        over = image.convert("RGBA")
        ground = Image.new("RGBA", over.size, (*LIGHT, 255))
        return Image.alpha_composite(ground, over).convert("RGB")
    return image.convert("RGB")


class Pen:
    """Draws on one layer, which is enlarged `scale` times, with coordinates of the image."""

    def __init__(self, layer: Image.Image, left: int, top: int, scale: int) -> None:
        self._draw = ImageDraw.Draw(layer)
        self._left, self._top, self._scale = left, top, scale

    def line(self, points: Sequence[Point], width: float, *, closed: bool = False) -> None:
        at = self._at([*points, *points[:2]] if closed else points)
        self._draw.line(at, fill=255, width=max(1, round(width * self._scale)), joint="curve")

    def area(self, points: Sequence[Point]) -> None:
        self._draw.polygon(self._at(points), fill=255)

    def dots(self, points: Sequence[Point], radius: float) -> None:
        reach = radius * self._scale
        for x, y in self._at(points):
            self._draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=255)

    def _at(self, points: Sequence[Point]) -> list[Point]:
        scale = self._scale
        return [((x - self._left) * scale, (y - self._top) * scale) for x, y in points]


class Canvas:
    """An RGB image to draw on.

    `line` is the width of a line that fits the image's size. `missing_letters` has the letters that
    no font on this machine has.
    """

    def __init__(self, image: Image.Image) -> None:
        self.image = image
        self.line = max(1.5, math.sqrt(image.width * image.height) / 300)
        self.missing_letters: set[str] = set()
        self._plates: list[Box] = []
        self._captions: list[Box] = []

    def paint(
        self, box: Box, colour: Colour, strokes: Callable[[Pen], None], opacity: float = 1.0
    ) -> None:
        """Draw inside of `box` and a margin for thick lines, clipped to the image."""
        margin = self.line * 4
        left = max(0, math.floor(box[0] - margin))
        top = max(0, math.floor(box[1] - margin))
        right = min(self.image.width, math.ceil(box[2] + margin))
        bottom = min(self.image.height, math.ceil(box[3] + margin))
        width, height = right - left, bottom - top
        if width <= 0 or height <= 0:
            return
        # Supersampling makes edges smooth. On large areas it would need much memory for a small
        # difference.
        scale = 4 if width * height < 500_000 else 2 if width * height < 4_000_000 else 1
        layer = Image.new("L", (width * scale, height * scale))
        strokes(Pen(layer, left, top, scale))
        layer = layer.reduce(scale) if scale > 1 else layer
        self._blend(layer, (left, top), colour, opacity)

    def stroke(
        self, box: Box, colour: Colour, points: Sequence[Point], *, closed: bool = False
    ) -> None:
        """Draw a line with a soft dark rim, which is visible on bright and on dark areas."""
        width = self.line
        self.paint(box, DARK, lambda pen: pen.line(points, width * 1.9, closed=closed), 0.35)
        self.paint(box, colour, lambda pen: pen.line(points, width, closed=closed))

    def dots(self, box: Box, colour: Colour, points: Sequence[Point], size: float = 2.0) -> None:
        """Draw dots with a white rim. `size` is their radius in line widths."""
        radius = self.line * size

        self.paint(box, DARK, lambda pen: pen.dots(points, radius * 1.45), 0.35)
        self.paint(box, LIGHT, lambda pen: pen.dots(points, radius * 1.2))
        self.paint(box, colour, lambda pen: pen.dots(points, radius * 0.8))

    def mask(self, mask: Mask, colour: Colour) -> None:
        """Draw a translucent area with a solid edge."""
        width, height = mask.size
        inner = Image.frombytes("L", (width, height), mask.bits).point(lambda bit: bit * 255)
        # Without a border of zeros the edge would be missing where the mask touches its box.
        area = ImageOps.expand(inner, 1)
        at = (mask.left - 1, mask.top - 1)
        self._blend(area, at, colour, 0.42)
        eroded = area
        for _ in range(max(1, round(self.line / 2))):
            eroded = eroded.filter(ImageFilter.MinFilter(3))
        self._blend(ImageChops.subtract(area, eroded), at, colour, 1.0)

    def plate(self, text: str, at: Point, colour: Colour, *, inside: bool = True) -> None:
        """Draw text on a plate above the point `at`, moved to fit and to avoid other plates."""
        size = max(11.0, min(self.line * 7, self.image.height / 12))
        font, missing = find_font(text, round(size))
        self.missing_letters |= missing
        box = font.getbbox(text)
        # All plates have the same height, whatever their letters.
        tall = font.getbbox("Ag|")
        pad = round(size * 0.3)
        width, height = box[2] - box[0] + 2 * pad, tall[3] - tall[1] + 2 * pad
        x, y = self._place(at, width, height, inside=inside)
        self._plates.append((x, y, x + width, y + height))
        draw = ImageDraw.Draw(self.image)
        corner = pad * 0.8
        draw.rounded_rectangle((x, y, x + width - 1, y + height - 1), corner, fill=colour)
        draw.text((x + pad - box[0], y + pad - tall[1]), text, font=font, fill=_text_colour(colour))

    def caption(self, text: str, at: Point) -> None:
        """Draw a small text beside the point `at`, light with a dark rim.

        Positions inside of the image are preferred. If other captions leave no room around the
        point, the text is omitted.
        """
        size = round(self.caption_size)
        font, missing = find_font(text, size)
        width, gap = font.getbbox(text)[2], self.line * 2.4
        x, y = at
        corners = (
            (x + gap, y - size * 0.6),
            (x - gap - width, y - size * 0.6),
            (x - width / 2, y - gap - size * 1.1),
            (x - width / 2, y + gap),
        )
        # At an edge of the image a caption moves inwards, unless it would cover its point.
        free_x, free_y = self.image.width - width, self.image.height - size
        inside = [
            (min(max(0, left), free_x), min(max(0, top), free_y))
            for left, top in corners
            if -gap <= left <= free_x + gap and -size <= top <= free_y + size
        ]
        for left, top in inside or corners:
            box = (left, top, left + width, top + size)
            if not any(_boxes_overlap(box, other) for other in self._captions):
                break
        else:
            return
        self._captions.append(box)
        self.missing_letters |= missing
        draw, rim = ImageDraw.Draw(self.image), max(1, size // 7)
        draw.text(box[:2], text, font=font, fill=LIGHT, stroke_width=rim, stroke_fill=DARK)

    @property
    def caption_size(self) -> float:
        """The height of a caption's letters, in pixels."""
        return max(10.0, min(self.line * 5, self.image.height / 18))

    def _place(self, at: Point, width: float, height: float, *, inside: bool) -> tuple[int, int]:
        free_x = max(0.0, self.image.width - width)
        free_y = max(0.0, self.image.height - height)
        x = min(max(0.0, at[0]), free_x)
        above = at[1] - height - self.line
        rows = [above, at[1] + self.line] if inside else [at[1]]
        rows += [at[1] + self.line + height * i for i in range(1, 12)]
        fitting = [min(max(0.0, y), free_y) for y in rows if y >= 0] or [0.0]
        for y in fitting:
            if not any(
                _boxes_overlap((x, y, x + width, y + height), other) for other in self._plates
            ):
                return round(x), round(y)
        return round(x), round(fitting[0])

    def _blend(
        self, layer: Image.Image, at: tuple[int, int], colour: Colour, opacity: float
    ) -> None:
        if opacity < 1:
            layer = layer.point(lambda value: value * opacity)
        self.image.paste(colour, (*at, at[0] + layer.width, at[1] + layer.height), layer)


def _boxes_overlap(box: Box, other: Box) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def _text_colour(ground: Colour) -> Colour:
    red, green, blue = ground
    return DARK if 0.299 * red + 0.587 * green + 0.114 * blue > 150 else LIGHT


@lru_cache(maxsize=64)
def find_font(text: str, size: int) -> tuple[Font, frozenset[str]]:
    """Return the font that has most of the text's letters, and the letters that it lacks."""
    best: Font = ImageFont.load_default(size)
    missing = _missing_letters(best, text)
    for name in SYSTEM_FONTS:
        if not missing:
            break
        try:
            font = ImageFont.truetype(name, size)
        except OSError:
            continue
        fewer = _missing_letters(font, text)
        if len(fewer) < len(missing):
            best, missing = font, fewer
    return best, missing


def _missing_letters(font: Font, text: str) -> frozenset[str]:
    # Joiners and accents have no glyph of their own.
    letters = {letter for letter in text if unicodedata.category(letter)[0] in "LNPS"}
    if text.isascii():
        return frozenset()
    placeholder = _glyph(font, _NO_CHARACTER)
    return frozenset(letter for letter in letters if _glyph(font, letter) == placeholder)


def _glyph(font: Font, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)
