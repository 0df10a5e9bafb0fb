"""Exports of YOLO with all heads and layouts: decoding, and the function in its environment."""

import base64
import json
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fnbuild import vision
from fnbuild.function.reader import load_function
from tests.environments import environment_python
from tests.functions.conftest import import_module_of
from tests.functions.library import importable_packages
from tests.functions.test_opencv import likeness

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "functions" / "onnx" / "yolo"
MODELS = ROOT / "tests" / "data" / "yolo"
NAMES = {0: "cat", 1: "dog"}
V8 = ((1, 5, 84),)
# The first object of the models of tests/data/yolo, in their input and in a picture of 128 x 96.
BOX = [8, 16, 40, 48]
RESTORED = [16, 16, 80, 80]


@pytest.fixture(scope="module")
def export():
    return import_module_of(FOLDER, "export")


@pytest.fixture(scope="module")
def decoding():
    return import_module_of(FOLDER, "decoding")


def described(export, task="detect", **values):
    metadata = {"names": str(NAMES), "imgsz": "[64, 64]", "task": task, **values}
    return export.read_export(metadata)


def fitted(width=128, height=96):
    return vision.letterbox(np.zeros((height, width, 3), np.uint8), 64)


def raw(*rows):
    return np.array(rows, np.float32).T


# -- what an export says ----------------------------------------------------------------------


def test_metadata_of_ultralytics_is_read(export):
    read = export.read_export(
        {
            "names": "{0: 'cat', 1: 'sea lion'}",
            "task": "pose",
            "imgsz": "[480, 640]",
            "stride": "32",
            "kpt_shape": "(17, 3)",
            "end2end": "True",
        },
        ("batch", 3, "height", "width"),
    )
    assert read.names == {0: "cat", 1: "sea lion"}
    assert (read.task, read.size, read.keypoints) == ("pose", (480, 640), (17, 3))
    assert read.suppressed
    assert not read.fixed_size


def test_the_size_of_the_input_takes_precedence(export):
    read = export.read_export({"names": "['a']", "imgsz": "640"}, (1, 3, 320, 416), V8)
    assert (read.size, read.fixed_size, read.task) == ((320, 416), True, "detect")


@pytest.mark.parametrize(
    ("shapes", "task"),
    [
        (((1, 1),), "classify"),
        (((1, "anchors", 38), (1, 32, 16, 16)), "segment"),
        (((1, 252, 6), (1, 3, 8, 8, 6)), "detect"),
        ((("rows", 7),), "detect"),
    ],
)
def test_the_task_of_yolov5_and_v7_follows_from_their_outputs(export, shapes, task):
    read = export.read_export({"names": "['a']"}, (1, 3, 64, 64), shapes)
    assert read.task == task
    assert read.normalized == (task == "classify")


def test_yolov5_has_the_shape_of_its_input_in_torchscript(export):
    metadata = {"names": ["a"], "shape": [1, 3, 96, 64], "stride": 32, "task": "detect"}
    assert export.read_export(metadata).size == (96, 64)


def test_names_may_be_a_text_with_commas(export):
    assert export.read_export({"names": "cat,dog", "imgsz": "64", "task": "detect"}).names == NAMES


@pytest.mark.parametrize(
    ("task", "shapes"),
    [
        # Of RT-DETR and of YOLO-NAS, and the output of a backbone.
        ("detect", ((1, 300, 10),)),
        ("detect", ((1, 8400, 4), (1, 8400, 2))),
        ("detect", ((1, 512, 7, 7),)),
        ("detect", ((1, 85, "anchors"),)),
        ("detect", ((1, "anchors", 85),)),
        ("segment", ((1, 6, 84), (1, 32, 16, 16))),
        ("segment", ((1, 6, 84),)),
        ("classify", ((1, 1000),)),
        ("", ((1, 1000),)),
    ],
)
def test_outputs_of_another_network_or_number_of_classes_are_an_error(export, task, shapes):
    metadata = {"names": str(NAMES), "imgsz": "64", "task": task}
    with pytest.raises(export.ExportError, match=r"does not fit .* with 2 classes"):
        export.read_export(metadata, (1, 3, 64, 64), shapes)


