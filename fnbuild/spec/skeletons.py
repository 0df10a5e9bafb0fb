"""The svg of a skeleton label as CVAT keeps it: a circle for each sublabel, a line for each edge.

The drawing is 100 units wide and high. CVAT's label constructor writes the same elements and
attributes; it reads the names of sublabels from `data-label-name` (cvat-ui, skeleton-setup.tsx).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from html.parser import HTMLParser

Edge = tuple[str, str]

_CENTRE, _RADIUS = 50.0, 40.0


class Drawing(HTMLParser):
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


def svg_of(names: Sequence[str], edges: Sequence[Edge]) -> str:
    """Return an svg with the sublabels on a circle, in their order, and lines between them."""
    places = {name: _place(i, len(names)) for i, name in enumerate(names)}
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


def _place(index: int, count: int) -> tuple[str, str]:
    turn = math.tau * index / count
    reach = _RADIUS if count > 1 else 0.0
    x, y = _CENTRE + reach * math.sin(turn), _CENTRE - reach * math.cos(turn)
    return f"{x:.2f}".rstrip("0").rstrip("."), f"{y:.2f}".rstrip("0").rstrip(".")


def edges_in(value: object) -> list[Edge]:
    """Return the valid pairs of names in the value of a label's key `edges`."""
    pairs = value if isinstance(value, list) else []
    return [
        (pair[0], pair[1])
        for pair in pairs
        if isinstance(pair, list) and len(pair) == 2 and all(isinstance(each, str) for each in pair)
    ]
