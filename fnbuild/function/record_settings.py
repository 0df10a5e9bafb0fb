"""The settings of a recording of requests and replies, in annotations of a function.

    fnbuild.io/record: 200Mi           keep so many bytes of requests and replies; true: 100Mi
    fnbuild.io/record-age: 24h         and none that is older; by default seven days

See `fnbuild.runtime.recording`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fnbuild.errors import InputError
from fnbuild.function.platform_attributes import SettingProblem
from fnbuild.function.quantities import parse_duration, parse_quantity
from fnbuild.function.source_text import quoted
from fnbuild.function.types import Function, Raw

RECORD = "fnbuild.io/record"
RECORD_AGE = "fnbuild.io/record-age"

ANNOTATION_DESCRIPTIONS = {
    RECORD: "Keep so many bytes of requests and replies, such as 200Mi; true: 100Mi.",
    RECORD_AGE: "The largest age of a recorded request, such as 24h; by default seven days.",
}
"""The annotations, with their descriptions."""

_DEFAULT_SIZE = 100 << 20
_DEFAULT_AGE = 7 * 86400.0
_OFF = ("", "false", "0")


def record_settings(function: Function) -> Raw | None:
    """Return the value in the processor's configuration; None if nothing is recorded.

    Raises `InputError` for an invalid setting.
    """
    for problem in find_problems(function):
        place = ".".join(map(str, problem.path))
        raise InputError(f"{place}: {problem.message}", hint=problem.hint)
    annotations = function.metadata.annotations
    size = annotations.get(RECORD) or ""
    if size in _OFF:
        return None
    age = annotations.get(RECORD_AGE)
    return {"size": _bytes(size), "age": parse_duration(age) if age else _DEFAULT_AGE}


def find_problems(function: Function) -> Iterator[SettingProblem]:
    """Yield the invalid settings."""
    annotations = function.metadata.annotations
    size, age = annotations.get(RECORD) or "", annotations.get(RECORD_AGE)
    if size not in _OFF and not _is_positive(_bytes, size):
        message = f"the size of a recording is an amount of memory or true, not {quoted(size)}"
        yield SettingProblem(("metadata", "annotations", RECORD), message, "write 200Mi, or false")
    path = ("metadata", "annotations", RECORD_AGE)
    if age and not _is_positive(parse_duration, age):
        message = f"the age of a recording is a duration, not {quoted(age)}"
        yield SettingProblem(path, message, "write a number with its unit, such as 30m or 24h")
    if age and size in _OFF:
        message = f"{RECORD_AGE} has no effect without {RECORD}"
        yield SettingProblem(path, message, f"add `{RECORD}: 100Mi`", is_key=True)


def _bytes(text: str) -> int:
    return _DEFAULT_SIZE if text == "true" else int(parse_quantity(text))


def _is_positive(parse: Callable[[str], float], text: str) -> bool:
    try:
        return parse(text) > 0
    except ValueError:
        return False