def test_yolov10_with_one_class_is_not_taken_for_yolov5(export, decoding):
    table = np.array([[*BOX, 0.9, 0], [9, 16, 40, 48, 0.2, 0]], np.float32)
    metadata = {"names": "['cat']", "imgsz": "64", "task": "detect", "version": "8.1.34"}
    read = export.read_export(metadata, (1, 3, 64, 64), ((1, 300, 6),))
    detections = decoding.Decoder(read, {0: "cat"}, 0.7).decode([table], fitted(), 0.25)
    assert detections.boxes.tolist() == [RESTORED]


@pytest.mark.parametrize(
    ("metadata", "missing"),
    [
        ({}, "names"),
        ({"names": "['a']", "task": "depth"}, "task"),
        ({"names": "['a']"}, "task"),
        ({"names": "['a']", "task": "detect"}, "size"),
        ({"names": "['a']", "imgsz": "64", "task": "pose"}, "keypoints"),
    ],
)
def test_an_error_says_what_is_missing(export, metadata, missing):
    with pytest.raises(export.ExportError) as caught:
        export.read_export(metadata)
    assert caught.value.missing == missing


# -- decoding ---------------------------------------------------------------------------------


def test_boxes_are_restored_to_the_picture(export, decoding):
    output = raw([24, 32, 32, 32, 0.9, 0.1])
    detections = decoding.Decoder(described(export), NAMES, 0.7).decode([output], fitted(), 0.25)
    assert detections.boxes.tolist() == [RESTORED]
    assert detections.labels == ["cat"]
    assert detections.scores.tolist() == pytest.approx([0.9])


def test_overlaps_of_a_class_are_suppressed_and_other_classes_stay(export, decoding):
    rows = [24, 32, 32, 32, 0.9, 0], [25, 32, 32, 32, 0.6, 0], [24, 32, 32, 32, 0, 0.5]
    detections = decoding.Decoder(described(export), NAMES, 0.7).decode(
        [raw(*rows)], fitted(), 0.25
    )
    assert detections.labels == ["cat", "dog"]
    both = decoding.Decoder(described(export), NAMES, 0.99).decode([raw(*rows)], fitted(), 0.25)
    assert both.labels == ["cat", "cat", "dog"]


def test_classes_without_a_label_are_left_out(export, decoding):
    output = raw([24, 32, 32, 32, 0.9, 0], [24, 32, 32, 32, 0, 0.5])
    detections = decoding.Decoder(described(export), {1: "puppy"}, 0.7).decode(
        [output], fitted(), 0.25
    )
    assert detections.labels == ["puppy"]


def test_yolov5_multiplies_classes_by_objectness(export, decoding):
    output = np.array([[24, 32, 32, 32, 0.5, 0.9, 0], [24, 32, 32, 32, 0.9, 0, 0.2]], np.float32)
    detections = decoding.Decoder(described(export), NAMES, 0.7).decode([output], fitted(), 0.25)
    assert detections.labels == ["cat"]
    assert detections.scores.tolist() == pytest.approx([0.45])


def test_rows_of_a_model_with_suppression_are_taken_as_they_are(export, decoding):
    output = np.array([[*BOX, 0.9, 1], [9, 16, 40, 48, 0.8, 1], [0] * 6], np.float32)
    read = described(export, end2end="True")
    detections = decoding.Decoder(read, NAMES, 0.7).decode([output], fitted(), 0.25)
    assert detections.labels == ["dog", "dog"]
    assert detections.boxes[0].tolist() == RESTORED


def test_an_output_that_does_not_fit_is_an_error(export, decoding):
    with pytest.raises(ValueError, match="9 x 9 does not fit detect with 2 classes"):
        decoding.Decoder(described(export), NAMES, 0.7).decode([np.zeros((9, 9))], fitted(), 0.25)


