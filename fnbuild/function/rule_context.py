"""The input of a rule: a function, the locations of its values, and a report for diagnostics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from fnbuild.errors import Diagnostic, Report, Span
from fnbuild.function.decoder import Decoder
from fnbuild.function.source_text import SourceText, has_room
from fnbuild.function.types import FieldPath, Function, to_dict
from fnbuild.function.yaml_nodes import YamlNode

SpanPart = Literal["key", "value"]

_ENV = ("spec", "env")


@dataclass
class RuleContext:
    """A function as a rule sees it.

    `function` includes the defaults, `written` does not. `layers` are ordered by precedence, the
    highest first. Values from flags have no location. `code` is the folder or the single source
    file, or None if no code is available.
    """

    function: Function
    written: Function
    report: Report
    layers: Sequence[Decoder] = ()
    overrides: Function | None = None
    code: Path | None = None
    _overridden_paths: set[FieldPath] = field(default_factory=set)
    _spans_with_errors: set[Span] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._spans_with_errors = {error.span for error in self.report.errors if error.span}
        if self.overrides is not None:
            self._overridden_paths = set(_leaf_paths(to_dict(self.overrides), ()))

    def locate(self, path: FieldPath) -> tuple[SourceText, YamlNode | None, YamlNode] | None:
        """Return source, key and value of a path or its nearest parent; None for flags."""
        layers, path = self._layers_of(path)
        for length in range(len(path), -1, -1):
            part = path[:length]
            if part in self._overridden_paths:
                return None
            for layer in layers:
                if part in layer.nodes:
                    key, value = layer.nodes[part]
                    return layer.source, key, value
        return None

    def _layers_of(self, path: FieldPath) -> tuple[Sequence[Decoder], FieldPath]:
        """Return the layers to search for a path, and the path in them.

        Variables are merged by name, so a variable comes from one layer, where its index differs.
        """
        if path[:2] != _ENV or len(path) == 2:
            return self.layers, path
        index = int(path[2])
        if index >= len(self._variables):
            return self.layers, path[:2]
        layer, number = self._variables[index]
        return ([layer], (*_ENV, number, *path[3:])) if layer is not None else ([], path)

    @cached_property
    def _variables(self) -> list[tuple[Decoder | None, int]]:
        """The layer of each variable (None for flags), and its index in that layer."""
        flags = self.overrides.spec.env if self.overrides is not None else []
        origins: list[tuple[Decoder | None, int]] = [(None, index) for index in range(len(flags))]
        names = {variable.name for variable in flags}
        for layer in self.layers:
            layer_names: list[str] = []
            while (*_ENV, len(layer_names)) in layer.nodes:
                _, node = layer.nodes.get((*_ENV, len(layer_names), "name"), (None, None))
                layer_names.append(node.text if node is not None else "")
            origins += [
                (layer, index) for index, name in enumerate(layer_names) if name not in names
            ]
            names |= set(layer_names)
        return origins

    def is_set_in_file(self, *path: str | int) -> bool:
        """Return True if a file sets this value, even if a flag overrides it."""
        return any(path in layer.nodes for layer in self.layers)

    def error(
        self,
        rule: str,
        message: str,
        path: FieldPath,
        hint: str | None = None,
        part: SpanPart = "value",
    ) -> None:
        if has_room(self.report, "error"):
            self.add(Diagnostic("error", rule, message, *self._span_and_excerpt(path, part), hint))

    def warning(
        self,
        rule: str,
        message: str,
        path: FieldPath,
        hint: str | None = None,
        part: SpanPart = "value",
    ) -> None:
        if has_room(self.report, "warning"):
            self.add(
                Diagnostic("warning", rule, message, *self._span_and_excerpt(path, part), hint)
            )

    def _span_and_excerpt(self, path: FieldPath, part: SpanPart) -> tuple[Span | None, str | None]:
        """Return the span and the excerpt of a diagnostic about a path."""
        location = self.locate(path)
        if location is None:
            return None, None
        source, key, value = location
        layers, path = self._layers_of(path)
        exact = any(path in layer.nodes for layer in layers)
        # The parent of a missing value, and a block, are marked at their key only.
        node = key if key and (part == "key" or not exact or value.kind != "scalar") else value
        span = node.span(source)
        return span, source.excerpt(span) if span else None

    def add(self, diagnostic: Diagnostic) -> None:
        """Add a diagnostic, unless the reader has reported an error at the same place."""
        reported = diagnostic.span in self._spans_with_errors
        if not reported and has_room(self.report, diagnostic.severity):
            self.report.add(diagnostic)


def _leaf_paths(value: Any, path: FieldPath) -> Iterator[FieldPath]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaf_paths(item, (*path, key))
    else:
        yield path
