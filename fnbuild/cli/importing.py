"""`fnbuild import`: what export printed, here or by nuctl (pkg/nuctl/command/import.go)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli.lazy import Command, Entry, LazyGroup
from fnbuild.cli.session import Session, note, pass_session

if TYPE_CHECKING:
    from fnbuild.platforms import Platform

_ENTRIES = {
    "functions": Entry("fnbuild.cli.importing:functions", "Functions.", ("function", "fu", "fn")),
    "projects": Entry(
        "fnbuild.cli.importing:projects", "Projects with functions.", ("project", "proj", "prj")
    ),
}

_LARGEST = 64 * 2**20
_MOST_VALUES = 1_000_000
_file = click.argument(
    "file", required=False, type=click.Path(path_type=Path, allow_dash=True), metavar="[FILE]"
)
_report = click.option("--save-report", is_flag=True, help="Write the outcome as JSON.")
_report_path = click.option(
    "--report-file-path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("nuctl-import-report.json"),
    show_default=True,
    help="Where the report goes.",
)
_autofix = click.option(
    "--skip-autofix", is_flag=True, expose_value=False, help="Has no effect: nothing is changed."
)


@click.group(cls=LazyGroup, entries=_ENTRIES)
def import_() -> None:
    """Read functions or projects from a file or stdin."""


@click.command(cls=Command)
@_file
@_report
@_report_path
@_autofix
@pass_session
@click.pass_context
def functions(ctx: click.Context, session: Session, /, file: Path | None, **flags: Any) -> None:
    """Record functions in state `imported`. They start at their first deploy."""
    from fnbuild.cli.outcomes import finish

    origin, raw = _read(file)
    outcome = _store(session.connect(), session.namespace, _by_name(raw, "spec", origin), origin)
    finish(ctx, outcome, flags["report_file_path"] if flags["save_report"] else None)


@click.command(cls=Command)
@_file
@click.option("--skip", multiple=True, metavar="NAME", help="Leave a project out. Repeatable.")
@click.option("--skip-label-selectors", metavar="K=V,…", help="Leave out projects by label.")
@_report
@_report_path
@_autofix
@pass_session
@click.pass_context
def projects(ctx: click.Context, session: Session, /, file: Path | None, **flags: Any) -> None:
    """Make projects, and record their functions in state `imported`."""
    from fnbuild.cli.outcomes import finish
    from fnbuild.cli.overrides import key_values
    from fnbuild.platforms import Project

    origin, raw = _read(file)
    unwanted = key_values("--skip-label-selectors", flags["skip_label_selectors"]).items()
    platform = session.connect()
    outcome: dict[str, str] = {}
    for name, item in _by_name(raw, "project", origin).items():
        project = _mapping(item.get("project"), f"{origin}: {name}")
        meta = _mapping(project.get("meta") or project.get("metadata"), f"{origin}: {name}")
        labels = _mapping(meta.get("labels") or {}, f"{origin}: {name}")
        if name in flags["skip"] or (unwanted and unwanted <= labels.items()):
            note(f"skipped project {name}")
            continue
        spec = _mapping(project.get("spec") or {}, f"{origin}: {name}")
        annotations = _mapping(meta.get("annotations") or {}, f"{origin}: {name}")
        made = platform.create_project(
            Project(
                name,
                session.namespace,
                _text(spec, "description"),
                _text(spec, "owner"),
                {key: str(one) for key, one in labels.items()},
                {key: str(one) for key, one in annotations.items()},
            )
        )
        note(f"created project {name}" if made else f"project {name} exists already")
        members = _mapping(item.get("functions") or {}, f"{origin}: {name}")
        for function in members.values():
            _join(function, name)
        outcome |= _store(platform, session.namespace, members, origin)
    finish(ctx, outcome, flags["report_file_path"] if flags["save_report"] else None)


def _text(spec: dict[str, Any], key: str) -> str:
    return str(spec.get(key) or "")


def _join(function: Any, project: str) -> None:
    """A function inside a project belongs to it, whatever its own label says."""
    from fnbuild.membership import PROJECT_LABEL

    if isinstance(function, dict) and isinstance(function.get("metadata"), dict):
        metadata = function["metadata"]
        metadata["labels"] = {**(metadata.get("labels") or {}), PROJECT_LABEL: project}


def _store(
    platform: Platform, namespace: str, functions: Mapping[str, Any], origin: str
) -> dict[str, str]:
    """Record each function; the failures by name, empty text for success."""
    from fnbuild.cli.outcomes import each
    from fnbuild.deploy import import_function

    def one(item: tuple[str, Any]) -> None:
        name, raw = item
        import_function(platform, _mapping(raw, f"{origin}: {name}"), namespace, origin)
        note(f"imported {name}")

    outcomes = each(list(functions.items()), one)
    return {name: one.failure for name, one in zip(functions, outcomes, strict=True)}


def _read(file: Path | None) -> tuple[str, Any]:
    """The text's name and the values in it; YAML, and so JSON too."""
    import yaml

    from fnbuild.errors import InputError, NotFoundError, UsageError

    if file is None or str(file) == "-":
        if sys.stdin.isatty():
            raise UsageError("there is nothing to import", hint="name a file, or pipe one in")
        origin, text = "stdin", sys.stdin.buffer.read(_LARGEST + 1)
    else:
        origin = str(file)
        try:
            with file.open("rb") as stream:
                text = stream.read(_LARGEST + 1)
        except FileNotFoundError:
            raise NotFoundError(f"no such file: {file}") from None
        except OSError as error:
            raise InputError(f"cannot read {file}: {error.strerror}") from None
    if len(text) > _LARGEST:
        raise InputError(f"{origin} is larger than {_LARGEST // 2**20} MiB")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        values = yaml.load(text, loader)  # noqa: S506 - it is the safe loader's C sibling
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{origin}:{mark.line + 1}:{mark.column + 1}" if mark else origin
        raise InputError(f"{place}: this is not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{origin} is not YAML: {error}") from None
    if _is_huge(values):
        raise InputError(
            f"{origin} holds more than {_MOST_VALUES} values once aliases are followed"
        )
    return origin, values


def _is_huge(value: Any) -> bool:
    """Whether there are too many values to handle: a few aliases of aliases can make billions."""
    count, waiting = 0, [value]
    while waiting and count <= _MOST_VALUES:
        one = waiting.pop()
        count += 1
        if isinstance(one, dict):
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
    return bool(waiting)


def _by_name(raw: Any, marker: str, origin: str) -> dict[str, Any]:
    """Items by name: a map of them, or a single one, which has the key `marker`."""
    items = _mapping(raw, origin)
    if marker in items or "metadata" in items:
        inner = _mapping(items.get("project", items), origin)
        meta = _mapping(inner.get("metadata") or inner.get("meta"), origin)
        return {str(meta.get("name", "")): items}
    return {str(name): _mapping(item, f"{origin}: {name}") for name, item in items.items()}


def _mapping(value: Any, place: str) -> dict[str, Any]:
    from fnbuild.errors import InputError

    if not isinstance(value, dict):
        raise InputError(
            f"{place} holds no function or project",
            hint="import reads what `fnbuild export` or `nuctl export` printed",
        )
    return value
