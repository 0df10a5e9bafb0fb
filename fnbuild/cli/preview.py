"""`fnbuild deploy --recursive --dry-run`: what deploying many functions would change."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fnbuild.cli.console import note, warn
from fnbuild.cli.deploy import show_manifests, step_object
from fnbuild.cli.outcomes import each
from fnbuild.cli.output import show_value, table
from fnbuild.errors import ConflictError, UsageError
from fnbuild.spec.locate import display
from fnbuild.spec.types import Function

if TYPE_CHECKING:
    from fnbuild.deploy import DeployRequest
    from fnbuild.platforms import Plan


@dataclass(frozen=True, slots=True)
class ReadFunction:
    """A function below a folder whose configuration has no errors."""

    name: str
    file: Path
    request: DeployRequest
    function: Function


def files_by_name(functions: Sequence[ReadFunction]) -> dict[str, list[str]]:
    """Return the configuration files by the name of the function in them."""
    files: dict[str, list[str]] = defaultdict(list)
    for function in functions:
        files[function.name].append(display(function.file))
    return files


def refuse_shared_name(name: str, files: Sequence[str]) -> None:
    """Raise `ConflictError` for a name that several files have."""
    if len(files) > 1:
        raise ConflictError(
            f"{name} is the name of several functions: {', '.join(files)}",
            hint="give each a name of its own, or deploy one of them without `--recursive`",
        )


def show_plans(functions: Sequence[ReadFunction], output: str) -> bool:
    """Print the plan of each function; return True if all of them could be planned."""
    from fnbuild import deploy as pipeline

    if output == "url":
        raise UsageError(
            "a plan has no URL: nothing is deployed yet",
            hint="leave out `--dry-run`, or ask for something else: `-o yaml`",
        )
    files = files_by_name(functions)

    def planned(function: ReadFunction) -> Plan:
        refuse_shared_name(function.name, files[function.name])
        return pipeline.plan(function.request)

    outcomes = each(functions, planned)
    plans = [
        (function, outcome.result)
        for function, outcome in zip(functions, outcomes, strict=True)
        if outcome.result is not None
    ]
    for function, plan in plans:
        for text in plan.warnings:
            warn(f"{function.name}: {text}")
    _show(plans, output)
    changing = sum(bool(plan.changes) for _, plan in plans)
    failed = len(functions) - len(plans)
    count = f"{len(functions)} function{'' if len(functions) == 1 else 's'}"
    lacking = f", {failed} cannot be planned" if failed else ""
    unchanged = len(plans) - changing
    note(f"{count}: {changing} to change, {unchanged} as they are{lacking}; nothing was changed")
    return not failed


def _show(plans: Sequence[tuple[ReadFunction, Plan]], output: str) -> None:
    manifests = tuple(each for _, plan in plans for each in plan.manifests)
    if output == "name":
        for function, _ in plans:
            click.echo(function.name)
    elif output in ("json", "yaml") and manifests:
        show_manifests(manifests, output)
    elif output in ("json", "yaml"):
        objects = [
            {
                "name": function.name,
                "file": display(function.file),
                "steps": [step_object(step) for step in plan.steps],
            }
            for function, plan in plans
        ]
        show_value(objects, output)
    else:
        rows = [
            [function.name, step.verb, step.target]
            for function, plan in plans
            for step in plan.steps
        ]
        click.echo(table(["name", "change", "what"], rows))
