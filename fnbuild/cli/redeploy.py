"""`fnbuild redeploy` (nuctl: `beta redeploy`): start stored functions again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli.console import note
from fnbuild.cli.flags import force_conflicts_flag
from fnbuild.cli.lazy import Command, Entry, LazyGroup
from fnbuild.cli.names import function_name
from fnbuild.cli.session import Session, pass_session

if TYPE_CHECKING:
    from fnbuild.platforms import Deployment, Platform

_ENTRIES = {"redeploy": Entry("fnbuild.cli.redeploy:redeploy", "Deploy stored functions again.")}


@click.group(cls=LazyGroup, entries=_ENTRIES)
def beta() -> None:
    """nuctl's beta commands."""


@click.command(cls=Command)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=function_name)
@click.option("--imported-only", is_flag=True, help="Only functions in state imported.")
@click.option("--exclude-projects", multiple=True, metavar="NAME", help="Leave a project out.")
@click.option("--exclude-functions", multiple=True, metavar="NAME", help="Leave a function out.")
@click.option("--exclude-functions-with-gpu", is_flag=True, help="Leave out what asks for a GPU.")
@click.option("--save-report", is_flag=True, help="Write the outcome as JSON.")
@click.option(
    "--report-file-path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("nuctl-redeploy-report.json"),
    show_default=True,
    help="Where the report goes.",
)
@force_conflicts_flag
@click.option("--api-url", metavar="URL", hidden=True)
@click.option("-w", "--wait", is_flag=True, hidden=True, expose_value=False)
@click.option("--wait-timeout", metavar="DURATION", hidden=True, expose_value=False)
@pass_session
@click.pass_context
def redeploy(ctx: click.Context, session: Session, /, names: tuple[str, ...], **flags: Any) -> None:
    """Start functions again from their recorded code: those named, or all of the namespace."""
    from fnbuild.cli.deploy import ENABLE
    from fnbuild.cli.outcomes import each, finish

    if flags["api_url"]:
        note("--api-url is not used: the platform is asked directly")
    platform = session.connect()
    chosen = _choose(platform, session.namespace, names, flags)
    if not chosen:
        note("no functions to redeploy")

    def one(name: str) -> None:
        made = platform.redeploy(
            session.namespace, name, lambda _: None, force_conflicts=flags["force_conflicts"]
        )
        for text in made.warnings:
            note(f"warning: {name}: {text}")
        note(f"{name} is {made.state}")
        if made.state == "standby":
            note(f"it is disabled; {ENABLE.format(name)}")

    outcomes = each(chosen, one, session.concurrency)
    failures = {name: one.failure for name, one in zip(chosen, outcomes, strict=True)}
    finish(ctx, failures, flags["report_file_path"] if flags["save_report"] else None)


def _choose(
    platform: Platform, namespace: str, names: tuple[str, ...], flags: dict[str, Any]
) -> list[str]:
    if names:
        return [platform.deployment(namespace, name).name for name in names]
    return [one.name for one in platform.deployments(namespace) if _wanted(one, flags)]


def _wanted(one: Deployment, flags: dict[str, Any]) -> bool:
    from fnbuild.membership import PROJECT_LABEL

    spec = one.function.spec
    return not (
        (flags["imported_only"] and one.state != "imported")
        or one.name in flags["exclude_functions"]
        or one.function.metadata.labels.get(PROJECT_LABEL) in flags["exclude_projects"]
        or (flags["exclude_functions_with_gpu"] and "nvidia.com/gpu" in spec.resources.limits)
        or (spec.disable and not flags["imported_only"])
    )
