"""Describe models of Hugging Face, by their config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fnbuild.errors import InputError
from fnbuild.function.label_sources import RawLabel, read_labels
from fnbuild.models.cache import PullRequest, pull
from fnbuild.models.readers.description import ModelDescription, ModelOptions
from fnbuild.progress import Progress

CONFIG_NAME = "config.json"
_DETECTOR = "transformers/detector"
_PROMPTED = "transformers/zero-shot-detector"
_PROMPTED_TYPES = ("grounding-dino", "mm-grounding-dino", "owlv2", "owlvit")
_INTERACTOR = "transformers/sam2"
_INTERACTOR_TYPES = ("sam2", "sam2_video")
# Their backbone is one of timm, unless their configuration names another.
_TIMM_TYPES = ("detr", "conditional_detr", "deformable_detr", "table-transformer")


def describe_folder(folder: Path, options: ModelOptions) -> ModelDescription:
    """Return the description of a folder that `save_pretrained` has written."""
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise InputError(
            f"{folder} has no {CONFIG_NAME}",
            hint="name a folder that save_pretrained of transformers has written, or a model file",
        )
    return _describe(path, str(folder), f"file://{folder.resolve()}", options)


def describe_hub_model(text: str, options: ModelOptions, progress: Progress) -> ModelDescription:
    """Return the description of a model of the hub, such as hf://owner/model."""
    request = PullRequest(text, include=(CONFIG_NAME,))
    place = str(request.storage_uri)
    path = pull(request, progress).path
    return _describe(path / CONFIG_NAME if path.is_dir() else path, place, place, options)


def _describe(path: Path, place: str, uri: str, options: ModelOptions) -> ModelDescription:
    try:
        text = path.read_text(encoding="utf-8")
        config = json.loads(text)
        if not isinstance(config, dict):
            raise ValueError
    except (OSError, ValueError):
        raise InputError(f"{path} is not a JSON object", hint="download the model again") from None
    if options.task or options.size:
        raise InputError(
            f"{place} says its task and size itself", hint="leave out `--task` and `--size`"
        )
    library = _library(config, place)
    variables = {"STORAGE_URI": uri}
    if library == _INTERACTOR:
        if options.labels:
            raise InputError(f"{place} has no classes", hint="leave out `--labels`")
        return ModelDescription(library, "SAM 2, clicks and boxes", (), variables=variables)
    own: list[RawLabel] = []
    if library == _DETECTOR and config.get("id2label"):
        own = read_labels(text, f"{place}/{CONFIG_NAME}")
    labels = list(options.labels) or own
    if not labels:
        raise InputError(
            f"{place} has no names of its classes",
            hint="name what it shall locate: `--labels cat,dog` or `--labels FILE`",
        )
    _check_names([label["name"] for label in labels], [label["name"] for label in own], place)
    return ModelDescription(
        library=library,
        summary=f"{config.get('model_type', 'transformers')}, {len(labels)} labels",
        labels=tuple({**label, "type": "rectangle"} for label in labels),
        variables=variables,
    )


def _check_names(names: list[str], own: list[str], place: str) -> None:
    """Check that the model has the names, by which the function of the library selects objects."""
    unknown = [name for name in names if name not in own]
    if own and unknown:
        raise InputError(
            f'{place} has no class "{unknown[0]}"',
            hint=f"its classes are {', '.join(own[:20])}; leave out `--labels` for all of them",
        )


def _library(config: dict[str, Any], place: str) -> str:
    """Return the function of the library that serves the model."""
    listed, kind = config.get("architectures"), config.get("model_type")
    architectures = [str(name) for name in listed] if isinstance(listed, list) else []
    if kind in _PROMPTED_TYPES:
        return _PROMPTED
    if kind in _INTERACTOR_TYPES:
        return _INTERACTOR
    if any(name.endswith("ForObjectDetection") for name in architectures):
        if _uses_timm(config):
            raise InputError(
                f"{place} has a backbone of timm, a package that the function does not have",
                hint="name a revision without it, such as hf://facebook/detr-resnet-50:no_timm, or"
                " another model, such as hf://PekingU/rtdetr_r18vd",
            )
        return _DETECTOR
    raise InputError(
        f"{place} has {', '.join(architectures) or kind or 'no architecture'}, for which the"
        " library has no function",
        hint="models for object detection and SAM 2 are served; write others: `fnbuild init"
        " --kind KIND`",
    )


def _uses_timm(config: dict[str, Any]) -> bool:
    backbone, uses = config.get("backbone_config"), config.get("use_timm_backbone")
    if isinstance(backbone, dict):
        return backbone.get("model_type") == "timm_backbone"
    return uses is True or (uses is None and config.get("model_type") in _TIMM_TYPES)
