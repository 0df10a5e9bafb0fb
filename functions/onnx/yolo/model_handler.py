"""The model: images in, the objects or the classes of each image out."""

import cv2
import numpy as np
from decoding import Decoder
from engines import ModelError, open_engine
from export import ExportError, is_flat, read_export

from fnbuild import vision

# Of ImageNet.
MEAN = np.array([0.485, 0.456, 0.406]).reshape(3, 1, 1)
DEVIATION = np.array([0.229, 0.224, 0.225]).reshape(3, 1, 1)
REMEDIES = {
    "names": "write a label for each class into function.yaml",
    "task": "state it with the variable TASK",
    "size": "state it with the variable IMAGE_SIZE, such as 480,640",
    "keypoints": "export it with a current release of Ultralytics",
    "fit": "a model without names needs a label for each class, and TASK if it is not detect",
}


class ModelHandler:
    """Serves the model at `path`.

    `labels` are names by class: objects of other classes are left out. `unsaid` is metadata that
    counts if the model has none; `overlap` is that of `Decoder`.
    """

    def __init__(self, path, labels, overlap, unsaid):
        self.engine = open_engine(path)
        shape = self.engine.input_shape
        metadata = {**unsaid, **self.engine.metadata}
        try:
            self.export = read_export(metadata, shape, self.engine.output_shapes)
        except ExportError as error:
            raise ModelError(f"{path}: {error}; {REMEDIES[error.missing]}") from None
        self.labels = {number: labels[number] for number in self.export.names if number in labels}
        self.decoder = Decoder(self.export, self.labels, overlap)
        self.mode = "L" if shape[1:2] == (1,) else "BGR"
        # 0 for a model that takes any number of images at once.
        self.batch = shape[0] if isinstance(shape[0], int) else 0

    def infer(self, images, thresholds):
        """Return `vision.Detections`, or shapes, for each image in the form of `mode`."""
        step = self.batch or len(images)
        results = []
        for start in range(0, len(images), step):
            part = slice(start, start + step)
            results += self._infer(images[part], thresholds[part])
        return results

    def _infer(self, images, thresholds):
        if self.export.task == "classify":
            inputs = [crop(image, self.export.size) for image in images]
        else:
            fitted = [vision.letterbox(image, self._size(images)) for image in images]
            inputs = [each.image for each in fitted]
        batch = cv2.dnn.blobFromImages(inputs, 1 / 255, swapRB=self.mode == "BGR")
        if self.export.normalized:
            batch = ((batch - MEAN) / DEVIATION).astype(np.float32)
        if len(batch) < self.batch:
            batch = np.resize(batch, (self.batch, *batch.shape[1:]))
        outputs = self.engine.run(batch)
        if self.export.task != "classify" and is_flat(outputs[0].shape):
            rows = [[split_rows(outputs[0], i)] for i in range(len(images))]
        else:
            rows = [[output[i] for output in outputs] for i in range(len(images))]
        if self.export.task == "classify":
            return [self._tags(row[0]) for row in rows]
        return [
            self.decoder.decode(row, each, threshold)
            for row, each, threshold in zip(rows, fitted, thresholds, strict=True)
        ]

    def _size(self, images):
        """Return width and height of the input, with less padding if the model allows it."""
        height, width = self.export.size
        if not self.export.fixed_size and len({image.shape for image in images}) == 1:
            down, across = images[0].shape[:2]
            ratio, stride = min(height / down, width / across), self.export.stride
            height, width = (-(-round(side * ratio) // stride) * stride for side in (down, across))
        return width, height

    def _tags(self, scores):
        scores = scores.astype(np.float32)
        # YOLOv5 leaves the softmax to its caller.
        if scores.min() < 0 or abs(scores.sum() - 1) > 0.01:
            scores = vision.softmax(scores)
        ranking = [number for number in np.argsort(-scores).tolist() if number in self.labels]
        return [vision.tag(self.labels[number], scores[number]) for number in ranking]


def split_rows(table, number):
    """Return box, score and class of the rows of an image, which YOLOv7 has in one table."""
    return table[table[:, 0] == number][:, [1, 2, 3, 4, 6, 5]]


def crop(image, size):
    """Return the middle of an image, scaled to (height, width)."""
    height, width = image.shape[:2]
    ratio = max(size[0] / height, size[1] / width)
    scaled = max(size[1], int(width * ratio)), max(size[0], int(height * ratio))
    image = vision.resize(image, scaled, "area" if ratio < 1 else "linear")
    top, left = (round((have - need) / 2) for have, need in zip(image.shape, size, strict=False))
    return image[top : top + size[0], left : left + size[1]]
