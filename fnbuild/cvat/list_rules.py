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

from fnbuild.function.labels import FUNCTION_KINDS
from fnbuild.function.types import Raw

NUMBER_ANNOTATIONS = ("version", "min_pos_points", "min_neg_points")
"""Annotations that CVAT takes for whole numbers."""

CVAT_PROJECT = "cvat"
"""The project whose functions CVAT lists."""

_BREAKING = "with it CVAT lists no function at all"


@dataclass(frozen=True, slots=True)
class ListVerdict:
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


_SHOWN_VERDICT = ListVerdict("shown")


class _FunctionSkippedError(Exception):
    def __init__(self, reason: str, remedy: str):
        super().__init__(reason)
        self.remedy = remedy


class _ListBrokenError(Exception):
    def __init__(self, reason: str, remedy: str):
        super().__init__(reason)
        self.remedy = remedy


def verdict_of_object(value: Any) -> ListVerdict:
    """The reading of one value in the answer to `GET /api/functions`, or of a single function."""
    try:
        metadata = _required_object(value, "metadata", "the function")
        if not isinstance(metadata.get("name"), str):
            raise _ListBrokenError(
                "metadata.name is missing", "deploy the function again under its name"
            )
        annotations = _required_object(metadata, "annotations", "metadata")
        _check_type(annotations)
        _check_object(value)
        empty = [name for name in NUMBER_ANNOTATIONS if annotations.get(name, "") is None]
        if empty:
            raise _ListBrokenError(
                f"the annotation `{empty[0]}` is null", "write a number, or remove it"
            )
    except _FunctionSkippedError as error:
        return ListVerdict("skipped", str(error), error.remedy)
    except _ListBrokenError as error:
        return ListVerdict("breaks", str(error), error.remedy)
    return verdict_of_annotations(
        {
            key: one if isinstance(one, str) else json.dumps(one)
            for key, one in annotations.items()
            if one is not None
        }
    )


def verdict_of_annotations(annotations: dict[str, str]) -> ListVerdict:
    """The reading of a function whose object is whole otherwise, as those of this dashboard are."""
    return _verdict(tuple(sorted(annotations.items())))


def reason_not_listed(annotations: dict[str, str], project: str) -> str:
    """Why CVAT does not list a function that nothing is wrong with, and what to do if it ought to.

    "" for one that it lists, for one of which `of_annotations` says why not, and for one that has
    nothing to do with CVAT.
    """
    reading = verdict_of_annotations(annotations)
    if project == CVAT_PROJECT and "type" not in annotations:
        return f"{reading.reason}; {reading.remedy}"
    if project != CVAT_PROJECT and reading.outcome == "shown":
        return (
            f"CVAT asks for the project {CVAT_PROJECT}, and it is in {project};"
            f" `fnbuild deploy --project-name {CVAT_PROJECT}` moves it"
        )
    return ""


@lru_cache(maxsize=2048)
def _verdict(items: tuple[tuple[str, str], ...]) -> ListVerdict:
    annotations = dict(items)
    try:
        _check_type(annotations)
        for step in _CHECKS:
            step(annotations)
    except _FunctionSkippedError as error:
        return ListVerdict("skipped", str(error), error.remedy)
    except _ListBrokenError as error:
        return ListVerdict("breaks", str(error), error.remedy)
    return _SHOWN_VERDICT


def _required_object(value: Any, key: str, where: str) -> Raw:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, dict):
        remedy = "fnbuild's dashboard always sends it; Nuclio's leaves out what is empty"
        raise _ListBrokenError(f"{where} has no {key}", remedy)
    return found


def _check_object(value: Raw) -> None:
    spec = value.get("spec")
    if not isinstance(spec, dict) or "description" not in spec:
        remedy = "add a line `description: What it finds` below spec, and deploy it again"
        raise _ListBrokenError("spec.description is missing", remedy)
    _required_object(value, "status", "the function")


def _check_type(annotations: Raw) -> None:
    given = annotations.get("type")
    kinds = ", ".join(FUNCTION_KINDS)
    if given is None:
        raise _FunctionSkippedError(
            "it has no annotation `type`", f"add `type: detector` (or another of {kinds})"
        )
    if given not in FUNCTION_KINDS:
        raise _FunctionSkippedError(
            f"its annotation `type` is {_json_excerpt(given)}",
            f"CVAT knows {kinds}, in small letters",
        )


