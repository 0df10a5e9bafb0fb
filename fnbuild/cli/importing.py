"""`fnbuild import`: what export printed, here or by nuctl (pkg/nuctl/command/import.go)."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli.console import note, warn
from fnbuild.cli.lazy import Command, Entry, LazyGroup
from fnbuild.cli.session import Session, pass_session

if TYPE_CHECKING:
    from fnbuild.platforms import Platform, Project

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
    "--skip-autofix",
    is_flag=True,
    help="Refuse what Nuclio repairs: replicas that scale beside a v3ioStream trigger.",
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

    with _opened(file) as (origin, raw, folders):
        platform, items = session.connect(), _by_name(raw, "spec", origin)
        store = _Store(platform, session.namespace, origin, folders, not flags["skip_autofix"])
        outcome = store.every(items)
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

    unwanted = key_values("--skip-label-selectors", flags["skip_label_selectors"])
    platform = session.connect()
    outcome: dict[str, str] = {}
    with _opened(file) as (origin, raw, folders):
        store = _Store(platform, session.namespace, origin, folders, not flags["skip_autofix"])
        for name, item in _by_name(raw, "project", origin).items():
            project = _project(name, item, session.namespace, origin)
            selected = unwanted and unwanted.items() <= project.labels.items()
            if name in flags["skip"] or selected:
                note(f"skipped project {name}")
                continue
            created = platform.create_project(project)
            note(f"created project {name}" if created else f"project {name} exists already")
            members = _mapping(item.get("functions") or {}, f"{origin}: {name}")
            for function in members.values():
                _join(function, name)
            outcome |= store.every(members)
    finish(ctx, outcome, flags["report_file_path"] if flags["save_report"] else None)


def _project(name: str, item: dict[str, Any], namespace: str, origin: str) -> Project:
    from fnbuild.platforms import Project

    place = f"{origin}: {name}"
    raw = _mapping(item.get("project"), place)
    meta = _mapping(raw.get("meta") or raw.get("metadata"), place)
    labels = _mapping(meta.get("labels") or {}, place)
    spec = _mapping(raw.get("spec") or {}, place)
    annotations = _mapping(meta.get("annotations") or {}, place)
    return Project(
        name,
        namespace,
        _text(spec, "description"),
        _text(spec, "owner"),
        {key: str(value) for key, value in labels.items()},
        {key: str(value) for key, value in annotations.items()},
    )


def _text(spec: dict[str, Any], key: str) -> str:
    return str(spec.get(key) or "")


def _join(function: Any, project: str) -> None:
    """A function inside a project belongs to it, whatever its own label says."""
    from fnbuild.membership import PROJECT_LABEL

    if isinstance(function, dict) and isinstance(function.get("metadata"), dict):
        metadata = function["metadata"]
        metadata["labels"] = {**(metadata.get("labels") or {}), PROJECT_LABEL: project}


@dataclass(frozen=True, slots=True)
class _Store:
    """Records functions of one import with their code."""

    platform: Platform
    namespace: str
    origin: str
    folders: Mapping[str, Path]
    autofix: bool

    def every(self, functions: Mapping[str, Any]) -> dict[str, str]:
        """Record each function; the failures by name, empty text for success."""
        from fnbuild.cli.outcomes import each

        outcomes = each(list(functions.items()), self._one)
        return {name: outcome.failure for name, outcome in zip(functions, outcomes, strict=True)}

    def _one(self, item: tuple[str, Any]) -> None:
        from fnbuild.deploy import import_function

        name, raw = item[0], _mapping(item[1], f"{self.origin}: {item[0]}")
        folder = self.folders.get(name)
        imported = import_function(
            self.platform, raw, self.namespace, self.origin, folder, autofix=self.autofix
        )
        for text in imported.warnings:
            warn(f"{name}: {text}")
        note(f"imported {name}" + (" with its code" if folder is not None else ""))


@contextmanager
def _opened(file: Path | None) -> Iterator[tuple[str, Any, Mapping[str, Path]]]:
    """The name of what is imported, the values in it, and the folders of code by function name."""
    if file is None or str(file) == "-":
        yield *_read(None), {}
        return
    from fnbuild import code_export

    if code_export.is_archive(file):
        with code_export.opened(file, str(file)) as export:
            yield str(file), _values(export.document, str(file)), export.folders
    else:
        yield *_read(file), {}


def _read(file: Path | None) -> tuple[str, Any]:
    """The text's name and the values in it."""
    from fnbuild.errors import InputError, NotFoundError, UsageError

    if file is None:
        if sys.stdin.isatty():
            raise UsageError("there is nothing to import", hint="name a file, or pipe one in")
        origin, text = "stdin", sys.stdin.buffer.read(_LARGEST + 1)
        if text.startswith((b"\x1f\x8b", b"PK\x03\x04")):
            raise InputError(
                "stdin is an archive", hint="name the file: `fnbuild import functions FILE.tar.gz`"
            )
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
    return origin, _values(text, origin)


def _values(text: bytes, origin: str) -> Any:
    """The values in a document; YAML, and so JSON too."""
    import yaml

    from fnbuild.errors import InputError

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
    return values


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
    from fnbuild.errors import InputError

    items = _mapping(raw, origin)
    other = _other_kind(items, marker)
    if other:
        raise InputError(
            f"{origin} is an export of {other}", hint=f"`fnbuild import {other}` reads it"
        )
    if marker in items or "metadata" in items:
        inner = _mapping(items.get("project", items), origin)
        meta = _mapping(inner.get("metadata") or inner.get("meta"), origin)
        return {str(meta.get("name", "")): items}
    return {str(name): _mapping(item, f"{origin}: {name}") for name, item in items.items()}


def _other_kind(items: Mapping[str, Any], marker: str) -> str:
    """Return "projects" or "functions" if that is what an export holds instead, else ""."""
    inner = [item for item in items.values() if isinstance(item, dict)]
    has_projects = any("project" in item for item in inner) or {"project", "functions"} <= {*items}
    if marker == "project":
        has_functions = "spec" in items or any("spec" in item for item in inner)
        return "functions" if has_functions and "project" not in items and not has_projects else ""
    return "projects" if has_projects else ""


def _mapping(value: Any, place: str) -> dict[str, Any]:
    from fnbuild.errors import InputError

    if not isinstance(value, dict):
        raise InputError(
            f"{place} holds no function or project",
            hint="import reads what `fnbuild export` or `nuctl export` printed",
        )
    return value
