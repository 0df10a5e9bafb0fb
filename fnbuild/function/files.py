"""Locate the files of a function: its folder, configuration file and single source file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fnbuild.errors import Diagnostic, Report

CONFIG_NAMES = ("function.yaml", "function.yml")
_CONFIG_SUFFIXES = (".yaml", ".yml", ".json")
_ARCHIVE_SUFFIXES = (".zip", ".tar", ".gz", ".tgz", ".xz", ".txz", ".bz2", ".tbz2")
_MAX_LISTED = 20


@dataclass(frozen=True, slots=True)
class FunctionFiles:
    """`config` is None if the configuration can only be inside the source file."""

    folder: Path
    config: Path | None
    source: Path | None


@dataclass(frozen=True, slots=True)
class _DisplayOrigin:
    name: str
    choice: str


# Not thread-local: other threads that read the same folder show the same origin.
_DISPLAY_ORIGINS: dict[Path, _DisplayOrigin] = {}


@contextmanager
def displayed_as(folder: Path, name: str, choice: str) -> Iterator[None]:
    """Display paths below a temporary folder as parts of their origin until the context ends.

    `name` is that of an archive or a repository, "" for the code of a function that the context
    implies; `choice` is how to select one folder of it.
    """
    _DISPLAY_ORIGINS[folder] = _DisplayOrigin(name, choice)
    try:
        yield
    finally:
        _DISPLAY_ORIGINS.pop(folder, None)  # another context of the same folder may have ended


def _display_origin(path: Path) -> tuple[_DisplayOrigin, str] | None:
    """Return the origin of a path, and the path inside the origin."""
    for folder, origin in list(_DISPLAY_ORIGINS.items()):
        if path.is_relative_to(folder):
            return origin, path.relative_to(folder).as_posix()
    return None


def locate_files(path: Path, config_file: Path | None, report: Report) -> FunctionFiles | None:
    """Return the files of the function at a path, or None after reporting an error."""
    try:
        if path.is_dir():
            return _files_of_folder(path, config_file, report)
        if path.is_file():
            return _files_of_file(path, config_file, report)
        exists = path.exists()
    except (OSError, ValueError) as error:
        _error(report, "unreadable", f"{str(path)!r} cannot be read: {error}")
        return None
    if exists:
        _error(report, "missing-path", f"{path} is neither a file nor a folder")
    else:
        _error(report, "missing-path", f"{path} does not exist", _similar_path(path))
    return None


def display_path(path: Path) -> str:
    """Return a path for messages: relative to the working directory if it is inside of it.

    A file of an archive is shown as `code.zip:function.yaml`.
    """
    part = _display_origin(path)
    if part:
        origin, inside = part
        if not origin.name:
            return "the code" if inside == "." else inside
        return origin.name if inside == "." else f"{origin.name}:{inside}"
    text = str(path)
    if not path.is_absolute():
        return text
    try:
        relative = os.path.relpath(path)
    except OSError:
        # The working directory was deleted.
        return text
    return text if relative.startswith("..") else relative


def _error(report: Report, rule: str, message: str, hint: str | None = None) -> None:
    report.add(Diagnostic("error", rule, message, hint=hint))


def _files_of_folder(path: Path, config_file: Path | None, report: Report) -> FunctionFiles | None:
    if config_file is not None:
        return _files_with_config(path, config_file, None, report)
    configs = [path / name for name in CONFIG_NAMES if (path / name).is_file()]
    if len(configs) > 1:
        preferred, other = CONFIG_NAMES
        message = f"{display_path(path)} contains {preferred} and {other}; {preferred} is read"
        report.add(Diagnostic("warning", "two-files", message, hint="delete the other one"))
    return FunctionFiles(path, configs[0] if configs else None, None)


def report_missing_config(folder: Path, report: Report) -> None:
    """Report that a folder has no configuration, with a hint from its contents."""
    message = f"'{display_path(folder)}' holds no {CONFIG_NAMES[0]} (nor {CONFIG_NAMES[1]})"
    try:
        others = sorted(p.name for p in folder.iterdir() if p.suffix in _CONFIG_SUFFIXES[:2])
        hint = _missing_config_hint(folder, others)
    except OSError as error:
        _error(report, "unreadable", f"{display_path(folder)} cannot be read: {error.strerror}")
        return
    _error(report, "missing-config", message, hint)


def _missing_config_hint(folder: Path, others: list[str]) -> str:
    """Return a hint for a folder without a configuration. `others` are its YAML files."""
    part = _display_origin(folder)
    if others:
        file = others[0] if part else display_path(folder / others[0])
        return f"name the file to use: `--file {file}`"
    if part is None:
        functions = _function_folders(folder, "*")
        paths = ", ".join(display_path(folder / function) for function in functions)
        return f"functions there: {paths}" if functions else "`fnbuild init` creates one"
    origin, inside = part
    functions = _function_folders(folder, "**")
    if functions:
        above = "" if inside == "." else f"{inside}/"
        paths = ", ".join(above + function for function in functions)
        return f"functions in it: {paths}; {origin.choice}"
    entries = sorted(entry.name for entry in folder.iterdir())
    listed = f"it contains {', '.join(entries[:_MAX_LISTED])}" if entries else "it is empty"
    return f"{listed}; `--file FILE` names a configuration elsewhere"


def _function_folders(folder: Path, pattern: str) -> list[str]:
    """Return the relative paths of the first folders with a configuration."""
    functions = {file.parent for name in CONFIG_NAMES for file in folder.glob(f"{pattern}/{name}")}
    return sorted(path.relative_to(folder).as_posix() for path in functions)[:_MAX_LISTED]


def _files_with_config(
    folder: Path, config_file: Path, source: Path | None, report: Report
) -> FunctionFiles | None:
    """Return the files of a function whose configuration is named explicitly."""
    for candidate in (config_file, folder / config_file):
        if candidate.is_file():
            return FunctionFiles(folder, candidate, source)
    _error(report, "missing-path", f"{config_file} does not exist", _similar_path(config_file))
    return None


def _files_of_file(path: Path, config_file: Path | None, report: Report) -> FunctionFiles | None:
    if path.suffix == ".py" or path.suffix in _CONFIG_SUFFIXES:
        source = path if path.suffix == ".py" else None
        if config_file is not None:
            return _files_with_config(path.parent, config_file, source, report)
        return FunctionFiles(path.parent, None if source else path, source)
    message = f"{display_path(path)} is neither a folder, a .yaml file nor a .py file"
    hint = None
    if path.suffix.lower() in _ARCHIVE_SUFFIXES:
        hint = "`fnbuild deploy`, `build` and `validate` accept archives; here, unpack it first"
    _error(report, "wrong-path", message, hint)
    return None


def _similar_path(path: Path) -> str | None:
    from fnbuild.function.suggestions import closest

    if not path.parent.is_dir():
        return None
    word = closest(path.name, (entry.name for entry in path.parent.iterdir()))
    return f"did you mean {path.parent / word}?" if word else None
