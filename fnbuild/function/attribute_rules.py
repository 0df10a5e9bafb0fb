"""Rules on the settings for single platforms, and on those of sleep, GPU groups and recordings."""

from __future__ import annotations

from typing import Any

from fnbuild.function import (
    gpu_group_settings,
    kserve_settings,
    record_settings,
    sleep_settings,
    torchserve_settings,
)
from fnbuild.function.platform_attributes import PlatformAttribute
from fnbuild.function.rule_context import RuleContext, SpanPart
from fnbuild.function.source_text import quoted
from fnbuild.function.suggestions import closest

ATTRIBUTES: tuple[PlatformAttribute[Any], ...] = (
    kserve_settings.ATTRIBUTE,
    torchserve_settings.ATTRIBUTE,
)


def check_settings(context: RuleContext) -> None:
    """Check the names, values and combinations of the settings."""
    for attribute in ATTRIBUTES:
        raw = context.function.spec.platform.attributes.get(attribute.name)
        for problem in attribute.find_problems(raw) if raw is not None else ():
            path = (*attribute.path, *problem.path)
            part: SpanPart = "key" if problem.is_key else "value"
            context.error(attribute.name, problem.message, path, problem.hint, part)


def check_sleep(context: RuleContext) -> None:
    """Check the annotations of sleep, GPU groups and recordings; warn about misspelt ones."""
    for name, settings in (
        ("sleep", sleep_settings),
        ("gpu-group", gpu_group_settings),
        ("record", record_settings),
    ):
        for problem in settings.find_problems(context.function):
            part: SpanPart = "key" if problem.is_key else "value"
            context.error(name, problem.message, problem.path, problem.hint, part)
    keys = (
        *sleep_settings.ANNOTATION_DESCRIPTIONS,
        *gpu_group_settings.ANNOTATION_DESCRIPTIONS,
        *record_settings.ANNOTATION_DESCRIPTIONS,
    )
    names = [key.partition("/")[2] for key in keys]
    for key in context.function.metadata.annotations:
        prefix, _, name = key.partition("/")
        word = closest(name, names) if prefix == "fnbuild.io" and name not in names else None
        if word:
            message = f"the annotation {quoted(key)} has no effect"
            path = ("metadata", "annotations", key)
            context.warning("sleep", message, path, f"did you mean fnbuild.io/{word}?", "key")
