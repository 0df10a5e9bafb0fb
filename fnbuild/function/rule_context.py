"""What a rule looks at: a function, where its values stand, and a report to add findings to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from fnbuild.errors import Diagnostic, Report, Span
from fnbuild.function.decoder import Decoder
from fnbuild.function.source_text import SourceText, below_limit
from fnbuild.function.types import Function, to_dict
from fnbuild.function.yaml_nodes import YamlNode

SpanPart = Literal["key", "value"]

_ENV = ("spec", "env")


@dataclass
class RuleContext:
    """`function` has its defaults, `written` has not; `layers` come from the strongest file on.

    A value that came from flags has no place. `code` is the folder or the single source file, or
    None when there is none to look into.
    """

    function: Function
    written: Function
    report: Report
    layers: Sequence[Decoder] = ()
    overrides: Function | None = None
    code: Path | None = None
    _overridden_paths: set[tuple[str | int, ...]] = field(default_factory=set)
    _spans_with_errors: set[Span] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._spans_with_errors = {found.span for found in self.report.errors if found.span}
        if self.overrides is not None:
            self._overridden_paths = set(_leaf_paths(to_dict(self.overrides), ()))

    def place(
        self, path: tuple[str | int, ...]
    ) -> tuple[SourceText, YamlNode | None, YamlNode] | None:
        """Source, key and value of a path, or of the nearest thing around it; None for flags."""
        layers, path = self._own(path)
        for length in range(len(path), -1, -1):
            part = path[:length]
            if part in self._overridden_paths:
                return None
            for layer in layers:
                if part in layer.places:
                    key, value = layer.places[part]
                    return layer.source, key, value
        return None

    def _own(self, path: tuple[str | int, ...]) -> tuple[Sequence[Decoder], tuple[str | int, ...]]:
        """Return the layers to search for a path, and the path in them.

        Variables are joined by name: one of them comes from one layer, where it has another index.
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
        """The layer of each variable (None for the flags), and its index there."""
        flags = self.overrides.spec.env if self.overrides is not None else []
        origins: list[tuple[Decoder | None, int]] = [(None, index) for index in range(len(flags))]
        names = {variable.name for variable in flags}
        for layer in self.layers:
            own: dict[int, str] = {}
            while (*_ENV, len(own)) in layer.places:
                _, node = layer.places.get((*_ENV, len(own), "name"), (None, None))
                own[len(own)] = node.text if node is not None else ""
            origins += [(layer, index) for index, name in own.items() if name not in names]
            names |= set(own.values())
        return origins

    def has(self, *path: str | int) -> bool:
        """Whether a file gives this value (a flag may give it all the same)."""
        return any(path in layer.places for layer in self.layers)

    def error(
        self,
        rule: str,
        message: str,
        path: tuple[str | int, ...],
        hint: str | None = None,
        part: SpanPart = "value",
    ) -> None:
        if below_limit(self.report, "error"):
            self.add(Diagnostic("error", rule, message, *self._where(path, part), hint))

    def warning(
        self,
        rule: str,
        message: str,
        path: tuple[str | int, ...],
        hint: str | None = None,
        part: SpanPart = "value",
    ) -> None:
        if below_limit(self.report, "warning"):
            self.add(Diagnostic("warning", rule, message, *self._where(path, part), hint))

    def _where(self, path: tuple[str | int, ...], part: SpanPart) -> tuple[Span | None, str | None]:
        """The span and the excerpt for a finding about a path."""
        found = self.place(path)
        if found is None:
            return None, None
        source, key, value = found
        layers, path = self._own(path)
        exact = any(path in layer.places for layer in layers)
        # Of what stands around a missing value, the key says enough; so does that of a block.
        node = key if key and (part == "key" or not exact or value.kind != "scalar") else value
        span = node.span(source)
        return span, source.excerpt(span) if span else None

    def add(self, finding: Diagnostic) -> None:
        """Add a finding, unless the reader found an error in the same place already."""
        if finding.span not in self._spans_with_errors and below_limit(
            self.report, finding.severity
        ):
            self.report.add(finding)


def _leaf_paths(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaf_paths(item, (*path, key))
    else:
        yield path
