"""Images are checked at points where a shape must and must not have been drawn."""

import io

import pytest
from PIL import Image, ImageFont

from fnbuild.cvat import canvas
from fnbuild.cvat.canvas import find_font, open_rgb
from fnbuild.cvat.drawing import draw_shapes, draw_to_file, outline
from fnbuild.cvat.request import build_request
from fnbuild.cvat.shapes import Mask, Shape, table_rows
from fnbuild.errors import NotFoundError, UsageError
from fnbuild.function.labels import Label, label_colours

GREY = (128, 128, 128)
SIZE = (300, 200)
SVG = (
    '<line data-type="edge" data-node-from="1" data-node-to="2">'
    '<circle data-node-id="1" data-label-name="head">'
    '<circle data-node-id="2" data-label-name="foot">'
)
LABELS = [Label("cat"), Label("dog"), Label("body", "skeleton", svg=SVG)]


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


GROUND = encoded(Image.new("RGB", SIZE, GREY))


def picture(*shapes: Shape, sent=None) -> Image.Image:
    return draw_shapes(GROUND, shapes, LABELS, sent).image


def marked(image: Image.Image, *points: tuple[int, int]) -> list[bool]:
    return [image.getpixel(point) != GREY for point in points]


def near(first, second, most=60) -> bool:
    return sum(abs(a - b) for a, b in zip(first, second, strict=True)) <= most


INK = label_colours(LABELS)["cat"]


def test_a_rectangle_is_drawn_in_its_colour():
    image = picture(Shape("rectangle", (50, 60, 150, 160), "cat"))
    for point in ((50, 100), (150, 100), (100, 60), (100, 160)):
        assert near(image.getpixel(point), INK), point
    assert marked(image, (30, 100), (170, 100), (100, 180)) == [False] * 3
    # Inside there is a faint tint.
    assert near(image.getpixel((100, 110)), GREY, 90)
    assert image.getpixel((100, 110)) != GREY


def test_rotation_is_clockwise_around_the_middle():
    lying = Shape("rectangle", (100, 90, 200, 110), "cat", rotation=90)
    image = picture(lying)
    assert marked(image, (150, 52), (150, 148)) == [True, True]
    assert marked(image, (105, 105), (195, 105)) == [False, False]
    tilted = outline(Shape("rectangle", (100, 90, 200, 110), "cat", rotation=30))
    # The right end of a clockwise turn points down.
    assert tilted[1][1] > 100


@pytest.mark.parametrize(
    ("shape", "on", "off"),
    [
        (Shape("polygon", (50, 150, 100, 50, 150, 150), "cat"), (100, 120), (60, 80)),
        (Shape("polyline", (50, 150, 250, 150), "cat"), (150, 150), (150, 140)),
        (Shape("points", (50, 150, 250, 100), "cat"), (250, 100), (150, 125)),
        (Shape("ellipse", (150, 100, 200, 80), "cat"), (200, 100), (195, 84)),
        (
            Shape("ellipse", (150, 100, 200, 80), "cat", rotation=90),
            (150, 150),
            (198, 100),
        ),
        (
            Shape(
                "cuboid",
                (50, 60, 50, 160, 150, 60, 150, 160, 200, 40, 200, 140, 100, 40, 100, 140),
                "cat",
            ),
            (200, 90),
            (220, 90),
        ),
    ],
    ids=lambda value: value.type if isinstance(value, Shape) else "",
)
def test_shapes_are_drawn_at_their_positions(shape, on, off):
    assert marked(picture(shape), on, off) == [True, False]


def test_a_mask_is_translucent_with_a_solid_edge():
    mask = Mask(100, 50, 199, 149, b"\x01" * 10_000)
    image = picture(Shape("mask", label="cat", mask=mask))
    assert near(image.getpixel((100, 100)), INK)
    inside = image.getpixel((150, 100))
    assert inside != GREY
    assert not near(inside, INK)
    assert marked(image, (97, 100), (202, 100), (150, 152)) == [False] * 3


