"""An interaction function of cvat-sdk: a box around all points, as a mask."""

import cvat_sdk.auto_annotation as cvataa
import numpy as np
from cvat_sdk.masks import encode_mask
from cvat_sdk.models import AttributeValRequest

spec = cvataa.InteractionFunctionSpec(min_pos_points=1, min_neg_points=0, min_bounding_boxes=0)
preprocessed = 0


def preprocess_image(context, image):
    global preprocessed
    preprocessed += 1
    return {"size": image.size}


def detect(context, pp_image, prompts):
    width, height = pp_image["size"]
    bitmap = np.zeros((height, width), dtype=bool)
    places = [*prompts.pos_points, *(prompts.bounding_box or ())]
    xs, ys = ([int(place[axis]) for place in places] for axis in (0, 1))
    bitmap[min(ys) : max(ys) + 1, min(xs) : max(xs) + 1] = True
    for x, y in prompts.neg_points:
        bitmap[int(y), int(x)] = False
    score = AttributeValRequest(
        spec_id=cvataa.InteractionResultAttributes.CONFIDENCE, value=str(1 / preprocessed)
    )
    return [
        cvataa.InteractionResultShape(type="mask", points=encode_mask(bitmap), attributes=[score])
    ]
