"""The settings of sleep and wake, in annotations of a function.

    fnbuild.io/idle-timeout: 10m       without a request for this time, the workers sleep
    fnbuild.io/sleep-level: exit       or offload: see `fnbuild.runtime.processor.sleep`

Without the first, Nuclio's settings for scaling to zero count: `minReplicas: 0` and the largest
`windowSize` of `scaleToZero.scaleResources`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from fnbuild.errors import InputError
from fnbuild.function.platform_attributes import SettingProblem
from fnbuild.function.quantities import parse_duration
from fnbuild.function.source_text import quoted
from fnbuild.function.suggestions import did_you_mean
from fnbuild.function.types import Function, Raw

IDLE_TIMEOUT = "fnbuild.io/idle-timeout"
SLEEP_LEVEL = "fnbuild.io/sleep-level"

SleepLevel = Literal["exit", "offload"]
SLEEP_LEVELS: tuple[SleepLevel, ...] = get_args(SleepLevel)

ANNOTATION_DESCRIPTIONS = {
    IDLE_TIMEOUT: "The workers sleep after this time without a request, such as 10m; 0: never.",
    SLEEP_LEVEL: "exit ends sleeping workers; offload calls the handler's sleep(context).",
}
"""The annotations, with their descriptions."""

_ANNOTATIONS = ("metadata", "annotations")


@dataclass(frozen=True, slots=True)
class SleepSettings:
    """The settings. `idle_timeout` is in seconds, None if the function sleeps on request only."""

    idle_timeout: float | None = None
    level: SleepLevel = "exit"

    def to_processor(self) -> Raw | None:
        """Return the value in the processor's configuration; None for the defaults."""
        if self == SleepSettings():
            return None
        return {"idle_timeout": self.idle_timeout, "level": self.level}


def sleep_settings(function: Function) -> SleepSettings:
    """Return the settings. Raises `InputError` with the place of the first invalid one."""
    for problem in find_problems(function):
        place = ".".join(map(str, problem.path))
        raise InputError(f"{place}: {problem.message}", hint=problem.hint)
    annotations = function.metadata.annotations
    text = annotations.get(IDLE_TIMEOUT)
    timeout = parse_duration(text) if text else _largest_window(function)
    level: SleepLevel = "offload" if annotations.get(SLEEP_LEVEL) == "offload" else "exit"
    return SleepSettings(timeout or None, level)


def find_problems(function: Function) -> Iterator[SettingProblem]:
    """Yield the invalid settings."""
    annotations = function.metadata.annotations
    if text := annotations.get(IDLE_TIMEOUT):
        yield from _duration_problems(text, (*_ANNOTATIONS, IDLE_TIMEOUT), "the idle timeout")
    level = annotations.get(SLEEP_LEVEL)
    if level and level not in SLEEP_LEVELS:
        message = f"a sleep level is one of {', '.join(SLEEP_LEVELS)}; not {quoted(level)}"
        hint = did_you_mean(level, SLEEP_LEVELS)
        yield SettingProblem((*_ANNOTATIONS, SLEEP_LEVEL), message, hint)
    for index, window in _windows(function):
        path = ("spec", "scaleToZero", "scaleResources", index, "windowSize")
        yield from _duration_problems(str(window), path, "windowSize")


def _duration_problems(
    text: str, path: tuple[str | int, ...], name: str
) -> Iterator[SettingProblem]:
    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = -1.0
    if seconds < 0:
        message = f"{name} is a duration of 0 or more, not {quoted(text)}"
        yield SettingProblem(path, message, "write a number with its unit, such as 30s, 10m or 1h")


def _windows(function: Function) -> Iterator[tuple[int, object]]:
    """Yield the windows of a function that may scale to zero, with their indexes."""
    spec = function.spec
    resources = (spec.scale_to_zero or {}).get("scaleResources")
    if spec.min_replicas != 0 or spec.replicas is not None or not isinstance(resources, list):
        return
    for index, resource in enumerate(resources):
        window = resource.get("windowSize") if isinstance(resource, dict) else None
        if window:
            yield index, window


def _largest_window(function: Function) -> float | None:
    return max((parse_duration(str(window)) for _, window in _windows(function)), default=None)
