"""Functions of `fnbuild init` run unchanged, and CVAT accepts their replies without a problem."""

import base64
import io
import json

import pytest
from click.testing import CliRunner
from PIL import Image, ImageDraw

from fnbuild.cli.init import init, templates
from fnbuild.cvat.replies import read_reply
from fnbuild.cvat.request import build_request, read_image
from fnbuild.cvat.shapes import bounding_box
from fnbuild.function import labels
from fnbuild.function.reader import load_function
from fnbuild.runtime.http.client import request

pytestmark = pytest.mark.system

KINDS = sorted(templates())


@pytest.fixture
def new(tmp_path):
    """A new function's folder of a kind."""

    def make(kind):
        folder = tmp_path / f"my-{kind}"
        outcome = CliRunner().invoke(init, [str(folder), "--kind", kind])
        assert outcome.exit_code == 0, outcome.output
        return folder

    return make


def ask(function, kind, folder, *args, **kwargs):
    """Return CVAT's reading of a reply that has no problems."""
    loaded = load_function(folder).function
    sent = build_request(kind, *args, shape_types=labels.tracked_shape_types(loaded), **kwargs)
    status, content = function(sent.body)
    assert status == 200, content
    reading = read_reply(kind, content, labels.function_labels(loaded), sent.image.size, sent)
    assert [str(problem) for problem in reading.diagnostics] == []
    return reading


