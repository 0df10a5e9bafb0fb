"""Rules on CVAT's label spec, with diagnostics at their positions inside the JSON."""

from __future__ import annotations

from typing import Any

from fnbuild.errors import Severity, Span
from fnbuild.function.labels import INPUT_TYPES, LABEL_TYPES, SkeletonSvg, parse_edges
from fnbuild.function.rule_context import RuleContext
from fnbuild.function.source_text import SourceText, has_room, quoted
from fnbuild.function.suggestions import closest, did_you_mean
from fnbuild.function.yaml_nodes import EmbeddedText, YamlNode, compose_or_none, node_from_value

_HIDES_ALL = "CVAT lists no function at all"
_HIDES_ONE = "CVAT hides this function"
_WRITE_SVG = (
    "`fnbuild validate --fix` writes it, with lines between the sublabels that the label's key"
    ' `edges` names, as in "edges": [["head", "neck"]]'
)
_REWRITE_SVG = "remove the svg, and `fnbuild validate --fix` writes it again"
_LabelNodes = dict[str, tuple[YamlNode, YamlNode]]
"""The keys of a label, each as the nodes of key and value."""

_LABEL_KEYS = ("id", "name", "type", "attributes", "sublabels", "svg", "color", "edges")


def check_cvat_labels(context: RuleContext, embedded: EmbeddedText, value: Any) -> None:
    """Check a label spec of CVAT; `value` is its JSON, already decoded."""
    _LabelChecker(context, embedded).run(_parse_nodes(embedded.node.text, value))


def _svg_hint(sublabels: YamlNode) -> str:
    """Return a hint for a missing svg, which is drawn from the names of the sublabels."""
    items = sublabels.items if sublabels.kind == "list" else []
    names = [value for item in items for key, value in item.pairs if key.text == "name"]
    if items and len({name.text for name in names}) == len(items):
        return _WRITE_SVG
    return "give each sublabel a name of its own; then `fnbuild validate --fix` writes it"


def _parse_nodes(text: str, value: Any) -> YamlNode:
    """Parse JSON into nodes, without positions where YAML and JSON differ."""
    if (root := compose_or_none(SourceText(text, ""))) is not None:
        return root
    try:
        return node_from_value(value)
    except ValueError:
        return YamlNode("scalar")


