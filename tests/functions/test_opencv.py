"""The OpenCV functions find faces and people on real photographs."""

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from fnbuild.cvat.replies import read_reply
from fnbuild.cvat.request import build_request, read_image
from fnbuild.function import labels
from fnbuild.function.reader import load_function

pytestmark = pytest.mark.system

OPENCV = Path(__file__).resolve().parents[2] / "functions" / "opencv"
FACE, PEOPLE = OPENCV / "face-haar", OPENCV / "people-hog"

# Measured on the photographs: from the hair line to the chin, and from head to shoes.
ASTRONAUT = (182, 64, 270, 172)
BUS_LEFT = (48, 398, 245, 902)
BUS_RIGHT = (670, 380, 810, 880)


def likeness(first, second):
    across = min(first[2], second[2]) - max(first[0], second[0])
    down = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(0, across) * max(0, down)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return shared / (sum(areas) - shared)


def encoded(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


SMALL = base64.b64encode(encoded(Image.new("RGB", (2, 2)))).decode()


def detect(function, folder, image, **options):
    """Return the shapes of a reply that CVAT accepts without a problem."""
    sent = build_request("detector", image, **options)
    status, content = function(sent.body)
    assert status == 200, content
    reading = read_reply(
        "detector",
        content,
        labels.function_labels(load_function(folder).function),
        sent.image.size,
        sent,
    )
    assert reading.diagnostics == ()
    return reading.shapes


@pytest.fixture
def faces(handler):
    return handler(FACE)


@pytest.fixture
def people(handler):
    return handler(PEOPLE)


def test_the_astronauts_face_is_found_at_its_position(faces, photo):
    (face,) = detect(faces, FACE, read_image(photo("astronaut.png")))
    assert likeness(face.points, ASTRONAUT) > 0.7
    assert face.confidence > 0.8


@pytest.mark.parametrize("name", ["chelsea.png", "coffee.png", "brick.png"])
def test_no_face_in_an_image_without_people(faces, photo, name):
    assert detect(faces, FACE, read_image(photo(name))) == ()


def test_both_faces_in_the_street_in_order_of_confidence(faces, photo):
    shapes = detect(faces, FACE, read_image(photo("bus.jpg")))
    assert len(shapes) == 2
    assert shapes[0].confidence >= shapes[1].confidence
    assert likeness(shapes[0].points, (112, 410, 165, 470)) > 0.5


def test_the_threshold_is_applied(faces, people, photo):
    astronaut, bus = read_image(photo("astronaut.png")), read_image(photo("bus.jpg"))
    assert detect(faces, FACE, astronaut, threshold=0.999) == ()
    few = detect(people, PEOPLE, bus, threshold=0.9)
    many = detect(people, PEOPLE, bus, threshold=0.2)
    assert 0 < len(few) < len(many)
    assert all(each.confidence >= 0.9 for each in few)


def variants(path):
    """Return the same photograph in every file format that users have."""
    image = Image.open(path).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    alpha = image.copy()
    alpha.putalpha(255)
    deep = image.convert("L").convert("I").point(lambda value: value * 256).convert("I;16")
    lying = image.transpose(Image.Transpose.ROTATE_90)
    return {
        "grey": encoded(image.convert("L")),
        "alpha": encoded(alpha),
        "cmyk": encoded(image.convert("CMYK"), "JPEG"),
        "palette": encoded(image.quantize(256)),
        "16 bit": encoded(deep),
        "turned by EXIF": encoded(lying, "JPEG", exif=exif),
        "webp": encoded(image, "WEBP"),
        "bmp": encoded(image, "BMP"),
        "tiff": encoded(image, "TIFF"),
    }


def test_every_form_of_a_photograph_shows_the_face(faces, photo):
    for form, data in variants(photo("astronaut.png")).items():
        # As sent without rotation: the function applies the EXIF orientation itself.
        content = base64.b64encode(data).decode()
        status, shapes = faces({"image": content})
        assert status == 200, form
        assert len(shapes) >= 1, form
        assert likeness(shapes[0]["points"], ASTRONAUT) > 0.65, form


def test_every_form_of_a_photograph_shows_the_person(people, photo):
    for form, data in variants(photo("bus.jpg")).items():
        content = base64.b64encode(data).decode()
        status, shapes = people({"image": content})
        assert status == 200, form
        assert max(likeness(each["points"], BUS_LEFT) for each in shapes) > 0.6, form


def test_standing_people_are_found(people, photo):
    shapes = detect(people, PEOPLE, read_image(photo("bus.jpg")))
    for person in (BUS_LEFT, BUS_RIGHT):
        assert max(likeness(each.points, person) for each in shapes) > 0.6
    boxes = [each.points for each in shapes]
    assert all(likeness(a, b) < 0.5 for a in boxes for b in boxes if a is not b)


@pytest.mark.parametrize("name", ["chelsea.png", "coffee.png", "brick.png"])
def test_no_person_in_an_image_without_people(people, photo, name):
    assert detect(people, PEOPLE, read_image(photo(name))) == ()


def test_a_large_photograph_is_scaled_and_the_boxes_scaled_back(faces, photo):
    large = Image.open(photo("astronaut.png")).convert("RGB").resize((2560, 2560))
    shapes = detect(faces, FACE, encoded(large, "JPEG"))
    assert likeness(shapes[0].points, [5 * value for value in ASTRONAUT]) > 0.7


@pytest.mark.parametrize("folder", [FACE, PEOPLE], ids=lambda folder: folder.name)
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\x89PNG raw bytes", "neither a JSON object nor a JPEG"),
        ("text", "JSON object"),
        (None, "JSON object"),
        ([], "JSON object"),
        ({}, '"image" is missing'),
        ({"image": None}, '"image" is missing'),
        ({"image": "***"}, "not base64"),
        ({"image": "äöü"}, "not base64"),
        ({"image": ""}, "empty"),
        ({"image": "aGVsbG8="}, "not a JPEG, PNG"),
        ({"image": SMALL, "threshold": "high"}, "threshold"),
        ({"image": SMALL, "threshold": True}, "threshold"),
    ],
)
def test_an_invalid_request_is_reported_to_the_caller(handler, folder, body, message):
    status, content = handler(folder)(body)
    assert status == 400
    assert message in content["error"]


@pytest.mark.parametrize("size", [(1, 1), (600, 1), (1, 600), (2000, 40), (60, 60), (97, 96)])
def test_unusual_images_without_people_do_not_fail(faces, people, size):
    image = encoded(Image.effect_noise(size, 60).convert("RGB"))
    assert detect(faces, FACE, image) == ()
    assert detect(people, PEOPLE, image) == ()
