"""The function library that is installed with fnbuild, and functions made from it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

import fnbuild
from fnbuild.errors import InputError
from fnbuild.function.function_rules import image_name
from fnbuild.function.label_sources import RawLabel
from fnbuild.models.readers.description import ModelDescription

_LIBRARY = Path(fnbuild.__file__).with_name("library")
_TRAINING = ("make_model.py",)
_SPEC = re.compile(r"(?:^    #[^\n]*\n)*^    spec: \|\n.*?^      \]\n", re.MULTILINE | re.DOTALL)
_TEST = '''"""Run it with pytest, where fnbuild and the packages of function.yaml are installed."""

from pathlib import Path

import numpy as np

from fnbuild.testing import Client


def test_the_reply_is_valid_for_cvat():
    image = np.full((480, 640, 3), 128, np.uint8)
    assert isinstance(Client(Path(__file__).parent).REQUEST, list)
'''
_REQUESTS = {"detector": "detect(image)", "interactor": "interact(image, positive=[(320, 240)])"}


def library_folder(name: str) -> Path:
    """Return the folder of a function, such as onnx/yolo. Raises `InputError`."""
    folder = _LIBRARY / name
    if not (folder / "function.yaml").is_file():
        raise InputError(
            f"the library has no function {name}", hint="repair the installation of fnbuild"
        )
    return folder


def function_files(model: ModelDescription, name: str) -> dict[str, str | bytes | Path]:
    """Return relative paths and contents, or files to copy, of a function for the model."""
    folder = library_folder(model.library)
    contents: dict[str, str | bytes | Path] = {
        path.name: path.read_text(encoding="utf-8")
        for path in sorted(folder.glob("*.py"))
        if path.name not in _TRAINING
    }
    configuration = (folder / "function.yaml").read_text(encoding="utf-8")
    contents["function.yaml"] = _configuration(configuration, model, name)
    (kind,) = re.findall(r"^    type: (.+)$", configuration, re.MULTILINE)
    # pytest runs the tests of several functions if their modules have names of their own.
    contents[f"test_{re.sub('[^a-z0-9]', '_', name.lower())}.py"] = _TEST.replace(
        "REQUEST", _REQUESTS[kind]
    )
    if not model.packages:
        # Functions of a framework share their variants.
        for path in sorted(folder.parent.glob("function-specs/variants/*.yaml")):
            contents[str(path.relative_to(folder.parent))] = path.read_text(encoding="utf-8")
    return contents | model.files


def _configuration(text: str, model: ModelDescription, name: str) -> str:
    """Return the configuration of the library's function with the labels of the model."""
    values = {
        r"^  name: .*$": f"  name: {name}",
        r"^    name: .*$": f"    name: {name}",
        r"^  description: .*$": f"  description: {json.dumps(model.summary)}",
        r"^    image: .*$": f"    image: {image_name(name)}",
    }
    for pattern, line in values.items():
        text = _replace_first(pattern, line, text)
    labels = _label_lines(model.labels)
    text = _SPEC.sub(lambda _: f"    spec: |\n{labels}\n", text, count=1)
    for variable, value in model.variables.items():
        text = _with_variable(text, variable, value)
    for package, requirement in model.packages.items():
        text = re.sub(rf"'{package}\b[^']*'", f"'{requirement}'", text)
    return text


def _replace_first(pattern: str, line: str, text: str) -> str:
    return re.sub(pattern, lambda _: line, text, count=1, flags=re.MULTILINE)


def _with_variable(text: str, name: str, value: str) -> str:
    entry = f"    - name: {name}\n      value: {json.dumps(value)}\n"
    present = re.compile(rf"^    - name: {name}\n      value: .*\n", re.MULTILINE)
    if present.search(text):
        return present.sub(lambda _: entry, text)
    return text.replace("  env:\n", f"  env:\n{entry}", 1)


def _label_lines(labels: Iterable[RawLabel]) -> str:
    """Return the labels as the lines of a YAML block, one for each."""
    rows = ",\n".join(f"        {_json_line(label)}" for label in labels)
    return f"      [\n{rows}\n      ]"


def _json_line(label: RawLabel) -> str:
    """Return a label as JSON, with escapes of what YAML takes for the end of a line or refuses."""
    text = json.dumps(label, ensure_ascii=False)
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)
