"""The files of a new detector by task and framework: `fnbuild init --task … --framework …`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources.abc import Traversable

FOLDER = "_tasks"
"""The folder of the parts among the templates. Names of kinds do not begin with "_"."""


@dataclass(frozen=True, slots=True)
class Task:
    """A kind of detector. `shape` is the type of its label, `network` its file for ONNX."""

    shape: str
    network: str


TASKS = {
    "detection": Task("rectangle", "objects"),
    "segmentation": Task("mask", "objects"),
    "keypoints": Task("skeleton", "points"),
    "classification": Task("tag", "sharpness"),
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
_POINTS = ("top", "right", "bottom", "left")


def files(parts: Traversable, task: str, framework: str) -> dict[str, str | bytes]:
    """Return relative paths and contents, with placeholders for the function's name."""
    description = _DESCRIPTIONS.get((framework, task), f"A small network for {task} in {framework}")
    values = {
        "FRAMEWORK": framework,
        "DESCRIPTION": description,
        "REQUIREMENTS": REQUIREMENTS[framework],
        "LABEL_SPEC": _label_spec(task, framework),
    }
    contents: dict[str, str | bytes] = {
        "README.md": _filled(_text(parts / "README.md"), values),
        "function.yaml": _filled(_text(parts / "function.yaml"), values),
        "main.py": _text(parts / "main" / f"{task}.py"),
        "model.py": _text(parts / "model" / framework / f"{task}.py"),
    }
    if framework == "onnx":
        contents["model.onnx"] = (parts / "networks" / f"{TASKS[task].network}.onnx").read_bytes()
    return contents


def _label_spec(task: str, framework: str) -> str:
    """Return the labels as the lines of a YAML block."""
    shape = TASKS[task].shape
    names = _names(task, framework)
    labels: list[dict[str, object]] = [
        {"id": number, "name": name, "type": shape} for number, name in enumerate(names)
    ]
    if task == "keypoints":
        points = [{"id": i, "name": name, "type": "points"} for i, name in enumerate(_POINTS, 1)]
        labels[0] |= {"sublabels": points, "svg": _SVG}
    lines = ",\n".join(f"  {json.dumps(label)}" for label in labels)
    return "\n".join(f"      {line}" for line in ("[", *lines.split("\n"), "]"))


def _names(task: str, framework: str) -> tuple[str, ...]:
    if task == "classification":
        return ("sharp", "blurred")
    return ("face",) if (framework, task) == ("opencv", "detection") else ("object",)


def _circle(number: int, x: int, y: int) -> str:
    name = _POINTS[number - 1]
    return (
        f'<circle r="1.5" stroke="black" fill="#b3b3b3" cx="{x}" cy="{y}" stroke-width="0.1"'
        f' data-type="element node" data-element-id="{number}" data-node-id="{number}"'
        f' data-label-name="{name}"></circle>'
    )


_PLACES = ((50, 10), (90, 50), (50, 90), (10, 50))
_SVG = "".join(_circle(number, *place) for number, place in enumerate(_PLACES, 1))


def _text(file: Traversable) -> str:
    return file.read_text(encoding="utf-8")


def _filled(text: str, values: dict[str, str]) -> str:
    for placeholder, value in values.items():
        text = text.replace(placeholder, value)
    return text
