"""A function as a module of cvat-sdk, which `cvat-cli --function-file` loads.

The module is `sdk_template.py` with the function's description at its end.
"""

from __future__ import annotations

import pprint
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fnbuild.errors import InputError
from fnbuild.function.labels import (
    FunctionKind,
    Label,
    function_kind,
    function_labels,
    tracked_shape_types,
)
from fnbuild.function.types import Function

_TEMPLATE = Path(__file__).with_name("sdk_template.py")
_MARKER = "DESCRIPTION: dict[str, Any] = {}\n"


@dataclass(frozen=True, slots=True)
class FunctionLocation:
    """The place of the function that the module calls: a folder, or the URL of a running one."""

    folder: Path | None = None
    url: str = ""


def module_text(function: Function, location: FunctionLocation) -> str:
    """Return the module's text. Raises `InputError` for a kind that cvat-sdk does not have."""
    kind = function_kind(function)
    if kind is None or kind == "reid":
        raise InputError(
            f"{function.metadata.name} is {'re-identification' if kind else 'not for CVAT'},"
            " and cvat-sdk has no such functions",
            hint="cvat-sdk has detectors, interactors and trackers: the annotation `type`",
        )
    template = _TEMPLATE.read_text(encoding="utf-8")
    assert template.count(_MARKER) == 1
    description = {
        "name": function.metadata.name,
        "handler": function.spec.handler or "main:handler",
        "folder": str(location.folder.absolute()) if location.folder else "",
        "url": location.url,
        **_description(function, kind),
    }
    text = pprint.pformat(description, sort_dicts=False, width=96)
    return template.replace(_MARKER, f"DESCRIPTION: dict[str, Any] = {text}\n")


def _description(function: Function, kind: FunctionKind) -> Mapping[str, Any]:
    """Return the values of cvat-sdk's spec for the kind."""
    annotations = function.metadata.annotations
    if kind == "detector":
        return {"kind": kind, "labels": _numbered(map(_described, function_labels(function)))}
    if kind == "tracker":
        types = tracked_shape_types(function)
        return {
            "kind": kind,
            "supported_shape_types": list(types or ("rectangle",)),
            "typed_shapes": bool(types),
        }
    least_negative = int(annotations.get("min_neg_points") or -1)
    box = None
    if annotations.get("startswith_box"):
        box = 1
    elif annotations.get("startswith_box_optional"):
        box = 0
    return {
        "kind": kind,
        "min_pos_points": max(0, int(annotations.get("min_pos_points") or 1)),
        "min_neg_points": least_negative if least_negative >= 0 else None,
        "min_bounding_boxes": box,
    }


def _described(label: Label) -> dict[str, Any]:
    """Return what cvat-sdk has of a label; attributes and sublabels are numbered."""
    values: dict[str, Any] = {"id": label.id, "name": label.name, "type": label.type}
    values["attributes"] = [
        {
            "id": number,
            "name": attribute.name,
            "mutable": False,
            "input_type": attribute.input_type,
            "values": list(attribute.values),
        }
        for number, attribute in enumerate(label.attributes)
    ]
    if label.type == "skeleton":
        values["sublabels"] = _numbered(
            {**_described(part), "type": "points"} for part in label.sublabels
        )
    return values


def _numbered(labels: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the labels with ids that are unique: their own, or their positions."""
    listed = list(labels)
    ids = {label["id"] for label in listed}
    if None in ids or len(ids) < len(listed):
        return [{**label, "id": number} for number, label in enumerate(listed)]
    return listed
