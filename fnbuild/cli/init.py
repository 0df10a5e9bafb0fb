"""`fnbuild init`: a new function's folder from the template of its kind or its task."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from fnbuild.cli import starters
from fnbuild.cli.console import note, warn
from fnbuild.cli.lazy import Command
from fnbuild.errors import ConflictError, InputError, UsageError
from fnbuild.spec.function_rules import MAX_NAME, NAME

# What Kubernetes takes; Nuclio, CVAT and the process platform take more.
_EVERYWHERE = re.compile(r"[a-z0-9]([a-z0-9-]{0,51}[a-z0-9])?\Z")
_TEXT = {".yaml", ".py", ".md", ".txt", ".json"}


def templates() -> dict[str, Traversable]:
    """Return the folders of the templates, by kind."""
    children = sorted(_folder().iterdir(), key=str)
    return {
        child.name: child for child in children if child.is_dir() and not child.name.startswith("_")
    }


def _folder() -> Traversable:
    return files("fnbuild.cli") / "templates"


@click.command(cls=Command)
@click.argument("directory", type=click.Path(path_type=Path), default=".", metavar="[NAME|DIR]")
@click.option(
    "--kind",
    metavar="KIND",
    shell_complete=lambda _ctx, _param, start: [k for k in templates() if k.startswith(start)],
    help="What it does: detector, interactor, tracker, reid, http. [default: detector]",
)
@click.option(
    "--task",
    type=click.Choice(list(starters.TASKS)),
    help="What a detector finds, with the model in a file of its own.",
)
@click.option(
    "--framework",
    type=click.Choice(list(starters.REQUIREMENTS)),
    help="What runs the model of a task. [default: opencv]",
)
@click.option("--name", metavar="NAME", help="The function's name. [default: the folder's name]")
def init(
    directory: Path, *, kind: str | None, task: str | None, framework: str | None, name: str | None
) -> None:
    """Write function.yaml, main.py and what else a function of the kind or the task needs.

    Files that are there already stop it, before anything is written.
    """
    folder = directory.absolute()
    name = name or folder.name
    _check(name)
    words = {"FUNCTION_NAME": name, "IMAGE_NAME": _image(name)}
    contents = {
        path: _filled(content, words) if isinstance(content, str) else content
        for path, content in _contents(kind, task, framework).items()
    }
    taken = [path for path in contents if (folder / path).exists()]
    if taken:
        raise ConflictError(
            f"{folder} has {', '.join(taken)} already", hint="choose another folder"
        )
    for path, content in contents.items():
        target = folder / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.encode() if isinstance(content, str) else content)
        except OSError as error:
            raise InputError(
                f"cannot write {directory / path}: {error.strerror}", hint="choose another folder"
            ) from None
        note(f"wrote {directory / path}")
    note(f"next: fnbuild run --path {directory} --watch")
    project = "" if kind == "http" else " --project-name cvat"
    note(f"then: fnbuild deploy --path {directory}{project}")


def _contents(
    kind: str | None, task: str | None, framework: str | None
) -> Mapping[str, str | bytes]:
    """Return the files that were asked for, by relative path."""
    if task or framework:
        if kind not in (None, "detector"):
            raise UsageError(
                f"--task and --framework are for detectors, not for kind {kind}",
                hint="leave out `--kind`",
            )
        parts = _folder() / starters.FOLDER
        return starters.files(parts, task or "detection", framework or "opencv")
    available = templates()
    if (kind := kind or "detector") not in available:
        raise UsageError(
            f'there is no template for kind "{kind}"', hint=f"one of: {', '.join(available)}"
        )
    return _read(available[kind])


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
