"""The rules of an import: fewer than those of a deploy, since an import starts nothing.

They are the checks that Nuclio makes when it records a function
(pkg/platform/abstract/platform.go). As in Nuclio, one error is repaired unless `--skip-autofix` is
set: a V3IO stream trigger with a range of replicas.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from fnbuild.errors import Report
from fnbuild.function import platform_rules, trigger_rules
from fnbuild.function.reader import config_error
from fnbuild.function.rule_context import RuleContext
from fnbuild.function.rules import with_defaults
from fnbuild.function.types import Function

_RULES = (
    trigger_rules.check_kinds,
    trigger_rules.check_single_http_trigger,
    trigger_rules.check_workers,
    trigger_rules.check_acknowledgement,
    trigger_rules.check_batch,
    platform_rules.check_replicas,
)


class RepairedFunction(NamedTuple):
    """A function after its repair, which `repair` describes; "" if there was none."""

    function: Function
    repair: str = ""


def check_import_rules(function: Function, origin: str) -> None:
    """Check a function before it is recorded; `origin` names its source.

    Raises `ConfigError` with every diagnostic.
    """
    report = Report()
    context = RuleContext(with_defaults(function), function, report)
    for rule in _RULES:
        rule(context)
    if report.errors:
        raise config_error(report, f"{function.metadata.name} in {origin}")


def repair_replicas(function: Function) -> RepairedFunction:
    """Set minReplicas to maxReplicas for a function with a V3IO stream trigger."""
    spec = function.spec
    least, most = spec.min_replicas, spec.max_replicas
    streams = any(trigger.kind == "v3ioStream" for trigger in spec.triggers.values())
    if not streams or least is None or most is None or not 0 <= least < most:
        return RepairedFunction(function)
    spec = msgspec.structs.replace(spec, min_replicas=most)
    text = f"minReplicas is {most}, as maxReplicas is: functions with a v3ioStream trigger do"
    return RepairedFunction(
        msgspec.structs.replace(function, spec=spec), f"{text} not scale (it was {least})"
    )
