"""`fnbuild init`: create a function's folder from a template."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import click

from fnbuild.cli.base_command import Command
from fnbuild.cli.console import note, warn
from fnbuild.cli.init_imports import import_options, imported_files, with_detected_code
from fnbuild.cli.init_models import MODEL_TASKS, model_files, model_options
from fnbuild.errors import ConflictError, InputError, UsageError
from fnbuild.function.function_rules import MAX_NAME_LENGTH, NAME_PATTERN, image_name

TASK_FOLDER = "_tasks"
"""The folder of the task templates. Names of kinds do not begin with "_"."""


@dataclass(frozen=True, slots=True)
class DetectorTask:
    """A kind of detector. `shape` is the type of its label, `network` its file for ONNX."""

    shape: str
    network: str


TASKS = {
    "detection": DetectorTask("rectangle", "objects"),
    "segmentation": DetectorTask("mask", "objects"),
    "keypoints": DetectorTask("skeleton", "points"),
    "classification": DetectorTask("tag", "sharpness"),
}

_OPENCV = "'opencv-python-headless>=4.9,<5' 'numpy>=1.26,<3'"
REQUIREMENTS = {
    "opencv": _OPENCV,
    "torch": f"'torch>=2.4,<3' {_OPENCV}",
    "onnx": _OPENCV,
}
"""The requirements of each framework. OpenCV runs the ONNX networks."""

_DESCRIPTIONS = {
    ("opencv", "detection"): "Finds faces with the Haar cascade that comes with OpenCV",
    ("opencv", "segmentation"): "Masks of what stands out by its brightness, by OpenCV",
    ("opencv", "keypoints"): "The outermost points of what stands out by its brightness, by OpenCV",
    ("opencv", "classification"): "Whether a picture is sharp, by OpenCV",
}
_KEYPOINTS = ("top", "right", "bottom", "left")


def task_files(parts: Traversable, task: str, framework: str) -> dict[str, str | bytes]:
    """Return relative paths and contents, with placeholders for the function's name."""
    description = _DESCRIPTIONS.get((framework, task), f"A small network for {task} in {framework}")
    values = {
        "FRAMEWORK": framework,
        "DESCRIPTION": description,
        "REQUIREMENTS": REQUIREMENTS[framework],
        "LABEL_SPEC": _label_spec(task, framework),
    }
    contents: dict[str, str | bytes] = {
        "README.md": _fill_placeholders(_read_text(parts / "README.md"), values),
        "function.yaml": _fill_placeholders(_read_text(parts / "function.yaml"), values),
        "main.py": _read_text(parts / "main" / f"{task}.py"),
        "model.py": _read_text(parts / "model" / framework / f"{task}.py"),
    }
    if framework == "onnx":
        contents["model.onnx"] = (parts / "networks" / f"{TASKS[task].network}.onnx").read_bytes()
    return contents


def _label_spec(task: str, framework: str) -> str:
    """Return the labels as the lines of a YAML block."""
    shape = TASKS[task].shape
    names = _label_names(task, framework)
    labels: list[dict[str, object]] = [
        {"id": number, "name": name, "type": shape} for number, name in enumerate(names)
    ]
    if task == "keypoints":
        points = [{"id": i, "name": name, "type": "points"} for i, name in enumerate(_KEYPOINTS, 1)]
        labels[0] |= {"sublabels": points, "svg": _SKELETON_SVG}
    lines = ",\n".join(f"  {json.dumps(label)}" for label in labels)
    return "\n".join(f"      {line}" for line in ("[", *lines.split("\n"), "]"))


def _label_names(task: str, framework: str) -> tuple[str, ...]:
    if task == "classification":
        return ("sharp", "blurred")
    return ("face",) if (framework, task) == ("opencv", "detection") else ("object",)


def _svg_circle(number: int, x: int, y: int) -> str:
    name = _KEYPOINTS[number - 1]
    return (
        f'<circle r="1.5" stroke="black" fill="#b3b3b3" cx="{x}" cy="{y}" stroke-width="0.1"'
        f' data-type="element node" data-element-id="{number}" data-node-id="{number}"'
        f' data-label-name="{name}"></circle>'
    )


_KEYPOINT_POSITIONS = ((50, 10), (90, 50), (50, 90), (10, 50))
_SKELETON_SVG = "".join(
    _svg_circle(number, *place) for number, place in enumerate(_KEYPOINT_POSITIONS, 1)
)


def _read_text(file: Traversable) -> str:
    return file.read_text(encoding="utf-8")


def _fill_placeholders(text: str, values: dict[str, str]) -> str:
    for placeholder, value in values.items():
        text = text.replace(placeholder, value)
    return text


# Names that are valid in Kubernetes. Nuclio, CVAT and the process platform accept more.
_KUBERNETES_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,51}[a-z0-9])?\Z")
_TEXT_SUFFIXES = {".yaml", ".py", ".md", ".txt", ".json"}


