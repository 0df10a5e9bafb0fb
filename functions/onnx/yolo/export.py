"""The description of an exported YOLO model. Needs only the standard library."""

import ast
import math
from dataclasses import dataclass

TASKS = ("detect", "segment", "pose", "obb", "classify")
# Image, box, class and score.
FLAT_COLUMNS = 7


class ExportError(ValueError):
    """An export lacks something: `missing` is "names", "task", "size", "keypoints" or "fit"."""

    def __init__(self, message, missing):
        super().__init__(message)
        self.missing = missing


@dataclass(frozen=True)
class Export:
    """`names` by class, `size` as (height, width), `keypoints` as (count, values of each).

    `fixed_size` is False if the model takes images of any size. `suppressed` is True if overlapping
    boxes are removed in the graph. `version` is that of Ultralytics, "" for other exports.
    `normalized` is True if images are normalized as those of ImageNet.
    """

    task: str
    names: dict
    size: tuple
    stride: int = 32
    keypoints: tuple = (0, 0)
    keypoint_names: tuple = ()
    fixed_size: bool = True
    suppressed: bool = False
    version: str = ""
    normalized: bool = False


def read_export(metadata, input_shape=(), output_shapes=()):
    """Return the Export of a model.

    `metadata` has the values that Ultralytics writes, as objects or as their texts. Shapes have
    names in place of sizes that are not fixed. Raises ExportError, also if an output does not fit.
    """
    values = {key: _value(value) for key, value in metadata.items()}
    names = _by_class(values.get("names") or ())
    if not names:
        raise ExportError("the model has no names of its classes", "names")
    task = values.get("task") or _task(output_shapes, len(names))
    if not task:
        raise ExportError("the model does not say its task", "task")
    if task not in TASKS:
        raise ExportError(f'the task "{task}" is none of {", ".join(TASKS)}', "task")
    # The TorchScript of YOLOv5 has the shape of its input among its metadata.
    spatial = tuple(input_shape[2:4] or values.get("shape", ())[2:4])
    fixed_size = len(spatial) == 2 and all(isinstance(side, int) and side > 0 for side in spatial)
    size = spatial if fixed_size else _pair(values.get("imgsz") or ())
    if not size:
        raise ExportError("the model does not say the size of its images", "size")
    keypoints = tuple(values.get("kpt_shape") or (0, 0))
    if task == "pose" and not keypoints[0]:
        raise ExportError("the model does not say its number of keypoints: kpt_shape", "keypoints")
    arguments = values.get("args")
    suppressed = isinstance(arguments, dict) and arguments.get("nms") is True
    export = Export(
        task=task,
        names=names,
        size=size,
        stride=max(1, int(values.get("stride") or 32)),
        keypoints=keypoints,
        keypoint_names=_keypoint_names(values.get("kpt_names")),
        fixed_size=fixed_size,
        suppressed=suppressed or values.get("end2end") is True,
        version=str(values.get("version") or ""),
        # YOLOv5, whose exports do not name their task.
        normalized=task == "classify" and not values.get("task"),
    )
    if output_shapes:
        _check_output(export, output_shapes)
    return export


def table_layout(export, shape, extra):
    """Return the layout of an output (H x W): "classes", "objects", "rows" or "" if none fits.

    They are classes x places since YOLOv8, places x classes with a value for "any object" in
    YOLOv5, and the rows that remain in models with suppression. `extra` is the number of values
    after the classes.
    """
    count = len(export.names) + extra
    if not export.suppressed and shape[0] == 4 + count:
        return "classes"
    if not (export.suppressed or export.version) and shape[1] == 5 + count:
        return "objects"
    return "rows" if shape[1] == 6 + extra else ""


def extra_values(export, coefficients):
    """Return the number of values after the classes of an object."""
    extras = {"segment": coefficients, "obb": 1, "pose": math.prod(export.keypoints)}
    return extras.get(export.task, 0)


def misfit(export, shape):
    text = " x ".join(map(str, shape))
    count = len(export.names)
    return ExportError(
        f"an output of {text} does not fit {export.task} with {count} classes", "fit"
    )


def _check_output(export, shapes):
    first, last = shapes[0], shapes[-1]
    if export.task == "classify":
        if len(first) == 2 and _fits(first[1], len(export.names)):
            return
    elif is_flat(first):
        return
    elif len(first) == 3 and (export.task != "segment" or len(last) == 4):
        coefficients = last[1] if len(last) == 4 else 0
        sizes_known = isinstance(coefficients, int) and any(isinstance(n, int) for n in first[1:])
        if not sizes_known or table_layout(export, first[1:], extra_values(export, coefficients)):
            return
    raise misfit(export, first)


def is_flat(shape):
    """Return True for rows of all images in one table, as YOLOv7 with suppression has them."""
    return len(shape) == 2 and shape[1] == FLAT_COLUMNS


def _fits(size, wanted):
    return not isinstance(size, int) or size == wanted


def _value(text):
    try:
        return ast.literal_eval(text) if isinstance(text, str) else text
    except (ValueError, SyntaxError):
        return text


def _by_class(names):
    """Return names by class, from a list or a mapping whose keys may be texts."""
    names = names.split(",") if isinstance(names, str) else names
    items = names.items() if isinstance(names, dict) else enumerate(names)
    return {int(number): str(name) for number, name in items}


def _pair(size):
    return (size, size) if isinstance(size, int) else tuple(int(side) for side in size)


def _task(shapes, count):
    """Return the task by the outputs, "" without any: the exports of YOLOv5 do not name it."""
    if not shapes:
        return ""
    if len(shapes[0]) == 2 and (_fits(shapes[0][1], count) or not is_flat(shapes[0])):
        return "classify"
    return "segment" if 4 in map(len, shapes) else "detect"


def _keypoint_names(names):
    """Return the names of keypoints; they are lists by class in the metadata."""
    if isinstance(names, dict):
        names = next(iter(names.values()), ())
    return tuple(str(name) for name in names or ())
