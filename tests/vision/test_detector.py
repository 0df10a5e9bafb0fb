"""Detectors, segmenters, keypoints and classifiers: what CVAT, V1 and V2 get."""

import json

import numpy as np
import pytest
import torch

from fnbuild import vision
from fnbuild.cvat.replies import read_reply
from fnbuild.function.labels import parse_labels
from tests.vision.bases import Exported, encoded

LABELS = [{"name": "cat", "type": "any"}, {"name": "dog", "type": "any"}]
IMAGE = np.zeros((50, 80, 3), np.uint8)


def detector(result, spec=LABELS, base=vision.Detector, **attributes):
    """Return a function whose `predict` returns `result`."""

    def predict(self, image, *threshold):
        self.seen = image
        return result

    members = {"predict": predict, "label_spec": spec, **attributes}
    return Exported(type("Sample", (base,), members))


def accepted(function, **values):
    """Return the shapes of a reply without a problem for CVAT."""
    status, content = function(IMAGE, **values)
    assert status == 200, content
    spec = function.function.label_spec
    reading = read_reply("detector", content, parse_labels(json.dumps(spec)), (80, 50))
    assert reading.diagnostics == ()
    return content


def test_boxes_are_filtered_clipped_and_sorted():
    boxes = [[-5, 1, 20, 90], [1, 2, 3, 4], [5, 5, 9, 9], [90, 1, 99, 9], [7, 7, 7, 9]]
    function = detector(vision.Detections(boxes, [0, 1, 0, 1, 1], [0.6, 0.9, 0.4, 0.9, 0.9]))
    assert accepted(function) == [
        {"label": "dog", "type": "rectangle", "points": [1, 2, 3, 4], "confidence": "0.9000"},
        {"label": "cat", "type": "rectangle", "points": [0, 1, 20, 50], "confidence": "0.6000"},
    ]
    assert len(accepted(function, threshold=0.95)) == 0
    assert len(accepted(function, threshold=0)) == 3


def test_names_tensors_and_a_single_label():
    boxes = torch.tensor([[1.0, 2, 3, 4]], dtype=torch.bfloat16)
    for labels in (["dog"], torch.tensor([1]), np.array([1])):
        (shape,) = accepted(detector(vision.Detections(boxes, labels, torch.tensor([0.75]))))
        assert (shape["label"], shape["confidence"]) == ("dog", "0.7500")
    (shape,) = accepted(detector(vision.Detections(boxes), LABELS[:1]))
    assert shape == {"label": "cat", "type": "rectangle", "points": [1, 2, 3, 4]}


def test_rotated_boxes_keep_their_corners():
    boxes = [[-5, 10, 20, 20], [-50, 10, 20, 20]]
    function = detector(vision.Detections(boxes, [0, 0], [1, 0.9], rotations=[30, -90]))
    _, (shape,) = function(IMAGE)
    assert (shape["points"], shape["rotation"]) == ([-5, 10, 20, 20], 30)


def test_masks_have_an_outline_for_polygons():
    masks = np.zeros((3, 50, 80))
    masks[0, 10:20, 30:50] = masks[1, 3, 4] = 1
    for form in (masks, list(masks), torch.from_numpy(masks)):
        function = detector(vision.Detections(labels=[0, 1, 1], masks=form, scores=[0.9, 0.8, 0.7]))
        square, pixel = accepted(function)
        assert square["mask"] == [1] * 200 + [30, 10, 49, 19]
        assert square["points"] == [30, 10, 30, 19, 49, 19, 49, 10]
        assert pixel["mask"] == [1, 4, 3, 4, 3]
    status = detector(vision.Detections(labels=[0], masks=np.ones((1, 5, 8))))
    with pytest.raises(ValueError, match="50 rows and 80 columns, not 5 x 8"):
        status(IMAGE)


def test_polygons_are_clipped_and_degenerate_ones_dropped():
    polygons = [[(-9, 5), (20, 5), (20, 99)], [(1, 1), (2, 2)], [(1, 1), (5, 5), (9, 9)]]
    function = detector(vision.Detections(labels=[0, 0, 0], polygons=polygons))
    (shape,) = accepted(function)
    assert shape == {"label": "cat", "type": "polygon", "points": [0, 5, 20, 5, 20, 50]}


