"""Tools for handlers: bases of functions, the image of a request as an array, shapes for CVAT.

Runs on Python 3.6 and newer. The bases need NumPy in the function's environment, the rest only the
standard library. Decoding uses OpenCV if the environment has it, else Pillow.

    from fnbuild import vision

    class Cats(vision.Detector):
        def load(self, context):
            self.network = load_network()

        def predict(self, image, threshold):
            boxes, classes, scores = self.network(image)
            return vision.Detections(boxes, classes, scores)

    init_context, handler = vision.export(Cats)
"""

from .arrays import (
    Letterbox,
    crop,
    crop_with_margin,
    letterbox,
    non_maximum_suppression,
    resize,
    sigmoid,
    softmax,
)
from .base import Function, export
from .decoding import decode, decode_image, open_image
from .detections import Detections
from .detector import Classifier, Detector, Keypoints, Segmenter
from .errors import RequestError
from .image_headers import MAX_PIXELS, ImageError, ImageTooLargeError
from .interactor import Interactor, Prompt
from .reid import ReId
from .request_body import fields, image_file
from .run_lengths import decode_mask, encode_mask
from .shapes import (
    ellipse,
    mask,
    points,
    polygon,
    polyline,
    rectangle,
    reply,
    skeleton,
    tag,
)
from .tracker import TrackedShape, Tracker

__all__ = [
    "MAX_PIXELS",
    "Classifier",
    "Detections",
    "Detector",
    "Function",
    "ImageError",
    "ImageTooLargeError",
    "Interactor",
    "Keypoints",
    "Letterbox",
    "Prompt",
    "ReId",
    "RequestError",
    "Segmenter",
    "TrackedShape",
    "Tracker",
    "crop",
    "crop_with_margin",
    "decode",
    "decode_image",
    "decode_mask",
    "ellipse",
    "encode_mask",
    "export",
    "fields",
    "image_file",
    "letterbox",
    "mask",
    "non_maximum_suppression",
    "open_image",
    "points",
    "polygon",
    "polyline",
    "rectangle",
    "reply",
    "resize",
    "sigmoid",
    "skeleton",
    "softmax",
    "tag",
]
