"""What a deploy would change on this machine, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fnbuild.builder import interpreter, requirements
from fnbuild.errors import FnbuildError, UsageError
from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function, to_dict
from fnbuild.platforms import CONFLICT_OPTIONS, Artifact, Change, Manifest, Plan
from fnbuild.platforms.addresses import listen_hosts
from fnbuild.platforms.base import REVISION_TARGET, with_new_revision
from fnbuild.platforms.process.isolation import is_interpreter_accessible
from fnbuild.platforms.process.layout import FunctionKey
from fnbuild.platforms.process.processor_config import platform_warnings
from fnbuild.platforms.settings import (
    listen_setting,
    needs_gpu,
    requested_port,
    restart_policy,
    with_listen,
)
from fnbuild.store import FunctionRow, RevisionRow

PLAN_OPTIONS = frozenset({"force", "overlap", "listen"}) | CONFLICT_OPTIONS


def apply_options(function: Function, options: dict[str, Any]) -> Function:
    """The function with what the options say about it; `UsageError` for an unknown option."""
    if unknown := set(options) - PLAN_OPTIONS:
        raise UsageError(f"the process platform knows no option {', '.join(sorted(unknown))}")
    listen = options.get("listen")
    return with_listen(function, listen) if listen else function


@dataclass(frozen=True, slots=True)
class CurrentState:
    """What there is now; `runs` says whether the active revision is up and well."""

    row: FunctionRow | None
    active: RevisionRow | None
    runs: bool


def make_plan(
    function: Function, artifact: Artifact, current: CurrentState, options: dict[str, Any]
) -> Plan:
    """The plan. Raises `InputError` for values that this platform cannot use."""
    row, active = current.row, current.active
    function = apply_options(function, options)
    restart_policy(function)
    wanted = requirements.collect_requirements(function, Path(artifact.reference))
    python = interpreter.choose_interpreter(function, is_interpreter_accessible)
    _, listening = listen_hosts(listen_setting(function))
    warnings = [
        *artifact.warnings,
        *([python.warning] if python.warning else []),
        *platform_warnings(function, wanted),
        *listening,
    ]
    after = {"code": artifact.digest, "python": python.path, "packages": list(wanted.packages)}
    before = _active_manifest(active, after) if active else None
    steps: tuple[Change, ...] = (
        _make_change(
            f"function {function.metadata.name}", row.config if row else None, to_dict(function)
        ),
        _make_change(REVISION_TARGET, before, after),
        _port_change(row, requested_port(function)),
    )
    same = all(step.verb == "keep" for step in steps) and not options.get("force")
    if same and (current.runs or function.spec.disable):
        processor = Change("keep", "processor")
    else:
        processor = _processor_change(function, active if current.runs else None, options)
    if processor.verb != "keep":
        steps = with_new_revision(steps)
    changes = (*steps, processor)
    return Plan(function, artifact, changes, tuple(warnings), options, wanted.ignored)


def _make_change(target: str, before: Manifest | None, after: Manifest) -> Change:
    if before is None:
        return Change("create", target, None, after)
    if _without_status(before) == _without_status(after):
        return Change("keep", target, before, after)
    return Change("update", target, before, after)


def _without_status(manifest: Manifest) -> Manifest:
    """Without what differs from deploy to deploy and changes nothing."""
    return {key: value for key, value in manifest.items() if key != "status"}


def _active_manifest(active: RevisionRow, after: Manifest) -> Manifest:
    # Which Python an environment was made from is not recorded.
    python = after["python"] if active.environment else active.interpreter
    try:
        function = function_from_dict(active.config, f"{active.name} revision {active.number}")
        packages = list(requirements.collect_requirements(function, active.code).packages)
    except FnbuildError:
        packages = after["packages"]  # its code was tampered with; the hash tells
    return {"code": active.digest, "python": python, "packages": packages}


def _port_change(row: FunctionRow | None, wanted: int) -> Change:
    known = row.http_port if row else 0
    before = {"port": known} if known else None
    return _make_change("port", before, {"port": wanted or known or "a free one"})


def _processor_change(
    function: Function, active: RevisionRow | None, options: dict[str, Any]
) -> Change:
    if function.spec.disable:
        return Change("delete" if active else "keep", "processor")
    if active is None:
        return Change("create", "processor", None, {"order": "start"})
    recreate = needs_gpu(function) and not options.get("overlap")
    order = "stop the old one, then start" if recreate else "start, then drain the old one"
    return Change("replace", "processor", None, {"order": order})


def function_key(function: Function) -> FunctionKey:
    return FunctionKey(function.metadata.namespace, function.metadata.name)