def svg(names):
    return "".join(
        f'<circle data-type="element node" data-element-id="{i}" data-node-id="{i}"'
        f' data-label-name="{name}"></circle>'
        for i, name in enumerate(names, 1)
    )


PERSON = {
    "name": "person",
    "type": "skeleton",
    "sublabels": [{"name": name, "type": "points"} for name in ("nose", "hand", "foot")],
    "svg": svg(("nose", "hand", "foot")),
}


def test_keypoints_become_skeletons_with_hidden_points():
    keypoints = [[[1, 2, 0.9], [3, 4, 0.4], [90, 9, 0.9]], [[1, 2, 0], [3, 4, 0], [5, 6, 0]]]
    result = vision.Detections(keypoints=keypoints, scores=[0.9, 0.8])
    (shape,) = accepted(detector(result, [PERSON], vision.Keypoints))
    elements = [(item["label"], item["points"], item["outside"]) for item in shape["elements"]]
    assert elements == [("nose", [1, 2], 0), ("hand", [3, 4], 1), ("foot", [80, 9], 1)]
    few = detector(vision.Detections(keypoints=[[[1, 2]]]), [PERSON], vision.Keypoints)
    with pytest.raises(ValueError, match=r"has 3 sublabels in function\.yaml, and the result 1"):
        few(IMAGE)
    points = detector(result, [{"name": "person", "type": "points"}], vision.Keypoints)
    assert accepted(points)[0]["points"] == [1, 2]


def test_shapes_as_dictionaries_are_filtered():
    certain = {**vision.tag("dog"), "confidence": None}
    shapes = [vision.rectangle("cat", (1, 2, 3, 4), 0.4), vision.tag("dog"), certain]
    assert [item["label"] for item in accepted(detector(iter(shapes)))] == ["dog", "dog"]
    with pytest.raises(TypeError, match="a detector returns Detections"):
        detector([1])(IMAGE)


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (lambda: vision.Detections([[1, 2, 3, 4]], [2]), "no label for the class 2"),
        (lambda: vision.Detections([[1, 2, 3, 4]]), "the detections have no labels"),
        (lambda: vision.Detections([[1, 2, 3, 4]], [0, 1]), "1 objects and 2 labels"),
        (lambda: vision.Detections([[1, 2, 3, 4]], [0], [1, 1]), "1 objects and 2 scores"),
        (lambda: vision.Detections([[1, 2, 3, np.nan]], [0]), "boxes of the detections have"),
        (lambda: vision.Detections([[1, 2, 3, 4, 0.9, 0]] * 2), "are N x 4 numbers, not 2 x 6"),
        (lambda: vision.Detections(keypoints=[[1, 2, 1]]), "N x K x 2 or N x K x 3 .*, not 1 x 3"),
    ],
)
def test_a_mistake_of_the_author_is_explained(create, message):
    with pytest.raises(ValueError, match=message):
        detector(create())(IMAGE)


def test_an_invalid_request_has_one_message_and_a_line_in_the_log():
    function = detector(vision.Detections())
    for threshold in ("high", True, None, -0.1, 1.1, [1]):
        assert function(IMAGE, threshold=threshold) == (
            400,
            {"error": '"threshold" must be a number from 0 to 1'},
        )
    assert function(threshold=0.5)[0] == 400
    assert function(image=None, x=1)[1]["error"].startswith('the key "image" is missing')
    assert len(function.logger.messages) == 8
    assert function.logger.messages[0].startswith('answered 400: "threshold" must be')
    small = detector(vision.Detections(), max_pixels=100)
    assert small(IMAGE)[0] == 413


def test_the_author_can_refuse_a_request():
    def predict(self, image, threshold):
        raise vision.RequestError("100 % wrong", 422)

    function = Exported(type("Refusing", (vision.Detector,), {"predict": predict}))
    assert function(IMAGE) == (422, {"error": "100 % wrong"})
    assert function.logger.messages == ["answered 422: 100 % wrong"]


@pytest.mark.parametrize(("mode", "pixel"), [("RGB", [9, 8, 7]), ("BGR", [7, 8, 9]), ("L", 8)])
def test_the_mode_of_images(mode, pixel):
    function = detector(vision.Detections(), mode=mode)
    function(np.full((4, 4, 3), (9, 8, 7), np.uint8))
    assert function.function.seen[0, 0].tolist() == pixel


