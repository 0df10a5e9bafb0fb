"""The labels a model can return, as CVAT reads them from a function's annotations.

`metadata.annotations.spec` is a JSON list of labels. The rules that check a configuration report
its errors, each at its place. Here everything readable becomes a value, so that a function with one
invalid label can still be invoked and drawn.

The svg of a skeleton label has a circle for each sublabel and a line for each edge, in a drawing of
100 by 100 units. CVAT's label constructor writes the same elements and attributes; it reads the
names of sublabels from `data-label-name` (cvat-ui, skeleton-setup.tsx).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from html.parser import HTMLParser
from typing import Any, Literal, get_args
from zlib import crc32

from fnbuild.function.types import Function

FunctionKind = Literal["detector", "interactor", "reid", "tracker"]
FUNCTION_KINDS: tuple[FunctionKind, ...] = get_args(FunctionKind)

INTEGER_ANNOTATIONS = ("version", "min_pos_points", "min_neg_points")
"""Annotations that CVAT reads as whole numbers."""

FLAG_ANNOTATIONS = ("startswith_box", "startswith_box_optional")
"""Annotations that CVAT reads as true unless they are empty."""

LABEL_TYPES = (
    "any",
    "rectangle",
    "polygon",
    "polyline",
    "points",
    "ellipse",
    "cuboid",
    "mask",
    "skeleton",
    "tag",
    "interval",
)
"""The label types with a meaning; `interval` is for audio only. CVAT accepts any other string as a
type of its own."""

INPUT_TYPES = ("select", "radio", "checkbox", "number", "text")

Colour = tuple[int, int, int]

# Saturated, of medium lightness and with distant hues in sequence: such colours stand out on
# photographs, which are mostly dull, dark or bright.
PALETTE: tuple[Colour, ...] = (
    (255, 64, 85),
    (0, 196, 130),
    (56, 140, 255),
    (255, 176, 0),
    (190, 90, 255),
    (0, 200, 225),
    (255, 112, 40),
    (140, 205, 20),
    (255, 85, 190),
    (95, 105, 255),
    (230, 205, 0),
    (0, 165, 165),
    (235, 60, 235),
    (60, 210, 60),
    (200, 120, 60),
    (120, 180, 255),
)

# The colour of shapes without a label, such as an interactor's mask: few objects are blue.
UNLABELLED: Colour = (56, 140, 255)


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a label. For `number` the values are minimum, maximum and step."""

    name: str
    input_type: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Label:
    """One label.

    Handlers map class numbers by `id`; `validate --fix` draws the svg from `declared_edges`. CVAT
    ignores both.
    """

    name: str
    type: str = "any"
    attributes: tuple[Attribute, ...] = ()
    sublabels: tuple[Label, ...] = ()
    svg: str = ""
    id: int | None = None
    declared_edges: tuple[Edge, ...] = ()

    def edges(self) -> list[Edge]:
        """Return the pairs of sublabel names that the skeleton's svg joins by a line.

        Without an svg, return the pairs in the key `edges`.
        """
        return SkeletonSvg(self.svg).named_edges() if self.svg else list(self.declared_edges)


def function_kind(function: Function) -> FunctionKind | None:
    """Return the kind that CVAT reads, or None if CVAT would skip the function."""
    declared = function.metadata.annotations.get("type", "")
    return next((kind for kind in FUNCTION_KINDS if kind == declared), None)


def tracked_shape_types(function: Function) -> tuple[str, ...]:
    """Return the shape types of a tracker; empty for the older interface of plain rectangles."""
    declared = function.metadata.annotations.get("supported_shape_types", "")
    return tuple(part.strip() for part in declared.split(",") if part.strip())


def function_labels(function: Function) -> list[Label]:
    """Return the function's valid labels in the order of its spec."""
    return parse_labels(function.metadata.annotations.get("spec", ""))


def parse_labels(text: str) -> list[Label]:
    """Return the valid labels in a JSON text."""
    try:
        return _labels(json.loads(text) if text.strip() else [])
    except (ValueError, RecursionError):
        return []


def label_colours(labels: list[Label]) -> dict[str, Colour]:
    """Return a colour for each label, which depends only on its index."""
    return {label.name: PALETTE[i % len(PALETTE)] for i, label in enumerate(labels)}


