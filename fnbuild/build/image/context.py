"""The folder that an engine builds from.

    artifacts/runtime.tar       the runtime of fnbuild
    artifacts/requirements.tar  the requirements.txt of the code, with the files that it names
    artifacts/large.tar         files of the code of 1 MiB and more
    artifacts/config.tar        the processor's configuration
    artifacts/code.tar          all other code
    handler/                    the code once more, for directives that copy from it as in Nuclio

Equal content gives equal archives, whoever makes them and when.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from fnbuild.build.directives import HOME, Directive, directives
from fnbuild.build.image import archives, dockerfile, ignore, layer
from fnbuild.build.image.pythons import Pythons
from fnbuild.build.requirement_files import Flat
from fnbuild.build.tree import shown
from fnbuild.errors import BuildError
from fnbuild.spec.types import Function, Raw

LARGE_BYTES = 1 << 20
CONFIG_PATH = "etc/nuclio/config/processor/processor.json"
PROGRAM_PATH = "usr/local/bin/processor"

_CONFIG_NAME = "function.yaml"
_REQUIREMENTS = "requirements.txt"
_HOME = HOME.lstrip("/")


@dataclass(slots=True)
class Context:
    """What was laid out. `large`: there are large files; `warnings` are for the user."""

    large: bool = False
    warnings: list[str] = field(default_factory=list)


def make(folder: Path, function: Function, code: Path, config: Raw) -> Context:
    """Lay out everything but the runtime in `folder`, which is there and empty.

    `code` is a staged copy, `config` the processor's configuration. Raises `BuildError` when
    something cannot be written, `InputError` for a `.dockerignore` that cannot be understood.
    """
    made = Context()
    try:
        paths = _kept(function, code, made)
        large = [path for path in paths if _is_large(code / path)]
        made.large = bool(large)
        (folder / dockerfile.CODE).parent.mkdir()
        _pack(folder / dockerfile.CODE, code, [path for path in paths if path not in {*large}])
        if large:
            _pack(folder / dockerfile.LARGE, code, large)
        text = json.dumps(config, indent=1, sort_keys=True) + "\n"
        archives.write(folder / dockerfile.CONFIG, [(CONFIG_PATH, text.encode())])
        if (code / _REQUIREMENTS).is_file():
            _pack(folder / dockerfile.REQUIREMENTS, code, _required(code))
        if _copies_from_context(function):
            _lay_out(folder / "handler", code, paths)
    except OSError as error:
        raise _meaning(error, folder) from error
    return made


def add_runtime(folder: Path, pythons: Pythons, *, offline: bool = False) -> None:
    """Add the runtime, in place of an earlier one."""
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="runtime-") as temporary:
            top = Path(temporary)
            layer.write(top, pythons.processor, pythons.handler, offline)
            home = top / "fnbuild"
            entries = [(f"{layer.HOME[1:]}/{path}", home / path) for path in _paths(home)]
            entries += [(layer.HOME[1:], home), (PROGRAM_PATH, top / "processor")]
            archives.write(folder / dockerfile.RUNTIME, entries)
    except OSError as error:
        raise _meaning(error, folder) from error


def _kept(function: Function, code: Path, made: Context) -> list[str]:
    """Relative paths of what belongs into the image."""
    rules = ignore.read(code)
    module = function.spec.handler.partition(":")[0].replace(".", "/")
    needed = (_CONFIG_NAME, f"{module}.py", f"{module}/__init__.py")
    kept = []
    for path in _paths(code):
        if rules.ignores(path):
            if path not in needed:
                continue
            made.warnings.append(
                f"{ignore.NAME} leaves out {shown(path)}, which the function needs; it is copied"
            )
        kept.append(path)
    return kept


def _paths(folder: Path) -> list[str]:
    """Relative paths of all files, links and folders, each folder before what is in it."""
    found: list[str] = []
    for place, folders, files in os.walk(folder):
        inside = os.path.relpath(place, folder)
        found += [name if inside == "." else f"{inside}/{name}" for name in (*folders, *files)]
    return sorted(found, key=os.fsencode)


def _is_large(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size >= LARGE_BYTES


def _pack(file: Path, code: Path, paths: list[str]) -> None:
    archives.write(file, [(f"{_HOME}/{path}", code / path) for path in paths])


def _required(code: Path) -> list[str]:
    """The requirements with what their lines name, so that they install before the code is there."""
    root = code.resolve()
    flat = Flat(root)
    try:
        flat.read(root / _REQUIREMENTS)
        sources = [*flat.files, *flat.sources]
    except BuildError:
        # Whoever installs them hears of that; nobody may want to.
        sources = [root / _REQUIREMENTS]
    found = {_REQUIREMENTS}
    for source in sources:
        inside = os.path.relpath(source, root)
        found |= {inside, *(os.path.normpath(f"{inside}/{path}") for path in _paths(source))}
    return sorted(found - {"."})


def _copies_from_context(function: Function) -> bool:
    """Whether a line of the user's may read `handler/`."""
    both = directives(function.spec.build)
    return any(_reads_context(one) for one in (*both.pre_copy, *both.post_copy))


def _reads_context(one: Directive) -> bool:
    if one.kind == "RUN":
        return "--mount" in one.value
    return one.kind in ("COPY", "ADD", "ONBUILD") and "--from=" not in one.value


def _lay_out(handler: Path, code: Path, paths: list[str]) -> None:
    """The code as a folder. Large files are links to the staged ones: they may be very large."""
    handler.mkdir()
    for path in paths:
        source, target = code / path, handler / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.symlink_to(os.readlink(source))
        elif source.is_dir():
            target.mkdir(exist_ok=True)
        elif not (_is_large(source) and _linked(source, target)):
            shutil.copyfile(source, target)
            target.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)
    for path in (".", *_paths(handler)):
        if (handler / path).is_dir() and not (handler / path).is_symlink():
            (handler / path).chmod(0o755)


def _linked(source: Path, target: Path) -> bool:
    try:
        target.hardlink_to(source)
    except OSError:
        return False  # on another file system, or on one without links
    return True


def _meaning(error: OSError, folder: Path) -> BuildError:
    return BuildError(
        f"cannot write the build context {folder}: {error.strerror}",
        hint="free some space, or set FNBUILD_DATA_DIR to a directory on another disk",
    )
