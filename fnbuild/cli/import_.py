"""`fnbuild import`: read exports of fnbuild and nuctl (pkg/nuctl/command/import.go)."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli.base_command import Command, LazyGroup, command_entries
from fnbuild.cli.console import note, warn
from fnbuild.cli.options import report_options
from fnbuild.cli.session import Session, pass_session

if TYPE_CHECKING:
    from fnbuild.bridges.torchserve.import_archive import ImportOptions
    from fnbuild.platforms import Platform, Project

_IMPORT_COMMANDS = command_entries(
    {
        "functions": ("import_:functions", "Import functions.", "function", "fu", "fn"),
        "projects": ("import_:projects", "Import projects.", "project", "proj", "prj"),
    }
)
_MODEL_SUFFIXES = (".mar", ".tar.gz")

_MAX_BYTES = 64 * 2**20
_MAX_VALUES = 1_000_000
_file_argument = click.argument(
    "file", required=False, type=click.Path(path_type=Path, allow_dash=True), metavar="[FILE]"
)
_report_options = report_options("nuctl-import-report.json")
_skip_autofix_option = click.option(
    "--skip-autofix",
    is_flag=True,
    help="Do not repair configurations as Nuclio does: autoscaling with a v3ioStream trigger.",
)


class _ImportGroup(LazyGroup):
    """The group, which imports a model if its first argument is a path."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        is_path = args[0].endswith(_MODEL_SUFFIXES) or Path(args[0]).exists()
        if is_path and self.get_command(ctx, args[0]) is None:
            return "model", model, args
        return super().resolve_command(ctx, args)


@click.group(cls=_ImportGroup, entries=_IMPORT_COMMANDS)
def import_() -> None:
    """Import functions or projects from a file or stdin, or a model of TorchServe.

    `fnbuild import MODEL.mar` makes a function's folder of an archive, and `fnbuild import TREE`
    the folders of all models in a model store with its configuration.
    """


@click.command(cls=Command)
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--path",
    "folder",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="New folder of the function, by default its name; for a tree, the folder above them.",
)
@click.pass_context
def model(ctx: click.Context, source: Path, folder: Path | None) -> None:
    """Make functions' folders of an archive of TorchServe, or of a tree with its configuration.

    In a tree, each version of a model becomes a function: the default version NAME, any other
    NAME-VERSION.
    """
    from fnbuild.bridges.torchserve.archive import read_manifest
    from fnbuild.bridges.torchserve.import_archive import function_name
    from fnbuild.bridges.torchserve.model_store import find_config

    if (config := find_config(source)) is not None:
        _import_tree(ctx, config, folder or Path())
    else:
        _import_model(source, folder or Path(function_name(read_manifest(source).model.model_name)))


def _import_model(archive: Path, folder: Path, options: ImportOptions | None = None) -> None:
    from fnbuild.bridges.torchserve.import_archive import import_archive

    function = import_archive(archive, folder, options)
    note(f"imported {function.metadata.name}: `fnbuild deploy --path {folder}` runs it")


def _import_tree(ctx: click.Context, config: Path, folder: Path) -> None:
    from fnbuild.bridges.torchserve.import_tree import PlannedImport, plan_tree
    from fnbuild.cli.batch import run_batch

    def run(item: PlannedImport) -> None:
        _import_model(item.archive, folder / item.options.function_name, item.options)

    plan = plan_tree(config)
    for text in plan.notes:
        note(text)
    if any(result.error for result in run_batch(plan.imports, run)):
        ctx.exit(1)


@click.command(cls=Command)
@_file_argument
@_report_options
@_skip_autofix_option
@pass_session
@click.pass_context
def functions(ctx: click.Context, session: Session, /, file: Path | None, **flags: Any) -> None:
    """Import functions in the state `imported`. They run after their first deploy."""
    from fnbuild.cli.batch import finish_batch

    with _open_import(file) as (origin, raw, folders):
        platform, items = session.connect(), _items_by_name(raw, "spec", origin)
        importer = _Importer(
            platform, session.namespace, origin, folders, not flags["skip_autofix"]
        )
        outcome = importer.import_functions(items)
    finish_batch(ctx, outcome, flags)


