"""The folder that an engine builds from.

    artifacts/runtime/       the runtime of fnbuild
    artifacts/requirements/  the requirements.txt of the code, with the files that it names
    artifacts/large/         files of the code of 1 MiB and more
    artifacts/config/        the processor's configuration
    artifacts/code/          all other code
    handler/                 the code once more, for directives that copy from it as in Nuclio

What is under `artifacts/` lies there by its path in the image. Equal content gives equal bytes, modes
and times, whoever builds it and when.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from fnbuild.build.directives import HOME, Directive, directives
from fnbuild.build.image import dockerfile, ignore, layer
from fnbuild.build.image.pythons import Pythons
from fnbuild.build.requirement_files import Flat
from fnbuild.build.tree import shown
from fnbuild.errors import BuildError
from fnbuild.spec.types import Function, Raw

LARGE_BYTES = 1 << 20
CONFIG_PATH = "etc/nuclio/config/processor/processor.json"

_CONFIG_NAME = "function.yaml"
_REQUIREMENTS = "requirements.txt"
_HOME = HOME.lstrip("/")
_CHUNK_BYTES = 1 << 20
# Engines send a file again when its size or time differ from what they had in this place, and do not
# look into it: the time has to differ with the content. It stays before 1998.
_TIMES = 1 << 29


@dataclass(slots=True)
class Context:
    """What was laid out. `large`: there are large files; `warnings` are for the user."""

    large: bool = False
    warnings: list[str] = field(default_factory=list)


def make(folder: Path, function: Function, code: Path, config: Raw) -> Context:
    """Lay out everything but the runtime in `folder`, which is there and empty.

    `code` is a staged copy, `config` the processor's configuration. Large files are links to the
    staged ones where both lie on one file system. Raises `BuildError` when something cannot be
    written, `InputError` for a `.dockerignore` that cannot be understood.
    """
    made = Context()
    try:
        for name in (dockerfile.CODE, dockerfile.LARGE):
            (folder / name / _HOME).mkdir(parents=True)
        _lay_out(folder, function, code, made)
        _write_config(folder / dockerfile.CONFIG / CONFIG_PATH, config)
        if (code / _REQUIREMENTS).is_file():
            _requirements(folder / dockerfile.REQUIREMENTS / _HOME, code)
        if _copies_from_context(function):
            _join(folder / "handler", folder)
        _settle(folder)
    except OSError as error:
        raise _meaning(error, folder) from error
    return made


def add_runtime(folder: Path, pythons: Pythons, *, offline: bool = False) -> None:
    """Add the runtime, in place of an earlier one."""
    target = folder / dockerfile.RUNTIME
    try:
        shutil.rmtree(target, ignore_errors=True)
        (target / "usr/local/bin").mkdir(parents=True)
        layer.write(target / "opt", pythons.processor, pythons.handler, offline)
        (target / "opt/processor").rename(target / "usr/local/bin/processor")
        _settle_folders(target)
    except OSError as error:
        raise _meaning(error, folder) from error


def _lay_out(folder: Path, function: Function, code: Path, made: Context) -> None:
    rules = ignore.read(code)
    needed = _needed(function, code)
    for path in _files(code):
        if rules.ignores(path):
            if path not in needed:
                continue
            made.warnings.append(
                f"{ignore.NAME} leaves out {shown(path)}, which the function needs; it is copied"
            )
        source = code / path
        large = not source.is_symlink() and source.is_file()
        large = large and source.stat().st_size >= LARGE_BYTES
        made.large = made.large or large
        tree = dockerfile.LARGE if large else dockerfile.CODE
        _place(source, folder / tree / _HOME / path)


def _files(code: Path) -> list[str]:
    """Relative paths of all files, links and folders, each folder before what is in it."""
    found: list[str] = []
    for place, folders, files in os.walk(code):
        inside = os.path.relpath(place, code)
        for name in (*folders, *files):
            found.append(name if inside == "." else f"{inside}/{name}")
    return sorted(found, key=os.fsencode)


def _needed(function: Function, code: Path) -> set[str]:
    """What no `.dockerignore` can leave out: the configuration and the handler's module."""
    module = function.spec.handler.partition(":")[0].replace(".", "/")
    names = (_CONFIG_NAME, f"{module}.py", f"{module}/__init__.py")
    return {name for name in names if (code / name).is_file()}


