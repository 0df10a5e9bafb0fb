"""A detector's reply: a list of shapes, each with a label and attributes.

The rules are those of CVAT's server (cvat/apps/lambda_manager and its serializers).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from fnbuild.cvat import masks
from fnbuild.cvat.attributes import AttributeReader
from fnbuild.cvat.reply_report import ReplyReport, is_number, json_excerpt, json_type, read_numbers
from fnbuild.cvat.shapes import Shape, Size
from fnbuild.function.labels import Label

# Minimum and maximum count of numbers, and their meaning.
POINT_COUNTS: dict[str, tuple[int, int | None, str]] = {
    "rectangle": (4, 4, "left, top, right, bottom"),
    "ellipse": (4, 4, "centre x, centre y, right end, top end"),
    "polygon": (6, None, "at least 3 points"),
    "polyline": (4, None, "at least 2 points"),
    "points": (2, None, "at least 1 point"),
    "cuboid": (16, 16, "8 corners"),
}
SHAPE_TYPES = (*POINT_COUNTS, "mask", "skeleton", "tag")
INTERVAL = "interval"
"""The type of shapes on audio: a valid label type that cannot be drawn on an image."""


@dataclass(slots=True)
class DetectionReader:
    """Reads the items of a detector's reply, and reports every problem."""

    labels: dict[str, Label]
    size: Size
    report: ReplyReport
    _sublabels_of: dict[str, dict[str, Label]] = field(default_factory=dict, init=False)
    _attributes: AttributeReader = field(init=False)

    def __post_init__(self) -> None:
        self._attributes = AttributeReader(self.report)

    def read(self, reply: Any) -> list[Shape]:
        if not isinstance(reply, list):
            self.report.add(
                "reply-type",
                "",
                f"a detector replies with a list of shapes, not with {json_type(reply)}",
                _wrapped_list_hint(reply),
            )
            return []
        if reply and not self.labels:
            self.report.add(
                "no-labels",
                "",
                "the function's spec declares no labels: CVAT drops every shape",
                "list the labels in metadata.annotations.spec",
            )
        shapes = (self.item(item, f"[{i}]", i) for i, item in enumerate(reply))
        return [shape for shape in shapes if shape is not None]

    def item(self, item: Any, path: str, index: int) -> Shape | None:
        if not isinstance(item, dict):
            self.report.add("item-type", path, f"must be an object, not {json_type(item)}")
            return None
        kind = self._type(item, path)
        name = self._label(item, path, self.labels)
        if kind is None or name is None:
            return None
        label = self.labels.get(name)
        if label and label.type not in ("any", kind) and {label.type, kind} != {"mask", "polygon"}:
            self.report.add(
                "label-shape",
                f"{path}.type",
                f'is {kind}, but the spec declares "{name}" as {label.type}',
            )
        group = item.get("group_id")
        if group is not None and not (type(group) is int and group >= 0):
            message = f"must be a whole number from 0 on, not {json_excerpt(group)}"
            self.report.add("group-id", f"{path}.group_id", message)
        shape = Shape(
            type=kind,
            label=name,
            confidence=read_confidence(item, path, self.report),
            attributes=self._attributes.read(item, path, label),
            rotation=self._rotation(item, path),
            index=index,
        )
        return self._located(shape, item, path, label)

    def _located(
        self, shape: Shape, item: dict[str, Any], path: str, label: Label | None
    ) -> Shape | None:
        if shape.type in ("tag", INTERVAL):
            return shape
        if shape.type == "skeleton":
            return self._skeleton(shape, item, path, label)
        if shape.type == "mask":
            if "mask" not in item:
                self.report.add(
                    "missing-key", path, 'a mask needs the key "mask": CVAT fails without it'
                )
                return None
            if item.get("points"):
                # The polygon that replaces the mask if the user has masks converted.
                read_points("polygon", item, path, self.size, self.report)
            mask = masks.from_crop(item["mask"], f"{path}.mask", self.size, self.report)
            return None if mask is None else replace(shape, mask=mask)
        points = read_points(shape.type, item, path, self.size, self.report)
        return None if points is None else replace(shape, points=points)

    def _type(self, item: dict[str, Any], path: str) -> str | None:
        kind = item.get("type")
        if "type" not in item:
            self.report.add(
                "missing-key", path, 'the key "type" is missing', f"one of {', '.join(SHAPE_TYPES)}"
            )
        elif isinstance(kind, str) and kind.lower() == "tag":
            return "tag"
        elif kind not in (*SHAPE_TYPES, INTERVAL):
            hint = self.report.suggestion(kind, SHAPE_TYPES) if isinstance(kind, str) else None
            self.report.add(
                "shape-type", f"{path}.type", f"{json_excerpt(kind)} is not a shape type", hint
            )
        else:
            return str(kind)
        return None

    def _label(self, item: dict[str, Any], path: str, labels: dict[str, Label]) -> str | None:
        name = item.get("label")
        if "label" not in item:
            self.report.add("missing-key", path, 'the key "label" is missing')
            return None
        if not isinstance(name, str):
            self.report.add(
                "label-name",
                f"{path}.label",
                f"must be a label's name, not {json_type(name)} ({json_excerpt(name)})",
                "map class numbers to the names of the spec",
            )
            return None
        if labels and name not in labels:
            self.report.add(
                "label-unknown",
                f"{path}.label",
                f'"{name}" is not in the spec: CVAT silently drops it',
                self.report.suggestion(name, labels),
            )
        return name

    def _rotation(self, item: dict[str, Any], path: str) -> float:
        value = item.get("rotation", 0)
        if not is_number(value) or not 0 <= value <= 360:
            self.report.add(
                "rotation",
                f"{path}.rotation",
                f"must be 0 to 360 degrees, not {json_excerpt(value)}",
            )
            return 0.0
        return float(value)

    def _skeleton(
        self, shape: Shape, item: dict[str, Any], path: str, label: Label | None
    ) -> Shape | None:
        if item.get("points"):
            self.report.add(
                "skeleton-points", f"{path}.points", "a skeleton has no points of its own"
            )
        elements = item.get("elements")
        if not isinstance(elements, list) or not elements:
            self.report.add(
                "skeleton-elements",
                f"{path}.elements",
                "a skeleton needs a list of at least 1 element",
            )
            return None
        sublabels = self._sublabels(label) if label else {}
        points: list[Shape] = []
        names: set[str] = set()
        for i, element in enumerate(elements):
            point = self._element(element, f"{path}.elements[{i}]", sublabels, i)
            if point is None:
                continue
            if point.label in names:
                self.report.add(
                    "skeleton-repeated",
                    f"{path}.elements[{i}].label",
                    f'"{point.label}" occurs twice',
                )
            names.add(point.label)
            points.append(point)
        if points and all(point.outside for point in points):
            self.report.add(
                "skeleton-hidden", path, "all elements are outside: CVAT drops the skeleton"
            )
        return replace(shape, elements=tuple(points)) if points else None

    def _sublabels(self, label: Label) -> dict[str, Label]:
        """Return the sublabels by name. They are cached, since many items have the same label."""
        if label.name not in self._sublabels_of:
            sublabels = {sublabel.name: sublabel for sublabel in label.sublabels}
            self._sublabels_of[label.name] = sublabels
        return self._sublabels_of[label.name]

    def _element(
        self, element: Any, path: str, sublabels: dict[str, Label], index: int
    ) -> Shape | None:
        if not isinstance(element, dict):
            self.report.add("item-type", path, f"must be an object, not {json_type(element)}")
            return None
        if element.get("type") != "points":
            written = json_excerpt(element.get("type"))
            self.report.add(
                "element-type", f"{path}.type", f'an element\'s type is "points", not {written}'
            )
        name = self._label(element, path, sublabels)
        points = read_points("points", element, path, self.size, self.report)
        if name is None or points is None:
            return None
        if len(points) != 2:
            self.report.add(
                "element-point",
                f"{path}.points",
                f"an element is one point, not {len(points)} numbers",
            )
        attributes = self._attributes.read(element, path, sublabels.get(name))
        confidence = read_confidence(element, path, self.report)
        return Shape(
            type="points",
            label=name,
            points=points[:2],
            confidence=confidence,
            attributes=attributes,
            outside=bool(element.get("outside")),
            index=index,
        )


