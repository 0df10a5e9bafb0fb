"""Options of `fnbuild init` for functions from models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from click import option

from fnbuild.cli.options import combine_options

MODEL_TASKS = ("detect", "segment", "pose", "obb", "classify")
"""The tasks of models, as their exports name them."""

model_options = combine_options(
    option(
        "--from",
        "from_model",
        metavar="MODEL",
        help="Model to serve: best.onnx, best.pt, a folder of transformers, hf://OWNER/MODEL. Or"
        " code, as for --from-sdk and --from-endpoint.",
    ),
    option("--size", metavar="HxW", help="Size of its images, such as 640x640."),
)


def model_files(
    name: str, model: str | None, size: str | None, task: str | None, other: Mapping[str, Any]
) -> Mapping[str, str | bytes | Path] | None:
    """Return the files of a function that serves a model; None if no model is named.

    `other` are options of other sources, of which a model has labels only.
    """
    from fnbuild.cli.progress import ProgressDisplay
    from fnbuild.errors import UsageError
    from fnbuild.models.readers.description import ModelOptions
    from fnbuild.models.readers.library import function_files
    from fnbuild.models.readers.model_source import describe_model

    if model is None:
        if size:
            raise UsageError("--size is that of a model", hint="`--from` names it")
        return None
    if any(value for key, value in other.items() if key != "labels"):
        raise UsageError(
            "a model has its own kind and code",
            hint="leave out options of templates and of other code, such as `--kind`",
        )
    if task is not None and task not in MODEL_TASKS:
        raise UsageError(
            f'"{task}" is the task of a template', hint=f"one of: {', '.join(MODEL_TASKS)}"
        )
    sides = tuple(int(side) for side in size.split("x") if side.isdecimal()) if size else ()
    if size and (len(sides) != 2 or not all(sides)):
        raise UsageError(f'--size "{size}" is not HEIGHTxWIDTH', hint="for example 640x640")
    options = ModelOptions(tuple(labels_of_option(other["labels"])), task or "", sides)
    with ProgressDisplay() as progress:
        description = describe_model(model, options, progress)
        progress(f"{model}: {description.summary}")
        return function_files(description, name)


def labels_of_option(text: str) -> list[dict[str, Any]]:
    """Return the labels of a source of labels, or of names that commas separate."""
    from fnbuild.errors import UsageError
    from fnbuild.function.label_sources import FILE_SUFFIXES, label_set_names, load_labels

    if not text:
        return []
    path = Path(text)
    if path.exists() or path.suffix.lower() in FILE_SUFFIXES or text in label_set_names():
        return load_labels(text)
    names = [name.strip() for name in text.split(",") if name.strip()]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(
            f'--labels has the name "{twice}" twice', hint="the names of labels are unique"
        )
    return [{"id": number, "name": name} for number, name in enumerate(names)]
