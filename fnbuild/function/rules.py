"""Default values of a function, and the table of all rules.

A rule is a function that adds diagnostics to a `RuleContext`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from fnbuild.errors import Report
from fnbuild.function import (
    access_rules,
    attribute_rules,
    cvat_rules,
    function_rules,
    platform_rules,
    trigger_rules,
)
from fnbuild.function.merge import DEFAULT_HTTP_TRIGGER
from fnbuild.function.rule_context import RuleContext
from fnbuild.function.source_text import has_room
from fnbuild.function.types import Function, Trigger

DEFAULT_RUNTIME = "python:3.9"
"""The version that Nuclio uses for `python` without a version."""

RULES: tuple[Callable[[RuleContext], None], ...] = (
    function_rules.check_name,
    function_rules.check_namespace,
    function_rules.check_runtime,
    function_rules.check_handler,
    function_rules.check_script_arguments,
    function_rules.check_event_timeout,
    function_rules.check_variables,
    function_rules.check_declared_secrets,
    function_rules.check_images,
    function_rules.check_build,
    function_rules.check_code_entry,
    trigger_rules.check_kinds,
    trigger_rules.check_single_http_trigger,
    trigger_rules.check_workers,
    trigger_rules.check_timeouts,
    trigger_rules.check_acknowledgement,
    trigger_rules.check_batch,
    trigger_rules.check_attributes,
    access_rules.check_open_functions,
    platform_rules.check_choices,
    platform_rules.check_replicas,
    platform_rules.check_ranges,
    platform_rules.check_readiness_timeout,
    platform_rules.check_scaling,
    platform_rules.check_resources,
    platform_rules.check_workers_per_gpu,
    platform_rules.check_kubernetes_labels,
    platform_rules.check_volumes,
    platform_rules.check_platform_attributes,
    attribute_rules.check_settings,
    attribute_rules.check_sleep,
    platform_rules.check_containers,
    cvat_rules.check_type,
    cvat_rules.check_label_spec,
)

CVAT_RULES: tuple[Callable[[RuleContext], None], ...] = (
    cvat_rules.check_annotation_keys,
    cvat_rules.check_annotation_numbers,
    cvat_rules.check_annotation_flags,
    cvat_rules.check_tracked_shapes,
    cvat_rules.check_cvat_timeout,
    cvat_rules.check_description,
    cvat_rules.check_http_trigger,
    cvat_rules.check_request_size,
)
"""The rules for functions with the annotation `type`; CVAT ignores all others."""


def run_rules(context: RuleContext) -> None:
    """Run every rule that concerns the function, which has its defaults."""
    is_for_cvat = "type" in context.function.metadata.annotations
    for rule in (*RULES, *CVAT_RULES) if is_for_cvat else RULES:
        if not has_room(context.report, "error"):
            return
        rule(context)


def check_cvat_annotations(function: Function) -> Report:
    """Return what the rules on CVAT's annotations find in a function without its files."""
    context = RuleContext(function, function, Report())
    cvat_rules.check_type(context)
    cvat_rules.check_label_spec(context)
    for rule in CVAT_RULES if "type" in function.metadata.annotations else ():
        rule(context)
    return context.report


def with_defaults(function: Function, path: Path | None = None) -> Function:
    """Return the function with Nuclio's defaults; `path` is its folder or single source file."""
    spec = function.spec
    runtime = DEFAULT_RUNTIME if spec.runtime in ("", "python") else spec.runtime
    handler = spec.handler or default_handler(path)
    triggers = {key: _trigger_with_defaults(key, trigger) for key, trigger in spec.triggers.items()}
    has_http = any(trigger.kind == "http" for trigger in triggers.values())
    if not has_http and not spec.disable_default_http_trigger:
        triggers[DEFAULT_HTTP_TRIGGER] = Trigger(
            kind="http", name=DEFAULT_HTTP_TRIGGER, num_workers=1
        )
    spec = msgspec.structs.replace(spec, runtime=runtime, handler=handler, triggers=triggers)
    return msgspec.structs.replace(function, spec=spec)


def with_default_handler(function: Function) -> Function:
    """Return the function with the handler and runtime that it gets without a folder of code."""
    spec = function.spec
    return function.with_spec(
        runtime=spec.runtime or "python", handler=spec.handler or default_handler(None)
    )


def _trigger_with_defaults(key: str, trigger: Trigger) -> Trigger:
    name = trigger.name or key
    return msgspec.structs.replace(trigger, name=name, num_workers=trigger.workers, max_workers=0)


def default_handler(path: Path | None) -> str:
    """Return the handler of a function that does not set one.

    As in Nuclio this is `<folder>:handler`, or `main:handler` if that module is missing and main.py
    exists.
    """
    if path is None:
        return "main:handler"
    if path.suffix == ".py":
        return f"{path.stem}:handler"
    name = path.resolve().name
    if not (path / f"{name}.py").is_file() and (path / "main.py").is_file():
        return "main:handler"
    return f"{name}:handler"