def test_confidences_are_numbers_in_v1_and_v2():
    function = detector(vision.Detections([[1, 2, 3, 4]], [0], [0.75]))
    for path in ("/v1/models/f:predict", "/v2/models/f/infer"):
        assert function(IMAGE, path)[1][0]["confidence"] == 0.75
    uncertain = detector([{**vision.tag("cat"), "confidence": None}])
    assert uncertain(IMAGE, path)[1][0]["confidence"] is None
    # A parameter of a V2 request applies to all its images.
    assert function(IMAGE, path, parameters={"threshold": 0.8}) == (200, [])


class Batched(vision.Detector):
    """Counts its calls; fails with bright images."""

    label_spec = LABELS
    calls = 0

    def predict_batch(self, images, thresholds):
        self.calls += 1
        if any(image.max() > 100 for image in images):
            raise RuntimeError("too bright: 100 %")
        return [
            vision.Detections([[0, 0, image.shape[1], threshold * 10]], [0])
            for image, threshold in zip(images, thresholds, strict=True)
        ]


class Single(vision.Detector):
    """The same without batches."""

    label_spec = LABELS

    def predict(self, image, threshold):
        return Batched.predict_batch(self, [image], [threshold])[0]

    calls = 0


def batch_of(function):
    bright = np.full((5, 5, 3), 200, np.uint8)
    events = [
        function.event({"image": encoded(IMAGE), "threshold": 0.2}),
        function.event({"image": "***"}),
        function.event({"image": encoded(bright)}),
        function.event({"image": encoded(IMAGE[:, :30]), "threshold": 0.4}),
    ]
    for number, event in enumerate(events):
        event.id = f"event-{number}"
    return events


def test_a_batch_is_one_call():
    function = Exported(Batched)
    first, wrong, _, last = batch_of(function)
    responses = function.handler(function.context, [first, wrong, last])
    assert [response.event_id for response in responses] == ["event-0", "event-1", "event-3"]
    assert [response.status_code for response in responses] == [200, 400, 200]
    assert json.loads(responses[0].body)[0]["points"] == [0, 0, 80, 2]
    assert json.loads(responses[2].body)[0]["points"] == [0, 0, 30, 4]
    assert function.function.calls == 1
    assert function(IMAGE, threshold=0.3)[1][0]["points"] == [0, 0, 80, 3]


def test_an_error_in_a_batch():
    function = Exported(Single)
    responses = function.handler(function.context, batch_of(function))
    assert [response.status_code for response in responses] == [200, 400, 500, 200]
    assert json.loads(responses[2].body) == {"error": "RuntimeError: too bright: 100 %"}
    assert "Traceback" in "".join(function.logger.messages)
    together = Exported(Batched)
    responses = together.handler(together.context, batch_of(together))
    assert [response.status_code for response in responses] == [500, 400, 500, 500]
    with pytest.raises(RuntimeError, match="too bright"):
        together(np.full((5, 5, 3), 200, np.uint8))


def test_a_reply_that_is_no_json_is_an_error_of_its_event_alone():
    class Brightness(vision.Function):
        def read(self, event):
            return vision.fields(event)["value"]

        def answer(self, value):
            return value / 2 if value else {1, 2}

    function = Exported(Brightness)
    events = [function.event({"value": value}) for value in (4, 0, float("nan"))]
    for number, event in enumerate(events):
        event.id = str(number)
    responses = function.handler(function.context, events)
    assert [response.status_code for response in responses] == [200, 500, 500]
    assert responses[0].body == "2.0"
    assert json.loads(responses[1].body)["error"].startswith("TypeError: ")
    with pytest.raises(TypeError):
        function(value=0)


def test_a_batch_needs_a_result_for_each_image():
    function = detector(None, predict_batch=lambda self, images, thresholds: [])
    with pytest.raises(ValueError, match="predict_batch returned 0 results for 1 images"):
        function(IMAGE)


def test_a_reloaded_class_keeps_what_was_loaded():
    class Before(vision.Detector):
        label_spec = LABELS

        def load(self, context):
            self.size = 7

        def predict(self, image, threshold):
            return [vision.tag("before")]

    class After(Before):
        def predict(self, image, threshold):
            return [vision.points("cat", (self.size, self.size))]

    function = Exported(Before)
    assert function(IMAGE)[1][0]["label"] == "before"
    _, function.handler = vision.export(After)
    assert function(IMAGE)[1][0]["points"] == [7, 7]