def test_a_skeleton_has_edges_between_visible_points_only():
    def body(**hidden):
        elements = (
            Shape("points", (100, 50), "head"),
            Shape("points", (100, 150), "foot", **hidden),
        )
        return picture(Shape("skeleton", label="body", elements=elements))

    assert marked(body(), (100, 100), (100, 150)) == [True, True]
    assert marked(body(outside=True), (100, 100), (100, 150)) == [False, False]


def test_the_points_of_a_large_skeleton_have_their_names():
    def letters(*points: tuple[float, float]) -> int:
        names = ("head", "foot")
        elements = tuple(Shape("points", at, name) for at, name in zip(points, names, strict=True))
        image = picture(Shape("skeleton", label="body", elements=elements))
        x, y = map(round, points[0])
        label_area = image.crop((x + 5, y - 8, x + 45, y + 8))
        places = [
            (left, top) for left in range(label_area.width) for top in range(label_area.height)
        ]
        return sum(min(label_area.getpixel(place)) > 200 for place in places)

    assert letters((100, 50), (100, 150)) > 20
    assert letters((100, 50), (90, 40)) == 0


def test_the_name_of_a_point_at_the_edge_is_inside_the_picture():
    at = (SIZE[0] - 1, SIZE[1] - 1)
    elements = (Shape("points", (100, 50), "head"), Shape("points", at, "foot"))
    image = picture(Shape("skeleton", label="body", elements=elements))
    # There is no room on its right: the whole name is on its left.
    label_area = image.crop((at[0] - 60, at[1] - 20, at[0] - 4, at[1] + 1))
    places = [(left, top) for left in range(label_area.width) for top in range(label_area.height)]
    assert sum(min(label_area.getpixel(place)) > 200 for place in places) > 20


def test_the_edges_of_a_skeleton_without_svg_are_those_of_its_spec():
    elements = (Shape("points", (100, 50), "head"), Shape("points", (100, 150), "foot"))
    label = Label("body", "skeleton", declared_edges=(("head", "foot"),))
    image = draw_shapes(GROUND, [Shape("skeleton", label="body", elements=elements)], [label]).image
    assert marked(image, (100, 100)) == [True]


def test_names_stay_inside_the_picture_and_apart():
    names = [
        Shape("rectangle", (0, 0, 60, 40), "cat", 0.9),
        Shape("rectangle", (0, 0, 60, 40), "dog", 0.8),
        Shape("rectangle", (280, 180, 299, 199), "cat"),
        Shape("tag", label="dog"),
    ]
    image = picture(*names)
    ground = [image.getpixel((x, y)) for y in range(SIZE[1]) for x in range(SIZE[0])]
    for name in ("cat", "dog"):
        ink = label_colours(LABELS)[name]
        assert sum(pixel == ink for pixel in ground) > 100, name


def test_clicks_and_box_of_an_interactor_are_shown():
    sent = build_request("interactor", GROUND, pos_points=[(60, 60)], neg_points=[(200, 60)])
    image = picture(sent=sent)
    green, red = image.getpixel((60, 60)), image.getpixel((200, 60))
    assert green[1] > green[0]
    assert red[0] > red[1]


def test_shapes_beyond_the_image_are_clipped():
    image = picture(
        Shape("rectangle", (-500, -500, 5000, 5000), "cat"),
        Shape("rectangle", (900, 900, 990, 990), "dog"),
        Shape("polygon", (-50, 100, 150, -90, 400, 300), "other"),
    )
    assert image.size == SIZE


def test_large_pictures_have_wider_lines(tmp_path):
    wide = encoded(Image.new("RGB", (3000, 2000), GREY))
    image = draw_shapes(wide, [Shape("rectangle", (500, 600, 1500, 1600), "cat")], LABELS).image
    line = [near(image.getpixel((x, 1000)), INK) for x in range(480, 520)]
    assert 6 <= sum(line) <= 14


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".webp"])
def test_the_suffix_selects_the_format(tmp_path, suffix):
    out = tmp_path / f"out{suffix}"
    draw_to_file(GROUND, [Shape("rectangle", (50, 60, 150, 160), "cat")], LABELS, out)
    with Image.open(out) as written:
        written.load()
        assert written.size == SIZE
        assert written.format == {"png": "PNG", "webp": "WEBP"}.get(suffix[1:].lower(), "JPEG")


