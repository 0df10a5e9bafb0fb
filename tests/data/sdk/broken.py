"""A detection function of cvat-sdk whose results break a rule, another one at each call."""

import cvat_sdk.auto_annotation as cvataa
from cvat_sdk.models import AttributeValRequest

spec = cvataa.DetectionFunctionSpec(
    labels=[
        cvataa.label_spec("area", 1, type="mask"),
        cvataa.skeleton_label_spec("animal", 2, [cvataa.keypoint_spec("head", 0)]),
    ]
)
pixel = [0, 1, 0, 0, 0, 0]
results = [
    cvataa.tag(3),
    cvataa.tag(1),
    cvataa.mask(1, pixel, attributes=[AttributeValRequest(spec_id=4, value="x")]),
    cvataa.skeleton(2, [cvataa.keypoint(9, [1, 1])]),
    cvataa.mask(1, pixel),
]


def detect(context, image):
    return [results.pop(0)]
