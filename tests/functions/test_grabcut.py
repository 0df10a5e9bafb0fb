"""GrabCut segments the clicked or boxed object in photographs and drawings."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fnbuild.cvat.replies import read_reply
from fnbuild.cvat.request import build_request, read_image
from fnbuild.cvat.shapes import bounding_box

pytestmark = pytest.mark.system

FOLDER = Path(__file__).resolve().parents[2] / "functions" / "opencv" / "grabcut"
DISC = (140, 90, 261, 211)


def scene(size=(400, 300)):
    """A red disc of radius 60 at (200, 150) on a green ground, with some noise."""
    image = Image.effect_noise(size, 30).convert("RGB")
    image = Image.blend(image, Image.new("RGB", size, (40, 120, 60)), 0.8)
    ImageDraw.Draw(image).ellipse((140, 90, 260, 210), fill=(200, 40, 40))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def pixels(mask, size):
    """A mask as an array of the whole image."""
    full = np.zeros(size[::-1], bool)
    bits = np.frombuffer(mask.bits, np.uint8).reshape(mask.size[::-1])
    full[mask.top : mask.bottom + 1, mask.left : mask.right + 1] = bits
    return full


def segment(function, image, **options):
    """Return the masks of a reply that CVAT accepts without a problem."""
    sent = build_request("interactor", image, **options)
    status, content = function(sent.body)
    assert status == 200, content
    reading = read_reply("interactor", content, [], sent.image.size, sent)
    assert reading.diagnostics == ()
    return reading.shapes


@pytest.fixture
def grabcut(handler):
    return handler(FOLDER)


@pytest.mark.parametrize("form", ["runs", "rows"])
@pytest.mark.parametrize(
    "clicks",
    [
        {"pos_points": [(200, 150)]},
        {"boxes": [(125, 75, 275, 225)]},
        {"pos_points": [(200, 150)], "neg_points": [(300, 150)], "boxes": [(120, 70, 280, 230)]},
    ],
    ids=["click", "box", "both"],
)
def test_the_disc_is_cut_out(handler, monkeypatch, clicks, form):
    monkeypatch.setenv("MASK_FORMAT", form)
    (shape,) = segment(handler(FOLDER), scene(), **clicks)
    for value, edge in zip(bounding_box(shape), DISC, strict=True):
        assert abs(value - edge) <= 3
    assert abs(shape.mask.area - 11310) < 400


def test_the_face_of_a_photograph(grabcut, photo):
    picture = read_image(photo("astronaut.png"))
    (shape,) = segment(grabcut, picture, boxes=[(165, 50, 285, 190)])
    full_mask = pixels(shape.mask, picture.size)
    face, sky = full_mask[90:150, 195:250], full_mask[50:70, 165:180]
    assert face.mean() > 0.9
    assert sky.mean() < 0.3
    assert not full_mask[:, :165].any()
    assert not full_mask[190:].any()


def test_a_positive_click_adds_to_the_boxed_object(grabcut):
    image = Image.open(io.BytesIO(scene()))
    ImageDraw.Draw(image).rectangle((270, 140, 300, 160), fill=(38, 118, 58))
    out = io.BytesIO()
    image.save(out, "PNG")
    clicked = {"boxes": [(120, 70, 320, 230)], "pos_points": [(285, 150)]}
    (shape,) = segment(grabcut, out.getvalue(), **clicked)
    full_mask = pixels(shape.mask, (400, 300))
    assert full_mask[150, 285]
    assert full_mask[120:180, 170:230].mean() > 0.95


def test_a_negative_click_removes_a_part(grabcut):
    image = Image.open(io.BytesIO(scene()))
    ImageDraw.Draw(image).ellipse((270, 120, 330, 180), fill=(200, 40, 40))
    out = io.BytesIO()
    image.save(out, "PNG")
    box = [(120, 70, 350, 230)]
    (both,) = segment(grabcut, out.getvalue(), boxes=box)
    assert bounding_box(both)[2] > 320
    mended = {"pos_points": [(200, 150)], "neg_points": [(300, 150)]}
    (shape,) = segment(grabcut, out.getvalue(), boxes=box, **mended)
    assert bounding_box(shape)[2] < 275


def test_the_same_request_has_the_same_reply(grabcut, photo):
    sent = build_request("interactor", read_image(photo("coffee.png")), boxes=[(130, 40, 470, 350)])
    first = grabcut(sent.body)
    other = build_request("interactor", read_image(photo("chelsea.png")), pos_points=[(200, 150)])
    assert grabcut(other.body)[0] == 200
    assert grabcut(sent.body) == first


def test_a_large_picture_has_a_mask_of_its_own_size(grabcut):
    large = Image.open(io.BytesIO(scene())).resize((2000, 1500))
    out = io.BytesIO()
    large.save(out, "PNG")
    (shape,) = segment(grabcut, out.getvalue(), boxes=[(625, 375, 1375, 1125)])
    for value, edge in zip(bounding_box(shape), DISC, strict=True):
        assert abs(value - 5 * edge) <= 25


@pytest.mark.parametrize("size", [(1, 1), (600, 1), (1, 600), (3, 2)])
@pytest.mark.parametrize(
    "clicks",
    [
        {"pos_points": [(0, 0)]},
        {"pos_points": [(10_000, -5)], "neg_points": [(-3, 9e6)]},
        {"boxes": [(-10, -10, 10_000, 10_000)]},
        {"boxes": [(5_000, 5_000, 5_001, 5_001)]},
        {"pos_points": [(0, 0)], "boxes": [(0.2, 0.2, 0.4, 0.4)]},
    ],
)
def test_tiny_pictures_and_clicks_beyond_them_do_not_fail(grabcut, size, clicks):
    out = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(out, "PNG")
    assert len(segment(grabcut, out.getvalue(), **clicks)) <= 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, '"image" is missing'),
        ({"image": "***"}, "not base64"),
        ({"image": "aGVsbG8="}, "neither|not an image|decode|JPEG"),
        ({"pos_points": [[1]]}, "pos_points"),
        ({"pos_points": 3}, "pos_points"),
        ({"pos_points": [["a", "b"]]}, "pos_points"),
        ({"pos_points": [[float("nan"), 1]]}, "finite"),
        ({"neg_points": [7], "pos_points": [[1, 1]]}, "neg_points"),
        ({"obj_bbox": [[1, 2]]}, "obj_bbox"),
        ({"obj_bbox": [[5, 5], [5, 9]]}, "no area"),
        ({"pos_points": []}, "a point on the object"),
        ({"pos_points": [], "neg_points": [[1, 1]], "obj_bbox": None}, "a point on the object"),
    ],
)
def test_an_invalid_request_is_reported_to_the_caller(grabcut, body, message):
    if "points" in "".join(body) or "obj_bbox" in body:
        body = {"image": base64.b64encode(scene()).decode(), **body}
    status, content = grabcut(body)
    assert status == 400
    assert any(word in content["error"] for word in message.split("|")), content


@pytest.mark.parametrize("body", [b"raw", None, [], "text"])
def test_a_body_of_another_kind_is_refused(grabcut, body):
    assert grabcut(body)[0] == 400


def test_an_image_without_clicks_is_refused(grabcut, photo):
    status, content = grabcut(photo("rocket.jpg").read_bytes())
    assert status == 400
    assert "box" in content["error"]
