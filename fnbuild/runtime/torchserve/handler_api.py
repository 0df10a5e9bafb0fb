"""Names of the package `ts` that handlers import: exceptions, labels and streams.

They are those of release 0.12.
"""

import itertools
import json
import os
from typing import Any, Callable, Dict, List, Optional, Sequence

__version__ = "0.12.0"


class PredictionException(Exception):
    """An error for all requests of a call, whose reply has this message and status."""

    def __init__(self, message: str, error_code: int = 500) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = error_code


def list_classes_from_module(module: Any, parent_class: Any = object) -> List[type]:
    """Return the classes that a module defines, without those that it imports."""
    classes = [member for member in vars(module).values() if isinstance(member, type)]
    names = [member.__module__ for member in classes]
    return [
        member
        for index, member in enumerate(classes)
        if names[index] == module.__name__
        and issubclass(member, parent_class or object)
        and member not in classes[:index]
    ]


def load_label_mapping(mapping_file_path: str) -> Optional[Dict[str, str]]:
    """Return the labels of classes in index_to_name.json; None without that file."""
    if not os.path.isfile(mapping_file_path):
        return None
    with open(mapping_file_path, encoding="utf-8") as file:
        mapping = json.load(file)
    if not isinstance(mapping, dict):
        raise ValueError("%s is not an object of classes and labels" % mapping_file_path)
    names = mapping.get("object_type_names")
    if isinstance(names, list):
        return {str(index): name for index, name in enumerate(names)}
    for key, value in mapping.items():
        # ImageNet's lists have a WordNet ID and a name for each class.
        mapping[key] = value[-1] if isinstance(value, list) else value
        if not isinstance(mapping[key], str):
            raise ValueError("the label of class %s in %s is no text" % (key, mapping_file_path))
    return mapping


def map_class_to_label(
    probs: Sequence[Any], mapping: Optional[Dict[str, str]] = None, lbl_classes: Any = None
) -> List[Dict[str, Any]]:
    """Return the probabilities of each row by label, or by class without labels."""
    classes = itertools.repeat(range(len(probs[0]))) if lbl_classes is None else lbl_classes
    labels = (lambda number: mapping[str(number)]) if mapping is not None else str
    return [dict(zip(map(labels, row), values)) for row, values in zip(classes, probs)]


def send_intermediate_predict_response(
    ret: Sequence[Any], req_id_map: Any, message: str, code: int, context: Any = None
) -> None:
    """Send an item to each client of a call; those that the handler returns are the last."""
    context.send_intermediate(ret)


def timed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function: the processor measures the time of calls."""
    return function