class _LabelChecker:
    def __init__(self, context: RuleContext, embedded: EmbeddedText):
        self.context = context
        self.embedded = embedded

    def run(self, root: YamlNode) -> None:
        if root.kind != "list":
            message = f"the label spec must be a list of labels; {_HIDES_ALL}"
            self._report("error", "cvat-labels", message, root, "put it in [ and ]")
            return
        self._labels(root.items, "label")

    def _labels(self, items: list[YamlNode], what: str) -> None:
        names: dict[str, YamlNode] = {}
        ids: dict[str, YamlNode] = {}
        for number, item in enumerate(items, 1):
            if not has_room(self.context.report, "error"):
                return
            if item.kind != "map":
                message = f"{what} {number} must be an object with a name; {_HIDES_ALL}"
                self._report("error", "cvat-labels", message, item)
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
        self, item: YamlNode, label: _LabelNodes, names: dict[str, YamlNode], what: str
    ) -> None:
        if "name" not in label:
            self._report("error", "cvat-labels", f"{what} has no name; {_HIDES_ALL}", item)
            return
        node = label["name"][1]
        if node.kind != "scalar" or not isinstance(node.value, str) or not node.value:
            self._report("error", "cvat-labels", f"the name of {what} must be text", node)
        elif names.setdefault(node.value, node) is not node:
            message = f"the label {quoted(node.value)} is defined twice; {_HIDES_ONE}"
            self._report("error", "cvat-duplicate-label", message, node)

    def _id(self, label: _LabelNodes, ids: dict[str, YamlNode]) -> None:
        if "id" in label:
            node = label["id"][1]
            if node.kind == "scalar" and ids.setdefault(node.text, node) is not node:
                message = f"the id {node.text} is used twice; handlers map classes by it"
                self._report("warning", "label-id", message, node)

    def _type(self, label: _LabelNodes) -> None:
        if "type" not in label:
            return
        node = label["type"][1]
        if node.kind != "scalar" or not isinstance(node.value, str):
            self._report("error", "cvat-labels", "the type of a label must be text", node)
        elif node.value not in LABEL_TYPES:
            message = f"CVAT has no label type {quoted(node.value)}"
            hint = did_you_mean(node.value, LABEL_TYPES) or f"one of {', '.join(LABEL_TYPES)}"
            self._report("warning", "cvat-label-type", message, node, hint)

    def _unknown(self, label: _LabelNodes) -> None:
        for name, (key, _) in label.items():
            word = None if name in _LABEL_KEYS else closest(name, _LABEL_KEYS)
            if word and word not in label:
                message = f"CVAT does not read {quoted(name)} of a label"
                self._report("warning", "cvat-label-key", message, key, f"did you mean {word}?")

    def _attributes(self, label: _LabelNodes) -> None:
        if "attributes" not in label or label["attributes"][1].is_null():
            return
        node = label["attributes"][1]
        if node.kind != "list":
            self._report(
                "error", "cvat-attributes", f"attributes must be a list; {_HIDES_ALL}", node
            )
            return
        names: dict[str, YamlNode] = {}
        for item in node.items:
            if item.kind != "map":
                message = f"an attribute must be an object; {_HIDES_ALL}"
                self._report("error", "cvat-attributes", message, item)
                continue
            attribute = {key.text: value for key, value in item.pairs}
            self._attribute(item, attribute)
            name = attribute.get("name")
            if name and names.setdefault(name.text, name) is not name:
                message = f"the attribute {quoted(name.text)} is defined twice; {_HIDES_ONE}"
                self._report("error", "cvat-attributes", message, name)

    def _attribute(self, item: YamlNode, attribute: dict[str, YamlNode]) -> None:
        missing = [key for key in ("name", "input_type", "values") if key not in attribute]
        if missing:
            message = f"an attribute has no {' and no '.join(missing)}; {_HIDES_ALL}"
            self._report("error", "cvat-attributes", message, item)
            return
        kind, values = attribute["input_type"], attribute["values"]
        if kind.text not in INPUT_TYPES:
            hint = did_you_mean(kind.text, INPUT_TYPES)
            message = f"input_type is one of {', '.join(INPUT_TYPES)}; not {quoted(kind.text)}"
            self._report("warning", "cvat-attributes", message, kind, hint)
        if values.kind != "list":
            self._report("warning", "cvat-attributes", "values must be a list of texts", values)
        elif kind.text == "number" and len(values.items) != 3:
            message = "the values of a number are its minimum, its maximum and its step"
            self._report("warning", "cvat-attributes", message, values, 'as in ["0", "100", "1"]')
        elif any(not isinstance(value.value, str) for value in values.items):
            message = "values must be texts, even for numbers"
            self._report("warning", "cvat-attributes", message, values, 'as in ["0", "100", "1"]')

    def _skeleton(self, item: YamlNode, label: _LabelNodes) -> None:
        for key in ("sublabels", "svg"):
            if key not in label:
                message = f"a skeleton has no {key}; {_HIDES_ALL}"
                hint = _svg_hint(label["sublabels"][1]) if "sublabels" in label else None
                self._report("error", "cvat-skeleton", message, item, hint)
        if "sublabels" not in label:
            return
        node = label["sublabels"][1]
        if node.kind != "list":
            self._report("error", "cvat-skeleton", f"sublabels must be a list; {_HIDES_ALL}", node)
            return
        if not node.items and "svg" in label:
            message = "a skeleton has no sublabels, and so no points"
            self._report("warning", "cvat-skeleton", message, node)
        self._labels(node.items, "sublabel")
        names = {
            value.text for item in node.items for key, value in item.pairs if key.text == "name"
        }
        if "edges" in label:
            self._edges(names, label["edges"][1])
        if "svg" in label:
            self._svg(names, label["svg"][1])

    def _edges(self, names: set[str], node: YamlNode) -> None:
        edges = parse_edges(node.to_value())
        if node.kind != "list" or len(edges) != len(node.items):
            message = "edges are pairs of sublabel names"
            self._report("warning", "cvat-skeleton", message, node, 'as in [["head", "neck"]]')
        for name in sorted({name for edge in edges for name in edge} - names):
            message = f"an edge refers to {quoted(name)}, which is not a sublabel"
            self._report(
                "warning", "cvat-skeleton", message, node, did_you_mean(name, tuple(names))
            )

    def _svg(self, names: set[str], svg: YamlNode) -> None:
        drawing = SkeletonSvg(svg.text)
        drawn = set(drawing.nodes.values())
        if names and not drawn:
            message = "the skeleton's svg has no circle for any sublabel"
            self._report("warning", "cvat-skeleton", message, svg, _REWRITE_SVG)
            return
        for name in sorted(names - drawn):
            message = f"the skeleton's svg has no circle for the sublabel {quoted(name)}"
            self._report("warning", "cvat-skeleton", message, svg, _REWRITE_SVG)
        for name in sorted(drawn - names):
            message = f"the skeleton's svg names {quoted(name)}, which is not a sublabel"
            self._report("warning", "cvat-skeleton", message, svg, _REWRITE_SVG)
        ends = {end for edge in drawing.edges for end in edge}
        for end in sorted(ends - drawing.nodes.keys()):
            message = (
                f"an edge of the skeleton's svg refers to the node {quoted(end)}, which is missing"
            )
            self._report("warning", "cvat-skeleton", message, svg, _REWRITE_SVG)

    def _report(
        self, severity: Severity, rule: str, message: str, node: YamlNode, hint: str | None = None
    ) -> None:
        if not has_room(self.context.report, severity):
            return
        span: Span | None = self.embedded.whole_span()
        if node.line >= 0:
            length = 1
            if node.kind == "scalar" and node.end_line == node.line:
                length = node.end_column - node.column
            span = self.embedded.span_at_position(node.line, node.column, length)
        self.context.add(self.embedded.source.diagnostic(severity, rule, message, span, hint))
