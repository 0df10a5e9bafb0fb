import base64
import io
import json

import pytest
from PIL import Image

from fnbuild.cvat.canvas import open_rgb
from fnbuild.cvat.request import build_request, parse_box, parse_points, read_image, upright_image
from fnbuild.errors import InputError, NotFoundError, UsageError


def encoded(kind: str = "PNG", size=(40, 30), mode: str = "RGB", **options) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size).save(out, kind, **options)
    return out.getvalue()


PNG = encoded()


def body(*args, **kwargs):
    return json.loads(build_request(*args, **kwargs).body)


def test_a_detector_gets_the_unchanged_file_in_standard_base64():
    sent = build_request("detector", PNG)
    assert sent.content_type == "application/json"
    assert json.loads(sent.body) == {"image": base64.b64encode(PNG).decode()}


def test_the_threshold_is_sent_if_it_is_set():
    assert body("detector", PNG, threshold=0.3)["threshold"] == 0.3
    assert "threshold" not in body("detector", PNG, threshold=0)
    assert "threshold" not in body("detector", PNG, threshold=None)


def test_an_interactor_gets_its_clicks_and_box():
    sent = body("interactor", PNG, pos_points=[(1, 2), (3, 4)], neg_points=[(5, 6)])
    assert set(sent) == {"image", "pos_points", "neg_points", "obj_bbox"}
    assert (sent["pos_points"], sent["neg_points"]) == ([[1, 2], [3, 4]], [[5, 6]])
    assert sent["obj_bbox"] == []
    assert body("interactor", PNG, boxes=[(1, 2, 9, 8)])["obj_bbox"] == [[1, 2], [9, 8]]


def test_a_tracker_starts_with_flat_or_typed_shapes():
    sent = body("tracker", PNG, boxes=[(1, 2, 9, 8)])
    assert (sent["shapes"], sent["states"]) == ([[1, 2, 9, 8]], [])
    typed = body("tracker", PNG, boxes=[(1, 2, 9, 8)], shape_types=["polygon", "rectangle"])
    assert typed["shapes"] == [{"type": "rectangle", "points": [1, 2, 9, 8]}]
    corners = body("tracker", PNG, boxes=[(1, 2, 9, 8)], shape_types=["polygon"])
    assert corners["shapes"][0]["points"] == [1, 2, 9, 2, 9, 8, 1, 8]
    mask = body("tracker", PNG, boxes=[(1, 2, 9, 8)], shape_types=["mask"])
    assert mask["shapes"] == [{"type": "mask", "points": [0, 48, 1, 2, 8, 7]}]
    ellipse = body("tracker", PNG, boxes=[(1, 2, 9, 8)], shape_types=["ellipse"])
    assert ellipse["shapes"][0]["points"] == [5, 5, 9, 2]
    with pytest.raises(UsageError, match="cuboid"):
        build_request("tracker", PNG, boxes=[(1, 2, 9, 8)], shape_types=["cuboid"])


def test_a_tracker_continues_with_its_states_and_empty_shapes():
    sent = build_request("tracker", PNG, states=[{"a": 1}, 2])
    assert json.loads(sent.body)["shapes"] == [None, None]
    assert json.loads(sent.body)["states"] == [{"a": 1}, 2]
    assert sent.continues_track
    assert sent.counts == (2,)


def test_re_identification_gets_two_images_and_their_boxes():
    other = encoded(size=(20, 20))
    sent = build_request(
        "reid",
        PNG,
        image1=other,
        boxes=[(1, 2, 9, 8)],
        boxes1=[(0, 0, 5, 5), (1, 1, 4, 4)],
        max_distance=30,
        threshold=0.5,
    )
    content = json.loads(sent.body)
    keys = {"image0", "image1", "boxes0", "boxes1", "threshold", "max_distance"}
    assert set(content) == keys
    assert content["boxes0"][0]["points"] == [1, 2, 9, 8]
    assert base64.b64decode(content["image1"]) == other
    assert sent.counts == (1, 2)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("classifier", {}, "classifier"),
        ("detector", {"pos_points": [(1, 2)]}, "points are for interactors"),
        ("tracker", {"neg_points": [(1, 2)]}, "points are for interactors"),
        ("detector", {"boxes": [(1, 2, 3, 4)]}, "boxes"),
        ("interactor", {"boxes": [(1, 2, 3, 4), (1, 2, 3, 4)]}, "one box"),
        ("reid", {}, "second image"),
        ("detector", {"image1": PNG}, "second image"),
    ],
)
def test_arguments_of_another_kind_are_refused(kind, options, message):
    with pytest.raises(UsageError, match=message):
        build_request(kind, PNG, **options)


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(NotFoundError, match=r"no\.png"):
        read_image(tmp_path / "no.png")
    with pytest.raises(InputError, match="cannot read"):
        read_image(tmp_path)


@pytest.mark.parametrize("data", [b"", b"hello", b"%PDF-1.4 no image", PNG[:60]])
def test_invalid_images_are_refused(tmp_path, data):
    path = tmp_path / "cat.jpg"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"cat\.jpg"):
        read_image(path)


def test_a_picture_of_any_size_is_sent_and_drawn(tmp_path, monkeypatch):
    """Pillow warns of 90 megapixels and refuses 180: here with a smaller limit."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert upright_image(PNG).size == (40, 30)
    assert open_rgb(PNG).size == (40, 30)
    # Outside the request the limit applies.
    assert Image.MAX_IMAGE_PIXELS == 100


def test_a_truncated_photograph_is_refused(photo):
    with pytest.raises(InputError, match="cannot be decoded"):
        upright_image(photo("bus.jpg").read_bytes()[:50_000])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_rotated_image_is_sent_upright(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    source = Image.new("RGB", (40, 30), (0, 0, 0))
    source.paste((255, 0, 0), (0, 0, 20, 15))
    out = io.BytesIO()
    source.save(out, kind, exif=exif)
    picture = upright_image(out.getvalue(), "turned")
    assert picture.size == (30, 40)
    assert "upright" in picture.notes[0]
    with Image.open(io.BytesIO(picture.data)) as sent:
        assert sent.format == kind
        assert sent.size == (30, 40)
        assert sent.getexif().get(0x0112, 1) == 1
        # After a rotation to the right, the red corner at the top left is at the top right.
        red, green, _ = sent.convert("RGB").getpixel((26, 4))
        assert red > 200
        assert green < 60


def test_an_upright_image_is_not_encoded_again():
    jpeg = encoded("JPEG")
    assert upright_image(jpeg).data == jpeg


def test_formats_that_cvat_does_not_send_are_noted():
    assert upright_image(encoded("PPM")).notes
    assert not upright_image(encoded("BMP")).notes


def test_points_and_boxes_are_parsed():
    assert parse_points("1,2 3.5,4;5,6") == [(1, 2), (3.5, 4), (5, 6)]
    assert parse_box("1,2,30,40.5") == (1, 2, 30, 40.5)
    for wrong in ("1", "1,2,3", "a,b", "1,nan", "1,inf"):
        with pytest.raises(UsageError, match="x,y"):
            parse_points(wrong)
    for wrong in ("1,2,3", "1,2,3,x"):
        with pytest.raises(UsageError, match="left,top,right,bottom"):
            parse_box(wrong)
    with pytest.raises(UsageError, match="no area"):
        parse_box("5,5,5,9")
