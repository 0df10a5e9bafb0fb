"""`fnbuild prune`: remove what no revision needs any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli.base_command import Command
from fnbuild.cli.console import note, warn
from fnbuild.cli.output import output_option
from fnbuild.cli.session import Session, pass_session

if TYPE_CHECKING:
    from fnbuild.deploy.prune import PruneReport
    from fnbuild.function.types import Raw
    from fnbuild.platforms import Leftover, Platform


@click.command(cls=Command)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--dry-run", is_flag=True, help="List what would be removed.")
@click.option(
    "--all",
    "include_user_tagged",
    is_flag=True,
    help="Also remove images that only a tag of yours keeps, such as NAME:latest.",
)
@click.option(
    "-r",
    "--registry",
    "registries",
    multiple=True,
    metavar="URL",
    help="Search a whole registry for unused builds. Repeatable.",
)
@output_option()
@pass_session
@click.pass_context
def prune(ctx: click.Context, session: Session, /, names: tuple[str, ...], **flags: Any) -> None:
    """Remove images and files that no revision of the functions NAME…, or of any, needs.

    These are local images and builds in registries (with --platform local or kube), containers of
    killed deploys (local), Python environments and staged copies (process). Only objects that
    fnbuild created are considered. An unknown name is an error, unless a deleted function of that
    name has left something.
    """
    from fnbuild.deploy import prune as pruning
    from fnbuild.errors import FnbuildError

    platform = session.connect()
    request = pruning.PruneRequest(
        session.namespace,
        names,
        flags["registries"],
        flags["include_user_tagged"],
        session.connect_options,
    )
    survey = pruning.find_leftovers(platform, request)
    for text in survey.warnings:
        warn(text)
    _check_function_names(platform, session.namespace, names, survey)
    rows, failed = [], False
    for leftover in survey.leftovers:
        outcome = "would be removed"
        if not flags["dry_run"]:
            try:
                reason = pruning.remove_leftover(platform, leftover)
                outcome = f"stays: {reason}" if reason else "removed"
            except FnbuildError as error:
                failed, outcome = True, f"failed: {error.message}"
        rows.append(_row(leftover, outcome))
    _print_rows(rows, flags["output"])
    _print_summary(rows, len(survey.kept_by_user_tags), dry_run=flags["dry_run"])
    if failed:
        ctx.exit(1)


def _check_function_names(
    platform: Platform, namespace: str, names: tuple[str, ...], survey: PruneReport
) -> None:
    """Raise `NotFoundError` for a name of which there is neither a function nor anything left."""
    having_objects = {leftover.function for leftover in survey.leftovers} | {
        *survey.kept_by_user_tags
    }
    for name in names:
        if name not in having_objects:
            platform.deployment(namespace, name)


def _row(leftover: Leftover, outcome: str) -> Raw:
    return {
        "kind": leftover.kind,
        "name": leftover.name,
        "function": leftover.function,
        "size": leftover.size,
        "reason": leftover.reason,
        "outcome": outcome,
    }


def _print_rows(rows: list[Raw], output: str) -> None:
    from fnbuild.builder.image.size_report import format_size
    from fnbuild.cli.output import format_table, print_value

    if output in ("json", "yaml"):
        print_value(rows, output)
    elif rows:
        header = ["kind", "name", "size", "outcome"]
        if output == "wide":
            header[2:2] = ["function", "reason"]
        cells = [{**row, "size": format_size(row["size"]) if row["size"] else ""} for row in rows]
        click.echo(format_table(header, [[row[key] for key in header] for row in cells]))


def _print_summary(rows: list[Raw], kept_by_user_tags: int, *, dry_run: bool) -> None:
    """Print on stderr how much was removed, and what else could be."""
    from fnbuild.builder.image.size_report import format_size

    done = [row for row in rows if row["outcome"] in ("removed", "would be removed")]
    size = format_size(sum(row["size"] for row in done))
    verb = "would be removed" if dry_run else "removed"
    # Layers that images share are counted with each of them.
    note(f"{len(done)} {verb}, up to {size}" if done else "there is nothing to remove")
    if kept_by_user_tags:
        note(
            f"images that no revision needs and that a name of yours keeps: {kept_by_user_tags};"
            " `--all` removes them, too"
        )
