"""The labels a model can return, as CVAT reads them from a function's annotations.

`metadata.annotations.spec` is a JSON list of labels. Faults in it are reported by the rules that
check a configuration, each at its place; here whatever is readable becomes a value, so that a
function with one bad label can still be invoked and drawn.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal, get_args
from zlib import crc32

from fnbuild.spec.skeletons import Drawing, Edge, edges_in
from fnbuild.spec.types import Function

Kind = Literal["detector", "interactor", "reid", "tracker"]
KINDS: tuple[Kind, ...] = get_args(Kind)

TYPES = (
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
"""The label types with a meaning, `interval` on audio alone; CVAT takes any other string too and
treats it as its own type."""

INPUT_TYPES = ("select", "radio", "checkbox", "number", "text")

Colour = tuple[int, int, int]

# Saturated, of middle lightness and far apart in hue from one to the next: such colours stand out
# on photographs, which are mostly dull, dark or bright.
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

# Of what has no label, such as an interactor's mask: blue is the rarest colour of things.
NAMELESS: Colour = (56, 140, 255)


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a label. For `number` the values are minimum, maximum and step."""

    name: str
    input_type: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Label:
    """One label.

    `id` is for handlers that map classes by number, and `drawn_edges` are the edges from which
    `validate --fix` draws the svg. CVAT ignores both.
    """

    name: str
    type: str = "any"
    attributes: tuple[Attribute, ...] = ()
    sublabels: tuple[Label, ...] = ()
    svg: str = ""
    id: int | None = None
    drawn_edges: tuple[Edge, ...] = ()

    def edges(self) -> list[Edge]:
        """Return the pairs of sublabel names that the skeleton's svg joins by a line.

        Without an svg, return the pairs in the key `edges`.
        """
        return Drawing(self.svg).named_edges() if self.svg else list(self.drawn_edges)


def kind_of(function: Function) -> Kind | None:
    """The kind CVAT would take the function for; None when it would skip it."""
    declared = function.metadata.annotations.get("type", "")
    return next((kind for kind in KINDS if kind == declared), None)


def tracked_types(function: Function) -> tuple[str, ...]:
    """The shape types a tracker declares; empty for the older interface of plain rectangles."""
    declared = function.metadata.annotations.get("supported_shape_types", "")
    return tuple(part.strip() for part in declared.split(",") if part.strip())


def of(function: Function) -> list[Label]:
    """The function's labels in the order of its spec; empty when it has none that can be read."""
    return parse(function.metadata.annotations.get("spec", ""))


def parse(text: str) -> list[Label]:
    """The labels of a JSON text."""
    try:
        return _labels(json.loads(text) if text.strip() else [])
    except (ValueError, RecursionError):
        return []


def colours(labels: list[Label]) -> dict[str, Colour]:
    """A colour for each label, the same on every run: by its place in the list."""
    return {label.name: PALETTE[i % len(PALETTE)] for i, label in enumerate(labels)}


def colour(name: str, known: dict[str, Colour] | None = None) -> Colour:
    """The colour of a label; one that follows from the name when the spec does not have it."""
    if known and name in known:
        return known[name]
    return PALETTE[crc32(name.encode()) % len(PALETTE)] if name else NAMELESS


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
        drawn_edges=tuple(edges_in(item.get("edges"))),
    )


def _attributes(items: Any) -> list[Attribute]:
    found = []
    for item in items if isinstance(items, list) else []:
        if isinstance(item, dict) and isinstance(item.get("name"), str):
            values = item.get("values")
            texts = [str(value) for value in values] if isinstance(values, list) else []
            found.append(Attribute(item["name"], str(item.get("input_type", "text")), tuple(texts)))
    return found
