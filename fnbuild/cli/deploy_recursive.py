"""`fnbuild deploy --recursive`: deploy every function below a folder, or print the plans."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli.batch import BatchResult, run_batch
from fnbuild.cli.console import count_text, note, warn
from fnbuild.cli.deploy_output import (
    change_object,
    hinting_at_running_revision,
    prepare_and_warn,
    print_manifests,
    refuse_url_of_plan,
    report_deployment,
)
from fnbuild.cli.deploy_request import open_request
from fnbuild.cli.discovery import find_configurations
from fnbuild.cli.listing import summary_line
from fnbuild.cli.output import format_table, print_value
from fnbuild.cli.progress import ProgressDisplay
from fnbuild.cli.session import Session
from fnbuild.errors import ConflictError, NotFoundError, UsageError
from fnbuild.function.files import CONFIG_NAMES, display_path
from fnbuild.function.types import Raw

if TYPE_CHECKING:
    from fnbuild.builder.image.base_images import CvatBaseImageBuilder
    from fnbuild.deploy.pipeline import DeployRequest, PreparedFunction
    from fnbuild.platforms import Deployment, Plan, Platform


@dataclass(frozen=True, slots=True)
class DiscoveredFunction:
    """A function below a folder whose configuration has no errors."""

    file: Path
    request: DeployRequest
    prepared: PreparedFunction

    @property
    def name(self) -> str:
        return self.prepared.function.metadata.name


def files_by_name(functions: Sequence[DiscoveredFunction]) -> dict[str, list[str]]:
    """Return the configuration files by the name of the function in them."""
    files: dict[str, list[str]] = defaultdict(list)
    for function in functions:
        files[function.name].append(display_path(function.file))
    return files


def check_unique_name(name: str, files: Sequence[str]) -> None:
    """Raise `ConflictError` for a name that several files have."""
    if len(files) > 1:
        raise ConflictError(
            f"{name} is the name of several functions: {', '.join(files)}",
            hint="give each a name of its own, or deploy one of them without `--recursive`",
        )


def print_plans(functions: Sequence[DiscoveredFunction], output: str) -> bool:
    """Print the plan of each function; return True if all of them could be planned."""
    from fnbuild.deploy import pipeline

    refuse_url_of_plan(output)
    files = files_by_name(functions)

    def plan_function(function: DiscoveredFunction) -> Plan:
        check_unique_name(function.name, files[function.name])
        return pipeline.plan(function.request, function.prepared)

    outcomes = run_batch(functions, plan_function)
    plans = [
        (function, outcome.result)
        for function, outcome in zip(functions, outcomes, strict=True)
        if outcome.result is not None
    ]
    for function, plan in plans:
        for text in plan.warnings:
            warn(f"{function.name}: {text}")
    _print_changes(plans, output)
    changing = sum(bool(plan.effective_changes) for _, plan in plans)
    failed = len(functions) - len(plans)
    count = count_text(len(functions), "function")
    failures = f", {failed} cannot be planned" if failed else ""
    unchanged = len(plans) - changing
    note(f"{count}: {changing} to change, {unchanged} as they are{failures}; nothing was changed")
    return not failed


def _print_changes(plans: Sequence[tuple[DiscoveredFunction, Plan]], output: str) -> None:
    manifests = tuple(manifest for _, plan in plans for manifest in plan.manifests)
    if output == "name":
        for function, _ in plans:
            click.echo(function.name)
    elif output in ("json", "yaml") and manifests:
        print_manifests(manifests, output)
    elif output in ("json", "yaml"):
        objects = [
            {
                "name": function.name,
                "file": display_path(function.file),
                "steps": [change_object(change) for change in plan.changes],
            }
            for function, plan in plans
        ]
        print_value(objects, output)
    else:
        rows = [
            [function.name, change.verb, change.target]
            for function, plan in plans
            for change in plan.changes
        ]
        click.echo(format_table(["name", "change", "what"], rows))


# Flags that are valid for a single function only.
_SINGLE_FUNCTION_FLAGS = ("name", "source", "image", "run_image", "input_image_file")


@dataclass(frozen=True, slots=True)
class _ResultRow:
    """The result for one function."""

    file: str
    name: str
    outcome: BatchResult[Deployment]


def deploy_recursively(ctx: click.Context, session: Session, flags: dict[str, Any]) -> None:
    """Deploy all functions below a folder, print the results, and exit with 1 if one failed."""
    from fnbuild.builder.sources.code_entry import open_code

    _check_flags(flags)
    platform = session.connect()
    with ExitStack() as stack:
        top = stack.enter_context(open_code(flags["path"], follow=False, progress=note)).path
        assert top is not None
        files = _find_files(top, flags["config_file"])
        # All are read before the first build, so that configuration errors appear at once.
        readings = run_batch(files, partial(_read_function, stack, session, flags))
        functions = [reading.result for reading in readings if reading.result is not None]
        if flags["dry_run"]:
            if not print_plans(functions, flags["output"]) or len(functions) < len(files):
                ctx.exit(1)
            return
        with ProgressDisplay(whole=session.verbose) as progress:
            deployer = _Deployer(session, platform, functions, progress)
            deployed = iter(run_batch(functions, deployer, session.concurrency, progress.aside))
        rows = [
            _ResultRow(display_path(file), reading.result.name, next(deployed))
            if reading.result is not None
            else _ResultRow(
                display_path(file),
                display_path(file),
                BatchResult(None, reading.error, reading.seconds),
            )
            for file, reading in zip(files, readings, strict=True)
        ]
    _print_results(rows, flags["output"])
    succeeded = sum(row.outcome.error is None for row in rows)
    note(f"deployed {succeeded} of {len(rows)}")
    if succeeded < len(rows):
        ctx.exit(1)


def _check_flags(flags: dict[str, Any]) -> None:
    """Raise `UsageError` for flags that are valid for a single function only."""
    if not flags["path"]:
        raise UsageError(
            "--recursive needs a folder", hint="`--path FOLDER` names it: `--path . --recursive`"
        )
    for flag in _SINGLE_FUNCTION_FLAGS:
        if flags.get(flag):
            label = "a name" if flag == "name" else f"--{flag.replace('_', '-')}"
            raise UsageError(
                f"{label} is about one function, and --recursive deploys many",
                hint="leave out one of the two",
            )


def _find_files(top: Path, pattern: Path | None) -> list[Path]:
    """Return the configuration files below a folder, sorted by path."""
    if pattern is not None and len(pattern.parts) != 1:
        raise UsageError(
            f"--file {pattern} names a place, and --recursive looks for a name in every folder",
            hint=f"`--file {pattern.name}`",
        )
    if not top.is_dir():
        raise NotFoundError(f"{display_path(top)} is no folder to look for functions in")
    files = find_configurations(top, CONFIG_NAMES if pattern is None else (str(pattern),))
    if not files:
        raise NotFoundError(
            f"there is no {pattern or CONFIG_NAMES[0]} below {display_path(top)}",
            hint="`--file NAME` looks for another name, such as function-gpu.yaml",
        )
    return files


def _read_function(
    stack: ExitStack, session: Session, flags: dict[str, Any], file: Path
) -> DiscoveredFunction:
    """Read a function. Code that was fetched is kept until the stack is closed."""
    function_flags = {**flags, "path": file.parent, "config_file": file}
    request = stack.enter_context(open_request(session, function_flags))
    return DiscoveredFunction(file, request, prepare_and_warn(request))


class _Deployer:
    """Deploys functions. Each line of progress begins with the function's name."""

    def __init__(
        self,
        session: Session,
        platform: Platform,
        functions: Sequence[DiscoveredFunction],
        progress: ProgressDisplay,
    ):
        self._session = session
        self._platform = platform
        self._progress = progress
        self._files = files_by_name(functions)

    @cached_property
    def _bases(self) -> CvatBaseImageBuilder:
        from fnbuild.builder.image.base_images import CvatBaseImageBuilder
        from fnbuild.builder.image.engines.selection import choose_engine

        return CvatBaseImageBuilder(choose_engine(self._platform.image_engine))

    def __call__(self, function: DiscoveredFunction) -> Deployment:
        from fnbuild.deploy import pipeline

        check_unique_name(function.name, self._files[function.name])
        began = time.monotonic()
        progress = partial(_report_progress, self._progress, function.name)
        with hinting_at_running_revision(self._platform, self._session.namespace, function.name):
            if self._platform.artifact_kind == "image":
                self._bases.build(function.prepared.function, function.file.parent, progress)
            deployment = pipeline.deploy(function.request, progress, function.prepared)
        with self._progress.aside():
            report_deployment(deployment, time.monotonic() - began)
        return deployment


