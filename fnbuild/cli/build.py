"""`fnbuild build`: a function's image, without running it (pkg/nuctl/command/build.go)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli.base_command import Command
from fnbuild.cli.console import note, warn
from fnbuild.cli.deploy_output import prepare_and_warn
from fnbuild.cli.deploy_request import open_request
from fnbuild.cli.options import build_options, source_options
from fnbuild.cli.output import output_option
from fnbuild.cli.session import Session, pass_session

if TYPE_CHECKING:
    from fnbuild.builder.image.builder import BuiltImage
    from fnbuild.builder.image.engine import Engine

_DEFAULT_ENGINE = "the first of docker, podman and buildah that answers; env: FNBUILD_ENGINE"


@click.command(cls=Command)
@click.argument("name", required=False)
@source_options
@output_option("name")
@build_options
@click.option("--engine", metavar="NAME", help=f"Container engine. [default: {_DEFAULT_ENGINE}]")
@click.option(
    "--output-image-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Save the image to an archive.",
)
@click.option(
    "--prepare-offline", is_flag=True, help="Only download what later builds with --offline need."
)
@pass_session
def build(session: Session, /, output: str, **flags: Any) -> None:
    """Build the image of a function, and push it if a registry is given.

    The process platform needs no image; it runs functions from their folder.
    """
    from fnbuild.builder.image.engines.command_line import check_writable
    from fnbuild.builder.image.engines.selection import choose_engine
    from fnbuild.cli.progress import ProgressDisplay
    from fnbuild.deploy import artifacts

    if flags["prepare_offline"]:
        _prepare_offline(session, flags)
        return
    engine = choose_engine(flags["engine"])
    if engine.selection_reason:
        note(f"building with {engine.name}: {engine.selection_reason}")
    if flags["output_image_file"]:
        # Fails before a long build.
        check_writable(flags["output_image_file"])
    with open_request(session, flags) as request:
        prepared = prepare_and_warn(request)
        with ProgressDisplay(whole=session.verbose) as progress:
            built = artifacts.build_image(prepared.loaded, engine, progress)
            if flags["output_image_file"]:
                progress(f"saving {flags['output_image_file']}")
                engine.save(built.reference, flags["output_image_file"])
    for text in built.warnings:
        warn(text)
    note(f"built {built.reference} in {progress.seconds:.1f} s")
    if built.registry_reference:
        note(f"pushed {built.registry_reference} {built.pushed_digest}".rstrip())
    _print_image(built, engine, output)


def _print_image(built: BuiltImage, engine: Engine, output: str) -> None:
    from fnbuild.builder.image.size_report import format_size, measure_image
    from fnbuild.cli.output import format_table, print_value

    if output == "name":
        click.echo(built.registry_reference or built.reference)
        return
    python = built.python
    if output == "table":
        facts = engine.inspect(built.id)
        row = [built.reference, built.id.removeprefix("sha256:")[:12]]
        size = format_size(facts.size) if facts else ""
        where = f"{_version_text(python.version)} {python.path}"
        click.echo(format_table(["image", "id", "size", "python"], [[*row, size, where]]))
        return
    image_report = measure_image(engine, built.reference, built.base, python.path)
    for text in image_report.advice:
        note(text)
    if output == "wide":
        rows = [
            [format_size(part.size), part.origin, part.description] for part in image_report.layers
        ]
        rows.append([format_size(image_report.size), "", built.reference])
        click.echo(format_table(["size", "from", "made by"], rows))
        return
    print_value(
        {
            "image": built.reference,
            "id": built.id,
            "base": built.base,
            "pushed": built.registry_reference,
            "tag": built.immutable_reference,
            "digest": built.pushed_digest,
            "code": built.digest,
            "python": {"path": python.path, "version": _version_text(python.version)},
            "size": image_report.size,
            "layers": [
                {"size": layer.size, "from": layer.origin, "by": layer.description}
                for layer in image_report.layers
            ],
            "advice": list(image_report.advice),
        },
        output,
    )


def _version_text(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


def _prepare_offline(session: Session, flags: dict[str, Any]) -> None:
    """Fetch the SDK and, if a function is given, its base image."""
    from fnbuild.builder import sdk
    from fnbuild.builder.image.base_images import prefetch_base_image
    from fnbuild.builder.image.engines.selection import choose_engine
    from fnbuild.cli.progress import ProgressDisplay

    for folder in sdk.ensure_all_sdks():
        note(f"nuclio_sdk {folder.name} is here")
    if not flags["path"] and not flags["config_file"]:
        return
    with (
        open_request(session, flags) as request,
        ProgressDisplay(whole=session.verbose) as progress,
    ):
        prepared = prepare_and_warn(request)
        base = prefetch_base_image(prepared.loaded, choose_engine(flags["engine"]), progress)
    note(f"the base image {base} is here; lines that need the network fail with --offline")
