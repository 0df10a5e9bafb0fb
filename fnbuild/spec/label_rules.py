"""The shape of CVAT's label spec, label by label, each finding at its place inside the JSON."""

from __future__ import annotations

from typing import Any

import yaml

from fnbuild.errors import Severity, Span
from fnbuild.spec.embedded import Embedded
from fnbuild.spec.hints import closest, meant
from fnbuild.spec.labels import INPUT_TYPES, TYPES
from fnbuild.spec.nodes import Node, compose, from_value
from fnbuild.spec.skeletons import Drawing, edges_in
from fnbuild.spec.source import Source, has_room, shown
from fnbuild.spec.subject import Subject

_HIDES_ALL = "CVAT lists no function at all"
_HIDES_ONE = "CVAT hides this function"
_WRITE_SVG = (
    "`fnbuild validate --fix` writes it, with lines between the sublabels that the label's key"
    ' `edges` names, as in "edges": [["head", "neck"]]'
)
_REWRITE_SVG = "remove the svg, and `fnbuild validate --fix` writes it anew"
_LABEL_KEYS = ("id", "name", "type", "attributes", "sublabels", "svg", "color", "edges")


def check_labels(subject: Subject, embedded: Embedded, value: Any) -> None:
    """Report what is wrong with a label spec that is JSON already."""
    _Labels(subject, embedded).run(_tree(embedded.node.text, value))


def _svg_hint(sublabels: Node) -> str:
    """Return the remedy for a missing svg, which is drawn from the names of the sublabels."""
    items = sublabels.items if sublabels.kind == "list" else []
    names = [value for item in items for key, value in item.pairs if key.text == "name"]
    if items and len({name.text for name in names}) == len(items):
        return _WRITE_SVG
    return "give each sublabel a name of its own; then `fnbuild validate --fix` writes it"


def _tree(text: str, value: Any) -> Node:
    """JSON as nodes with places; without them where YAML reads a corner of JSON differently."""
    probe = Source(text, "")
    try:
        root = compose(probe)
    except yaml.YAMLError:
        root = None
    if root is None:
        try:
            return from_value(value)
        except ValueError:
            return Node("scalar")
    return root


