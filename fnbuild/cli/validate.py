"""`fnbuild validate`: every problem of every file, each at its place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fnbuild.cli.flags import variant_flag
from fnbuild.cli.lazy import Command
from fnbuild.cli.session import note

if TYPE_CHECKING:
    from fnbuild.spec.report import Format


@click.command(cls=Command)
@click.argument(
    "paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH..."
)
@click.option("--fix", is_flag=True, help="Mend what can be mended without asking.")
@click.option("--strict", is_flag=True, help="Unknown keys are errors.")
@variant_flag
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "sarif"]),
    default="text",
    show_default=True,
    help="How to print what was found.",
)
@click.pass_context
def validate(
    ctx: click.Context,
    paths: tuple[Path, ...],
    fix: bool,
    strict: bool,
    variant: str | None,
    output: Format,
) -> None:
    """Check functions: folders with function.yaml, YAML files, or source files.

    Of a folder without a function.yaml, all functions below it are checked. The exit status is 0
    when there are only warnings.
    """
    from fnbuild.cli.folders import functions_of
    from fnbuild.spec import reader
    from fnbuild.spec.report import render

    found = [one for path in paths for one in functions_of(path)]
    if fix:
        _fix(found)
    reports = [reader.check(path, strict=strict, code=True, variant=variant)[1] for path in found]
    text = render(reports, output)
    if text:
        click.echo(text)
    errors = sum(len(report.errors) for report in reports)
    warnings = _count(sum(len(report.warnings) for report in reports), "warning")
    note(f"{_count(len(found), 'function')}: {_count(errors, 'error')}, {warnings}")
    if errors:
        ctx.exit(1)


def _fix(paths: list[Path]) -> None:
    from fnbuild.spec.fix import fix

    for path in paths:
        for change in fix(path):
            note(f"fixed {change}")


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")