def test_corners_of_oriented_boxes(decoding):
    boxes = np.array([[10.0, 10, 8, 4]])
    straight = decoding.corners(boxes, np.array([0.0]))[0]
    assert sorted(map(tuple, straight.tolist())) == [(6, 8), (6, 12), (14, 8), (14, 12)]
    turned = decoding.corners(boxes, np.array([np.pi / 2]))[0]
    assert np.allclose(sorted(turned.tolist()), [(8, 6), (8, 14), (12, 6), (12, 14)])


def test_likeness_of_oriented_boxes(decoding):
    boxes = np.array([[10, 10, 8, 4, 0], [10, 10, 4, 8, np.pi / 2], [10, 10, 4, 8, 0]], float)
    values = decoding.likeness(boxes)
    assert np.allclose(values, values.T)
    # The same box, given by its other side.
    assert values[0, 1] > 0.99
    assert values[0, 2] < 0.8
    far = decoding.likeness(np.array([[10, 10, 8, 4, 0], [90, 90, 8, 4, 0]], float))
    assert far[0, 1] < 0.01


@pytest.mark.parametrize("size", [(128, 96), (96, 128), (61, 200), (7, 5), (640, 640)])
def test_masks_are_aligned_with_the_picture(decoding, size):
    # The prototype is positive left of the middle of the picture, whatever its padding.
    box = fitted(*size)
    middle = box.offset[0] + box.scale[0] * size[0] / 2
    prototype = np.tile(middle / 4 - 0.5 - np.arange(16), (16, 1))[None]
    masks = decoding.draw_masks(prototype, np.ones((1, 1)), np.array([[0, 0, *size]]), box)
    ((mask, left, top),) = masks
    assert mask.shape == (size[1], size[0])
    assert (left, top) == (0, 0)
    edges = mask.sum(1)
    # Half a pixel of the prototype at each border of the network's input.
    assert np.abs(edges - size[0] / 2).max() <= max(1, 0.5 / box.scale[0])
    assert mask[:, 0].all()
    assert not mask[:, -1].any()


# -- the function -----------------------------------------------------------------------------

ANSWERS = """
import json, os, shutil, sys, types
sys.path[:0] = [sys.argv[1], os.getcwd()]

class Event(types.SimpleNamespace):
    path, headers, content_type, id = "/", {}, "application/json", "1"

for line in sys.stdin:
    request = json.loads(line)
    for name in ("main", "model_handler", "engines", "export", "decoding"):
        sys.modules.pop(name, None)
    shutil.copy(request["model"], "model.onnx")
    with open("function.yaml", "w") as file:
        file.write(request["configuration"])
    os.environ.update(request["environment"])
    import main
    log = types.SimpleNamespace(info=print, warn=print, error=print)
    response = types.SimpleNamespace
    context = types.SimpleNamespace(user_data=response(), Response=response, logger=log)
    sys.stdout = sys.stderr
    main.init_context(context)
    events = [Event(body=body) for body in request["bodies"]]
    if request["batch"]:
        replies = main.handler(context, events)
    else:
        replies = [main.handler(context, event) for event in events]
    sys.stdout = sys.__stdout__
    print(json.dumps([[each.status_code, json.loads(each.body)] for each in replies]), flush=True)
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Return `ask(model, bodies)`: the statuses and contents of the function's replies."""
    python = environment_python(
        "3.11", "onnxruntime>=1.20,<2", "numpy>=1.26,<3", "opencv-python-headless>=4.9,<5"
    )
    folder = tmp_path_factory.mktemp("yolo")
    for file in FOLDER.glob("*.py"):
        (folder / file.name).write_bytes(file.read_bytes())
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [python, "-c", ANSWERS, ROOT],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )

    def ask(model, *bodies, labels=None, batch=False, **environment):
        spec = json.dumps(labels or [{"name": name} for name in NAMES.values()])
        request = {
            "model": str(model if model.is_absolute() else MODELS / model),
            "bodies": bodies,
            "batch": batch,
            "environment": environment,
            "configuration": f"metadata:\n  annotations:\n    spec: '{spec}'\n",
        }
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        assert line, (folder / "log").read_text()
        return json.loads(line)

    with process:
        yield ask


