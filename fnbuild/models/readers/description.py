"""The description of a model from which a function is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fnbuild.function.label_sources import RawLabel


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Facts about a model that its file lacks.

    `labels` are names or the labels of a file, `size` is (height, width), or ().
    """

    labels: tuple[RawLabel, ...] = ()
    task: str = ""
    size: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A model and the function of the library that serves it.

    `library` is the function's folder below functions/. `files` are copied into the new function,
    by their names there. `packages` replaces requirements of the library's function by others.
    """

    library: str
    summary: str
    labels: tuple[RawLabel, ...]
    files: dict[str, str | bytes | Path] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
