"""Describe exports of YOLO, by the code with which the function reads them itself."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fnbuild.errors import InputError
from fnbuild.function.label_sources import RawLabel, load_labels, skeleton_keys
from fnbuild.models.readers.description import ModelDescription, ModelOptions
from fnbuild.models.readers.library import library_folder
from fnbuild.models.readers.onnx_file import Shape, read_onnx

LIBRARY = "onnx/yolo"
SHAPES = {
    "detect": "rectangle",
    "segment": "mask",
    "pose": "skeleton",
    "obb": "polygon",
    "classify": "tag",
}
"""The types of labels by the task's name in exports."""

_COCO_KEYPOINTS = "coco-17-keypoints"
_HINTS = {
    "names": "name the classes in their order: `--labels cat,dog` or `--labels data.yaml`",
    "task": f"state it: `--task {'|'.join(SHAPES)}`",
    "size": "state it: `--size HEIGHTxWIDTH`, such as `--size 640x640`",
    "fit": "check `--labels` and `--task`; heads other than YOLO's need code: `fnbuild init`",
    "keypoints": "export the model with a current release of Ultralytics",
}
_CONFIG = "/extra/config.txt"


def describe_onnx(path: Path, options: ModelOptions) -> ModelDescription:
    """Return the description of an ONNX file. Raises `InputError`."""
    onnx = read_onnx(path)
    shape = onnx.inputs[0] if onnx.inputs else ()
    description = _describe(path, onnx.metadata, options, shape=shape, outputs=onnx.outputs)
    weights = {name: _weight_file(path, name) for name in sorted(onnx.weight_files)}
    return dataclasses.replace(description, files={**description.files, **weights})


def _weight_file(model: Path, name: str) -> Path:
    file = model.parent / name
    if Path(name).is_absolute() or ".." in Path(name).parts or not file.is_file():
        raise InputError(
            f"{model} has its weights in the file {name}, which is not beside it",
            hint="copy it there, or export the model into one file",
        )
    return file


def describe_torchscript(path: Path, options: ModelOptions) -> ModelDescription:
    """Return the description of a file with TorchScript. Raises `InputError`."""
    try:
        with zipfile.ZipFile(path) as archive:
            configs = [name for name in archive.namelist() if name.endswith(_CONFIG)]
            metadata = json.loads(archive.read(configs[0])) if configs else {}
    except (OSError, ValueError, zipfile.BadZipFile):
        raise InputError(
            f"{path} is not a file with TorchScript", hint="write it with torch.jit.save"
        ) from None
    return _describe(path, metadata, options)


def _describe(
    path: Path,
    metadata: Mapping[str, Any],
    options: ModelOptions,
    *,
    shape: Shape = (),
    outputs: tuple[Shape, ...] = (),
) -> ModelDescription:
    export = _export_module()
    stated = {
        "names": {label.get("id", i): label["name"] for i, label in enumerate(options.labels)},
        "task": options.task,
        "imgsz": options.size,
    }
    unsaid = {key: value for key, value in stated.items() if value and not metadata.get(key)}
    try:
        read = export.read_export({**metadata, **unsaid}, shape, outputs)
    except export.ExportError as error:
        hint = _HINTS[error.missing]
        raise InputError(f"{path}: {error}", hint=hint) from None
    except (ValueError, TypeError, AttributeError):
        message = f"{path}: the metadata of the model is not that of a YOLO export"
        raise InputError(message, hint="serve it with your own code: `fnbuild init`") from None
    _check_stated(path, "--task", options.task, read.task)
    _check_stated(path, "--size", "x".join(map(str, options.size)), "x".join(map(str, read.size)))
    labels = list(options.labels) or [{"id": i, "name": name} for i, name in read.names.items()]
    height, width = read.size
    is_onnx = path.suffix.lower() == ".onnx"
    variables = {"OVERLAP": "0.7"}
    if "task" in unsaid:
        variables["TASK"] = read.task
    if "imgsz" in unsaid:
        variables["IMAGE_SIZE"] = f"{height},{width}"
    return ModelDescription(
        library=LIBRARY,
        summary=f"{read.task}, {_count(len(labels), len(read.names))}, {width} x {height}",
        labels=tuple(_labels(labels, read)),
        files={"model.onnx" if is_onnx else "model.torchscript": path},
        variables=variables,
        packages={} if is_onnx else {"onnxruntime": "torch>=2.4,<3"},
    )


def _check_stated(path: Path, option: str, stated: str, actual: str) -> None:
    if stated and stated != actual:
        raise InputError(
            f"{path} says {actual} itself, and `{option}` says {stated}",
            hint=f"leave out `{option}`, or export the model again",
        )


def _count(labels: int, classes: int) -> str:
    return f"{classes} classes" if labels == classes else f"{labels} of {classes} classes"


def _export_module() -> Any:
    """Return the module of the function that reads metadata; it needs no package."""
    path = library_folder(LIBRARY) / "export.py"
    spec = importlib.util.spec_from_file_location("fnbuild_yolo_export", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _labels(labels: list[RawLabel], export: Any) -> list[RawLabel]:
    details = {"type": SHAPES[export.task]}
    if export.task == "pose":
        details = _skeleton(export.keypoints[0], list(export.keypoint_names))
    unknown = sorted({label.get("id", i) for i, label in enumerate(labels)} - set(export.names))
    if unknown:
        raise InputError(
            f"the model has {len(export.names)} classes, and `--labels` has one for {unknown[0]}",
            hint="name its classes in their order, the first of which is 0",
        )
    names: set[str] = set()
    typed = []
    for number, label in enumerate(labels):
        name = label["name"]
        if name in names:
            # CVAT takes no two labels of the same name.
            name = f"{name} {number}"
        names.add(name)
        typed.append({"id": label.get("id", number), "name": name, **details})
    return typed


def _skeleton(count: int, names: list[str]) -> RawLabel:
    (person,) = load_labels(_COCO_KEYPOINTS)
    points = [point["name"] for point in person["sublabels"]]
    if count == len(points) and names in ([], points):
        return {key: person[key] for key in ("type", "sublabels", "svg")}
    return skeleton_keys(names if len(names) == count else [str(i + 1) for i in range(count)], [])
