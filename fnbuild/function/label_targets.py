"""Write label specs as CVAT's JSON, COCO's categories, the data.yaml of YOLO, or names."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from fnbuild.errors import InputError, UsageError
from fnbuild.function.label_sources import RawLabel
from fnbuild.function.labels import SkeletonSvg
from fnbuild.function.source_text import quoted
from fnbuild.function.yaml_writer import as_yaml


def with_type(labels: Sequence[RawLabel], label_type: str) -> list[RawLabel]:
    """Return the labels with another type; sublabels stay with skeletons only."""
    converted = []
    for label in labels:
        if label_type == "skeleton" and not label.get("sublabels"):
            raise UsageError(
                f"the label {quoted(label['name'])} has no points of a skeleton",
                hint="choose another `--type`",
            )
        dropped = () if label_type == "skeleton" else ("sublabels", "svg")
        kept = {key: value for key, value in label.items() if key not in dropped}
        converted.append({**kept, "type": label_type})
    return converted


def write_labels(labels: Sequence[RawLabel], target: str) -> str:
    """Return the labels as a text in the format of one of `TARGETS`."""
    return TARGETS[target](labels).rstrip("\n") + "\n"


def lost_details(labels: Sequence[RawLabel], target: str) -> list[str]:
    """Return the names of the labels whose attributes or points the format cannot express."""
    if target == "cvat":
        return []
    lost = ("attributes", "sublabels") if target == "names" else ("attributes",)
    return [label["name"] for label in labels if any(label.get(key) for key in lost)]


def _cvat_text(labels: Sequence[RawLabel]) -> str:
    return _json_lines("[", labels, "]")


def _coco_text(labels: Sequence[RawLabel]) -> str:
    ids = [label.get("id") for label in labels]
    own = len(set(ids)) == len(ids) and all(type(number) is int for number in ids)
    categories = []
    for index, label in enumerate(labels):
        category = {"id": ids[index] if own else index + 1, "name": label["name"]}
        if points := _point_names(label):
            numbers = {name: number for number, name in enumerate(points, 1)}
            edges = SkeletonSvg(label.get("svg", "")).named_edges()
            category["keypoints"] = points
            category["skeleton"] = [
                [numbers[start], numbers[end]]
                for start, end in edges
                if start in numbers and end in numbers
            ]
        categories.append(category)
    return _json_lines('{"categories": [', categories, "]}")


def _yolo_text(labels: Sequence[RawLabel]) -> str:
    """Return a data.yaml. Classes are numbered in the order of the labels."""
    data: dict[str, Any] = {"names": {i: label["name"] for i, label in enumerate(labels)}}
    points = {label["name"]: _point_names(label) for label in labels}
    counts = {len(names) for names in points.values()}
    if counts - {0}:
        if len(counts) > 1:
            listed = ", ".join(f"{quoted(name)} {len(names)}" for name, names in points.items())
            raise InputError(
                f"YOLO has one number of keypoints for all classes; here are {listed}",
                hint="convert labels with equal numbers of points only",
            )
        data["kpt_shape"] = [counts.pop(), 3]
        first, *others = points.values()
        flips = _flip_indexes(first)
        if flips and all(_flip_indexes(names) == flips for names in others):
            data["flip_idx"] = flips
        data["kpt_names"] = dict(enumerate(points.values()))
    return as_yaml(data)


def _names_text(labels: Sequence[RawLabel]) -> str:
    for label in labels:
        if label["name"] != label["name"].strip() or len(label["name"].splitlines()) != 1:
            raise InputError(
                f"the name {quoted(label['name'])} does not fit on a line of its own",
                hint="rename the label, or convert to another format",
            )
    return "\n".join(label["name"] for label in labels)


TARGETS: dict[str, Callable[[Sequence[RawLabel]], str]] = {
    "cvat": _cvat_text,
    "coco": _coco_text,
    "yolo": _yolo_text,
    "names": _names_text,
}


def _point_names(label: RawLabel) -> list[str]:
    return [sublabel["name"] for sublabel in label.get("sublabels") or []]


def _flip_indexes(names: list[str]) -> list[int]:
    """Return the index of each point's counterpart in a mirrored image; empty if none has one."""
    indexes = {name: index for index, name in enumerate(names)}
    swapped = [
        name.replace("left", "\0").replace("right", "left").replace("\0", "right") for name in names
    ]
    if swapped == names or not set(swapped) <= indexes.keys():
        return []
    return [indexes[name] for name in swapped]


def _json_lines(opening: str, items: Sequence[object], closing: str) -> str:
    """Return JSON with one item on each line."""
    lines = ",\n".join(f"  {json.dumps(item, ensure_ascii=False)}" for item in items)
    return f"{opening}\n{lines}\n{closing}"
