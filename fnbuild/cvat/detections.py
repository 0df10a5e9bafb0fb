"""A detector's reply: a list of shapes, each with a label and attributes.

The rules are those of CVAT's server (cvat/apps/lambda_manager and its serializers).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from fnbuild.cvat import masks
from fnbuild.cvat.reply_report import ReplyReport, is_number, json_excerpt, json_type, read_numbers
from fnbuild.cvat.shapes import Shape, Size
from fnbuild.function.labels import Attribute, Label

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
            self.report.error(
                "",
                f"a detector replies with a list of shapes, not with {json_type(reply)}",
                _wrapped_list_hint(reply),
            )
            return []
        if reply and not self.labels:
            self.report.warning(
                "",
                "the function's spec declares no labels: CVAT drops every shape",
                "list the labels in metadata.annotations.spec",
            )
        shapes = (self.item(item, f"[{i}]", i) for i, item in enumerate(reply))
        return [shape for shape in shapes if shape is not None]

    def item(self, item: Any, path: str, index: int) -> Shape | None:
        if not isinstance(item, dict):
            self.report.error(path, f"must be an object, not {json_type(item)}")
            return None
        kind = self._type(item, path)
        name = self._label(item, path, self.labels)
        if kind is None or name is None:
            return None
        label = self.labels.get(name)
        if label and label.type not in ("any", kind) and {label.type, kind} != {"mask", "polygon"}:
            self.report.warning(
                f"{path}.type",
                f'is {kind}, but the spec declares "{name}" as {label.type}',
            )
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
                self.report.error(path, 'a mask needs the key "mask": CVAT fails without it')
                return None
            mask = masks.from_crop(item["mask"], f"{path}.mask", self.size, self.report)
            return None if mask is None else replace(shape, mask=mask)
        points = read_points(shape.type, item, path, self.size, self.report)
        return None if points is None else replace(shape, points=points)

    def _type(self, item: dict[str, Any], path: str) -> str | None:
        kind = item.get("type")
        if "type" not in item:
            self.report.error(path, 'the key "type" is missing', f"one of {', '.join(SHAPE_TYPES)}")
        elif isinstance(kind, str) and kind.lower() == "tag":
            return "tag"
        elif kind not in (*SHAPE_TYPES, INTERVAL):
            hint = self.report.suggestion(kind, SHAPE_TYPES) if isinstance(kind, str) else None
            self.report.error(f"{path}.type", f"{json_excerpt(kind)} is not a shape type", hint)
        else:
            return str(kind)
        return None

    def _label(self, item: dict[str, Any], path: str, labels: dict[str, Label]) -> str | None:
        name = item.get("label")
        if "label" not in item:
            self.report.error(path, 'the key "label" is missing')
            return None
        if not isinstance(name, str):
            self.report.error(
                f"{path}.label",
                f"must be a label's name, not {json_type(name)} ({json_excerpt(name)})",
                "map class numbers to the names of the spec",
            )
            return None
        if labels and name not in labels:
            self.report.warning(
                f"{path}.label",
                f'"{name}" is not in the spec: CVAT silently drops it',
                self.report.suggestion(name, labels),
            )
        return name

    def _rotation(self, item: dict[str, Any], path: str) -> float:
        value = item.get("rotation", 0)
        if not is_number(value) or not 0 <= value <= 360:
            self.report.error(
                f"{path}.rotation", f"must be 0 to 360 degrees, not {json_excerpt(value)}"
            )
            return 0.0
        return float(value)

    def _skeleton(
        self, shape: Shape, item: dict[str, Any], path: str, label: Label | None
    ) -> Shape | None:
        if item.get("points"):
            self.report.error(f"{path}.points", "a skeleton has no points of its own")
        elements = item.get("elements")
        if not isinstance(elements, list) or not elements:
            self.report.error(f"{path}.elements", "a skeleton needs a list of at least 1 element")
            return None
        sublabels = self._sublabels(label) if label else {}
        points: list[Shape] = []
        names: set[str] = set()
        for i, element in enumerate(elements):
            point = self._element(element, f"{path}.elements[{i}]", sublabels, i)
            if point is None:
                continue
            if point.label in names:
                self.report.warning(f"{path}.elements[{i}].label", f'"{point.label}" occurs twice')
            names.add(point.label)
            points.append(point)
        if points and all(point.outside for point in points):
            self.report.warning(path, "all elements are outside: CVAT drops the skeleton")
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
            self.report.error(path, f"must be an object, not {json_type(element)}")
            return None
        if element.get("type") != "points":
            written = json_excerpt(element.get("type"))
            self.report.error(f"{path}.type", f'an element\'s type is "points", not {written}')
        name = self._label(element, path, sublabels)
        points = read_points("points", element, path, self.size, self.report)
        if name is None or points is None:
            return None
        if len(points) != 2:
            self.report.error(
                f"{path}.points", f"an element is one point, not {len(points)} numbers"
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
        report.error(path, f'the key "points" is missing: a {kind} needs it')
        return None
    where = f"{path}.points"
    points = read_numbers(item["points"], where, report)
    if points is None:
        return None
    least, most, what = POINT_COUNTS[kind]
    if len(points) < least or (most and len(points) > most):
        bound = "exactly" if most else "at least"
        report.error(where, f"a {kind} has {bound} {least} numbers ({what}), not {len(points)}")
        return None
    if len(points) % 2:
        report.error(where, f"has {len(points)} numbers, an odd count: points are pairs x, y")
        return None
    _check_coordinates(kind, points, where, size, report)
    return points


def read_confidence(item: dict[str, Any], path: str, report: ReplyReport) -> float | None:
    """Return the confidence, which is a string by convention; CVAT does not read it."""
    value = item.get("confidence", item.get("score"))
    if value is None:
        return None
    try:
        if isinstance(value, str) or is_number(value):
            confidence = float(value)
            if math.isfinite(confidence):
                return confidence
    except ValueError:
        pass
    report.warning(f"{path}.confidence", f"{json_excerpt(value)} is not a number")
    return None


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
        report.warning(where, f"({x:g}, {y:g}) is outside the image ({width} x {height})")
    if kind == "rectangle" and (points[2] <= points[0] or points[3] <= points[1]):
        report.warning(where, "the rectangle has no area: write left, top, right, bottom", None)


def _wrapped_list_hint(reply: Any) -> str | None:
    """Return a hint for the usual mistake, an object around the list."""
    if isinstance(reply, dict):
        for key, value in reply.items():
            if isinstance(value, list):
                return f'return the list under "{key}" itself'
    return None


_MAX_VALUES_SHOWN = 12
"""The number of an attribute's valid values that a message lists."""


