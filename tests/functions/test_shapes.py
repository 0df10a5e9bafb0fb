"""The shapes function on images that were not in its training, and as a running service."""

import base64
import hashlib
import importlib
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fnbuild.cvat.replies import read_reply
from fnbuild.cvat.request import build_request
from fnbuild.function import labels
from fnbuild.function.reader import load_function
from tests.functions.test_opencv import likeness

pytestmark = pytest.mark.system

FOLDER = Path(__file__).resolve().parents[2] / "functions" / "torch" / "shapes"
SIZES = ((256, 256), (320, 240), (200, 150), (300, 400), (480, 270), (512, 384))
UNSEEN = 240


def picture(random, width, height):
    """Return an image of the function's generator; its training used other seeds."""
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module("shapes").picture(random, width, height)
    finally:
        sys.path.remove(str(FOLDER))
        for name in ("shapes", "network"):
            sys.modules.pop(name, None)


def file_of(image, suffix=".png"):
    return cv2.imencode(suffix, image[:, :, ::-1])[1].tobytes()


@pytest.fixture(scope="module")
def unseen():
    """Return encoded images, half of them as JPEG, and the shapes on them."""
    random = np.random.default_rng(2027)
    pictures = []
    for i in range(UNSEEN):
        image, shapes = picture(random, *SIZES[i % len(SIZES)])
        pictures.append((file_of(image, (".png", ".jpg")[i % 2]), shapes))
    return pictures


@pytest.fixture
def detector(handler):
    return handler(FOLDER)


def detect(function, data, **options):
    """Return the shapes of a reply that CVAT accepts without a problem."""
    sent = build_request("detector", data, **options)
    status, content = function(sent.body)
    assert status == 200, content
    return reading_of(content, sent)


def reading_of(content, sent):
    reading = read_reply(
        "detector",
        content,
        labels.function_labels(load_function(FOLDER).function),
        sent.image.size,
        sent,
    )
    assert [str(problem) for problem in reading.diagnostics] == []
    return reading.shapes


def hits(detections, shapes):
    """Return the number of correct detections: the label, and a box that overlaps by half."""
    left = list(shapes)
    count = 0
    for each in detections:
        for shape in left:
            if each.label == shape[0] and likeness(each.points, shape[1]) >= 0.5:
                left.remove(shape)
                count += 1
                break
    return count


def test_precision_and_recall_on_unseen_pictures(detector, unseen):
    correct = detected = expected = 0
    for data, shapes in unseen:
        detections = detect(detector, data)
        correct += hits(detections, shapes)
        detected += len(detections)
        expected += len(shapes)
    assert expected > 2 * UNSEEN
    assert correct / detected > 0.9, f"{correct} of {detected} detections are correct"
    assert correct / expected > 0.9, f"{correct} of {expected} shapes are detected"


def test_an_empty_background_has_no_shapes(detector):
    ys, xs = np.mgrid[:240, :320]
    for image in (np.full((240, 320, 3), 90), np.dstack([xs / 2, ys / 2, xs / 3])):
        assert detect(detector, file_of(image.astype(np.uint8))) == ()


def test_shapes_are_ordered_by_confidence_and_limited_by_the_threshold(detector, unseen):
    many = few = 0
    for data, _ in unseen[:30]:
        detections = detect(detector, data, threshold=0.05)
        confidences = [each.confidence for each in detections]
        assert confidences == sorted(confidences, reverse=True)
        sure = detect(detector, data, threshold=0.8)
        assert all(each.confidence >= 0.8 for each in sure)
        many, few = many + len(detections), few + len(sure)
    assert 0 < few < many


@pytest.mark.parametrize("size", [(1, 1), (2, 900), (900, 2), (31, 33), (3000, 2000)])
def test_images_of_every_size(detector, size):
    image = np.random.default_rng(1).integers(0, 255, (size[1], size[0], 3), np.uint8)
    detect(detector, file_of(image))


def test_scaling_and_padding_keep_positions(detector):
    image = np.full((300, 700, 3), (40, 90, 60), np.uint8)
    cv2.circle(image, (620, 60), 40, (240, 210, 30), -1, cv2.LINE_AA)
    for scale in (0.5, 1, 3):
        scaled = cv2.resize(image, None, fx=scale, fy=scale)
        (circle,) = detect(detector, file_of(scaled))
        assert circle.label == "circle"
        expected = [value * scale for value in (580, 20, 660, 100)]
        assert likeness(circle.points, expected) > 0.75


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"raw", "neither a JSON object nor"),
        (None, "not a JSON object"),
        ({}, '"image" is missing'),
        ({"image": "***"}, "not base64"),
        ({"image": ""}, "empty"),
        ({"image": "aGVsbG8="}, "not a JPEG, PNG"),
        ({"image": "/9j/4AAQSkZJRgABAQAAAQ=="}, "truncated"),
        ({"image": "aGVsbG8=", "threshold": "high"}, "not a JPEG, PNG"),
    ],
)
def test_an_invalid_request_is_reported_to_the_caller(detector, body, message):
    status, content = detector(body)
    assert status == 400
    assert message in content["error"]


@pytest.mark.parametrize("threshold", ["high", None, True, [0.5]])
def test_an_invalid_threshold(detector, unseen, threshold):
    image = base64.b64encode(unseen[0][0]).decode()
    status, content = detector({"image": image, "threshold": threshold})
    assert status == 400
    assert "threshold" in content["error"]


def test_the_weights_are_those_named_in_the_readme():
    weights = FOLDER / "shapes.pt"
    assert weights.stat().st_size < 2_000_000
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert digest in (FOLDER / "README.md").read_text()


def test_the_training_runs_and_repeats_itself(tmp_path):
    weights_files = []
    for name in ("one.pt", "two.pt"):
        command = [sys.executable, "train.py", "--steps", "2", "--batch", "2", "--processes", "0"]
        done = subprocess.run(
            [*command, "--output", tmp_path / name],
            cwd=FOLDER,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "step 2 of 2, loss " in done.stdout
        weights_files.append(done.stdout.split("sha256 ")[1])
    assert weights_files[0] == weights_files[1]


def test_generated_images_match_their_labels():
    first, again = (picture(np.random.default_rng(3), 320, 240) for _ in range(2))
    assert np.array_equal(first[0], again[0])
    assert json.dumps(first[1]) == json.dumps(again[1])
    random = np.random.default_rng(4)
    seen = set()
    for _ in range(60):
        image, shapes = picture(random, 320, 240)
        assert image.shape == (240, 320, 3)
        for i, (label, box) in enumerate(shapes):
            seen.add(label)
            assert 0 < box[0] < box[2] < 320
            assert 0 < box[1] < box[3] < 240
            assert all(likeness(box, other) <= 0.02 for _, other in shapes[:i])
    assert seen == {"circle", "square", "triangle"}