def _check_label_spec(annotations: dict[str, str]) -> None:
    text = annotations.get("spec") or "[]"
    try:
        labels = json.loads(text)
    except ValueError as error:
        raise _ListBrokenError(
            f"the annotation `spec` is not JSON: {error}",
            "`fnbuild validate --fix` mends commas and quotes; deploy it again then",
        ) from None
    except RecursionError:
        raise _ListBrokenError(
            "the annotation `spec` is nested too deeply", "write it anew"
        ) from None
    _check_labels(labels, "the annotation `spec`")


def _check_labels(labels: Any, where: str) -> None:
    if not isinstance(labels, list):
        kind = "an object" if isinstance(labels, dict) else "no list"
        raise _ListBrokenError(f"{where} is {kind}", 'CVAT reads a list: [{"name": …}, …]')
    names: set[str] = set()
    for number, label in enumerate(labels, 1):
        name = _required_key(label, "name", f"label {number} of {where}")
        if not isinstance(name, str):
            raise _ListBrokenError(f"the name of label {number} is no text", "write it in quotes")
        if name in names:
            raise _FunctionSkippedError(
                f"the label {_json_excerpt(name)} is there twice", "give each label its name"
            )
        names.add(name)
        _check_attributes(label, name)
        if label.get("type") == "skeleton":
            _check_labels(
                _required_key(label, "sublabels", f"the skeleton {_json_excerpt(name)}"),
                "sublabels",
            )
            _required_key(label, "svg", f"the skeleton {_json_excerpt(name)}")


def _check_attributes(label: Raw, name: str) -> None:
    attributes = label.get("attributes", [])
    where = f"the label {_json_excerpt(name)}"
    if not isinstance(attributes, list):
        raise _ListBrokenError(f"the attributes of {where} are no list", 'write `"attributes": []`')
    known: set[str] = set()
    for one in attributes:
        for key in ("name", "input_type", "values"):
            _required_key(one, key, f"an attribute of {where}")
        if not isinstance(one["values"], list):
            raise _ListBrokenError(
                f"the values of an attribute of {where} are no list", "write a list"
            )
        attribute = str(one["name"])
        if attribute in known:
            reason = f"the attribute {_json_excerpt(attribute)} of {where} is there twice"
            raise _FunctionSkippedError(reason, "give each attribute its name")
        known.add(attribute)


def _required_key(value: Any, key: str, where: str) -> Any:
    if not isinstance(value, dict):
        raise _ListBrokenError(f"{where} is no object", 'write it as {"name": …}')
    if key not in value:
        raise _ListBrokenError(f"{where} has no {key!r}", f"add {key!r} to it, and deploy it again")
    return value[key]


def _check_numbers(annotations: dict[str, str]) -> None:
    for name in NUMBER_ANNOTATIONS:
        text = annotations.get(name)
        if text is None:
            continue
        try:
            int(text)
        except ValueError:
            remedy = "write a whole number, as in `version: 2`"
            reason = f"the annotation `{name}` is {_json_excerpt(text)}, which is no whole number"
            raise _ListBrokenError(reason, remedy) from None


def _check_tracked_shapes(annotations: dict[str, str]) -> None:
    text = annotations.get("supported_shape_types")
    if annotations["type"] != "tracker" or text is None:
        return
    if not any(part.strip() for part in text.split(",")):
        remedy = "remove it, or write `rectangle`"
        raise _FunctionSkippedError("its annotation `supported_shape_types` is empty", remedy)


def _json_excerpt(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"


_CHECKS: tuple[Callable[[dict[str, str]], None], ...] = (
    _check_label_spec,
    _check_numbers,
    _check_tracked_shapes,
)


def misread_annotations(annotations: dict[str, str]) -> Iterator[tuple[str, str]]:
    """What CVAT reads otherwise than it is meant, with the remedy, of a function that it shows."""
    for key in ("startswith_box", "startswith_box_optional"):
        text = annotations.get(key, "")
        if text.strip().lower() in ("false", "no", "off", "0"):
            yield f"CVAT reads `{key}: {text}` as true", f"remove {key} to mean false"
    if annotations.get("type") == "interactor" and int(annotations.get("version", "1")) < 2:
        yield "CVAT warns its users that the interactor is outdated", "write `version: 2`"
    if annotations.get("type") == "detector" and not json.loads(annotations.get("spec") or "[]"):
        yield "a detector without labels finds nothing that CVAT can show", "list them in `spec`"