def _place(source: Path, target: Path) -> None:
    """Put a file, a link or a folder there, with the mode it will have in the image."""
    if source.is_symlink():
        _parents(target)
        target.symlink_to(os.readlink(source))
    elif source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    elif source.stat().st_size < LARGE_BYTES:
        _copy(source, target, 0o755 if source.stat().st_mode & 0o100 else 0o644)
    else:
        _link(source, target)


def _link(source: Path, target: Path) -> None:
    """A large file, without taking its room twice. Its mode is the one it was staged with.

    Other revisions may hold the same file, so nothing but its time is set.
    """
    mode = 0o555 if source.stat().st_mode & 0o100 else 0o444
    if source.stat().st_mode & 0o777 == mode:
        _parents(target)
        try:
            target.hardlink_to(source)
            return
        except OSError:
            pass  # on another file system, or one without links
    _copy(source, target, mode)


def _copy(source: Path, target: Path, mode: int) -> None:
    _parents(target)
    shutil.copyfile(source, target)
    target.chmod(mode)


def _parents(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)


def _write_config(path: Path, config: Raw) -> None:
    _parents(path)
    path.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    path.chmod(0o644)


def _requirements(target: Path, code: Path) -> None:
    """The requirements with what their lines name, so that they install before the code is there."""
    root = code.resolve()
    flat = Flat(root)
    try:
        flat.read(root / _REQUIREMENTS)
        found = [*flat.files, *flat.sources]
    except BuildError:
        # Whoever installs it hears of that; nobody may want to.
        found = [root / _REQUIREMENTS]
    for source in found:
        inside = source.relative_to(root)
        _place(source, target / inside)
        if source.is_dir():
            for path in _files(source):
                _place(source / path, target / inside / path)


def _copies_from_context(function: Function) -> bool:
    """Whether a line of the user's may read `handler/`."""
    both = directives(function.spec.build)
    return any(_reads_context(one) for one in (*both.pre_copy, *both.post_copy))


def _reads_context(one: Directive) -> bool:
    if one.kind == "RUN":
        return "--mount" in one.value
    return one.kind in ("COPY", "ADD", "ONBUILD") and "--from=" not in one.value


def _join(handler: Path, folder: Path) -> None:
    """Code and large files in one folder, linked to where they are copied from."""
    for tree in (dockerfile.CODE, dockerfile.LARGE):
        root = folder / tree / _HOME
        handler.mkdir(exist_ok=True)
        for path in _files(root):
            source, target = root / path, handler / path
            if source.is_symlink():
                target.symlink_to(os.readlink(source))
            elif source.is_dir():
                target.mkdir(exist_ok=True)
            else:
                try:
                    target.hardlink_to(source)
                except OSError:
                    shutil.copy(source, target)


def _settle(folder: Path) -> None:
    """Give every file a time that follows from its content."""
    for path in _files(folder):
        entry = folder / path
        if entry.is_symlink():
            os.utime(entry, (layer.MTIME, layer.MTIME), follow_symlinks=False)
        elif entry.is_file():
            time = time_of(_checksum(entry))
            os.utime(entry, (time, time))
    _settle_folders(folder)


def time_of(checksum: int) -> int:
    """The time that a context gives a file, by the CRC-32 of its content."""
    return layer.MTIME + checksum % _TIMES


def _settle_folders(folder: Path) -> None:
    for path in reversed(_files(folder)):
        entry = folder / path
        if entry.is_dir() and not entry.is_symlink():
            entry.chmod(0o755)
            os.utime(entry, (layer.MTIME, layer.MTIME))


def _checksum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            value = zlib.crc32(chunk, value)
    return value


def _meaning(error: OSError, folder: Path) -> BuildError:
    return BuildError(
        f"cannot write the build context {folder}: {error.strerror}",
        hint="free some space, or set FNBUILD_DATA_DIR to a directory on another disk",
    )
