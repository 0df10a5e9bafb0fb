"""A detection function of cvat-sdk with a label of each type, and an attribute of each type."""

import cvat_sdk.auto_annotation as cvataa
import numpy as np
from cvat_sdk.attributes import attribute_vals_from_dict, number_attribute_values
from cvat_sdk.masks import encode_mask


class Shapes:
    def __init__(self, count: int = 1, title: str = "thing") -> None:
        self.count = count
        attributes = [
            cvataa.number_attribute_spec("size", 7, number_attribute_values(0, 10000)),
            cvataa.checkbox_attribute_spec("dark", 8),
            cvataa.select_attribute_spec("mode", 9, ["RGB", "L"]),
            cvataa.text_attribute_spec("name", 10),
        ]
        points = [cvataa.keypoint_spec("head", 0), cvataa.keypoint_spec("tail", 1)]
        self.spec = cvataa.DetectionFunctionSpec(
            labels=[
                cvataa.label_spec(title, 10, type="rectangle", attributes=attributes),
                cvataa.label_spec("area", 20, type="mask"),
                cvataa.label_spec("outline", 30, type="polygon"),
                cvataa.skeleton_label_spec("animal", 40, points),
                cvataa.label_spec("scene", 50, type="tag"),
                cvataa.label_spec("free", 60),
            ]
        )

    def detect(self, context, image):
        width, height = image.size
        corners = [0, 0, width / 2, 0, width / 2, height / 2]
        values = attribute_vals_from_dict({7: width, 8: True, 9: image.mode, 10: "é"})
        bitmap = np.zeros((height, width), dtype=bool)
        bitmap[1:3, 2:6] = True
        bitmap[2, 3] = False
        area = (
            cvataa.polygon(20, [2, 1, 6, 1, 6, 3])
            if context.conv_mask_to_poly
            else cvataa.mask(20, encode_mask(bitmap))
        )
        tail = cvataa.keypoint(1, [3, 4], outside=True)
        candidates = [
            (0.9, cvataa.rectangle(10, [1, 2, 3, 4], attributes=values, rotation=30)),
            (0.8, area),
            (0.7, cvataa.polygon(30, corners, group=3)),
            (0.6, cvataa.skeleton(40, [cvataa.keypoint(0, [1, 2]), tail])),
            (0.5, cvataa.tag(50)),
            (0.4, cvataa.shape(60, type="ellipse", points=[9, 9, 12, 5])),
        ]
        threshold = 0 if context.conf_threshold is None else context.conf_threshold
        return [shape for score, shape in candidates if score >= threshold] * self.count


create = Shapes
