"""Arrays before and after a network, with OpenCV and without it."""

import numpy as np
import pytest

from fnbuild import vision
from fnbuild.vision import arrays


@pytest.fixture(params=["opencv", "numpy"])
def library(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setattr(arrays, "cv2", None)
    return request.param


def noise(*shape, seed=1):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("interpolation", ["linear", "area"])
@pytest.mark.parametrize("size", [(64, 48), (13, 90), (200, 31), (1, 1), (97, 61)])
def test_numpy_resizes_like_opencv(monkeypatch, interpolation, size):
    image = noise(61, 97, 3)
    expected = vision.resize(image, size, interpolation)
    monkeypatch.setattr(arrays, "cv2", None)
    resized = vision.resize(image, size, interpolation)
    assert resized.shape == expected.shape == (size[1], size[0], 3)
    assert resized.dtype == np.uint8
    if interpolation == "linear" or (size[0] <= 97 and size[1] <= 61):
        assert np.abs(resized.astype(int) - expected).max() <= 1


def test_nearest_keeps_the_classes_of_a_map(library):
    classes = np.array([[0, 1], [200, 1000]])
    large = vision.resize(classes, (6, 4), "nearest")
    assert large.tolist() == [[0] * 3 + [1] * 3] * 2 + [[200] * 3 + [1000] * 3] * 2
    assert vision.resize(large, (2, 2), "nearest").tolist() == classes.tolist()


def test_masks_and_grey_images_keep_their_form(library):
    mask = np.zeros((10, 10), bool)
    mask[:, 5:] = True
    assert vision.resize(mask, (20, 20)).sum() == 200
    assert vision.resize(mask, (20, 20)).dtype == bool
    assert vision.resize(noise(8, 8, 1), (4, 5)).shape == (5, 4, 1)
    with pytest.raises(ValueError, match='"cubic" is not an interpolation'):
        vision.resize(mask, (4, 4), "cubic")


@pytest.mark.parametrize(("width", "height"), [(810, 1080), (1080, 810), (37, 211), (1, 1)])
@pytest.mark.parametrize("size", [640, np.int64(640), (320, 192)])
def test_a_letterbox_is_restored(library, width, height, size):
    image = noise(height, width, 3)
    box = vision.letterbox(image, size)
    across, down = np.broadcast_to(size, 2)
    assert box.image.shape == (down, across, 3)
    corners = [[0, 0, width, height], [width / 2, height / 2, width, 1]]
    scaled = np.array(corners) * (box.scale * 2) + box.offset * 2
    assert box.restore(scaled) == pytest.approx(np.array(corners))
    assert box.restore(scaled.reshape(2, 2, 2)).shape == (2, 2, 2)
    left, top = box.offset
    assert (box.image[:top] == 114).all()
    assert (box.image[:, :left] == 114).all()
    assert 0 in box.offset


def test_a_mask_of_a_letterbox_is_restored_at_any_resolution(library):
    image = np.zeros((300, 400), np.uint8)
    image[100:200, 100:300] = 255
    box = vision.letterbox(image, 640, fill=0)
    for scale in (1, 4):
        small = vision.resize(box.image, (640 // scale, 640 // scale), "area") > 127
        restored = box.restore_mask(small.astype(np.float32)) > 0.5
        assert restored.shape == (300, 400)
        assert (restored != (image > 0)).mean() < 0.01


def reference_suppression(boxes, scores, limit):
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        for j in kept:
            low, high = (
                np.maximum(boxes[i][:2], boxes[j][:2]),
                np.minimum(boxes[i][2:], boxes[j][2:]),
            )
            shared = np.prod(np.maximum(high - low, 0))
            joined = sum(np.prod(boxes[k][2:] - boxes[k][:2]) for k in (i, j)) - shared
            if shared > limit * joined:
                break
        else:
            kept.append(i)
    return kept


def test_suppression_equals_its_definition():
    random = np.random.default_rng(3)
    corners = random.uniform(-20, 100, (200, 2))
    boxes = np.hstack([corners, corners + random.uniform(0, 60, (200, 2))]).astype(np.float32)
    scores = random.random(200)
    assert vision.non_maximum_suppression(boxes, scores, 0.4).tolist() == reference_suppression(
        boxes.astype(float), scores, 0.4
    )
    labels = random.integers(0, 3, 200)
    kept = vision.non_maximum_suppression(boxes, scores, 0.4, labels)
    expected = [
        np.flatnonzero(labels == label)[
            reference_suppression(
                boxes[labels == label].astype(float), scores[labels == label], 0.4
            )
        ]
        for label in range(3)
    ]
    assert sorted(kept) == sorted(np.concatenate(expected))
    assert (np.diff(scores[kept]) <= 0).all()
    assert len(vision.non_maximum_suppression([], [])) == 0


def test_probabilities():
    assert vision.softmax([[1000.0, 1000.0], [0.0, np.log(3)]]) == pytest.approx(
        np.array([[0.5, 0.5], [0.25, 0.75]])
    )
    assert vision.sigmoid([-1e9, 0, 1e9]).tolist() == [0, 0.5, 1]
    assert vision.sigmoid(np.log(3)) == pytest.approx(0.75)


def test_a_box_is_cut_out_with_its_margin_as_far_as_the_image_goes():
    image = noise(60, 90, 3)
    part, first = vision.crop_with_margin(image, (20.2, 10, 40, 29.8), 5)
    assert first == (15, 5)
    assert np.array_equal(part, image[5:35, 15:45])
    part, first = vision.crop_with_margin(image, (-10, -10, 3, 3), 2)
    assert (first, part.shape) == ((0, 0), (5, 5, 3))
    part, first = vision.crop_with_margin(image, (200, 200, 300, 300), 2)
    assert (first, part.shape) == ((89, 59), (1, 1, 3))
    assert np.array_equal(vision.crop(image, (20, 10, 40, 30)), image[10:30, 20:40])
