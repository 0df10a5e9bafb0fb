"""Determine whether CVAT lists a function, skips it, or fails to show the whole list.

CVAT 2.6x reads all functions of Nuclio's list at once (cvat/apps/lambda_manager/views.py,
`LambdaFunction`). It skips functions with one of four errors. Any other error ends the reading of
the list, and no function is shown. The checks follow CVAT step by step and accept any object,
including those that other tools have deployed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from fnbuild.cvat.reply_report import json_excerpt
from fnbuild.function.labels import FLAG_ANNOTATIONS, FUNCTION_KINDS, INTEGER_ANNOTATIONS
from fnbuild.function.types import Raw

CVAT_PROJECT = "cvat"
"""The project whose functions CVAT lists."""

_BREAKING = "with it CVAT lists no function at all"


@dataclass(frozen=True, slots=True)
class ListVerdict:
    """CVAT's treatment of a function, with the reason and the remedy if it is not shown."""

    outcome: Literal["shown", "skipped", "breaks"]
    reason: str = ""
    remedy: str = ""

    @property
    def message(self) -> str:
        """The effect and its reason; "" for a function that is shown."""
        if self.outcome == "shown":
            return ""
        effect = "CVAT skips it" if self.outcome == "skipped" else _BREAKING
        return f"{effect}: {self.reason}"


_SHOWN_VERDICT = ListVerdict("shown")


class _NotShownError(Exception):
    def __init__(self, verdict: ListVerdict):
        super().__init__(verdict.message)
        self.verdict = verdict


def _skipped(reason: str, remedy: str) -> _NotShownError:
    return _NotShownError(ListVerdict("skipped", reason, remedy))


def _breaks(reason: str, remedy: str) -> _NotShownError:
    return _NotShownError(ListVerdict("breaks", reason, remedy))


def verdict_of_object(value: Any) -> ListVerdict:
    """Return the verdict on a function in the reply to `GET /api/functions`, or a single one."""
    try:
        metadata = _required_object(value, "metadata", "the function")
        if not isinstance(metadata.get("name"), str):
            raise _breaks("metadata.name is missing", "deploy the function again under its name")
        annotations = _required_object(metadata, "annotations", "metadata")
        _check_type(annotations)
        _check_object(value)
        empty = [name for name in INTEGER_ANNOTATIONS if annotations.get(name, "") is None]
        if empty:
            raise _breaks(f"the annotation `{empty[0]}` is null", "write a number, or remove it")
    except _NotShownError as error:
        return error.verdict
    return verdict_of_annotations(
        {
            key: annotation if isinstance(annotation, str) else json.dumps(annotation)
            for key, annotation in annotations.items()
            if annotation is not None
        }
    )


def verdict_of_annotations(annotations: dict[str, str]) -> ListVerdict:
    """Return the verdict on a function whose object is complete, as on this dashboard."""
    return _verdict(tuple(sorted(annotations.items())))


def exclusion_reason(annotations: dict[str, str]) -> str:
    """Return the defect that hides a function meant for CVAT; "" if there is none."""
    return verdict_of_annotations(annotations).message if "type" in annotations else ""


