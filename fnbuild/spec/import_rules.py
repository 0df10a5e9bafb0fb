"""The checks of an import: fewer than those of a deploy, since an import starts nothing.

They are Nuclio's checks when it records a function (pkg/platform/abstract/platform.go). As in
Nuclio, one fault is repaired unless `--skip-autofix` is set: a V3IO stream trigger with replicas
that scale.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from fnbuild.errors import Report
from fnbuild.spec import platform_rules, trigger_rules
from fnbuild.spec.reader import failure
from fnbuild.spec.rules import complete
from fnbuild.spec.subject import Subject
from fnbuild.spec.types import Function

_RULES = (
    trigger_rules.kinds,
    trigger_rules.one_http,
    trigger_rules.workers,
    trigger_rules.acknowledgement,
    trigger_rules.batch,
    platform_rules.replicas,
)


class Checked(NamedTuple):
    """A function that may be recorded; `repair` describes a change, "" if there is none."""

    function: Function
    repair: str = ""


def check(function: Function, origin: str, *, autofix: bool = True) -> Checked:
    """Check a function before it is recorded; `origin` names its source.

    Raises `ConfigError` with every finding.
    """
    checked = repaired(function) if autofix else Checked(function)
    report = Report()
    subject = Subject(complete(checked.function), checked.function, report)
    for rule in _RULES:
        rule(subject)
    if report.errors:
        raise failure(report, f"{function.metadata.name} in {origin}")
    return checked


def repaired(function: Function) -> Checked:
    """Set minReplicas to maxReplicas for a function with a V3IO stream trigger."""
    spec = function.spec
    least, most = spec.min_replicas, spec.max_replicas
    streams = any(trigger.kind == "v3ioStream" for trigger in spec.triggers.values())
    if not streams or least is None or most is None or not 0 <= least < most:
        return Checked(function)
    spec = msgspec.structs.replace(spec, min_replicas=most)
    text = f"minReplicas is {most}, as maxReplicas is: functions with a v3ioStream trigger do"
    return Checked(
        msgspec.structs.replace(function, spec=spec), f"{text} not scale (it was {least})"
    )