def test_every_kind_of_cvat_has_a_template():
    assert set(KINDS) == {*labels.FUNCTION_KINDS, "http"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_function_is_valid_and_complete(new, kind):
    folder = new(kind)
    loaded = load_function(folder)
    assert [str(finding) for finding in loaded.report] == []
    assert loaded.function.metadata.name == f"my-{kind}"
    assert labels.function_kind(loaded.function) == (None if kind == "http" else kind)
    for path in folder.iterdir():
        assert "FUNCTION_NAME" not in path.read_text()
    assert (folder / "README.md").read_text().startswith(f"# my-{kind}\n")


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_function_serves_and_reports_invalid_requests(new, serve, kind):
    url = serve(new(kind))
    answer = request("POST", url, "/", b"{}", {"Content-Type": "application/json"})
    content = json.loads(answer.body)
    if kind == "http":
        assert (answer.status, content["body"], content["method"]) == (200, {}, "POST")
    else:
        assert answer.status == 400
        assert content["error"]


@pytest.mark.parametrize("kind", labels.FUNCTION_KINDS)
@pytest.mark.parametrize("body", [b"raw", None, [], "text", {"image": "***"}, {"image": 3}])
def test_invalid_requests_are_not_failures_of_the_function(new, handler, kind, body):
    status, content = handler(new(kind))(body)
    assert status == 400
    assert content["error"]


@pytest.mark.parametrize("kind", labels.FUNCTION_KINDS)
def test_images_above_the_pixel_limit_are_refused(new, handler, huge_image, kind):
    images = dict.fromkeys(("image", "image0", "image1"), huge_image)
    status, content = handler(new(kind))({**images, "boxes0": [], "boxes1": []})
    assert status == 413
    assert "13376 x 13376" in content["error"]


def test_the_detector_finds_a_face(new, handler, photo):
    folder = new("detector")
    reading = ask(handler(folder), "detector", folder, read_image(photo("astronaut.png")))
    (face,) = reading.shapes
    left, top, right, bottom = face.points
    assert 160 < left < right < 290
    assert 50 < top < bottom < 190


def cup(photo):
    return read_image(photo("coffee.png"))


def scene():
    """A red disc of radius 60 at (200, 150) on a green ground, with some noise."""
    image = Image.effect_noise((400, 300), 30).convert("RGB")
    image = Image.blend(image, Image.new("RGB", (400, 300), (40, 120, 60)), 0.8)
    ImageDraw.Draw(image).ellipse((140, 90, 260, 210), fill=(200, 40, 40))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


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
def test_the_interactor_segments_the_clicked_object(new, handler, monkeypatch, clicks, form):
    monkeypatch.setenv("MASK_FORMAT", form)
    folder = new("interactor")
    (shape,) = ask(handler(folder), "interactor", folder, scene(), **clicks).shapes
    left, top, right, bottom = bounding_box(shape)
    for value, edge in ((left, 140), (top, 90), (right, 261), (bottom, 211)):
        assert abs(value - edge) <= 5
    assert abs(shape.mask.area - 11310) < 900


def test_the_interactor_on_a_photograph(new, handler, photo):
    folder = new("interactor")
    picture = cup(photo)
    reading = ask(handler(folder), "interactor", folder, picture, boxes=[(130, 40, 470, 350)])
    assert reading.shapes[0].mask.area > 20_000


@pytest.mark.parametrize(
    "body",
    [
        {"pos_points": [[1]]},
        {"pos_points": 3},
        {"obj_bbox": [[1, 2]]},
        {"pos_points": []},
        {"pos_points": [["a", "b"]]},
    ],
)
def test_invalid_clicks(new, handler, body):
    body["image"] = base64.b64encode(scene()).decode()
    status, content = handler(new("interactor"))(body)
    assert status == 400
    assert content["error"]


def test_clicks_at_and_beyond_the_border_do_not_fail(new, handler):
    folder = new("interactor")
    function = handler(folder)
    for point in ((0, 0), (399, 299), (400, 300), (-5, 1000)):
        ask(function, "interactor", folder, scene(), pos_points=[point])
    ask(function, "interactor", folder, scene(), boxes=[(-10, -10, 500, 400)])


def test_the_interactor_takes_a_strip_of_an_image(new, handler):
    out = io.BytesIO()
    Image.new("RGB", (2, 4000), "red").save(out, "PNG")
    folder = new("interactor")
    ask(handler(folder), "interactor", folder, out.getvalue(), pos_points=[(1, 2000)])


def test_the_tracker_follows_a_moving_view(new, handler, photo):
    folder = new("tracker")
    function = handler(folder)
    cat = Image.open(photo("chelsea.png")).convert("RGB")

    def frame(step):
        out = io.BytesIO()
        cat.crop((8 * step, 4 * step, 8 * step + 380, 4 * step + 260)).save(out, "PNG")
        return out.getvalue()

    # The left eye, measured on the photograph, and the nose.
    boxes = [(130, 85, 200, 135), (195, 140, 250, 185)]
    states = ask(function, "tracker", folder, frame(0), boxes=boxes).states
    for step in range(1, 8):
        reading = ask(function, "tracker", folder, frame(step), states=states)
        states = reading.states
        for shape, box in zip(reading.shapes, boxes, strict=True):
            moved = [value - (8, 4)[i % 2] * step for i, value in enumerate(box)]
            assert max(abs(a - b) for a, b in zip(shape.points, moved, strict=True)) < 12, step
    assert len(json.dumps(states)) < 40_000


def test_a_hidden_object_stays_where_it_was(new, handler, photo):
    folder = new("tracker")
    function = handler(folder)
    start = read_image(photo("chelsea.png"))
    states = ask(function, "tracker", folder, start, boxes=[(130, 85, 200, 135)]).states
    out = io.BytesIO()
    Image.new("RGB", start.size, (90, 90, 90)).save(out, "PNG")
    (shape,) = ask(function, "tracker", folder, out.getvalue(), states=states).shapes
    assert shape.points == (130, 85, 200, 135)


def test_the_tracker_accepts_the_older_flat_shapes(new, handler, photo):
    sent = build_request("tracker", read_image(photo("chelsea.png")), boxes=[(130, 85, 200, 135)])
    status, content = handler(new("tracker"))(sent.body)
    assert status == 200
    assert len(content["states"]) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"shapes": [[1, 2, 3]]},
        {"shapes": [[5, 5, 1, 1]]},
        {"shapes": [None]},
        {"shapes": None},
        {"shapes": [None], "states": [{"box": 1}]},
        {"shapes": [None], "states": [{"box": [1, 2, 3, 4], "patch": "***"}]},
        {"shapes": [None], "states": ["x"]},
    ],
)
def test_invalid_shapes_and_states(new, handler, body):
    body["image"] = base64.b64encode(scene()).decode()
    status, content = handler(new("tracker"))(body)
    assert status == 400
    assert content["error"]


def test_re_identification_matches_the_boxes(new, handler, photo):
    folder = new("reid")
    function = handler(folder)
    first = Image.open(photo("bus.jpg")).convert("RGB")
    out = io.BytesIO()
    first.crop((10, 6, first.width, first.height)).save(out, "PNG")
    people = [(48, 398, 245, 902), (223, 405, 345, 860), (670, 380, 810, 880)]
    moved = [(a - 10, b - 6, c - 10, d - 6) for a, b, c, d in people]
    picture = read_image(photo("bus.jpg"))
    order = [moved[2], moved[0], moved[1]]
    options = {"image1": out.getvalue(), "boxes": people, "boxes1": order}
    assert ask(function, "reid", folder, picture, **options).matches == (1, 2, 0)
    far = {**options, "boxes1": [moved[2]]}
    assert ask(function, "reid", folder, picture, **far).matches == (-1, -1, 0)
    other = {**options, "boxes": people[:1], "boxes1": moved[2:], "max_distance": 10_000}
    assert ask(function, "reid", folder, picture, **other, threshold=1.0).matches == (0,)
    assert ask(function, "reid", folder, picture, **other, threshold=0.1).matches == (-1,)
    none = {**options, "boxes1": []}
    assert ask(function, "reid", folder, picture, **none).matches == (-1, -1, -1)
