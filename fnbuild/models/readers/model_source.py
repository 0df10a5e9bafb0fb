"""Describe a model by its file, its folder or its place in the hub."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from fnbuild.errors import InputError, NotFoundError
from fnbuild.models.readers.checkpoint import export_checkpoint
from fnbuild.models.readers.description import ModelDescription, ModelOptions
from fnbuild.models.readers.hugging_face import describe_folder, describe_hub_model
from fnbuild.models.readers.torch_file import check_checkpoint, is_torchscript
from fnbuild.models.readers.yolo import describe_onnx, describe_torchscript
from fnbuild.progress import Progress

_TORCH_SUFFIXES = (".pt", ".pth", ".torchscript")
_FORMATS = (
    "an ONNX file, a checkpoint or TorchScript file (.pt), a model's folder or hf://OWNER/MODEL"
)


def describe_model(source: str, options: ModelOptions, progress: Progress) -> ModelDescription:
    """Return the description of a model. Raises `InputError`, `NotFoundError` or `BuildError`."""
    if source.startswith("hf://"):
        return describe_hub_model(source, options, progress)
    path = Path(source)
    if not path.exists():
        hint = f"download it with `fnbuild model pull {source}`" if "://" in source else ""
        raise NotFoundError(f"there is no file {source}", hint=hint or f"name {_FORMATS}")
    if path.is_dir():
        return describe_folder(path, options)
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return describe_onnx(path, options)
    if suffix not in _TORCH_SUFFIXES:
        raise InputError(f"{source} is no model that fnbuild can read", hint=f"name {_FORMATS}")
    if is_torchscript(path):
        return describe_torchscript(path, options)
    return _describe_checkpoint(path, options, progress)


def _describe_checkpoint(path: Path, options: ModelOptions, progress: Progress) -> ModelDescription:
    check_checkpoint(path)
    content = export_checkpoint(path, progress)
    with tempfile.TemporaryDirectory(prefix="fnbuild-") as folder:
        exported = Path(folder, f"{path.stem}.onnx")
        exported.write_bytes(content)
        description = describe_onnx(exported, options)
    return dataclasses.replace(description, files={"model.onnx": content})
