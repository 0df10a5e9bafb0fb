"""`fnbuild init`: a new function's folder from the template of its kind."""

from __future__ import annotations

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from fnbuild.cli.lazy import Command
from fnbuild.cli.session import note
from fnbuild.errors import ConflictError, UsageError

# What Nuclio, CVAT and Kubernetes all take as a function's name.
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,51}[a-z0-9])?\Z")
_PLACEHOLDER = "FUNCTION_NAME"
_TEXT = {".yaml", ".py", ".md", ".txt", ".json"}


def templates() -> dict[str, Traversable]:
    """The folders of the templates, by kind."""
    folder = files("fnbuild.cli") / "templates"
    return {one.name: one for one in sorted(folder.iterdir(), key=str) if one.is_dir()}


@click.command(cls=Command)
@click.argument("directory", type=click.Path(path_type=Path), default=".", metavar="[NAME|DIR]")
@click.option(
    "--kind",
    metavar="KIND",
    default="detector",
    show_default=True,
    shell_complete=lambda _ctx, _param, start: [k for k in templates() if k.startswith(start)],
    help="What it does: detector, interactor, tracker, reid …",
)
@click.option("--name", metavar="NAME", help="The function's name. [default: the folder's name]")
def init(directory: Path, kind: str, name: str | None) -> None:
    """Write function.yaml, main.py and what else a function of the kind needs.

    Files that are there already stop it, before anything is written.
    """
    folder = directory.absolute()
    name = name or folder.name
    if not _NAME.match(name):
        raise UsageError(
            f'"{name}" cannot be the name of a function',
            hint="lower-case letters, digits and dashes, such as my-detector; --name gives another",
        )
    known = templates()
    if kind not in known:
        raise UsageError(
            f'there is no template for kind "{kind}"', hint=f"one of: {', '.join(known)}"
        )
    texts = _read(known[kind])
    contents = {path: text.replace(_PLACEHOLDER, name) for path, text in texts.items()}
    taken = [path for path in contents if (folder / path).exists()]
    if taken:
        raise ConflictError(
            f"{folder} has {', '.join(taken)} already", hint="choose another folder"
        )
    for path, text in contents.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        note(f"wrote {directory / path}")
    note(f"next: fnbuild run --path {directory} --watch")


def _read(folder: Traversable, prefix: str = "") -> dict[str, str]:
    """Relative paths and texts of a template's files."""
    found: dict[str, str] = {}
    for one in folder.iterdir():
        if one.is_dir():
            if one.name != "__pycache__":
                found |= _read(one, f"{prefix}{one.name}/")
        elif Path(one.name).suffix in _TEXT:
            found[prefix + one.name] = one.read_text(encoding="utf-8")
    return dict(sorted(found.items()))