def label_colour(name: str, colours: dict[str, Colour] | None = None) -> Colour:
    """Return the colour of a label, or one derived from the name if the label is unknown."""
    if colours and name in colours:
        return colours[name]
    return PALETTE[crc32(name.encode()) % len(PALETTE)] if name else UNLABELLED


def _labels(items: Any) -> list[Label]:
    if not isinstance(items, list):
        return []
    return [
        _label(item)
        for item in items
        if isinstance(item, dict) and isinstance(item.get("name"), str)
    ]


def _label(item: dict[str, Any]) -> Label:
    kind, svg, number = item.get("type"), item.get("svg"), item.get("id")
    return Label(
        name=item["name"],
        type=kind if isinstance(kind, str) and kind else "any",
        attributes=tuple(_attributes(item.get("attributes"))),
        sublabels=tuple(_labels(item.get("sublabels"))),
        svg=svg if isinstance(svg, str) else "",
        id=number if isinstance(number, int) else None,
        declared_edges=tuple(parse_edges(item.get("edges"))),
    )


def _attributes(items: Any) -> list[Attribute]:
    attributes = []
    for item in items if isinstance(items, list) else []:
        if isinstance(item, dict) and isinstance(item.get("name"), str):
            values = item.get("values")
            texts = [str(value) for value in values] if isinstance(values, list) else []
            attributes.append(
                Attribute(item["name"], str(item.get("input_type", "text")), tuple(texts))
            )
    return attributes


Edge = tuple[str, str]

_CENTRE, _RADIUS = 50.0, 40.0


class SkeletonSvg(HTMLParser):
    """The nodes and edges of an svg, which is a fragment that need not be valid XML.

    `nodes` maps a node's id to the sublabel's name; `edges` are pairs of ids.
    """

    def __init__(self, svg: str) -> None:
        super().__init__()
        self.nodes: dict[str, str] = {}
        self.edges: list[Edge] = []
        self.feed(svg)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "circle" and ("data-node-id" in values or "data-label-name" in values):
            name = values.get("data-label-name") or values["data-node-id"]
            self.nodes[values.get("data-node-id") or name] = name
        elif tag == "line" and values.get("data-type") == "edge":
            self.edges.append((values.get("data-node-from", ""), values.get("data-node-to", "")))

    def named_edges(self) -> list[Edge]:
        """Return the edges as pairs of sublabel names."""
        return [
            (self.nodes.get(start, start), self.nodes.get(stop, stop)) for start, stop in self.edges
        ]


def skeleton_svg(names: Sequence[str], edges: Sequence[Edge]) -> str:
    """Return an svg with the sublabels on a circle, in their order, and lines between them."""
    places = {name: _circle_position(i, len(names)) for i, name in enumerate(names)}
    numbers = {name: i for i, name in enumerate(names, 1)}
    lines = [
        f'<line x1="{places[start][0]}" y1="{places[start][1]}" x2="{places[stop][0]}"'
        f' y2="{places[stop][1]}" stroke="black" data-type="edge"'
        f' data-node-from="{numbers[start]}" stroke-width="0.5"'
        f' data-node-to="{numbers[stop]}"></line>'
        for start, stop in edges
        if start in places and stop in places
    ]
    circles = [
        f'<circle r="1.5" stroke="black" fill="#b3b3b3" cx="{x}" cy="{y}" stroke-width="0.1"'
        f' data-type="element node" data-element-id="{numbers[name]}"'
        f' data-node-id="{numbers[name]}" data-label-name="{escape(name)}"></circle>'
        for name, (x, y) in places.items()
    ]
    return "".join(lines + circles)


def _circle_position(index: int, count: int) -> tuple[str, str]:
    turn = math.tau * index / count
    reach = _RADIUS if count > 1 else 0.0
    x, y = _CENTRE + reach * math.sin(turn), _CENTRE - reach * math.cos(turn)
    return f"{x:.2f}".rstrip("0").rstrip("."), f"{y:.2f}".rstrip("0").rstrip(".")


def parse_edges(value: object) -> list[Edge]:
    """Return the valid pairs of names in the value of a label's key `edges`."""
    pairs = value if isinstance(value, list) else []
    return [
        (pair[0], pair[1])
        for pair in pairs
        if isinstance(pair, list) and len(pair) == 2 and all(isinstance(name, str) for name in pair)
    ]
