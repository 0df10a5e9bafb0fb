"""Functions from endpoint handlers of Hugging Face: folders with handler.py and a model.

In the new function `fnbuild.vision.endpoint_functions` calls the handler, in a copy of the folder.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fnbuild.bridges.imported_function import (
    REQUIREMENTS_FILE,
    ImportedFunction,
    read_text,
    requirements_text,
)
from fnbuild.errors import InputError
from fnbuild.function.label_sources import RawLabel, load_labels
from fnbuild.function.label_targets import with_type

HANDLER_FILE = "handler.py"
_CLASS = "EndpointHandler"
_COPY = "endpoint"
"""The folder of the handler in the new function."""

PACKAGES = ("numpy>=1.26,<3", "pillow>=10.1")
LABEL_TYPES: Mapping[str, str] = {
    "detection": "rectangle",
    "segmentation": "mask",
    "classification": "tag",
    "detect": "rectangle",
    "segment": "mask",
    "classify": "tag",
}
"""The types of labels by the task of the handler, as templates and as models name it."""

# Parts of the names of classes in `architectures` of config.json.
_ARCHITECTURES = (
    ("ObjectDetection", "detection"),
    ("Segmentation", "segmentation"),
    ("ImageClassification", "classification"),
)
_CONFIG_FILE = "config.json"

_MAIN = '''\
"""The endpoint handler of Hugging Face in the folder endpoint, as a function."""

import os

from fnbuild import vision
from fnbuild.vision.endpoint_functions import EndpointFunction


class Adapter(EndpointFunction):
    endpoint_folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "endpoint")
    # The handler gets images as "image" (Pillow), "base64" or "bytes".
    inputs = "image"


init_context, handler = vision.export(Adapter)
'''


@dataclass(frozen=True, slots=True)
class EndpointFolder:
    """A folder with an endpoint handler.

    `task` is a key of `LABEL_TYPES`; config.json has it and the labels if they are empty.
    `packages` are installed for the handler.
    """

    folder: Path
    task: str = ""
    labels: Sequence[RawLabel] = ()
    packages: Sequence[str] = ()


def is_endpoint_folder(folder: Path) -> bool:
    """Return True if the folder has a handler.py with the class `EndpointHandler`."""
    file = folder / HANDLER_FILE
    return file.is_file() and _defines_handler(file)


def _defines_handler(file: Path) -> bool:
    try:
        body = ast.parse(read_text(file)).body
    except SyntaxError as error:
        raise InputError(f"{file}:{error.lineno}: {error.msg}", hint="mend the file") from None
    classes = {node.name for node in body if isinstance(node, ast.ClassDef)}
    imported = [alias for node in body if isinstance(node, ast.ImportFrom) for alias in node.names]
    return _CLASS in classes | {alias.asname or alias.name for alias in imported}


def function_files(endpoint: EndpointFolder, name: str) -> dict[str, str | Path]:
    """Return the files of a function that calls the handler: their text, or the file to copy.

    Without labels the function is not CVAT's. Raises `InputError`.
    """
    folder = endpoint.folder
    if not is_endpoint_folder(folder):
        raise InputError(
            f"{folder} has no {HANDLER_FILE} with the class {_CLASS}",
            hint="name the folder of an endpoint handler of Hugging Face",
        )
    config = _read_config(folder / _CONFIG_FILE)
    task = endpoint.task or _task_of(config)
    labels = list(endpoint.labels)
    if task:
        if not labels and config.get("id2label"):
            labels = load_labels(str(folder / _CONFIG_FILE))
        labels = with_type(labels, LABEL_TYPES[task])
    annotations = {"type": "detector", "version": "1"} if labels else {}
    function = ImportedFunction(
        name, f"The endpoint handler of {folder.absolute().name}", annotations, labels, PACKAGES
    )
    files: dict[str, str | Path] = {"function.yaml": function.config_text(), "main.py": _MAIN}
    if requirements := requirements_text(folder, endpoint.packages):
        files[REQUIREMENTS_FILE] = requirements
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in relative.parts)
        if path.is_file() and not hidden:
            files[f"{_COPY}/{relative.as_posix()}"] = path
    return files


def _read_config(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        config = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise InputError(f"{file}:{error.lineno}: not valid JSON: {error.msg}") from None
    return config if isinstance(config, dict) else {}


def _task_of(config: Mapping[str, Any]) -> str:
    names = str(config.get("architectures"))
    return next((task for part, task in _ARCHITECTURES if part in names), "")
