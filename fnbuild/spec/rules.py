"""The values a function gets when it gives none, and what must hold between its values.

Each rule is one function that adds findings to a `Subject`; `RULES` lists them all.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from fnbuild.spec import annotations as cvat
from fnbuild.spec import function_rules, gpu_rules, platform_rules, trigger_rules
from fnbuild.spec.merge import DEFAULT_HTTP
from fnbuild.spec.source import has_room
from fnbuild.spec.subject import Subject
from fnbuild.spec.types import Function, Trigger

DEFAULT_RUNTIME = "python:3.9"
"""What Nuclio makes of a plain `python`."""

RULES: tuple[Callable[[Subject], None], ...] = (
    function_rules.name,
    function_rules.namespace,
    function_rules.runtime,
    function_rules.handler,
    function_rules.event_timeout,
    function_rules.variables,
    function_rules.secret_variables,
    function_rules.images,
    function_rules.build,
    function_rules.code_entry,
    trigger_rules.kinds,
    trigger_rules.one_http,
    trigger_rules.workers,
    trigger_rules.timeouts,
    trigger_rules.acknowledgement,
    trigger_rules.batch,
    trigger_rules.http_attributes,
    trigger_rules.cron_attributes,
    platform_rules.choices,
    platform_rules.replicas,
    platform_rules.ranges,
    platform_rules.readiness,
    platform_rules.scaling,
    platform_rules.resources,
    gpu_rules.workers,
    platform_rules.labels,
    platform_rules.volumes,
    platform_rules.platform_attributes,
    platform_rules.containers,
    cvat.kind,
    cvat.words,
    cvat.numbers,
    cvat.flags,
    cvat.shapes,
    cvat.time_limit,
    cvat.description,
    cvat.reachable,
    cvat.request_size,
    cvat.label_spec,
)


def apply(subject: Subject) -> None:
    """Run every rule."""
    for rule in RULES:
        if not has_room(subject.report, "error"):
            return
        rule(subject)


def complete(function: Function, path: Path | None = None) -> Function:
    """The function with Nuclio's defaults; `path` is its folder or its single source file."""
    spec = function.spec
    runtime = DEFAULT_RUNTIME if spec.runtime in ("", "python") else spec.runtime
    handler = spec.handler or default_handler(path)
    triggers = {key: _trigger(key, trigger) for key, trigger in spec.triggers.items()}
    has_http = any(trigger.kind == "http" for trigger in triggers.values())
    if not has_http and not spec.disable_default_http_trigger:
        triggers[DEFAULT_HTTP] = Trigger(kind="http", name=DEFAULT_HTTP, num_workers=1)
    spec = msgspec.structs.replace(spec, runtime=runtime, handler=handler, triggers=triggers)
    return msgspec.structs.replace(function, spec=spec)


def _trigger(key: str, trigger: Trigger) -> Trigger:
    workers = trigger.num_workers or trigger.max_workers or 1
    name = trigger.name or key
    return msgspec.structs.replace(trigger, name=name, num_workers=workers, max_workers=0)


def default_handler(path: Path | None) -> str:
    """The handler of a function that names none.

    Nuclio takes `<folder>:handler`; where that module is missing and main.py is there, main is it.
    """
    if path is None:
        return "main:handler"
    if path.suffix == ".py":
        return f"{path.stem}:handler"
    name = path.resolve().name
    if not (path / f"{name}.py").is_file() and (path / "main.py").is_file():
        return "main:handler"
    return f"{name}:handler"
