"""The attributes of a shape in a reply: what CVAT keeps and what it drops without a word."""

from __future__ import annotations

from typing import Any

from fnbuild.check.problems import Problems, named, shown
from fnbuild.spec.labels import Attribute, Label


def read_attributes(
    item: dict[str, Any], path: str, label: Label | None, problems: Problems
) -> tuple[tuple[str, str], ...]:
    """Names and values of a shape's attributes, those that can be read."""
    values = item.get("attributes", [])
    where = f"{path}.attributes"
    if not isinstance(values, list):
        problems.error(where, f"must be a list, not {named(values)}", "leave the key out instead")
        return ()
    known = {each.name: each for each in label.attributes} if label else {}
    found = []
    for i, value in enumerate(values):
        place = f"{where}[{i}]"
        if not isinstance(value, dict) or "name" not in value or "value" not in value:
            problems.error(place, 'must be an object with "name" and "value"')
            continue
        name, content = str(value["name"]), value["value"]
        found.append((name, content if isinstance(content, str) else shown(content)))
        if name in known:
            _check(known[name], content, place, problems)
        elif label is not None:
            problems.warning(
                f"{place}.name",
                f'"{name}" is not an attribute of "{label.name}" in the spec: CVAT drops it',
                problems.likely(name, known),
            )
    return tuple(found)


def _check(attribute: Attribute, value: Any, place: str, problems: Problems) -> None:
    where = f"{place}.value"
    if not isinstance(value, str):
        text = f"must be a string, not {named(value)}"
        if attribute.input_type in ("select", "radio"):
            problems.error(where, f"{text}: CVAT fails on it")
        else:
            problems.warning(where, f"{text}: CVAT drops it")
        return
    fault = _fault(attribute, value)
    if fault:
        problems.warning(where, f'"{value}" {fault}: CVAT drops it', None)


def _fault(attribute: Attribute, value: str) -> str | None:
    match attribute.input_type:
        case "checkbox":
            return None if value in ("true", "false") else 'is neither "true" nor "false"'
        case "select" | "radio":
            if value in attribute.values:
                return None
            return f"is not one of {', '.join(attribute.values)}"
        case "number":
            return _number_fault(attribute, value)
    return None


def _number_fault(attribute: Attribute, value: str) -> str | None:
    try:
        given = int(value)
    except ValueError:
        return "is not a whole number"
    try:
        low, high, step = (int(text) for text in attribute.values)
    except ValueError:
        return None
    if not low <= given <= high:
        return f"is not between {low} and {high}"
    if step > 0 and (given - low) % step:
        return f"is not on a step of {step} from {low}"
    return None