@dataclass(slots=True)
class AttributeReader:
    """Reads the attributes of the shapes in one reply, and reports every problem.

    The attributes of each label are prepared once, since many shapes may have the same label.
    """

    report: ReplyReport
    _attributes: dict[int, tuple[Label, dict[str, _KnownAttribute]]] = field(
        default_factory=dict, init=False
    )

    def read(
        self, item: dict[str, Any], path: str, label: Label | None
    ) -> tuple[tuple[str, str], ...]:
        """Return the names and values of a shape's valid attributes."""
        values = item.get("attributes", [])
        where = f"{path}.attributes"
        if not isinstance(values, list):
            message = f"must be a list, not {json_type(values)}"
            self.report.error(where, message, "omit the key instead")
            return ()
        declared = self._attributes_of(label) if label is not None and values else {}
        attributes = []
        for i, value in enumerate(values):
            place = f"{where}[{i}]"
            if not isinstance(value, dict) or "name" not in value or "value" not in value:
                self.report.error(place, 'must be an object with "name" and "value"')
                continue
            name, content = str(value["name"]), value["value"]
            attributes.append(
                (name, content if isinstance(content, str) else json_excerpt(content))
            )
            if name in declared:
                _check_value(declared[name], content, place, self.report)
            elif label is not None:
                self.report.warning(
                    f"{place}.name",
                    f'"{name}" is not an attribute of "{label.name}" in the spec: CVAT drops it',
                    self.report.suggestion(name, declared),
                )
        return tuple(attributes)

    def _attributes_of(self, label: Label) -> dict[str, _KnownAttribute]:
        # By identity: sublabels of two skeletons may share a name, and hashing a label is slow.
        if id(label) not in self._attributes:
            attributes = {
                attribute.name: _KnownAttribute(attribute, frozenset(attribute.values))
                for attribute in label.attributes
            }
            self._attributes[id(label)] = (label, attributes)
        return self._attributes[id(label)][1]


@dataclass(frozen=True, slots=True)
class _KnownAttribute:
    attribute: Attribute
    choices: frozenset[str]


def _check_value(expected: _KnownAttribute, value: Any, place: str, report: ReplyReport) -> None:
    where = f"{place}.value"
    if not isinstance(value, str):
        text = f"must be a string, not {json_type(value)}"
        if expected.attribute.input_type in ("select", "radio"):
            report.error(where, f"{text}: CVAT fails on it")
        else:
            report.warning(where, f"{text}: CVAT drops it")
        return
    fault = _value_fault(expected, value)
    if fault:
        report.warning(where, f'"{value}" {fault}: CVAT drops it', None)


def _value_fault(expected: _KnownAttribute, value: str) -> str | None:
    attribute = expected.attribute
    match attribute.input_type:
        case "checkbox":
            return None if value in ("true", "false") else 'is neither "true" nor "false"'
        case "select" | "radio":
            return (
                None
                if value in expected.choices
                else f"is not one of {_list_values(attribute.values)}"
            )
        case "number":
            return _number_fault(attribute, value)
    return None


def _list_values(values: tuple[str, ...]) -> str:
    more = ", …" if len(values) > _MAX_VALUES_SHOWN else ""
    return ", ".join(values[:_MAX_VALUES_SHOWN]) + more


def _number_fault(attribute: Attribute, value: str) -> str | None:
    try:
        number = int(value)
    except ValueError:
        return "is not a whole number"
    try:
        low, high, step = (int(text) for text in attribute.values)
    except ValueError:
        return None
    if not low <= number <= high:
        return f"is not between {low} and {high}"
    if step > 0 and (number - low) % step:
        return f"is not on a step of {step} from {low}"
    return None