def read_points(
    kind: str, item: dict[str, Any], path: str, size: Size, report: ReplyReport
) -> tuple[float, ...] | None:
    """Return the points of a shape, or None after reporting errors."""
    if "points" not in item:
        report.add("missing-key", path, f'the key "points" is missing: a {kind} needs it')
        return None
    where = f"{path}.points"
    points = read_numbers(item["points"], where, report)
    if points is None:
        return None
    least, most, what = POINT_COUNTS[kind]
    if len(points) < least or (most and len(points) > most):
        bound = "exactly" if most else "at least"
        report.add(
            "points-count",
            where,
            f"a {kind} has {bound} {least} numbers ({what}), not {len(points)}",
        )
        return None
    if len(points) % 2:
        report.add(
            "points-count", where, f"has {len(points)} numbers, an odd count: points are pairs x, y"
        )
        return None
    _check_coordinates(kind, points, where, size, report)
    return points


def read_confidence(item: dict[str, Any], path: str, report: ReplyReport) -> float | None:
    """Return the confidence, which is a string by convention; CVAT does not read it."""
    key = "confidence" if "confidence" in item else "score"
    return parse_confidence(item.get(key), f"{path}.{key}", report)


def parse_confidence(value: Any, path: str, report: ReplyReport) -> float | None:
    """Return a confidence as a number, None if there is none; report the first outside 0 to 1."""
    if value is None:
        return None
    try:
        if isinstance(value, str) or is_number(value):
            confidence = float(value)
            if math.isfinite(confidence):
                _check_confidence(confidence, path, report)
                return confidence
    except ValueError:
        pass
    report.add("confidence-number", path, f"{json_excerpt(value)} is not a number")
    return None


