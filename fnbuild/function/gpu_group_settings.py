"""The settings of a GPU group, in annotations of its functions.

    fnbuild.io/gpu-group: NAME             functions of this machine that share the memory of a GPU
    fnbuild.io/gpu-group-awake: "2"        at most so many of them are awake
    fnbuild.io/gpu-group-memory: 20Gi      or as many as fit this budget
    fnbuild.io/gpu-memory: 6Gi             the function's own need; by default it is measured
    fnbuild.io/gpu-group-permanent: "true" it never sleeps
    fnbuild.io/workers-per-device: "2"     so many workers get the same GPU, the next ones the next

One function of a group may set the limits for all. See `fnbuild.runtime.groups`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fnbuild.errors import InputError
from fnbuild.function.platform_attributes import SettingProblem
from fnbuild.function.quantities import parse_quantity
from fnbuild.function.source_text import quoted
from fnbuild.function.types import Function, Raw

GROUP = "fnbuild.io/gpu-group"
AWAKE = "fnbuild.io/gpu-group-awake"
BUDGET = "fnbuild.io/gpu-group-memory"
NEED = "fnbuild.io/gpu-memory"
PERMANENT = "fnbuild.io/gpu-group-permanent"
WORKERS_PER_DEVICE = "fnbuild.io/workers-per-device"

ANNOTATION_DESCRIPTIONS = {
    GROUP: "Functions of this group share the memory of a GPU.",
    AWAKE: "The number of functions of the group that may be awake.",
    BUDGET: "The memory that the awake functions of the group may use, such as 20Gi.",
    NEED: "The GPU memory that the function uses, such as 6Gi; by default it is measured.",
    PERMANENT: "true: the function does not sleep for others of its group.",
    WORKERS_PER_DEVICE: "The number of workers that get the same GPU; the next get the next one.",
}
"""The annotations, with their descriptions."""

_Parser = Callable[[str | None], int | None]
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_OF_GROUP = (AWAKE, BUDGET, NEED, PERMANENT)


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """The group of a function, with the limits that it sets; memory is in bytes."""

    name: str
    awake: int | None = None
    memory: int | None = None
    need: int | None = None
    permanent: bool = False

    def to_processor(self, folder: str, instance: str = "") -> Raw:
        """Return the value in the processor's configuration.

        `folder` is that of the group, `instance` identifies the revision.
        """
        return {
            "name": self.name,
            "folder": folder,
            "awake": self.awake,
            "memory": self.memory,
            "need": self.need,
            "permanent": self.permanent,
            "instance": instance,
        }


def annotation_path(key: str) -> tuple[str, ...]:
    """Return the path of an annotation in a function."""
    return ("metadata", "annotations", key)


def group_settings(function: Function) -> GroupSettings | None:
    """Return the group of the function, if any. Raises `InputError` for an invalid setting."""
    _raise_first_problem(function)
    annotations = function.metadata.annotations
    if not annotations.get(GROUP):
        return None
    return GroupSettings(
        annotations[GROUP],
        _count(annotations.get(AWAKE)),
        _bytes(annotations.get(BUDGET)),
        _bytes(annotations.get(NEED)),
        _flag(annotations.get(PERMANENT)),
    )


def workers_per_device(function: Function) -> int | None:
    """Return the number of workers that get the same GPU; None if all see every GPU."""
    _raise_first_problem(function)
    return _count(function.metadata.annotations.get(WORKERS_PER_DEVICE))


def _raise_first_problem(function: Function) -> None:
    for problem in find_problems(function):
        place = ".".join(map(str, problem.path))
        raise InputError(f"{place}: {problem.message}", hint=problem.hint)


def find_problems(function: Function) -> Iterator[SettingProblem]:
    """Yield the invalid settings."""
    annotations = function.metadata.annotations
    name = annotations.get(GROUP)
    if name and not _NAME.match(name):
        message = f"{quoted(name)} is not a name of a group"
        hint = "write at most 63 lower-case letters, digits and hyphens"
        yield SettingProblem(annotation_path(GROUP), message, hint)
    for key in _OF_GROUP:
        if annotations.get(key) and not name:
            message = f"{key} has no effect without {GROUP}"
            yield SettingProblem(annotation_path(key), message, f"add `{GROUP}: NAME`", is_key=True)
    for key in (AWAKE, WORKERS_PER_DEVICE):
        yield from _check(annotations, key, _count, "a whole number from 1", "2")
    for key in (BUDGET, NEED):
        yield from _check(annotations, key, _bytes, "an amount of memory", "6Gi")
    yield from _check(annotations, PERMANENT, _flag, "true or false", "true")
    yield from _budget_problems(annotations)


def _check(
    annotations: dict[str, str], key: str, parse: _Parser, kind: str, example: str
) -> Iterator[SettingProblem]:
    text = annotations.get(key)
    if text and _parsed(parse, text) is None:
        message = f"{key.partition('/')[2]} is {kind}, not {quoted(text)}"
        hint = f"write a value such as {example}"
        yield SettingProblem(annotation_path(key), message, hint)


def _parsed(parse: _Parser, text: str | None) -> int | None:
    """Return the value of a valid text, None for others."""
    try:
        return parse(text)
    except ValueError:
        return None


def _budget_problems(annotations: dict[str, str]) -> Iterator[SettingProblem]:
    need, budget = _parsed(_bytes, annotations.get(NEED)), _parsed(_bytes, annotations.get(BUDGET))
    if need and budget and need > budget:
        message = (
            f"the function needs {annotations[NEED]}, and the budget of its group is"
            f" {annotations[BUDGET]}: it could never be awake"
        )
        yield SettingProblem(annotation_path(NEED), message, f"increase {BUDGET}")


def _count(text: str | None) -> int | None:
    return _positive(int(text)) if text else None


def _bytes(text: str | None) -> int | None:
    return _positive(int(parse_quantity(text))) if text else None


def _flag(text: str | None) -> bool:
    if text not in (None, "", "true", "false"):
        raise ValueError(text)
    return text == "true"


def _positive(number: int) -> int:
    if number < 1:
        raise ValueError(number)
    return number
