"""A detector's reply: a list of shapes, each with a label.

The rules are those of CVAT's server (cvat/apps/lambda_manager and the serializers behind it).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from fnbuild.check import masks
from fnbuild.check.attributes import Attributes
from fnbuild.check.problems import Problems, named, number, numbers, shown
from fnbuild.check.shapes import Shape, Size
from fnbuild.spec.labels import Label

# Least and greatest count of numbers, and what they are.
COUNTS: dict[str, tuple[int, int | None, str]] = {
    "rectangle": (4, 4, "left, top, right, bottom"),
    "ellipse": (4, 4, "centre x, centre y, right end, top end"),
    "polygon": (6, None, "at least 3 points"),
    "polyline": (4, None, "at least 2 points"),
    "points": (2, None, "at least 1 point"),
    "cuboid": (16, 16, "8 corners"),
}
TYPES = (*COUNTS, "mask", "skeleton", "tag")
INTERVAL = "interval"
"""The type of shapes on audio: a valid label type that no image can show."""


@dataclass(slots=True)
class Detections:
    """Reads the items of a detector's reply, noting every problem."""

    labels: dict[str, Label]
    size: Size
    problems: Problems
    _known: dict[str, dict[str, Label]] = field(default_factory=dict, init=False)
    _attributes: Attributes = field(init=False)

    def __post_init__(self) -> None:
        self._attributes = Attributes(self.problems)

    def read(self, reply: Any) -> list[Shape]:
        if not isinstance(reply, list):
            self.problems.error(
                "",
                f"a detector replies with a list of shapes, not with {named(reply)}",
                _wrapped(reply),
            )
            return []
        if reply and not self.labels:
            self.problems.warning(
                "",
                "the function's spec declares no labels: CVAT drops every shape",
                "list the labels in metadata.annotations.spec",
            )
        shapes = (self.item(item, f"[{i}]", i) for i, item in enumerate(reply))
        return [shape for shape in shapes if shape is not None]

    def item(self, item: Any, path: str, index: int) -> Shape | None:
        if not isinstance(item, dict):
            self.problems.error(path, f"must be an object, not {named(item)}")
            return None
        kind = self._type(item, path)
        name = self._label(item, path, self.labels)
        if kind is None or name is None:
            return None
        label = self.labels.get(name)
        if label and label.type not in ("any", kind) and {label.type, kind} != {"mask", "polygon"}:
            self.problems.warning(
                f"{path}.type",
                f'is {kind}, but the spec declares "{name}" as {label.type}',
            )
        shape = Shape(
            type=kind,
            label=name,
            confidence=read_confidence(item, path, self.problems),
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
                self.problems.error(path, 'a mask needs the key "mask": CVAT fails without it')
                return None
            mask = masks.from_crop(item["mask"], f"{path}.mask", self.size, self.problems)
            return None if mask is None else replace(shape, mask=mask)
        points = read_points(shape.type, item, path, self.size, self.problems)
        return None if points is None else replace(shape, points=points)

    def _type(self, item: dict[str, Any], path: str) -> str | None:
        kind = item.get("type")
        if "type" not in item:
            self.problems.error(path, 'the key "type" is missing', f"one of {', '.join(TYPES)}")
        elif isinstance(kind, str) and kind.lower() == "tag":
            return "tag"
        elif kind not in (*TYPES, INTERVAL):
            hint = self.problems.likely(kind, TYPES) if isinstance(kind, str) else None
            self.problems.error(f"{path}.type", f"{shown(kind)} is no shape type", hint)
        else:
            return str(kind)
        return None

    def _label(self, item: dict[str, Any], path: str, known: dict[str, Label]) -> str | None:
        name = item.get("label")
        if "label" not in item:
            self.problems.error(path, 'the key "label" is missing')
            return None
        if not isinstance(name, str):
            self.problems.error(
                f"{path}.label",
                f"must be a label's name, not {named(name)} ({shown(name)})",
                "map class numbers to the names of the spec",
            )
            return None
        if known and name not in known:
            self.problems.warning(
                f"{path}.label",
                f'"{name}" is not in the spec: CVAT drops it without a word',
                self.problems.likely(name, known),
            )
        return name

    def _rotation(self, item: dict[str, Any], path: str) -> float:
        value = item.get("rotation", 0)
        if not number(value) or not 0 <= value <= 360:
            self.problems.error(f"{path}.rotation", f"must be 0 to 360 degrees, not {shown(value)}")
            return 0.0
        return float(value)

    def _skeleton(
        self, shape: Shape, item: dict[str, Any], path: str, label: Label | None
    ) -> Shape | None:
        if item.get("points"):
            self.problems.error(f"{path}.points", "a skeleton has no points of its own")
        elements = item.get("elements")
        if not isinstance(elements, list) or not elements:
            self.problems.error(f"{path}.elements", "a skeleton needs a list of at least 1 element")
            return None
        known = self._sublabels(label) if label else {}
        found: list[Shape] = []
        names: set[str] = set()
        for i, element in enumerate(elements):
            point = self._element(element, f"{path}.elements[{i}]", known, i)
            if point is None:
                continue
            if point.label in names:
                self.problems.warning(
                    f"{path}.elements[{i}].label", f'"{point.label}" is there twice'
                )
            names.add(point.label)
            found.append(point)
        if found and all(point.outside for point in found):
            self.problems.warning(path, "all elements are outside: CVAT drops the skeleton")
        return replace(shape, elements=tuple(found)) if found else None

    def _sublabels(self, label: Label) -> dict[str, Label]:
        """By name; made once, as each item of a reply may have the same label."""
        if label.name not in self._known:
            self._known[label.name] = {each.name: each for each in label.sublabels}
        return self._known[label.name]

    def _element(
        self, element: Any, path: str, known: dict[str, Label], index: int
    ) -> Shape | None:
        if not isinstance(element, dict):
            self.problems.error(path, f"must be an object, not {named(element)}")
            return None
        if element.get("type") != "points":
            said = shown(element.get("type"))
            self.problems.error(f"{path}.type", f'an element\'s type is "points", not {said}')
        name = self._label(element, path, known)
        points = read_points("points", element, path, self.size, self.problems)
        if name is None or points is None:
            return None
        if len(points) != 2:
            self.problems.error(
                f"{path}.points", f"an element is one point, not {len(points)} numbers"
            )
        attributes = self._attributes.read(element, path, known.get(name))
        confidence = read_confidence(element, path, self.problems)
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
    kind: str, item: dict[str, Any], path: str, size: Size, problems: Problems
) -> tuple[float, ...] | None:
    """The points of a shape, or None and the errors."""
    if "points" not in item:
        problems.error(path, f'the key "points" is missing: a {kind} needs it')
        return None
    where = f"{path}.points"
    points = numbers(item["points"], where, problems)
    if points is None:
        return None
    least, most, what = COUNTS[kind]
    if len(points) < least or (most and len(points) > most):
        bound = "exactly" if most else "at least"
        problems.error(where, f"a {kind} has {bound} {least} numbers ({what}), not {len(points)}")
        return None
    if len(points) % 2:
        problems.error(where, f"has {len(points)} numbers, an odd count: points are pairs x, y")
        return None
    _placed(kind, points, where, size, problems)
    return points