def templates() -> dict[str, Traversable]:
    """Return the folders of the templates, by kind."""
    children = sorted(_templates_folder().iterdir(), key=str)
    return {
        child.name: child for child in children if child.is_dir() and not child.name.startswith("_")
    }


def _templates_folder() -> Traversable:
    return files("fnbuild.cli") / "templates"


@click.command(cls=Command)
@click.argument("directory", type=click.Path(path_type=Path), default=".", metavar="[NAME|DIR]")
@click.option(
    "--kind",
    metavar="KIND",
    shell_complete=lambda _ctx, _param, start: [k for k in templates() if k.startswith(start)],
    help="Kind of function: detector, interactor, tracker, reid, http. [default: detector]",
)
@click.option(
    "--task",
    type=click.Choice([*TASKS, *MODEL_TASKS]),
    metavar="TASK",
    help=f"Task of a detector, with the model in a separate file: {', '.join(TASKS)}. With --from:"
    f" {', '.join(MODEL_TASKS)}.",
)
@click.option(
    "--framework",
    type=click.Choice(list(REQUIREMENTS)),
    help="Framework of the model. [default: opencv]",
)
@click.option("--name", metavar="NAME", help="Function name. [default: the folder's name]")
@model_options
@import_options
def init(
    directory: Path,
    *,
    kind: str | None,
    task: str | None,
    framework: str | None,
    name: str | None,
    **source: Any,
) -> None:
    """Create a folder with function.yaml, main.py and other files that the kind or task needs.

    Existing files are never overwritten; if there are any, nothing is written.
    """
    folder = directory.absolute()
    name = name or folder.name
    _check_name(name)
    values = {"FUNCTION_NAME": name, "IMAGE_NAME": image_name(name)}
    template = kind or framework
    if source["from_model"]:
        source = with_detected_code(source)
    model = source.pop("from_model"), source.pop("size")
    contents = model_files(name, *model, task, {"template": template, **source})
    if contents is None:
        contents = imported_files(name, task=task, template=template, **source)
    if contents is None:
        contents = {
            path: _fill_placeholders(content, values) if isinstance(content, str) else content
            for path, content in _new_files(kind, task, framework).items()
        }
    existing = [path for path in contents if (folder / path).exists()]
    if existing:
        raise ConflictError(
            f"{folder} has {', '.join(existing)} already", hint="choose another folder"
        )
    for path, content in contents.items():
        target = folder / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                shutil.copyfile(content, target)
            else:
                target.write_bytes(content.encode() if isinstance(content, str) else content)
        except OSError as error:
            raise InputError(
                f"cannot write {directory / path}: {error.strerror}", hint="choose another folder"
            ) from None
        note(f"wrote {directory / path}")
    note(f"next: fnbuild run --path {directory} --watch")
    is_cvat = "\n  annotations:\n" in str(contents["function.yaml"])
    project = " --project-name cvat" if is_cvat else ""
    note(f"then: fnbuild deploy --path {directory}{project}")


def _new_files(
    kind: str | None, task: str | None, framework: str | None
) -> Mapping[str, str | bytes]:
    """Return the files that were asked for, by relative path."""
    if task in MODEL_TASKS:
        raise UsageError(
            f'"{task}" is the task of a model', hint=f"`--from` names it; else {', '.join(TASKS)}"
        )
    if task or framework:
        if kind not in (None, "detector"):
            raise UsageError(
                f"--task and --framework are for detectors, not for kind {kind}",
                hint="leave out `--kind`",
            )
        parts = _templates_folder() / TASK_FOLDER
        return task_files(parts, task or "detection", framework or "opencv")
    available = templates()
    if (kind := kind or "detector") not in available:
        raise UsageError(
            f'there is no template for kind "{kind}"', hint=f"one of: {', '.join(available)}"
        )
    return _template_files(available[kind])


def _check_name(name: str) -> None:
    if not NAME_PATTERN.match(name) or len(name) > MAX_NAME_LENGTH:
        raise UsageError(
            f'"{name}" cannot be the name of a function',
            hint=f"letters, digits, '-', '_' and '.', {MAX_NAME_LENGTH} at most, such as"
            " my-detector; `--name` gives another than the folder's",
        )
    if not _KUBERNETES_NAME.match(name):
        warn(
            f'Kubernetes does not take the name "{name}": there it is up to 53 lower-case letters,'
            " digits and dashes"
        )


def _template_files(folder: Traversable, prefix: str = "") -> dict[str, str]:
    """Return the texts of a template's files by relative path."""
    files: dict[str, str] = {}
    for entry in folder.iterdir():
        if entry.is_dir():
            if entry.name != "__pycache__":
                files |= _template_files(entry, f"{prefix}{entry.name}/")
        elif Path(entry.name).suffix in _TEXT_SUFFIXES:
            files[prefix + entry.name] = entry.read_text(encoding="utf-8")
    return dict(sorted(files.items()))
