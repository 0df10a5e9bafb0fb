"""A siamese tracker: where a picture of the object fits best in its surroundings of the next frame.

template.onnx turns the object's picture into features; search.onnx finds them in the features of
its surroundings, as in SiamFC (Bertinetto et al., 2016).
"""

import os
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from fnbuild import vision

# The object may get smaller or larger from one frame to the next; to stay as it is costs nothing.
SCALES, PENALTY = (0.94, 1.0, 1.06), 0.97
# The part of a new size that counts at once, and the part of the window in the scores.
DAMPING, WINDOW = 0.5, 0.2
# Places between two values of the response.
FINER = 8


class Tracker:
    def __init__(self, folder):
        options = onnxruntime.SessionOptions()
        if "OMP_NUM_THREADS" not in os.environ:
            # Each worker is a process: with more threads they would only disturb one another.
            options.intra_op_num_threads = 1
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        available = onnxruntime.get_available_providers()
        providers = [name for name in wanted if name in available]
        self.template, self.search = (
            onnxruntime.InferenceSession(str(Path(folder, name)), options, providers=providers)
            for name in ("template.onnx", "search.onnx")
        )
        # The sides of both pictures, in pixels.
        self.small = self.template.get_inputs()[0].shape[2]
        self.large = self.search.get_inputs()[0].shape[2]

    def features(self, image, box):
        """Return the features of the object in a box (left, top, right, bottom)."""
        centre, size = measure(box)
        picture = square(image, centre, context(size), self.small)
        return self._run(self.template, picture[None])[0]

    def follow(self, image, box, features):
        """Return the box in the next image."""
        centre, size = measure(box)
        side = context(size) * self.large / self.small
        pictures = [square(image, centre, side * scale, self.large) for scale in SCALES]
        responses = self._run(self.search, np.stack(pictures), features[None])[:, 0]
        responses = [
            cv2.resize(each, None, fx=FINER, fy=FINER, interpolation=cv2.INTER_CUBIC)
            for each in responses
        ]
        peaks = [each.max() * (1 if scale == 1 else PENALTY) if each.max() > 0 else each.max()
                 for each, scale in zip(responses, SCALES, strict=True)]  # fmt: skip
        best = int(np.argmax(peaks))
        response = responses[best] - responses[best].min()
        response /= max(float(response.sum()), 1e-9)
        hann = np.hanning(len(response))
        window = np.outer(hann, hann)
        response = (1 - WINDOW) * response + WINDOW * window / window.sum()
        y, x = np.unravel_index(response.argmax(), response.shape)
        # The response covers all places at which the template lies inside of the large picture.
        step = (self.large - self.small) / (len(response) / FINER - 1) / FINER
        moved = (np.array([x, y]) - (len(response) - 1) / 2) * step
        centre = centre + moved * side * SCALES[best] / self.large
        size = size * (1 + DAMPING * (SCALES[best] - 1))
        return np.concatenate([centre - size / 2, centre + size / 2])

    def _run(self, session, *values):
        names = [each.name for each in session.get_inputs()]
        return session.run(None, dict(zip(names, values, strict=True)))[0]


def measure(box):
    """Return centre and size of a box."""
    box = np.asarray(box, float)
    return (box[:2] + box[2:]) / 2, np.maximum(box[2:] - box[:2], 1.0)


def context(size):
    """Return the side of a square with the object and some of its surroundings."""
    margin = size.sum() / 2
    return float(np.sqrt(np.prod(size + margin)))


def square(image, centre, side, pixels):
    """Return a square of the image, 3 x pixels x pixels from 0 to 1; its mean beyond the image."""
    scale = pixels / side
    mean = image[::16, ::16].reshape(-1, 3).mean(0).tolist()
    box = (*(centre - side / 2), *(centre + side / 2))
    image, first = vision.crop_with_margin(image, box, int(0.5 / scale) + 2)
    centre = centre - first
    move = pixels / 2 - scale * centre - 0.5 + 0.5 * scale
    matrix = np.array([[scale, 0, move[0]], [0, scale, move[1]]])
    if scale < 0.5:
        # Else far smaller squares would be made of single pixels.
        image = cv2.blur(image, (int(0.5 / scale),) * 2)
    part = cv2.warpAffine(image, matrix, (pixels, pixels), borderValue=mean)
    return part.astype(np.float32).transpose(2, 0, 1) / 255