def read_confidence(item: dict[str, Any], path: str, problems: Problems) -> float | None:
    """The confidence, a string by convention; CVAT does not read it."""
    value = item.get("confidence", item.get("score"))
    if value is None:
        return None
    try:
        if isinstance(value, str) or number(value):
            given = float(value)
            if math.isfinite(given):
                return given
    except ValueError:
        pass
    problems.warning(f"{path}.confidence", f"{shown(value)} is not a number")
    return None


def _placed(
    kind: str, points: tuple[float, ...], where: str, size: Size, problems: Problems
) -> None:
    width, height = size
    # One pixel of slack: models round, and CVAT draws it all the same.
    far = [
        (x, y)
        for x, y in zip(points[::2], points[1::2], strict=True)
        if not (-1 <= x <= width + 1 and -1 <= y <= height + 1)
    ]
    if far and kind != "ellipse":
        x, y = far[0]
        problems.warning(where, f"({x:g}, {y:g}) is outside the image ({width} x {height})")
    if kind == "rectangle" and (points[2] <= points[0] or points[3] <= points[1]):
        problems.warning(where, "the rectangle has no area: write left, top, right, bottom", None)


def _wrapped(reply: Any) -> str | None:
    """The usual mistake is an object around the list."""
    if isinstance(reply, dict):
        for key, value in reply.items():
            if isinstance(value, list):
                return f'return the list under "{key}" itself'
    return None
