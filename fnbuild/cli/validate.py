"""`fnbuild validate`: every problem of every file, each at its place."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli.flags import variant_flag
from fnbuild.cli.lazy import Command
from fnbuild.cli.session import note

if TYPE_CHECKING:
    from fnbuild.spec.report import Format


@click.command(cls=Command)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
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
    ctx: click.Context, /, paths: tuple[str, ...], fix: bool, output: Format, **how: Any
) -> None:
    """Check functions: folders with function.yaml, YAML files, source files, archives or URLs.

    Of a folder without a function.yaml, all functions below it are checked. The exit status is 0
    when there are only warnings.
    """
    from fnbuild.build.sources.open import opened
    from fnbuild.cli.folders import functions_of
    from fnbuild.spec import reader
    from fnbuild.spec.report import render

    with ExitStack() as stack:
        places = [stack.enter_context(opened(path, follow=False)).path for path in paths]
        found = [one for place in places if place is not None for one in functions_of(place)]
        if fix:
            _fix(
                found,
                [path for path, place in zip(paths, places, strict=True) if place != Path(path)],
            )
        reports = [reader.check(path, code=True, **how)[1] for path in found]
    text = render(reports, output)
    if text:
        click.echo(text)
    errors = sum(len(report.errors) for report in reports)
    warnings = _count(sum(len(report.warnings) for report in reports), "warning")
    note(f"{_count(len(found), 'function')}: {_count(errors, 'error')}, {warnings}")
    if errors:
        ctx.exit(1)


def _fix(paths: list[Path], packed: list[str]) -> None:
    from fnbuild.errors import UsageError
    from fnbuild.spec.fix import fix

    if packed:
        raise UsageError(f"{packed[0]} cannot be mended in place", hint="unpack it first")
    for path in paths:
        for change in fix(path):
            note(f"fixed {change}")


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")