def encoded(image):
    return base64.b64encode(cv2.imencode(".png", image)[1].tobytes()).decode()


def picture(width=128, height=96):
    return {"image": encoded(np.full((height, width, 3), 90, np.uint8))}


@pytest.mark.parametrize(
    ("model", "labels"),
    [
        ("v8", ["cat", "dog"]),
        ("v8-single", ["cat", "dog"]),
        ("v8-nms", ["cat", "dog"]),
        ("v10-end2end", ["cat", "dog"]),
        ("v5", ["cat", "dog"]),
    ],
)
def test_layouts_of_detectors(answers, model, labels):
    ((status, shapes),) = answers(Path(f"{model}.onnx"), picture())
    assert status == 200, shapes
    assert [shape["label"] for shape in shapes] == labels
    assert [shape["type"] for shape in shapes] == ["rectangle"] * 2
    assert shapes[0]["points"] == RESTORED


def test_a_model_of_any_size_gets_less_padding(answers):
    ((_, shapes),) = answers(Path("v8-any-size.onnx"), picture(128, 48))
    # 64 x 32 instead of 64 x 64.
    assert shapes[0]["points"] == [16, 24, 80, 48]


def test_poses_are_skeletons(answers):
    points = [{"name": name, "type": "points"} for name in ("left", "right", "tail")]
    labels = [{"name": name, "type": "skeleton", "sublabels": points} for name in NAMES.values()]
    for model in ("pose.onnx", "pose-end2end.onnx"):
        ((_, shapes),) = answers(Path(model), picture(), labels=labels)
        assert [shape["type"] for shape in shapes] == ["skeleton"] * 2
        elements = {
            each["label"]: (each["points"], each["outside"]) for each in shapes[0]["elements"]
        }
        assert elements == {"left": ([24, 24], 0), "right": ([72, 24], 0), "tail": ([48, 72], 1)}


def test_segments_are_masks(answers):
    for model, corner in (("segment.onnx", (64, 80)), ("segment-nms.onnx", (80, 48))):
        ((_, shapes),) = answers(Path(model), picture())
        assert shapes[0]["type"] == "mask"
        left, top, right, bottom = shapes[0]["mask"][-4:]
        assert (left, top) == (16, 16)
        # The prototypes change their sign in the middle of the picture.
        assert (right + 1, bottom + 1) == pytest.approx(corner, abs=1)
        outline = np.array(shapes[0]["points"]).reshape(-1, 2)
        assert outline.min(0).tolist() == [left, top]
        assert outline.max(0).tolist() == [right, bottom]


def test_oriented_boxes_are_polygons(answers):
    for model in ("obb.onnx", "obb-end2end.onnx"):
        ((_, shapes),) = answers(Path(model), picture())
        assert shapes[0]["type"] == "polygon"
        corners = np.array(shapes[0]["points"]).reshape(-1, 2)
        (x, y), sides, angle = cv2.minAreaRect(corners.astype(np.float32))
        assert (x, y) == pytest.approx((48, 48), abs=0.1)
        assert sorted(sides) == pytest.approx([32, 64], abs=0.1)
        assert angle % 90 == pytest.approx(30, abs=0.1)


def test_classes_are_tags(answers):
    ((_, shapes),) = answers(Path("classify.onnx"), {**picture(), "threshold": 0.1})
    tags = [(shape["type"], shape["label"], shape["confidence"]) for shape in shapes]
    assert tags == [("tag", "dog", "0.7000"), ("tag", "cat", "0.3000")]


def test_a_batch_with_pictures_of_several_sizes(answers):
    bodies = picture(), {"image": "aGVsbG8="}, picture(256, 192)
    replies = answers(Path("v8-any-size.onnx"), *bodies, batch=True)
    assert [status for status, _ in replies] == [200, 400, 200]
    assert replies[0][1][0]["points"] == RESTORED
    assert replies[2][1][0]["points"] == [2 * number for number in RESTORED]