@click.command(cls=Command)
@_file_argument
@click.option("--skip", multiple=True, metavar="NAME", help="Exclude a project. Repeatable.")
@click.option("--skip-label-selectors", metavar="K=V,…", help="Exclude projects with these labels.")
@_report_options
@_skip_autofix_option
@pass_session
@click.pass_context
def projects(ctx: click.Context, session: Session, /, file: Path | None, **flags: Any) -> None:
    """Create projects and import their functions in the state `imported`."""
    from fnbuild.cli.batch import finish_batch
    from fnbuild.cli.overrides import key_values

    unwanted = key_values("--skip-label-selectors", flags["skip_label_selectors"])
    platform = session.connect()
    outcome: dict[str, str] = {}
    with _open_import(file) as (origin, raw, folders):
        importer = _Importer(
            platform, session.namespace, origin, folders, not flags["skip_autofix"]
        )
        for name, item in _items_by_name(raw, "project", origin).items():
            project = _project(name, item, session.namespace, origin)
            selected = unwanted and unwanted.items() <= project.labels.items()
            if name in flags["skip"] or selected:
                note(f"skipped project {name}")
                continue
            created = platform.create_project(project)
            note(f"created project {name}" if created else f"project {name} exists already")
            members = _mapping(item.get("functions") or {}, f"{origin}: {name}")
            for function in members.values():
                _set_project_label(function, name)
            outcome |= importer.import_functions(members)
    finish_batch(ctx, outcome, flags)


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
        _spec_text(spec, "description"),
        _spec_text(spec, "owner"),
        {key: str(value) for key, value in labels.items()},
        {key: str(value) for key, value in annotations.items()},
    )


def _spec_text(spec: dict[str, Any], key: str) -> str:
    return str(spec.get(key) or "")


def _set_project_label(function: Any, project: str) -> None:
    """Set the project label of a function in a project's export, whatever its own label says."""
    from fnbuild.names import PROJECT_LABEL

    if isinstance(function, dict) and isinstance(function.get("metadata"), dict):
        metadata = function["metadata"]
        metadata["labels"] = {**(metadata.get("labels") or {}), PROJECT_LABEL: project}


@dataclass(frozen=True, slots=True)
class _Importer:
    """Records the functions of an import with their code."""

    platform: Platform
    namespace: str
    origin: str
    folders: Mapping[str, Path]
    autofix: bool

    def import_functions(self, functions: Mapping[str, Any]) -> dict[str, str]:
        """Record each function. Return error messages by name, "" for success."""
        from fnbuild.cli.batch import run_batch

        outcomes = run_batch(list(functions.items()), self._import_function)
        return {name: outcome.failure for name, outcome in zip(functions, outcomes, strict=True)}

    def _import_function(self, item: tuple[str, Any]) -> None:
        from fnbuild.deploy.exports import import_function

        name, raw = item[0], _mapping(item[1], f"{self.origin}: {item[0]}")
        folder = self.folders.get(name)
        imported = import_function(
            self.platform, raw, self.namespace, self.origin, folder, autofix=self.autofix
        )
        for text in imported.warnings:
            warn(f"{name}: {text}")
        note(f"imported {name}" + (" with its code" if folder is not None else ""))


@contextmanager
def _open_import(file: Path | None) -> Iterator[tuple[str, Any, Mapping[str, Path]]]:
    """Yield the name and the values of the document, and code folders by function name."""
    if file is None or str(file) == "-":
        yield *_read_document(None), {}
        return
    from fnbuild.deploy import exports

    if exports.is_archive(file):
        with exports.open_archive(file, str(file)) as export:
            yield str(file), _parse_document(export.document, str(file)), export.folders
    else:
        yield *_read_document(file), {}


def _read_document(file: Path | None) -> tuple[str, Any]:
    """Return the name of the source and the values of the document."""
    from fnbuild.errors import InputError, NotFoundError, UsageError

    if file is None:
        if sys.stdin.isatty():
            raise UsageError("there is nothing to import", hint="name a file, or pipe one in")
        origin, text = "stdin", sys.stdin.buffer.read(_MAX_BYTES + 1)
        if text.startswith((b"\x1f\x8b", b"PK\x03\x04")):
            raise InputError(
                "stdin is an archive", hint="name the file: `fnbuild import functions FILE.tar.gz`"
            )
    else:
        origin = str(file)
        try:
            with file.open("rb") as stream:
                text = stream.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            raise NotFoundError(f"no such file: {file}") from None
        except OSError as error:
            raise InputError(f"cannot read {file}: {error.strerror}") from None
    if len(text) > _MAX_BYTES:
        raise InputError(f"{origin} is larger than {_MAX_BYTES // 2**20} MiB")
    return origin, _parse_document(text, origin)


def _parse_document(text: bytes, origin: str) -> Any:
    """Parse a YAML or JSON document."""
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
    if _has_too_many_values(values):
        raise InputError(f"{origin} holds more than {_MAX_VALUES} values once aliases are followed")
    return values


def _has_too_many_values(value: Any) -> bool:
    """Return True if aliases expand the document to too many values."""
    count, waiting = 0, [value]
    while waiting and count <= _MAX_VALUES:
        item = waiting.pop()
        count += 1
        if isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return bool(waiting)


def _items_by_name(raw: Any, marker: str, origin: str) -> dict[str, Any]:
    """Return items by name, from a map of items or a single item that has the key `marker`."""
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