def absence_reason(annotations: dict[str, str], project: str) -> str:
    """Return why CVAT does not list a valid function, with the remedy.

    "" if CVAT lists the function, if `verdict_of_annotations` has the reason, or if the function is
    not meant for CVAT.
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
    except _NotShownError as error:
        return error.verdict
    return _SHOWN_VERDICT


def _required_object(value: Any, key: str, where: str) -> Raw:
    child = value.get(key) if isinstance(value, dict) else None
    if not isinstance(child, dict):
        remedy = "fnbuild's dashboard always sends it; Nuclio's omits empty values"
        raise _breaks(f"{where} has no {key}", remedy)
    return child


def _check_object(value: Raw) -> None:
    spec = value.get("spec")
    if not isinstance(spec, dict) or "description" not in spec:
        remedy = "add a line `description: What it finds` below spec, and deploy it again"
        raise _breaks("spec.description is missing", remedy)
    _required_object(value, "status", "the function")


def _check_type(annotations: Raw) -> None:
    kind = annotations.get("type")
    kinds = ", ".join(FUNCTION_KINDS)
    if kind is None:
        raise _skipped(
            "it has no annotation `type`", f"add `type: detector` (or another of {kinds})"
        )
    if kind not in FUNCTION_KINDS:
        raise _skipped(
            f"its annotation `type` is {json_excerpt(kind)}",
            f"CVAT knows {kinds}, in lower case",
        )


def _check_label_spec(annotations: dict[str, str]) -> None:
    text = annotations.get("spec") or "[]"
    try:
        labels = json.loads(text)
    except ValueError as error:
        raise _breaks(
            f"the annotation `spec` is not JSON: {error}",
            "`fnbuild validate --fix` repairs commas and quotes; then deploy it again",
        ) from None
    except RecursionError:
        raise _breaks(
            "the annotation `spec` is nested too deeply", "write a list of labels"
        ) from None
    _check_labels(labels, "the annotation `spec`")


def _check_labels(labels: Any, where: str) -> None:
    if not isinstance(labels, list):
        kind = "an object" if isinstance(labels, dict) else "not a list"
        raise _breaks(f"{where} is {kind}", 'CVAT reads a list: [{"name": …}, …]')
    names: set[str] = set()
    for number, label in enumerate(labels, 1):
        name = _required_key(label, "name", f"label {number} of {where}")
        if not isinstance(name, str):
            raise _breaks(f"the name of label {number} is not text", "write it in quotes")
        if name in names:
            raise _skipped(
                f"the label {json_excerpt(name)} is defined twice", "give each label its own name"
            )
        names.add(name)
        _check_attributes(label, name)
        if label.get("type") == "skeleton":
            _check_labels(
                _required_key(label, "sublabels", f"the skeleton {json_excerpt(name)}"),
                "sublabels",
            )
            _required_key(label, "svg", f"the skeleton {json_excerpt(name)}")


def _check_attributes(label: Raw, name: str) -> None:
    attributes = label.get("attributes", [])
    where = f"the label {json_excerpt(name)}"
    if not isinstance(attributes, list):
        raise _breaks(f"the attributes of {where} are not a list", 'write `"attributes": []`')
    names: set[str] = set()
    for item in attributes:
        for key in ("name", "input_type", "values"):
            _required_key(item, key, f"an attribute of {where}")
        if not isinstance(item["values"], list):
            raise _breaks(f"the values of an attribute of {where} are not a list", "write a list")
        attribute = str(item["name"])
        if attribute in names:
            reason = f"the attribute {json_excerpt(attribute)} of {where} is defined twice"
            raise _skipped(reason, "give each attribute its own name")
        names.add(attribute)


def _required_key(value: Any, key: str, where: str) -> Any:
    if not isinstance(value, dict):
        raise _breaks(f"{where} is not an object", 'write it as {"name": …}')
    if key not in value:
        raise _breaks(f"{where} has no {key!r}", f"add {key!r} to it, and deploy it again")
    return value[key]


def _check_numbers(annotations: dict[str, str]) -> None:
    for name in INTEGER_ANNOTATIONS:
        text = annotations.get(name)
        if text is None:
            continue
        try:
            int(text)
        except ValueError:
            remedy = "write a whole number, as in `version: 2`"
            reason = f"the annotation `{name}` is {json_excerpt(text)}, which is not a whole number"
            raise _breaks(reason, remedy) from None


def _check_tracked_shapes(annotations: dict[str, str]) -> None:
    text = annotations.get("supported_shape_types")
    if annotations["type"] != "tracker" or text is None:
        return
    if not any(part.strip() for part in text.split(",")):
        remedy = "remove it, or write `rectangle`"
        raise _skipped("its annotation `supported_shape_types` is empty", remedy)


_CHECKS: tuple[Callable[[dict[str, str]], None], ...] = (
    _check_label_spec,
    _check_numbers,
    _check_tracked_shapes,
)


def misread_annotations(annotations: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield annotations of a listed function that CVAT misreads, each with the remedy."""
    for key in FLAG_ANNOTATIONS:
        text = annotations.get(key, "")
        if text.strip().lower() in ("false", "no", "off", "0"):
            yield f"CVAT reads `{key}: {text}` as true", f"remove {key} to mean false"
    if annotations.get("type") == "interactor" and int(annotations.get("version", "1")) < 2:
        yield "CVAT warns its users that the interactor is outdated", "write `version: 2`"
    if annotations.get("type") == "detector" and not json.loads(annotations.get("spec") or "[]"):
        yield "a detector without labels finds nothing that CVAT can show", "list them in `spec`"
