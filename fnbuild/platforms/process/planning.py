"""What a deploy would change on this machine, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fnbuild.builder import interpreter, requirements
from fnbuild.errors import FnbuildError, UsageError
from fnbuild.platforms import OF_CONFLICTS, Artifact, Manifest, Plan, Step
from fnbuild.platforms.addresses import hosts_of
from fnbuild.platforms.process.isolation import is_reachable
from fnbuild.platforms.process.layout import Key
from fnbuild.platforms.process.settings import warnings_for
from fnbuild.platforms.settings import (
    listen_words,
    restart_policy,
    wanted_port,
    wants_gpu,
    with_listen,
)
from fnbuild.platforms.steps import REVISION, as_revision
from fnbuild.spec.reader import from_raw
from fnbuild.spec.types import Function, to_dict
from fnbuild.store import FunctionRow, RevisionRow

OPTIONS = frozenset({"force", "overlap", "listen"}) | OF_CONFLICTS


def with_options(function: Function, options: dict[str, Any]) -> Function:
    """The function with what the options say about it; `UsageError` for an unknown option."""
    if unknown := set(options) - OPTIONS:
        raise UsageError(f"the process platform knows no option {', '.join(sorted(unknown))}")
    listen = options.get("listen")
    return with_listen(function, listen) if listen else function


@dataclass(frozen=True, slots=True)
class Current:
    """What there is now; `runs` says whether the active revision is up and well."""

    row: FunctionRow | None
    active: RevisionRow | None
    runs: bool


def make(function: Function, artifact: Artifact, current: Current, options: dict[str, Any]) -> Plan:
    """The plan. Raises `InputError` for values that this platform cannot use."""
    row, active = current.row, current.active
    function = with_options(function, options)
    restart_policy(function)
    wanted = requirements.collect_requirements(function, Path(artifact.reference))
    python = interpreter.choose_interpreter(function, is_reachable)
    _, listening = hosts_of(listen_words(function))
    warnings = [
        *artifact.warnings,
        *([python.warning] if python.warning else []),
        *warnings_for(function, wanted),
        *listening,
    ]
    after = {"code": artifact.digest, "python": python.path, "packages": list(wanted.packages)}
    before = _revision(active, after) if active else None
    steps: tuple[Step, ...] = (
        _step(f"function {function.metadata.name}", row.config if row else None, to_dict(function)),
        _step(REVISION, before, after),
        _port(row, wanted_port(function)),
    )
    same = all(step.verb == "keep" for step in steps) and not options.get("force")
    if same and (current.runs or function.spec.disable):
        processor = Step("keep", "processor")
    else:
        processor = _processor(function, active if current.runs else None, options)
    if processor.verb != "keep":
        steps = as_revision(steps)
    changes = (*steps, processor)
    return Plan(function, artifact, changes, tuple(warnings), options, wanted.ignored)


def _step(target: str, before: Manifest | None, after: Manifest) -> Step:
    if before is None:
        return Step("create", target, None, after)
    if _comparable(before) == _comparable(after):
        return Step("keep", target, before, after)
    return Step("update", target, before, after)


def _comparable(manifest: Manifest) -> Manifest:
    """Without what differs from deploy to deploy and changes nothing."""
    return {key: value for key, value in manifest.items() if key != "status"}


def _revision(active: RevisionRow, after: Manifest) -> Manifest:
    # Which Python an environment was made from is not recorded.
    python = after["python"] if active.environment else active.interpreter
    try:
        function = from_raw(active.config, f"{active.name} revision {active.number}")
        packages = list(requirements.collect_requirements(function, active.code).packages)
    except FnbuildError:
        packages = after["packages"]  # its code was tampered with; the hash tells
    return {"code": active.digest, "python": python, "packages": packages}


def _port(row: FunctionRow | None, wanted: int) -> Step:
    known = row.http_port if row else 0
    before = {"port": known} if known else None
    return _step("port", before, {"port": wanted or known or "a free one"})


def _processor(function: Function, active: RevisionRow | None, options: dict[str, Any]) -> Step:
    if function.spec.disable:
        return Step("delete" if active else "keep", "processor")
    if active is None:
        return Step("create", "processor", None, {"order": "start"})
    recreate = wants_gpu(function) and not options.get("overlap")
    order = "stop the old one, then start" if recreate else "start, then drain the old one"
    return Step("replace", "processor", None, {"order": order})


def key_of(function: Function) -> Key:
    return Key(function.metadata.namespace, function.metadata.name)
