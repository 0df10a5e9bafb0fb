"""`fnbuild init`: a new function's folder from the template of its kind."""

from __future__ import annotations

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from fnbuild.cli.lazy import Command
from fnbuild.cli.session import note, warn
from fnbuild.errors import ConflictError, UsageError
from fnbuild.spec.function_rules import MAX_NAME, NAME

# What Kubernetes takes; Nuclio, CVAT and the process platform take more.
_EVERYWHERE = re.compile(r"[a-z0-9]([a-z0-9-]{0,51}[a-z0-9])?\Z")
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
    _check(name)
    known = templates()
    if kind not in known:
        raise UsageError(
            f'there is no template for kind "{kind}"', hint=f"one of: {', '.join(known)}"
        )
    texts = _read(known[kind])
    words = {"FUNCTION_NAME": name, "IMAGE_NAME": _image(name)}
    contents = {path: _filled(text, words) for path, text in texts.items()}
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
    project = "" if kind == "http" else " --project-name cvat"
    note(f"then: fnbuild deploy --path {directory}{project}")


def _check(name: str) -> None:
    if not NAME.match(name) or len(name) > MAX_NAME:
        raise UsageError(
            f'"{name}" cannot be the name of a function',
            hint=f"letters, digits, '-', '_' and '.', {MAX_NAME} at most, such as my-detector;"
            " `--name` gives another than the folder's",
        )
    if not _EVERYWHERE.match(name):
        warn(
            f'Kubernetes does not take the name "{name}": there it is up to 53 lower-case letters,'
            " digits and dashes"
        )


def _image(name: str) -> str:
    """The image of that name: lower case, one separator at a time, none at the end."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _filled(text: str, words: dict[str, str]) -> str:
    for placeholder, word in words.items():
        text = text.replace(placeholder, word)
    return text


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
