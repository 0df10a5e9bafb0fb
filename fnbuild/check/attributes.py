"""The attributes of a shape in a reply: what CVAT keeps and what it drops without a word."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fnbuild.check.problems import Problems, named, shown
from fnbuild.spec.labels import Attribute, Label

_SHOWN = 12
"""So many of the values that an attribute may have stand in a message."""


@dataclass(slots=True)
class Attributes:
    """Reads the attributes of the shapes of one reply, noting every problem.

    What a label's attributes may be is made ready once: each shape may have the same label.
    """

    problems: Problems
    _known: dict[int, tuple[Label, dict[str, _Known]]] = field(default_factory=dict, init=False)

    def read(
        self, item: dict[str, Any], path: str, label: Label | None
    ) -> tuple[tuple[str, str], ...]:
        """Names and values of a shape's attributes, those that can be read."""
        values = item.get("attributes", [])
        where = f"{path}.attributes"
        if not isinstance(values, list):
            words = f"must be a list, not {named(values)}"
            self.problems.error(where, words, "leave the key out instead")
            return ()
        known = self._of(label) if label is not None and values else {}
        found = []
        for i, value in enumerate(values):
            place = f"{where}[{i}]"
            if not isinstance(value, dict) or "name" not in value or "value" not in value:
                self.problems.error(place, 'must be an object with "name" and "value"')
                continue
            name, content = str(value["name"]), value["value"]
            found.append((name, content if isinstance(content, str) else shown(content)))
            if name in known:
                _check(known[name], content, place, self.problems)
            elif label is not None:
                self.problems.warning(
                    f"{place}.name",
                    f'"{name}" is not an attribute of "{label.name}" in the spec: CVAT drops it',
                    self.problems.likely(name, known),
                )
        return tuple(found)

    def _of(self, label: Label) -> dict[str, _Known]:
        # By identity: sublabels of two skeletons may share a name, and a hash reads all of a label.
        if id(label) not in self._known:
            known = {one.name: _Known(one, frozenset(one.values)) for one in label.attributes}
            self._known[id(label)] = (label, known)
        return self._known[id(label)][1]


@dataclass(frozen=True, slots=True)
class _Known:
    attribute: Attribute
    choices: frozenset[str]


def _check(known: _Known, value: Any, place: str, problems: Problems) -> None:
    where = f"{place}.value"
    if not isinstance(value, str):
        text = f"must be a string, not {named(value)}"
        if known.attribute.input_type in ("select", "radio"):
            problems.error(where, f"{text}: CVAT fails on it")
        else:
            problems.warning(where, f"{text}: CVAT drops it")
        return
    fault = _fault(known, value)
    if fault:
        problems.warning(where, f'"{value}" {fault}: CVAT drops it', None)


def _fault(known: _Known, value: str) -> str | None:
    attribute = known.attribute
    match attribute.input_type:
        case "checkbox":
            return None if value in ("true", "false") else 'is neither "true" nor "false"'
        case "select" | "radio":
            return None if value in known.choices else f"is not one of {_some(attribute.values)}"
        case "number":
            return _number_fault(attribute, value)
    return None


def _some(values: tuple[str, ...]) -> str:
    more = ", …" if len(values) > _SHOWN else ""
    return ", ".join(values[:_SHOWN]) + more


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
