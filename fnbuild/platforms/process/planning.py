"""Compute the changes that a deploy would make on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fnbuild.builder import interpreter, requirements
from fnbuild.errors import FnbuildError
from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function, to_dict
from fnbuild.platforms import Artifact, Change, Manifest, Plan, PlanOptions
from fnbuild.platforms.addresses import listen_hosts
from fnbuild.platforms.base import REVISION_TARGET, with_new_revision
from fnbuild.platforms.process.isolation import is_interpreter_accessible
from fnbuild.platforms.process.processor_config import platform_warnings
from fnbuild.platforms.settings import (
    listen_setting,
    needs_gpu,
    requested_port,
    restart_policy,
    with_listen,
)
from fnbuild.store import FunctionRow, RevisionRow

PLAN_OPTIONS = frozenset({"force", "overlap", "listen"})


def apply_options(function: Function, options: PlanOptions) -> Function:
    """Apply the options to the function; raise `UsageError` for an unknown option."""
    options.require_supported("process", PLAN_OPTIONS)
    return with_listen(function, options.listen) if options.listen else function


@dataclass(frozen=True, slots=True)
class CurrentState:
    """The present state of a function; `runs` is True if its active revision is ready."""

    row: FunctionRow | None
    active: RevisionRow | None
    runs: bool


def make_plan(
    function: Function, artifact: Artifact, current: CurrentState, options: PlanOptions
) -> Plan:
    """Return the plan. Raises `InputError` for values that this platform cannot use."""
    row, active = current.row, current.active
    function = apply_options(function, options)
    restart_policy(function)
    required = requirements.collect_requirements(function, Path(artifact.reference))
    python = interpreter.choose_interpreter(function, is_interpreter_accessible)
    _, listen_warnings = listen_hosts(listen_setting(function))
    warnings = [
        *artifact.warnings,
        *([python.warning] if python.warning else []),
        *platform_warnings(function, required),
        *listen_warnings,
    ]
    after = {"code": artifact.digest, "python": python.path, "packages": list(required.packages)}
    before = _active_manifest(active, after) if active else None
    changes: tuple[Change, ...] = (
        _make_change(
            f"function {function.metadata.name}", row.config if row else None, to_dict(function)
        ),
        _make_change(REVISION_TARGET, before, after),
        _port_change(row, requested_port(function)),
    )
    unchanged = all(change.verb == "keep" for change in changes) and not options.force
    if unchanged and (current.runs or function.spec.disable):
        processor = Change("keep", "processor")
    else:
        processor = _processor_change(function, active if current.runs else None, options)
    if processor.verb != "keep":
        changes = with_new_revision(changes)
    return Plan(
        function, artifact, (*changes, processor), tuple(warnings), options, required.ignored
    )


def _make_change(target: str, before: Manifest | None, after: Manifest) -> Change:
    if before is None:
        return Change("create", target, None, after)
    if _without_status(before) == _without_status(after):
        return Change("keep", target, before, after)
    return Change("update", target, before, after)


def _without_status(manifest: Manifest) -> Manifest:
    """Remove the status, which differs between deploys without being a change."""
    return {key: value for key, value in manifest.items() if key != "status"}


def _active_manifest(active: RevisionRow, after: Manifest) -> Manifest:
    # The interpreter of an environment is not recorded.
    python = after["python"] if active.environment else active.interpreter
    try:
        function = function_from_dict(active.config, f"{active.name} revision {active.number}")
        packages = list(requirements.collect_requirements(function, active.code).packages)
    except FnbuildError:
        packages = after["packages"]  # its code was modified, which the digest shows
    return {"code": active.digest, "python": python, "packages": packages}


def _port_change(row: FunctionRow | None, requested: int) -> Change:
    current = row.http_port if row else 0
    before = {"port": current} if current else None
    return _make_change("port", before, {"port": requested or current or "a free one"})


def _processor_change(
    function: Function, active: RevisionRow | None, options: PlanOptions
) -> Change:
    if function.spec.disable:
        return Change("delete" if active else "keep", "processor")
    if active is None:
        return Change("create", "processor", None, {"order": "start"})
    recreate = needs_gpu(function) and not options.overlap
    order = "stop the old one, then start" if recreate else "start, then drain the old one"
    return Change("replace", "processor", None, {"order": order})
