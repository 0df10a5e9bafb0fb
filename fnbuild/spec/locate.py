"""Which files make up a function: its folder, its configuration file, its single source file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fnbuild.errors import Diagnostic, Report

NAMES = ("function.yaml", "function.yml")
_CONFIG_SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class Located:
    """`config` is None for a source file whose configuration, if any, stands inside it."""

    folder: Path
    config: Path | None
    source: Path | None


def locate(path: Path, config_file: Path | None, report: Report) -> Located | None:
    """The files a path means; None when the report says why there are none."""
    try:
        if path.is_dir():
            return _folder(path, config_file, report)
        if path.is_file():
            return _file(path, config_file, report)
        exists = path.exists()
    except (OSError, ValueError) as error:
        _error(report, "unreadable", f"{str(path)!r} cannot be read: {error}")
        return None
    if exists:
        _error(report, "missing-path", f"{path} is neither a file nor a folder")
    else:
        _error(report, "missing-path", f"{path} does not exist", _neighbour(path))
    return None


def display(path: Path) -> str:
    """A path as places show it: relative to the working directory where that is shorter."""
    text = str(path)
    if not path.is_absolute():
        return text
    try:
        relative = os.path.relpath(path)
    except OSError:
        # The working directory is gone.
        return text
    return text if relative.startswith("..") else relative


def _error(report: Report, rule: str, message: str, hint: str | None = None) -> None:
    report.add(Diagnostic("error", rule, message, hint=hint))


def _folder(path: Path, config_file: Path | None, report: Report) -> Located | None:
    if config_file is not None:
        config = _explicit(path, config_file, report)
        return Located(path, config, None) if config else None
    found = [path / name for name in NAMES if (path / name).is_file()]
    if len(found) > 1:
        message = f"{display(path)} holds {NAMES[0]} and {NAMES[1]}; {NAMES[0]} is read"
        report.add(Diagnostic("warning", "two-files", message, hint="delete the other one"))
    if found:
        return Located(path, found[0], None)
    return Located(path, None, None)


def report_missing(folder: Path, report: Report) -> None:
    """Say that a folder has no configuration, and what else is there."""
    message = f"'{display(folder)}' holds no {NAMES[0]} (nor {NAMES[1]})"
    hint = "see: fnbuild init"
    try:
        others = sorted(p.name for p in folder.iterdir() if p.suffix in _CONFIG_SUFFIXES[:2])
    except OSError as error:
        _error(report, "unreadable", f"{display(folder)} cannot be read: {error.strerror}")
        return
    if others:
        hint = f"name the file to use: --file {display(folder / others[0])}"
    _error(report, "missing-config", message, hint)


def _explicit(folder: Path, config_file: Path, report: Report) -> Path | None:
    for candidate in (config_file, folder / config_file):
        if candidate.is_file():
            return candidate
    _error(report, "missing-path", f"{config_file} does not exist", _neighbour(config_file))
    return None


def _file(path: Path, config_file: Path | None, report: Report) -> Located | None:
    if path.suffix == ".py":
        config = _explicit(path.parent, config_file, report) if config_file else None
        if config_file and not config:
            return None
        return Located(path.parent, config, path)
    if path.suffix in _CONFIG_SUFFIXES:
        if config_file is not None:
            config = _explicit(path.parent, config_file, report)
            return Located(path.parent, config, None) if config else None
        return Located(path.parent, path, None)
    message = f"{display(path)} is neither a folder, a .yaml file nor a .py file"
    _error(report, "wrong-path", message, "unpack an archive and name its folder")
    return None


def _neighbour(path: Path) -> str | None:
    from fnbuild.spec.hints import closest

    if not path.parent.is_dir():
        return None
    word = closest(path.name, (entry.name for entry in path.parent.iterdir()))
    return f"did you mean {path.parent / word}?" if word else None