def _report_progress(progress: ProgressDisplay, name: str, text: str) -> None:
    """Report a line with the function's name. Output of build steps keeps its indentation."""
    indent = "  " if text.startswith("  ") else ""
    progress(f"{indent}{name}: {text.strip()}")


def _print_results(rows: Sequence[_ResultRow], output: str) -> None:
    if output in ("name", "url"):
        for row in rows:
            if (deployment := row.outcome.result) is not None:
                click.echo(deployment.name if output == "name" else deployment.url)
    elif output in ("json", "yaml"):
        print_value([_row_object(row) for row in rows], output)
    else:
        wide = ["url", "file"] if output == "wide" else []
        header = ["name", "state", "port", "seconds", *wide, "reason"]
        click.echo(
            format_table(header, [[_row_object(row)[key] for key in header] for row in rows])
        )


def _row_object(row: _ResultRow) -> Raw:
    deployment, error = row.outcome.result, row.outcome.error
    failure = {"hint": error.hint} if error is not None and error.hint else {}
    return {
        "name": row.name,
        "state": deployment.state if deployment is not None else "failed",
        "port": (deployment.http_port or None) if deployment is not None else None,
        "url": deployment.url if deployment is not None else "",
        "seconds": round(row.outcome.seconds, 1),
        "file": row.file,
        "reason": summary_line(
            deployment.message if deployment is not None else row.outcome.failure
        ),
        **failure,
    }
