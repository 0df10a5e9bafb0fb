"""The attributes of a detector's shapes, checked against those that the label declares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fnbuild.cvat.reply_report import ReplyReport, json_excerpt, json_type
from fnbuild.function.labels import Attribute, Label

_MAX_VALUES_SHOWN = 12
"""The number of an attribute's valid values that a message lists."""


@dataclass(slots=True)
class AttributeReader:
    """Reads the attributes of the shapes in one reply, and reports every problem.

    The attributes of each label are prepared once, since many shapes may have the same label.
    """

    report: ReplyReport
    _attributes: dict[int, tuple[Label, dict[str, _KnownAttribute]]] = field(
        default_factory=dict, init=False
    )

    def read(
        self, item: dict[str, Any], path: str, label: Label | None
    ) -> tuple[tuple[str, str], ...]:
        """Return the names and values of a shape's valid attributes."""
        values = item.get("attributes", [])
        where = f"{path}.attributes"
        if not isinstance(values, list):
            message = f"must be a list, not {json_type(values)}"
            self.report.add("attributes-list", where, message, "omit the key instead")
            return ()
        declared = self._attributes_of(label) if label is not None and values else {}
        attributes = []
        for i, value in enumerate(values):
            place = f"{where}[{i}]"
            if not isinstance(value, dict) or "name" not in value or "value" not in value:
                self.report.add(
                    "attribute-item", place, 'must be an object with "name" and "value"'
                )
                continue
            name, content = str(value["name"]), value["value"]
            attributes.append(
                (name, content if isinstance(content, str) else json_excerpt(content))
            )
            if name in declared:
                _check_value(declared[name], content, place, self.report)
            elif label is not None:
                self.report.add(
                    "attribute-unknown",
                    f"{place}.name",
                    f'"{name}" is not an attribute of "{label.name}" in the spec: CVAT drops it',
                    self.report.suggestion(name, declared),
                )
        return tuple(attributes)

    def _attributes_of(self, label: Label) -> dict[str, _KnownAttribute]:
        # By identity: sublabels of two skeletons may share a name, and hashing a label is slow.
        if id(label) not in self._attributes:
            attributes = {
                attribute.name: _KnownAttribute(attribute, frozenset(attribute.values))
                for attribute in label.attributes
            }
            self._attributes[id(label)] = (label, attributes)
        return self._attributes[id(label)][1]


@dataclass(frozen=True, slots=True)
class _KnownAttribute:
    attribute: Attribute
    choices: frozenset[str]


def _check_value(expected: _KnownAttribute, value: Any, place: str, report: ReplyReport) -> None:
    where = f"{place}.value"
    if not isinstance(value, str):
        text = f"must be a string, not {json_type(value)}"
        if expected.attribute.input_type in ("select", "radio"):
            report.add("attribute-choice", where, f"{text}: CVAT fails on it")
        else:
            report.add("attribute-value", where, f"{text}: CVAT drops it")
        return
    fault = _value_fault(expected, value)
    if fault:
        report.add("attribute-value", where, f'"{value}" {fault}: CVAT drops it', None)


def _value_fault(expected: _KnownAttribute, value: str) -> str | None:
    attribute = expected.attribute
    match attribute.input_type:
        case "checkbox":
            return None if value in ("true", "false") else 'is neither "true" nor "false"'
        case "select" | "radio":
            return (
                None
                if value in expected.choices
                else f"is not one of {_list_values(attribute.values)}"
            )
        case "number":
            return _number_fault(attribute, value)
    return None


def _list_values(values: tuple[str, ...]) -> str:
    more = ", …" if len(values) > _MAX_VALUES_SHOWN else ""
    return ", ".join(values[:_MAX_VALUES_SHOWN]) + more


def _number_fault(attribute: Attribute, value: str) -> str | None:
    try:
        number = int(value)
    except ValueError:
        return "is not a whole number"
    try:
        low, high, step = (int(text) for text in attribute.values)
    except ValueError:
        return None
    if not low <= number <= high:
        return f"is not between {low} and {high}"
    if step > 0 and (number - low) % step:
        return f"is not on a step of {step} from {low}"
    return None