class _Labels:
    def __init__(self, subject: Subject, embedded: Embedded):
        self.subject = subject
        self.embedded = embedded

    def run(self, root: Node) -> None:
        if root.kind != "list":
            message = f"the label spec must be a list of labels; {_HIDES_ALL}"
            self._find("error", "cvat-labels", message, root, "put it in [ and ]")
            return
        self._labels(root.items, "label")

    def _labels(self, items: list[Node], what: str) -> None:
        names: dict[str, Node] = {}
        ids: dict[str, Node] = {}
        for number, item in enumerate(items, 1):
            if not has_room(self.subject.report, "error"):
                return
            if item.kind != "map":
                message = f"{what} {number} must be an object with a name; {_HIDES_ALL}"
                self._find("error", "cvat-labels", message, item)
                continue
            label = {key.text: (key, value) for key, value in item.pairs}
            self._name(item, label, names, f"{what} {number}")
            self._id(label, ids)
            self._type(label)
            self._attributes(label)
            self._unknown(label)
            if "type" in label and label["type"][1].value == "skeleton":
                self._skeleton(item, label)

    def _name(
        self, item: Node, label: dict[str, tuple[Node, Node]], names: dict[str, Node], what: str
    ) -> None:
        if "name" not in label:
            self._find("error", "cvat-labels", f"{what} has no name; {_HIDES_ALL}", item)
            return
        node = label["name"][1]
        if node.kind != "scalar" or not isinstance(node.value, str) or not node.value:
            self._find("error", "cvat-labels", f"the name of {what} must be text", node)
        elif names.setdefault(node.value, node) is not node:
            message = f"the label {shown(node.value)} is there twice; {_HIDES_ONE}"
            self._find("error", "cvat-duplicate-label", message, node)

    def _id(self, label: dict[str, tuple[Node, Node]], ids: dict[str, Node]) -> None:
        if "id" in label:
            node = label["id"][1]
            if node.kind == "scalar" and ids.setdefault(node.text, node) is not node:
                message = f"the id {node.text} is there twice; handlers map classes by it"
                self._find("warning", "label-id", message, node)

    def _type(self, label: dict[str, tuple[Node, Node]]) -> None:
        if "type" not in label:
            return
        node = label["type"][1]
        if node.kind != "scalar" or not isinstance(node.value, str):
            self._find("error", "cvat-labels", "the type of a label must be text", node)
        elif node.value not in TYPES:
            message = f"CVAT has no label type {shown(node.value)}"
            hint = meant(node.value, TYPES) or f"one of {', '.join(TYPES)}"
            self._find("warning", "cvat-label-type", message, node, hint)

    def _unknown(self, label: dict[str, tuple[Node, Node]]) -> None:
        for name, (key, _) in label.items():
            word = None if name in _LABEL_KEYS else closest(name, _LABEL_KEYS)
            if word and word not in label:
                message = f"CVAT does not read {shown(name)} of a label"
                self._find("warning", "cvat-label-key", message, key, f"did you mean {word}?")

    def _attributes(self, label: dict[str, tuple[Node, Node]]) -> None:
        if "attributes" not in label or label["attributes"][1].is_null():
            return
        node = label["attributes"][1]
        if node.kind != "list":
            self._find("error", "cvat-attributes", f"attributes must be a list; {_HIDES_ALL}", node)
            return
        names: dict[str, Node] = {}
        for item in node.items:
            if item.kind != "map":
                message = f"an attribute must be an object; {_HIDES_ALL}"
                self._find("error", "cvat-attributes", message, item)
                continue
            attribute = {key.text: value for key, value in item.pairs}
            self._attribute(item, attribute)
            name = attribute.get("name")
            if name and names.setdefault(name.text, name) is not name:
                message = f"the attribute {shown(name.text)} is there twice; {_HIDES_ONE}"
                self._find("error", "cvat-attributes", message, name)

    def _attribute(self, item: Node, attribute: dict[str, Node]) -> None:
        missing = [key for key in ("name", "input_type", "values") if key not in attribute]
        if missing:
            message = f"an attribute has no {' and no '.join(missing)}; {_HIDES_ALL}"
            self._find("error", "cvat-attributes", message, item)
            return
        kind, values = attribute["input_type"], attribute["values"]
        if kind.text not in INPUT_TYPES:
            hint = meant(kind.text, INPUT_TYPES)
            message = f"input_type is one of {', '.join(INPUT_TYPES)}; not {shown(kind.text)}"
            self._find("warning", "cvat-attributes", message, kind, hint)
        if values.kind != "list":
            self._find("warning", "cvat-attributes", "values must be a list of texts", values)
        elif kind.text == "number" and len(values.items) != 3:
            message = "the values of a number are its least, its most and its step"
            self._find("warning", "cvat-attributes", message, values, 'as in ["0", "100", "1"]')
        elif any(not isinstance(value.value, str) for value in values.items):
            message = "values are texts, numbers too"
            self._find("warning", "cvat-attributes", message, values, 'as in ["0", "100", "1"]')

    def _skeleton(self, item: Node, label: dict[str, tuple[Node, Node]]) -> None:
        for key in ("sublabels", "svg"):
            if key not in label:
                message = f"a skeleton has no {key}; {_HIDES_ALL}"
                hint = _svg_hint(label["sublabels"][1]) if "sublabels" in label else None
                self._find("error", "cvat-skeleton", message, item, hint)
        if "sublabels" not in label:
            return
        node = label["sublabels"][1]
        if node.kind != "list":
            self._find("error", "cvat-skeleton", f"sublabels must be a list; {_HIDES_ALL}", node)
            return
        if not node.items and "svg" in label:
            message = "a skeleton has no sublabels, and so no points"
            self._find("warning", "cvat-skeleton", message, node)
        self._labels(node.items, "sublabel")
        names = {
            value.text for item in node.items for key, value in item.pairs if key.text == "name"
        }
        if "edges" in label:
            self._edges(names, label["edges"][1])
        if "svg" in label:
            self._svg(names, label["svg"][1])

    def _edges(self, names: set[str], node: Node) -> None:
        edges = edges_in(node.plain())
        if node.kind != "list" or len(edges) != len(node.items):
            message = "edges are pairs of sublabel names"
            self._find("warning", "cvat-skeleton", message, node, 'as in [["head", "neck"]]')
        for name in sorted({name for edge in edges for name in edge} - names):
            message = f"an edge goes to {shown(name)}, which is no sublabel"
            self._find("warning", "cvat-skeleton", message, node, meant(name, tuple(names)))

    def _svg(self, names: set[str], svg: Node) -> None:
        drawing = Drawing(svg.text)
        drawn = set(drawing.nodes.values())
        if names and not drawn:
            message = "the skeleton's svg has no circle for any sublabel"
            self._find("warning", "cvat-skeleton", message, svg, _REWRITE_SVG)
            return
        for name in sorted(names - drawn):
            message = f"the skeleton's svg has no circle for the sublabel {shown(name)}"
            self._find("warning", "cvat-skeleton", message, svg, _REWRITE_SVG)
        for name in sorted(drawn - names):
            message = f"the skeleton's svg names {shown(name)}, which is no sublabel"
            self._find("warning", "cvat-skeleton", message, svg, _REWRITE_SVG)
        ends = {end for edge in drawing.edges for end in edge}
        for end in sorted(ends - drawing.nodes.keys()):
            message = (
                f"an edge of the skeleton's svg goes to the node {shown(end)}, which is not there"
            )
            self._find("warning", "cvat-skeleton", message, svg, _REWRITE_SVG)

    def _find(
        self, severity: Severity, rule: str, message: str, node: Node, hint: str | None = None
    ) -> None:
        if not has_room(self.subject.report, severity):
            return
        span: Span | None = self.embedded.whole()
        if node.line >= 0:
            length = 1
            if node.kind == "scalar" and node.end_line == node.line:
                length = node.end_column - node.column
            span = self.embedded.at(node.line, node.column, length)
        self.subject.add(self.embedded.source.diagnostic(severity, rule, message, span, hint))