def _check_confidence(confidence: float, path: str, report: ReplyReport) -> None:
    if confidence > 1:
        message = f"{confidence:g} is above 1: a confidence is a number from 0 to 1"
        report.add_once("confidence-range", path, message, "divide percentages by 100")
    elif confidence < 0:
        message = f"{confidence:g} is below 0: a confidence is a number from 0 to 1"
        report.add_once("confidence-range", path, message, "apply a sigmoid or softmax to logits")


def _check_coordinates(
    kind: str, points: tuple[float, ...], where: str, size: Size, report: ReplyReport
) -> None:
    width, height = size
    # One pixel of tolerance: models round, and CVAT draws such shapes correctly.
    outside = [
        (x, y)
        for x, y in zip(points[::2], points[1::2], strict=True)
        if not (-1 <= x <= width + 1 and -1 <= y <= height + 1)
    ]
    if outside and kind != "ellipse":
        x, y = outside[0]
        report.add(
            "points-outside", where, f"({x:g}, {y:g}) is outside the image ({width} x {height})"
        )
    if kind == "rectangle" and (points[2] <= points[0] or points[3] <= points[1]):
        report.add(
            "rectangle-area",
            where,
            "the rectangle has no area: write left, top, right, bottom",
            None,
        )


def _wrapped_list_hint(reply: Any) -> str | None:
    """Return a hint for the usual mistake, an object around the list."""
    if isinstance(reply, dict):
        for key, value in reply.items():
            if isinstance(value, list):
                return f'return the list under "{key}" itself'
    return None
