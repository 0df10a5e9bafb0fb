"""TorchServe's handlers of images, with Pillow and NumPy in place of torchvision."""

import base64
import importlib
import io
from typing import Any, List

from .base_handler import BaseHandler, torch
from .handler_api import map_class_to_label
from .image_transforms import image_tensor, prepare_image


class VisionHandler(BaseHandler):
    """The base of handlers of images: bytes, base64, or nested lists of numbers."""

    def initialize(self, context: Any) -> None:
        super().initialize(context)
        pillow: Any = importlib.import_module("PIL.Image")
        self._pillow = pillow
        if not context.system_properties.get("limit_max_image_pixels"):
            pillow.MAX_IMAGE_PIXELS = None

    def image_processing(self, image: Any) -> Any:
        """Return the tensor of an image."""
        return prepare_image(image)

    def preprocess(self, data: Any) -> Any:
        images = []
        for row in data:
            image = row.get("data") or row.get("body")
            if isinstance(image, str):
                image = base64.b64decode(image)
            if isinstance(image, (bytes, bytearray)):
                images.append(self.image_processing(self._pillow.open(io.BytesIO(image))))
            else:
                images.append(torch.FloatTensor(image))
        return torch.stack(images).to(self.device)

    def get_insights(self, tensor_data: Any, _: Any, target: Any = 0) -> Any:
        from captum.attr import IntegratedGradients  # type: ignore[import-not-found, unused-ignore]

        gradients = IntegratedGradients(self.model)
        return gradients.attribute(tensor_data, target=target, n_steps=15).tolist()


class ImageClassifier(VisionHandler):
    """The most probable classes of an image."""

    topk = 5

    def set_max_result_classes(self, topk: int) -> None:
        self.topk = topk

    def get_max_result_classes(self) -> int:
        return self.topk

    def postprocess(self, data: Any) -> List[Any]:
        values, classes = torch.topk(torch.softmax(data, dim=1), self.topk, dim=1)
        return map_class_to_label(values.tolist(), self.mapping, classes.tolist())


class ObjectDetector(VisionHandler):
    """The boxes of objects whose score is at least the threshold."""

    threshold = 0.5

    def image_processing(self, image: Any) -> Any:
        return image_tensor(image)

    def postprocess(self, data: Any) -> List[Any]:
        return [self._objects(row) for row in data]

    def _objects(self, row: Any) -> List[Any]:
        chosen = row["scores"] >= self.threshold
        columns = [row[key][chosen].tolist() for key in ("labels", "boxes", "scores")]
        return [
            dict(map_class_to_label([[box]], self.mapping, [[label]])[0], score=score)
            for label, box, score in zip(*columns)
        ]


class ImageSegmenter(VisionHandler):
    """The most probable class of each pixel, with its probability."""

    def postprocess(self, data: Any) -> List[Any]:
        best = torch.max(torch.softmax(data["out"], dim=1), dim=1)
        pairs = torch.stack([best.indices.type(best.values.dtype), best.values], dim=3)
        return pairs.tolist()  # type: ignore[no-any-return]