def class_map():
    classes = np.zeros((50, 80), int)
    classes[10:20, 10:20] = 1
    classes[30:, 40:] = 2
    return classes


@pytest.mark.parametrize(
    ("spec", "attributes", "shift"),
    [
        ([{"name": "cat"}, {"name": "dog"}], {}, 0),
        ([{"name": "Background"}, {"name": "cat"}, {"name": "dog"}], {}, 0),
        ([{"name": "cat"}, {"name": "dog"}], {"background": 255}, -1),
    ],
)
def test_a_class_map_becomes_masks(spec, attributes, shift):
    classes = class_map() + shift
    classes[classes < 0] = 255
    function = detector(classes, spec, vision.Segmenter, **attributes)
    cat, dog = accepted(function)
    assert (cat["label"], len(cat["mask"]), cat["mask"][-4:]) == ("cat", 104, [10, 10, 19, 19])
    assert (dog["label"], dog["mask"][-4:]) == ("dog", [40, 30, 79, 49])
    assert "confidence" not in cat


def test_a_class_map_has_two_dimensions():
    function = detector(class_map()[None], LABELS, vision.Segmenter)
    with pytest.raises(ValueError, match="H x W numbers, not 1 x 50 x 80"):
        function(IMAGE)


def test_every_class_has_a_mask_without_a_background():
    spec = [{"name": "ground"}, {"name": "cat"}, {"name": "dog"}]
    function = detector(class_map(), spec, vision.Segmenter, background=None)
    assert [shape["label"] for shape in accepted(function)] == ["ground", "cat", "dog"]


def test_the_mean_score_of_a_class_is_its_confidence():
    scores = np.full((50, 80), 0.4)
    scores[30:, 40:] = 0.8
    function = detector((class_map(), scores), LABELS, vision.Segmenter)
    (dog,) = accepted(function)
    assert (dog["label"], dog["confidence"]) == ("dog", "0.8000")
    small = class_map()[::2, ::2].astype(np.uint8)
    assert accepted(detector(small, LABELS, vision.Segmenter))[1]["mask"][-4:] == [40, 30, 79, 49]


def test_a_classifier_tags_what_is_likely_enough():
    function = detector([0.3, 0.7], LABELS, vision.Classifier)
    assert accepted(function) == [
        {"label": "dog", "type": "tag", "points": [], "confidence": "0.7000"}
    ]
    assert len(accepted(function, threshold=0.1)) == 2
    for path in ("/v1/models/f:predict", "/v2/models/f/infer"):
        assert function(IMAGE, path)[1] == {"labels": ["dog", "cat"], "scores": [0.7, 0.3]}
    most = detector(torch.tensor([0.25, 0.75]), LABELS, vision.Classifier, most=1)
    assert [item["label"] for item in accepted(most, threshold=0)] == ["dog"]
    quantized = detector(np.array([0, 255], np.uint8), LABELS, vision.Classifier)
    assert quantized(IMAGE, path)[1]["labels"] == ["dog", "cat"]
    with pytest.raises(ValueError, match=r"the probabilities have .* \(NaN\)"):
        detector([0.3, float("nan")], LABELS, vision.Classifier)(IMAGE)
    with pytest.raises(ValueError, match="the model has 3 classes"):
        detector([0.3, 0.7, 0], LABELS, vision.Classifier)(IMAGE)


def test_labels_of_the_model_replace_those_of_the_file():
    def load(self, context):
        self.labels = ["lynx", "dog"]

    function = detector(vision.Detections([[1, 2, 3, 4]], [0]), load=load)
    assert function(IMAGE)[1][0]["label"] == "lynx"
    assert function.function.labels == ["lynx", "dog"]


def test_labels_come_from_the_functions_own_file(tmp_path, monkeypatch):
    (tmp_path / "function.yaml").write_text(
        'metadata:\n  annotations:\n    spec: \'[{"name": "zebra"}]\'\n'
    )
    monkeypatch.chdir(tmp_path)
    members = {"__module__": "main", "predict": lambda self, image, threshold: []}
    function = Exported(type("Own", (vision.Detector,), members))
    assert function.function.labels == ["zebra"]
