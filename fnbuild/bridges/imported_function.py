"""The files of functions that are made from code of other frameworks."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fnbuild.errors import InputError
from fnbuild.function.function_rules import image_name
from fnbuild.function.label_sources import RawLabel
from fnbuild.function.label_targets import write_labels
from fnbuild.function.yaml_writer import as_yaml

REQUIREMENTS_FILE = "requirements.txt"


@dataclass(frozen=True, slots=True)
class ImportedFunction:
    """A function's configuration. `annotations` are empty for a function that is not CVAT's."""

    name: str
    description: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Sequence[RawLabel] = ()
    packages: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)

    def config_text(self) -> str:
        """Return the text of function.yaml."""
        install = f"pip install --no-cache-dir {shlex.join(self.packages)}"
        trigger = {
            "kind": "http",
            "numWorkers": 1,
            "workerAvailabilityTimeoutMilliseconds": 10000,
            "attributes": {"maxRequestBodySize": 33554432},
        }
        spec: dict[str, Any] = {
            "description": self.description,
            "runtime": "python:3.11",
            "handler": "main:handler",
            "eventTimeout": "30s",
            "env": [{"name": name, "value": value} for name, value in self.env.items()],
            "build": {
                "image": image_name(self.name),
                "baseImage": "python:3.11-slim-bookworm",
                "directives": {"preCopy": [{"kind": "RUN", "value": install}]},
            },
            "triggers": {"myHttpTrigger": trigger},
            "platform": {
                "attributes": {
                    "restartPolicy": {"name": "always", "maximumRetryCount": 3},
                    "mountMode": "volume",
                }
            },
        }
        if not self.env:
            del spec["env"]
        metadata: dict[str, Any] = {"name": self.name}
        if self.annotations:
            spec_text = write_labels(self.labels, "cvat") if self.labels else "[]"
            annotations = {"name": self.name, **self.annotations, "spec": spec_text}
            metadata |= {"namespace": "cvat", "annotations": annotations}
        return as_yaml({"metadata": metadata, "spec": spec}) + "\n"


def read_text(path: Path) -> str:
    """Return the text of a source file. Raises `InputError`."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text") from None


def requirements_text(beside: Path, packages: Sequence[str]) -> str:
    """Return the requirements.txt beside a file, extended by packages; "" if both are empty."""
    file = beside / REQUIREMENTS_FILE
    lines = read_text(file).splitlines() if file.is_file() else []
    return "".join(f"{line}\n" for line in [*lines, *packages])