def test_letters_without_a_font_are_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(canvas, "SYSTEM_FONTS", ("no-such-font.ttf",))
    canvas.find_font.cache_clear()
    labels = [Label("Größe"), Label("cat")]
    shapes = [Shape("rectangle", (50, 60, 150, 160), name) for name in ("Größe", "cat")]
    assert draw_to_file(GROUND, shapes, labels, tmp_path / "out.png") == "ßö"
    assert draw_to_file(GROUND, shapes[1:], labels, tmp_path / "out.png") == ""
    canvas.find_font.cache_clear()


def test_umlauts_come_from_a_font_that_has_them():
    """Debian's DejaVu does; the test is skipped on a machine without it."""
    try:
        ImageFont.truetype("DejaVuSans.ttf", 20)
    except OSError:
        pytest.skip("there is no DejaVu font here")
    canvas.find_font.cache_clear()
    font, lacking = find_font("Größe", 20)
    assert lacking == frozenset()
    # Fonts draw the same sign for all characters that they lack.
    assert bytes(font.getmask("ö")) != bytes(font.getmask("ß"))


def test_numbers_beyond_the_image_stay_short():
    huge = Shape("rectangle", (1e300, 5, 12345.6, -1e300), "big", confidence=1e300)
    assert table_rows([huge]) == [("big", "rectangle", "1e+300", "1e+300,5 12346,-1e+300")]
    # It is drawn nevertheless, at any position.
    assert picture(huge, Shape("polyline", (1e300, 5, 10, 10), "big")).size == SIZE


def test_a_picture_that_cannot_be_written(tmp_path):
    for name in ("out", "out.xyz", "out.txt"):
        with pytest.raises(UsageError, match=name):
            draw_to_file(GROUND, [], LABELS, tmp_path / name)
    with pytest.raises(NotFoundError, match="does not exist"):
        draw_to_file(GROUND, [], LABELS, tmp_path / "no" / "out.png")


def sixteen() -> Image.Image:
    deep = Image.new("I;16", SIZE)
    for x in range(SIZE[0]):
        for y in range(0, SIZE[1], 50):
            deep.putpixel((x, y), 4000)
    deep.putpixel((0, 1), 2000)
    return deep


@pytest.mark.parametrize(
    ("image", "kind", "at", "expected"),
    [
        (sixteen(), "PNG", (5, 0), (255, 255, 255)),
        (sixteen(), "PNG", (0, 1), (127, 127, 127)),
        (Image.new("L", SIZE, 90), "PNG", (5, 5), (90, 90, 90)),
        (Image.new("1", SIZE, 1), "PNG", (5, 5), (255, 255, 255)),
        (Image.new("RGBA", SIZE, (10, 20, 30, 0)), "PNG", (5, 5), (255, 255, 255)),
        (Image.new("LA", SIZE, (10, 255)), "PNG", (5, 5), (10, 10, 10)),
        (Image.new("P", SIZE, 0), "PNG", (5, 5), (0, 0, 0)),
        (Image.new("CMYK", SIZE, (0, 255, 255, 0)), "JPEG", (5, 5), (255, 0, 0)),
        (Image.new("F", SIZE, 0.5), "TIFF", (5, 5), (255, 255, 255)),
        (Image.new("I", SIZE, 0), "TIFF", (5, 5), (0, 0, 0)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else "",
)
def test_every_depth_and_mode(image, kind, at, expected):
    opened = open_rgb(encoded(image, kind))
    assert opened.mode == "RGB"
    assert near(opened.getpixel(at), expected, 8)


def test_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 8
    turned = encoded(Image.new("RGB", SIZE), "JPEG", exif=exif)
    assert open_rgb(turned).size == (200, 300)


def test_letters_beyond_latin_do_not_fail(tmp_path):
    for name in ("кошка", "猫", "😀", "a\nb", ""):
        picture(Shape("rectangle", (50, 60, 150, 160), name, 0.5))