def test_a_model_without_metadata_needs_labels_only(answers):
    ((_, shapes),) = answers(Path("unnamed.onnx"), picture())
    assert [shape["label"] for shape in shapes] == ["cat", "dog"]


def test_labels_are_renamed_and_removed_by_the_label_spec(answers):
    ((_, shapes),) = answers(Path("v8.onnx"), picture(), labels=[{"id": 1, "name": "puppy"}])
    assert [shape["label"] for shape in shapes] == ["puppy"]


def test_rows_of_all_images_in_one_table_as_yolov7_has_them(answers):
    replies = answers(Path("v7-nms.onnx"), picture(), picture(256, 192), batch=True)
    assert [len(shapes) for _, shapes in replies] == [1, 1]
    (first,), (second,) = (shapes for _, shapes in replies)
    assert (first["label"], first["points"], first["confidence"]) == ("cat", RESTORED, "0.9000")
    assert (second["label"], second["points"]) == ("dog", [2 * number for number in RESTORED])


def test_classifiers_of_yolov5_get_normalized_images(answers):
    labels = [{"name": name} for name in ("red", "green", "blue")]
    ((status, tags),) = answers(
        Path("v5-classify.onnx"), {**picture(), "threshold": 0}, labels=labels
    )
    assert status == 200, tags
    grey = (90 / 255 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225]
    expected = dict(zip(("red", "green", "blue"), vision.softmax(grey), strict=True))
    scores = {tag["label"]: float(tag["confidence"]) for tag in tags}
    assert scores == pytest.approx(expected, abs=0.01)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_of_half_precision_gets_such_images(tmp_path):
    network = torch.nn.Conv2d(3, 6, 1).half()
    path = tmp_path / "half.torchscript"
    torch.jit.trace(network, torch.zeros(1, 3, 8, 8, dtype=torch.float16)).save(str(path))
    engine = import_module_of(FOLDER, "engines").open_engine(path)
    (output,) = engine.run(np.zeros((1, 3, 8, 8), np.float32))
    assert output.dtype == np.float32


@pytest.mark.parametrize("name", ["missing.onnx", "text.torchscript", "empty"])
def test_a_model_that_cannot_be_loaded_is_one_clear_error(tmp_path, name):
    (tmp_path / "text.torchscript").write_text("text")
    (tmp_path / "empty").mkdir()
    engines = import_module_of(FOLDER, "engines")
    with pytest.raises(engines.ModelError, match=name):
        engines.open_engine(tmp_path / name)


def test_a_network_with_several_inputs_is_refused_at_the_start():
    engines = import_module_of(FOLDER, "engines")
    with importable_packages(), pytest.raises(engines.ModelError, match="it has 2 inputs"):
        engines.open_engine(FOLDER.parent / "siamese" / "search.onnx")


def test_shapes_of_the_model_in_the_library(answers, huge_image):
    scenes = import_module_of(ROOT / "functions" / "torch" / "shapes", "shapes")
    random = np.random.default_rng(2027)
    sizes = ((256, 256), (320, 240), (200, 150), (300, 400))
    pictures = [scenes.picture(random, *sizes[i % len(sizes)]) for i in range(24)]
    bodies = [{"image": encoded(image[..., ::-1]), "threshold": 0.5} for image, _ in pictures]
    labels = json.loads(load_function(FOLDER).function.metadata.annotations["spec"])
    model = FOLDER / "model.onnx"
    *replies, refused = answers(model, *bodies, {"image": huge_image}, labels=labels, OVERLAP="0.2")
    assert refused[0] == 413
    correct = detected = expected = 0
    for (status, shapes), (_, drawn) in zip(replies, pictures, strict=True):
        assert status == 200, shapes
        detected += len(shapes)
        expected += len(drawn)
        for label, box in drawn:
            correct += any(
                shape["label"] == label and likeness(shape["points"], box) >= 0.5
                for shape in shapes
            )
    assert correct / detected > 0.85, f"{correct} of {detected} detections are correct"
    assert correct / expected > 0.9, f"{correct} of {expected} shapes are detected"
