"""`fnbuild validate`: report every diagnostic of every file, each with its location."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli.base_command import Command
from fnbuild.cli.console import count_text, note
from fnbuild.cli.options import file_option, variant_option

if TYPE_CHECKING:
    from fnbuild.errors import Report
    from fnbuild.function.report_formats import ReportFormat


@click.command(cls=Command)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--fix", is_flag=True, help="Repair problems that have one obvious remedy.")
@click.option("--strict", is_flag=True, help="Treat unknown keys as errors.")
@file_option
@variant_option
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "sarif"]),
    default="text",
    show_default=True,
    help="Output format.",
)
@click.pass_context
def validate(
    ctx: click.Context, /, paths: tuple[str, ...], fix: bool, output: ReportFormat, **flags: Any
) -> None:
    """Check functions: folders with function.yaml, YAML files, source files, archives or URLs.

    In a folder, check function.yaml and its variants, such as function-gpu.yaml; without them, all
    functions below it. A YAML file may also have objects of KServe, such as an InferenceService.
    A configuration of TorchServe, config.properties, is checked with the archives of its tree: a
    folder with `config` and `model-store`. The exit status is 0 if there are only warnings.
    """
    from fnbuild.builder.sources.code_entry import open_code
    from fnbuild.function.report_formats import render_reports

    with ExitStack() as stack:
        opened = [stack.enter_context(open_code(path, follow=False)).path for path in paths]
        config_file = flags.pop("config_file")
        targets = [
            target for path in opened if path is not None for target in _targets(path, config_file)
        ]
        if fix:
            _fix_files(
                [config or path for path, config in targets if not _is_manifest(path, config)],
                [path for path, local in zip(paths, opened, strict=True) if local != Path(path)],
            )
        others = [target for target in targets if not _is_function(*target)]
        reports = [_check(path, config, **flags) for path, config in targets]
    text = render_reports(reports, output)
    if text:
        click.echo(text)
    errors = sum(len(report.errors) for report in reports)
    warnings = count_text(sum(len(report.warnings) for report in reports), "warning")
    checked = {path for path, _ in targets}
    variants = len({path if path.is_dir() else path.parent for path in checked}) < len(checked)
    count = count_text(len(targets), "configuration" if variants or others else "function")
    note(f"{count}: {count_text(errors, 'error')}, {warnings}")
    if errors:
        ctx.exit(1)


def _check(path: Path, config_file: Path | None, **flags: Any) -> Report:
    from fnbuild.bridges.torchserve.model_store import check_config, find_config
    from fnbuild.function.reader import check_function
    from fnbuild.platforms.kserve.manifest_check import check_manifest_file

    if _is_manifest(path, config_file):
        return check_manifest_file(config_file or path)
    if (config := find_config(config_file or path)) is not None:
        return check_config(config, strict=flags["strict"])
    return check_function(path, code=True, config_file=config_file, **flags)[1]


def _is_manifest(path: Path, config_file: Path | None) -> bool:
    """Return True if the file has objects of KServe."""
    from fnbuild.platforms.kserve.manifest_check import is_manifest_file

    return is_manifest_file(config_file or path)


def _is_function(path: Path, config_file: Path | None) -> bool:
    from fnbuild.bridges.torchserve.model_store import find_config

    return not _is_manifest(path, config_file) and find_config(config_file or path) is None


def _targets(path: Path, config_file: Path | None) -> list[tuple[Path, Path | None]]:
    """Return the paths to check at and below a path, each with the file that --file names for it.

    A name that is not in the folder itself selects the files of that name below it.
    """
    from fnbuild.bridges.torchserve.model_store import find_config
    from fnbuild.cli.discovery import configurations_of, find_configurations

    if config_file is None:
        if (config := find_config(path)) is not None:
            return [(config, None)]
        return [(config, None) for config in configurations_of(path)]
    if (path / config_file).is_file():
        return [(path, path / config_file)]
    below: list[Path] = []
    if path.is_dir() and len(config_file.parts) == 1:
        below = find_configurations(path, (str(config_file),))
    return [(config, None) for config in below] or [(path, config_file)]


def _fix_files(paths: list[Path], packed: list[str]) -> None:
    from fnbuild.bridges.torchserve.model_store import find_config, repair_tree
    from fnbuild.errors import UsageError
    from fnbuild.function.repair import repair_file

    if packed:
        raise UsageError(f"{packed[0]} cannot be repaired in place", hint="unpack it first")
    for path in paths:
        config = find_config(path)
        for change in repair_file(path) if config is None else repair_tree(config):
            note(f"fixed {change}")
