"""How CVAT reads a function object: whether it shows the function, passes it over, or shows none.

CVAT 2.6x reads every function of Nuclio's list in one go (cvat/apps/lambda_manager/views.py,
`LambdaFunction`). Of what it does not understand it passes over four things; anything else ends the
reading of the whole list, and no function is shown at all. What is done here follows it step by
step, and takes any object: those too that others have deployed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from fnbuild.spec.labels import KINDS
from fnbuild.spec.types import Raw

NUMBERS = ("version", "min_pos_points", "min_neg_points")
"""Annotations that CVAT takes for whole numbers."""

PROJECT = "cvat"
"""The project whose functions CVAT lists."""

_BREAKING = "with it CVAT lists no function at all"


@dataclass(frozen=True, slots=True)
class Reading:
    """What CVAT makes of a function. `reason` says why it is not shown, `remedy` what to do."""

    outcome: Literal["shown", "skipped", "breaks"]
    reason: str = ""
    remedy: str = ""

    @property
    def words(self) -> str:
        """The reason with what follows from it; "" for a function that is shown."""
        if self.outcome == "shown":
            return ""
        effect = "CVAT passes it over" if self.outcome == "skipped" else _BREAKING
        return f"{effect}: {self.reason}"


_SHOWN = Reading("shown")


class _Skipped(Exception):  # noqa: N818 - CVAT's own InvalidFunctionMetadataError, which it expects
    def __init__(self, reason: str, remedy: str):
        super().__init__(reason)
        self.remedy = remedy


class _Breaks(Exception):  # noqa: N818 - what CVAT does not expect
    def __init__(self, reason: str, remedy: str):
        super().__init__(reason)
        self.remedy = remedy


def of_object(value: Any) -> Reading:
    """The reading of one value in the answer to `GET /api/functions`, or of a single function."""
    try:
        metadata = _object(value, "metadata", "the function")
        if not isinstance(metadata.get("name"), str):
            raise _Breaks("metadata.name is missing", "deploy the function again under its name")
        annotations = _object(metadata, "annotations", "metadata")
        _kind(annotations)
        _rest(value)
        empty = [name for name in NUMBERS if annotations.get(name, "") is None]
        if empty:
            raise _Breaks(f"the annotation `{empty[0]}` is null", "write a number, or remove it")
    except _Skipped as error:
        return Reading("skipped", str(error), error.remedy)
    except _Breaks as error:
        return Reading("breaks", str(error), error.remedy)
    return of_annotations(
        {
            key: one if isinstance(one, str) else json.dumps(one)
            for key, one in annotations.items()
            if one is not None
        }
    )


def of_annotations(annotations: dict[str, str]) -> Reading:
    """The reading of a function whose object is whole otherwise, as those of this dashboard are."""
    return _read(tuple(sorted(annotations.items())))


def absence(annotations: dict[str, str], project: str) -> str:
    """Why CVAT does not list a function that nothing is wrong with, and what to do if it ought to.

    "" for one that it lists, for one of which `of_annotations` says why not, and for one that has
    nothing to do with CVAT.
    """
    reading = of_annotations(annotations)
    if project == PROJECT and "type" not in annotations:
        return f"{reading.reason}; {reading.remedy}"
    if project != PROJECT and reading.outcome == "shown":
        return (
            f"CVAT asks for the project {PROJECT}, and it is in {project};"
            f" `fnbuild deploy --project-name {PROJECT}` moves it"
        )
    return ""


@lru_cache(maxsize=2048)
def _read(items: tuple[tuple[str, str], ...]) -> Reading:
    annotations = dict(items)
    try:
        _kind(annotations)
        for step in _STEPS:
            step(annotations)
    except _Skipped as error:
        return Reading("skipped", str(error), error.remedy)
    except _Breaks as error:
        return Reading("breaks", str(error), error.remedy)
    return _SHOWN


def _object(value: Any, key: str, where: str) -> Raw:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, dict):
        remedy = "fnbuild's dashboard always sends it; Nuclio's leaves out what is empty"
        raise _Breaks(f"{where} has no {key}", remedy)
    return found


def _rest(value: Raw) -> None:
    spec = value.get("spec")
    if not isinstance(spec, dict) or "description" not in spec:
        remedy = "add a line `description: What it finds` below spec, and deploy it again"
        raise _Breaks("spec.description is missing", remedy)
    _object(value, "status", "the function")


def _kind(annotations: Raw) -> None:
    given = annotations.get("type")
    kinds = ", ".join(KINDS)
    if given is None:
        raise _Skipped(
            "it has no annotation `type`", f"add `type: detector` (or another of {kinds})"
        )
    if given not in KINDS:
        raise _Skipped(
            f"its annotation `type` is {_shown(given)}", f"CVAT knows {kinds}, in small letters"
        )


def _labels(annotations: dict[str, str]) -> None:
    text = annotations.get("spec") or "[]"
    try:
        labels = json.loads(text)
    except ValueError as error:
        raise _Breaks(
            f"the annotation `spec` is not JSON: {error}",
            "`fnbuild validate --fix` mends commas and quotes; deploy it again then",
        ) from None
    except RecursionError:
        raise _Breaks("the annotation `spec` is nested too deeply", "write it anew") from None
    _label_list(labels, "the annotation `spec`")


def _label_list(labels: Any, where: str) -> None:
    if not isinstance(labels, list):
        kind = "an object" if isinstance(labels, dict) else "no list"
        raise _Breaks(f"{where} is {kind}", 'CVAT reads a list: [{"name": …}, …]')
    names: set[str] = set()
    for number, label in enumerate(labels, 1):
        name = _needed(label, "name", f"label {number} of {where}")
        if not isinstance(name, str):
            raise _Breaks(f"the name of label {number} is no text", "write it in quotes")
        if name in names:
            raise _Skipped(f"the label {_shown(name)} is there twice", "give each label its name")
        names.add(name)
        _attributes(label, name)
        if label.get("type") == "skeleton":
            _label_list(_needed(label, "sublabels", f"the skeleton {_shown(name)}"), "sublabels")
            _needed(label, "svg", f"the skeleton {_shown(name)}")


def _attributes(label: Raw, name: str) -> None:
    attributes = label.get("attributes", [])
    where = f"the label {_shown(name)}"
    if not isinstance(attributes, list):
        raise _Breaks(f"the attributes of {where} are no list", 'write `"attributes": []`')
    known: set[str] = set()
    for one in attributes:
        for key in ("name", "input_type", "values"):
            _needed(one, key, f"an attribute of {where}")
        if not isinstance(one["values"], list):
            raise _Breaks(f"the values of an attribute of {where} are no list", "write a list")
        attribute = str(one["name"])
        if attribute in known:
            reason = f"the attribute {_shown(attribute)} of {where} is there twice"
            raise _Skipped(reason, "give each attribute its name")
        known.add(attribute)


def _needed(value: Any, key: str, where: str) -> Any:
    if not isinstance(value, dict):
        raise _Breaks(f"{where} is no object", 'write it as {"name": …}')
    if key not in value:
        raise _Breaks(f"{where} has no {key!r}", f"add {key!r} to it, and deploy it again")
    return value[key]


def _numbers(annotations: dict[str, str]) -> None:
    for name in NUMBERS:
        text = annotations.get(name)
        if text is None:
            continue
        try:
            int(text)
        except ValueError:
            remedy = "write a whole number, as in `version: 2`"
            reason = f"the annotation `{name}` is {_shown(text)}, which is no whole number"
            raise _Breaks(reason, remedy) from None


def _shapes(annotations: dict[str, str]) -> None:
    text = annotations.get("supported_shape_types")
    if annotations["type"] != "tracker" or text is None:
        return
    if not any(part.strip() for part in text.split(",")):
        remedy = "remove it, or write `rectangle`"
        raise _Skipped("its annotation `supported_shape_types` is empty", remedy)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"


_STEPS: tuple[Callable[[dict[str, str]], None], ...] = (_labels, _numbers, _shapes)


def notices(annotations: dict[str, str]) -> Iterator[tuple[str, str]]:
    """What CVAT reads otherwise than it is meant, with the remedy, of a function that it shows."""
    for key in ("startswith_box", "startswith_box_optional"):
        text = annotations.get(key, "")
        if text.strip().lower() in ("false", "no", "off", "0"):
            yield f"CVAT reads `{key}: {text}` as true", f"remove {key} to mean false"
    if annotations.get("type") == "interactor" and int(annotations.get("version", "1")) < 2:
        yield "CVAT warns its users that the interactor is outdated", "write `version: 2`"
    if annotations.get("type") == "detector" and not json.loads(annotations.get("spec") or "[]"):
        yield "a detector without labels finds nothing that CVAT can show", "list them in `spec`"
