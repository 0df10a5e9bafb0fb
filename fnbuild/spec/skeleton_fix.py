"""The text of a skeleton's missing svg and its position in the JSON of a label spec."""

from __future__ import annotations

import json
from typing import Any

import yaml

from fnbuild.spec.nodes import Node, compose
from fnbuild.spec.skeletons import edges_in, svg_of
from fnbuild.spec.source import Source


def svg_insertion(text: str) -> tuple[int, str, str] | None:
    """Return the insertion for the first skeleton without an svg: index, text and label.

    None if every skeleton has one, or if the text is not a list of labels.
    """
    try:
        labels = json.loads(text)
        source = Source(text, "")
        root = compose(source)
    except (ValueError, RecursionError, yaml.YAMLError):
        return None
    if not isinstance(labels, list) or root is None or len(root.items) != len(labels):
        return None
    for label, node in zip(labels, root.items, strict=True):
        if not isinstance(label, dict) or label.get("type") != "skeleton" or "svg" in label:
            continue
        names = _names(label.get("sublabels"))
        if names and node.pairs and isinstance(label.get("name"), str):
            svg = svg_of(names, edges_in(label.get("edges")))
            key, value = node.pairs[-1]
            index = source.index(value.end_line, value.end_column)
            return index, f',{_gap(source, key)}"svg": {json.dumps(svg)}', label["name"]
    return None


def _names(sublabels: Any) -> list[str]:
    """Return the names of the sublabels; none unless all have a unique name."""
    items = sublabels if isinstance(sublabels, list) else []
    names = [item.get("name") for item in items if isinstance(item, dict)]
    texts = [name for name in names if isinstance(name, str)]
    return texts if len(set(texts)) == len(items) else []


def _gap(source: Source, key: Node) -> str:
    """Return the space before a key: a line break and indentation if it begins its line."""
    before = source.lines[key.line][: key.column]
    return " " if before.strip() else "\n" + before
