"""Compare the objects of functions/onnx/yolo with those of Ultralytics' predict.

python compare.py MODEL... --pictures PICTURE... --library FOLDER

Objects are paired by class, score and place. The table has the largest distance of their
coordinates in pixels, of keypoints and corners, too, and the number of objects without a partner
within a pixel, which lie at the limit of the threshold or of the overlap. For classification it has
the largest difference of a probability.
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import torchvision_ops  # noqa: F401
from ultralytics import YOLO

THRESHOLD = 0.4
OVERLAP = 0.7
CLASSES = {number: str(number) for number in range(1000)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--pictures", nargs="+", required=True)
    parser.add_argument("--library", required=True)
    options = parser.parse_args()
    sys.path.insert(0, options.library)
    from model_handler import ModelHandler

    print("| model | task | objects | without a partner | largest difference |")
    print("|---|---|---|---|---|")
    for name in options.models:
        ours = ModelHandler(name, CLASSES, OVERLAP, {})
        theirs = YOLO(name, task=ours.export.task)
        rows = [compare(ours, theirs, cv2.imread(picture)) for picture in options.pictures]
        objects, alone, worst = (
            column(values)
            for column, values in zip((sum, sum, max), zip(*rows, strict=True), strict=True)
        )
        print(
            f"| {Path(name).stem} | {ours.export.task} | {objects} | {alone} | {worst:.3f} |",
            flush=True,
        )


def compare(ours, theirs, image):
    size = list(ours.export.size)
    (result,) = theirs.predict(image, conf=THRESHOLD, iou=OVERLAP, verbose=False, imgsz=size)
    (found,) = ours.infer([image], [THRESHOLD])
    if ours.export.task == "classify":
        mine = {shape["label"]: float(shape["confidence"]) for shape in found}
        scores = result.probs.data.tolist()
        return 0, 0, max(abs(score - mine[str(i)]) for i, score in enumerate(scores))
    expected, classes, scores = objects_of(result, ours.export.task)
    values = coordinates(found, ours.export.task, image.shape[1::-1])
    left = set(range(len(values)))
    worst = 0.0
    for row, number, score in zip(expected, classes, scores, strict=True):
        distances = [
            (np.abs(row - values[i]).max(), i)
            for i in left
            if found.labels[i] == str(int(number)) and abs(found.scores[i] - score) < 0.02
        ]
        # Farther away it is another object.
        if distances and min(distances)[0] <= 1:
            distance, i = min(distances)
            left.remove(i)
            worst = max(worst, distance)
    paired = len(values) - len(left)
    return len(expected), len(expected) - paired + len(left), worst


def objects_of(result, task):
    if task == "obb":
        corners = np.sort(result.obb.xyxyxyxy.numpy(), 1)
        return corners.reshape(-1, 8), result.obb.cls.numpy(), result.obb.conf.numpy()
    boxes = result.boxes
    rows = boxes.xyxy.numpy()
    if task == "pose":
        points = result.keypoints.data.numpy()
        rows = np.hstack([rows, points.reshape(len(points), np.prod(points.shape[1:]))])
    return rows, boxes.cls.numpy(), boxes.conf.numpy()


def coordinates(found, task, size):
    if task == "obb":
        return np.sort(np.array(found.polygons).reshape(-1, 4, 2), 1).reshape(-1, 8)
    rows = found.boxes.clip(0, [*size, *size])
    if task == "pose":
        points = found.keypoints.copy()
        points[..., :2] = points[..., :2].clip(0, size)
        rows = np.hstack([rows, points.reshape(len(points), np.prod(points.shape[1:]))])
    return rows


if __name__ == "__main__":
    main()
