"""`fnbuild spec`: label specs in the formats of CVAT, COCO and YOLO."""

from __future__ import annotations

from pathlib import Path

import click

from fnbuild.cli.base_command import Command, LazyGroup, command_entries
from fnbuild.cli.console import note, warn
from fnbuild.cli.output import format_table, output_option, print_value
from fnbuild.function.labels import LABEL_TYPES

_SPEC_COMMANDS = command_entries(
    {
        "convert": ("spec:convert", "Convert labels between CVAT, COCO, YOLO and names."),
        "list": ("spec:list_sets", "List the label sets that come with fnbuild.", "ls"),
    }
)


@click.group(cls=LazyGroup, entries=_SPEC_COMMANDS)
def spec() -> None:
    """Convert label specs, and list the label sets that come with fnbuild."""


@click.command(cls=Command)
@click.argument("source")
@click.option(
    "--to",
    "target",
    type=click.Choice(["cvat", "coco", "yolo", "names"]),
    default="cvat",
    show_default=True,
    help="Format to write.",
)
@click.option("--type", "label_type", type=click.Choice(LABEL_TYPES), help="Type of all labels.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File. [default: stdout]")
@click.option("-f", "--force", is_flag=True, help="Replace an existing file.")
def convert(
    source: str, *, target: str, label_type: str | None, output: Path | None, force: bool
) -> None:
    """Convert the labels of SOURCE: a file, a function's folder or a label set.

    Files are CVAT's label JSON, COCO's JSON with `categories`, YOLO's data.yaml with `names` and
    `kpt_shape`, a config.json with `id2label`, or text with a name on each line. Keypoints of COCO
    and YOLO become skeletons with sublabels and svg, and the reverse.
    """
    from fnbuild.errors import ConflictError, InputError
    from fnbuild.function.label_sources import load_labels
    from fnbuild.function.label_targets import lost_details, with_type, write_labels

    labels = load_labels(source)
    if label_type is not None:
        labels = with_type(labels, label_type)
    text = write_labels(labels, target)
    if lost := lost_details(labels, target):
        warn(f"{target} has no place for attributes or points; left out for: {', '.join(lost)}")
    if output is None:
        click.echo(text, nl=False)
        return
    if output.exists() and not force:
        raise ConflictError(f"{output} exists", hint="`--force` replaces it")
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror}") from None
    note(f"wrote {output}")


@click.command(cls=Command)
@output_option()
def list_sets(output: str) -> None:
    """List the label sets, which `fnbuild spec convert NAME` writes in any format."""
    from fnbuild.function.label_sources import label_set_names, load_labels

    header = ("name", "labels", "types", "first names")
    rows = []
    for name in label_set_names():
        labels = load_labels(name)
        types = sorted({label.get("type", "any") for label in labels})
        first = ", ".join(label["name"] for label in labels[:3])
        rows.append((name, len(labels), ", ".join(types), first))
    if output in ("table", "wide"):
        columns = 4 if output == "wide" else 3
        click.echo(format_table(header[:columns], [row[:columns] for row in rows]))
        return
    print_value([dict(zip(header[:3], row[:3], strict=True)) for row in rows], output)
