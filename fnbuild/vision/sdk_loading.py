"""Load cvat-sdk's auto-annotation functions, and describe them.

Also runs as a script without the rest of this package: `FILE PARAMETERS OUTPUT` writes the
description of the function in a file. It imports nothing but the standard library.
"""

import importlib.util
import json
import sys
from typing import Any, Dict

_KINDS = {
    "DetectionFunctionSpec": "detector",
    "InteractionFunctionSpec": "interactor",
    "TrackingFunctionSpec": "tracker",
}


def load_sdk_function(path: str, parameters: Dict[str, Any]) -> Any:
    """Return the function in a file: the module, or the result of its `create`."""
    specification = importlib.util.spec_from_file_location("__cvat_function__", path)
    if specification is None or specification.loader is None:
        raise ImportError("%s is not a Python file" % path)
    function = importlib.util.module_from_spec(specification)
    # Dataclasses and pickles look their module up there.
    sys.modules[specification.name] = function
    specification.loader.exec_module(function)
    if hasattr(function, "create"):
        function = function.create(**parameters)
    elif parameters:
        raise TypeError("%s has no `create`, so it takes no parameters" % path)
    if not hasattr(function, "spec"):
        raise TypeError("%s is no function of cvat-sdk: it has neither `spec` nor `create`" % path)
    sdk_kind(function.spec)
    return function


def sdk_kind(spec: Any) -> str:
    """Return CVAT's kind of function for a spec of cvat-sdk."""
    kind = _KINDS.get(type(spec).__name__)
    if kind is None:
        message = "`spec` is of type %s; cvat-sdk has %s"
        raise TypeError(message % (type(spec).__name__, ", ".join(sorted(_KINDS))))
    return kind


def describe(spec: Any) -> Dict[str, Any]:
    """Return the annotations of a function with this spec, and its labels as JSON values."""
    kind = sdk_kind(spec)
    annotations = {"type": kind}
    labels = []
    if kind == "detector":
        labels = [label.to_dict() for label in spec.labels]
    elif kind == "interactor":
        annotations["version"] = "2"
        annotations["min_pos_points"] = str(spec.min_pos_points)
        if spec.min_neg_points is not None:
            annotations["min_neg_points"] = str(spec.min_neg_points)
        if spec.min_bounding_boxes is not None:
            key = "startswith_box" if spec.min_bounding_boxes else "startswith_box_optional"
            annotations[key] = "true"
    else:
        annotations["supported_shape_types"] = ", ".join(sorted(spec.supported_shape_types))
    return {"annotations": annotations, "labels": labels}


if __name__ == "__main__":
    description = describe(load_sdk_function(sys.argv[1], json.loads(sys.argv[2])).spec)
    with open(sys.argv[3], "w", encoding="utf-8") as output:
        json.dump(description, output)
