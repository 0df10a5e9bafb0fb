"""Write the exports of this folder: networks without weights, whose outputs are the same for all
images, in the layouts and with the metadata of real exports. Needs onnx and numpy.

    python make.py

The input is 64 x 64. Object 0 is a box from (8, 16) to (40, 48), object 1 overlaps it by more than
0.7 and is less sure, object 2 has another class and the same place, object 3 is below 0.25.
"""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, load, numpy_helper, save

SIZE = 64
BOXES = np.array([[24, 32, 32, 32], [25, 32, 32, 32], [24, 32, 32, 32], [10, 10, 8, 8]], float)
SCORES = np.array([[0.9, 0], [0.6, 0], [0, 0.5], [0.1, 0]])
NAMES = {0: "cat", 1: "dog"}
# Three keypoints of each object; the last one is hidden.
POINTS = np.array([12, 20, 0.9, 36, 20, 0.8, 24, 44, 0.1])
ANGLE = np.pi / 6


def corners(boxes):
    return np.hstack([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2])


def rows(boxes, extra=None):
    """Return the boxes that remain after the suppression, padded with zeros."""
    kept = [0, 2]
    values = [boxes[kept], SCORES[kept].max(1)[:, None], SCORES[kept].argmax(1)[:, None]]
    if extra is not None:
        values.append(np.tile(extra, (len(kept), 1)))
    return np.vstack([np.hstack(values), np.zeros((4, np.hstack(values).shape[1]))])


def prototypes():
    """The first is positive in the left half of the image, the second in its upper half."""
    left = np.where(np.arange(16) < 8, 1.0, -1.0)
    return np.stack([np.tile(left, (16, 1)), np.tile(left[:, None], (1, 16))])


def write(name, outputs, metadata, batch="batch", size=(SIZE, SIZE)):
    """Write a model with these outputs, which are repeated for each image of the batch."""
    nodes = [
        helper.make_node("Shape", ["images"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["count"]),
    ]
    initializers = [numpy_helper.from_array(np.array([0]), "first")]
    results = []
    for i, output in enumerate(outputs):
        array = np.asarray(output, np.float32)[None]
        initializers += [
            numpy_helper.from_array(array, f"value{i}"),
            numpy_helper.from_array(np.array(array.shape[1:]), f"rest{i}"),
        ]
        nodes += [
            helper.make_node("Concat", ["count", f"rest{i}"], [f"shape{i}"], axis=0),
            helper.make_node("Expand", [f"value{i}", f"shape{i}"], [f"output{i}"]),
        ]
        shape = [batch, *array.shape[1:]]
        results.append(helper.make_tensor_value_info(f"output{i}", TensorProto.FLOAT, shape))
    write_graph(name, nodes, results, metadata, initializers, images_shape=[batch, 3, *size])


def write_graph(
    name, nodes, results, metadata, initializers=(), images_shape=("batch", 3, SIZE, SIZE)
):
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, images_shape)
    graph = helper.make_graph(nodes, name, [images], results, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
    save(model, Path(__file__).with_name(f"{name}.onnx"))


def separate_weights(name):
    """Move the weights of a model to a file beside it."""
    path = Path(__file__).with_name(f"{name}.onnx")
    weights = path.with_suffix(".bin")
    weights.unlink(missing_ok=True)
    options = {"save_as_external_data": True, "location": weights.name, "size_threshold": 64}
    save(load(path), path, **options)


def main():
    said = {"names": NAMES, "stride": 32, "imgsz": [SIZE, SIZE], "end2end": False}
    raw = np.hstack([BOXES, SCORES])
    detect = {**said, "task": "detect"}
    write("v8", [raw.T], detect)
    write("v8-weights", [raw.T], detect)
    separate_weights("v8-weights")
    write("v8-single", [raw.T], detect, batch=1)
    write("v8-any-size", [raw.T], detect, size=("height", "width"))
    write("v10-end2end", [rows(corners(BOXES))], {**detect, "end2end": True}, batch=1)
    write("v8-nms", [rows(corners(BOXES))], {**detect, "args": {"nms": True}})
    objects = np.full((len(BOXES), 1), 0.5)
    write("v5", [np.hstack([BOXES, objects, SCORES * 2])], {"names": NAMES, "stride": 32})
    write("unnamed", [raw.T], {}, batch=1)
    pose = {**said, "task": "pose", "kpt_shape": [3, 3]}
    names = {"kpt_names": {number: ["left", "right", "tail"] for number in NAMES}}
    points = np.tile(POINTS, (len(BOXES), 1))
    write("pose", [np.hstack([raw, points]).T], {**pose, **names})
    write("pose-end2end", [rows(corners(BOXES), POINTS)], {**pose, "end2end": True})
    coefficients = np.tile([1.0, 0.0], (len(BOXES), 1))
    segment = {**said, "task": "segment"}
    write("segment", [np.hstack([raw, coefficients]).T, prototypes()], segment)
    write(
        "segment-nms",
        [rows(corners(BOXES), [0, 1]), prototypes()],
        {**segment, "args": {"nms": True}},
    )
    angles = np.full((len(BOXES), 1), ANGLE)
    oriented = BOXES * [1, 1, 1, 0.5]
    write("obb", [np.hstack([oriented, SCORES, angles]).T], {**said, "task": "obb"})
    write("obb-end2end", [rows(oriented, ANGLE)], {**said, "task": "obb", "end2end": True})
    write("classify", [[0.3, 0.7]], {**said, "task": "classify", "stride": 1})
    # The rows of all images: image, box, class, score.
    box = corners(BOXES)[0]
    table = np.array([[0, *box, 0, 0.9], [1, *box, 1, 0.5]], np.float32)
    write_graph(
        "v7-nms",
        [helper.make_node("Identity", ["table"], ["output0"])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, ["rows", 7])],
        {},
        [numpy_helper.from_array(table, "table")],
    )
    # The scores of a classifier are the means of its input's channels.
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["means"]),
        helper.make_node("Flatten", ["means"], ["output0"]),
    ]
    results = [helper.make_tensor_value_info("output0", TensorProto.FLOAT, ["batch", 3])]
    colours = {0: "red", 1: "green", 2: "blue"}
    write_graph("v5-classify", nodes, results, {"names": colours, "stride": 32})


if __name__ == "__main__":
    main()
