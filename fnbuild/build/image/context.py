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
from pathlib import Path

from fnbuild import trees
from fnbuild.build.directives import HOME, Directive, directives
from fnbuild.build.image import archives, dockerfile, ignore, layer
from fnbuild.build.image.folders import Folders
from fnbuild.build.image.pythons import Pythons
from fnbuild.build.requirement_files import Flat
from fnbuild.build.tree import shown
from fnbuild.errors import BuildError
from fnbuild.spec.redact import redacted
from fnbuild.spec.source import MAX_BYTES
from fnbuild.spec.types import Function, Raw

LARGE_BYTES = 1 << 20
CONFIG_PATHS = ("/etc/nuclio/config/processor/processor.json", f"{layer.HOME}/processor.json")
"""Where the processor looks for its configuration, in this order."""

PROGRAM_PATH = "/usr/local/bin/processor"

_CONFIG_NAME = "function.yaml"
_CONFIG_SUFFIXES = (".yaml", ".yml")
_REQUIREMENTS = "requirements.txt"
_WHITEOUT = ".wh."
"""How names begin by which a layer takes files of the layers below away (OCI image format)."""


class Context:
    """The folder, made in two steps: user's lines before the code may read `handler/` already.

    `large`: there are large files; `warnings` are for the user.
    """

    def __init__(self, folder: Path, function: Function, code: Path) -> None:
        """Lay out what the user's lines may read. `folder` is there and empty.

        `code` is a staged copy. Raises `BuildError` when something cannot be written or be in an
        image, `InputError` for a `.dockerignore` that cannot be understood.
        """
        self._folder = folder
        self._code = code
        self.warnings: list[str] = []
        try:
            self._paths = self._kept(function)
            large = {path for path in self._paths if _is_large(code / path)}
            self._large = [path for path in self._paths if path in large]
            self._small = [path for path in self._paths if path not in large]
            self._redacted = _redacted(code, self._paths)
            if _copies_from_context(function):
                _lay_out(folder / "handler", code, self._paths, self._redacted)
        except OSError as error:
            raise _meaning(error, folder) from error

    @property
    def large(self) -> bool:
        return bool(self._large)

    def fill(self, config: Raw, pythons: Pythons, *, offline: bool = False) -> None:
        """Write the archives, in place of earlier ones.

        `config` is the processor's configuration, `pythons` those of the image before the code.
        """
        there = pythons.folders
        text = json.dumps(config, indent=1, sort_keys=True) + "\n"
        try:
            (self._folder / dockerfile.CODE).parent.mkdir(exist_ok=True)
            self._pack(dockerfile.CODE, self._small, there)
            if self._large:
                self._pack(dockerfile.LARGE, self._large, there)
            if (self._code / _REQUIREMENTS).is_file():
                self._pack(dockerfile.REQUIREMENTS, _required(self._code), there)
            copies = [(path, text.encode()) for path in CONFIG_PATHS]
            archives.write(self._folder / dockerfile.CONFIG, copies, there)
            self._add_runtime(pythons, offline)
        except OSError as error:
            raise _meaning(error, self._folder) from error

    def _pack(self, name: str, paths: list[str], there: Folders) -> None:
        sources = [self._redacted.get(path, self._code / path) for path in paths]
        entries = [(f"{HOME}/{path}", each) for path, each in zip(paths, sources, strict=True)]
        archives.write(self._folder / name, entries, there)

    def _add_runtime(self, pythons: Pythons, offline: bool) -> None:
        with tempfile.TemporaryDirectory(
            dir=self._folder.parent, prefix=f"{os.getpid()}-"
        ) as temporary:
            top = Path(temporary)
            layer.write(top, pythons.processor, pythons.handler, offline)
            home = top / "fnbuild"
            entries = [(f"{layer.HOME}/{path}", home / path) for path in _paths(home)]
            entries += [(layer.HOME, home), (PROGRAM_PATH, top / "processor")]
            archives.write(self._folder / dockerfile.RUNTIME, entries, pythons.folders)

    def _kept(self, function: Function) -> list[str]:
        """Relative paths of what belongs into the image."""
        rules = ignore.read(self._code)
        module = function.spec.handler.partition(":")[0].replace(".", "/")
        needed = (_CONFIG_NAME, f"{module}.py", f"{module}/__init__.py")
        kept = []
        for path in _paths(self._code):
            if rules.ignores(path):
                if path not in needed:
                    continue
                self.warnings.append(
                    f"{ignore.NAME} leaves out {shown(path)}, which the function needs;"
                    " it is copied"
                )
            if f"/{_WHITEOUT}" in f"/{path}":
                raise BuildError(
                    f"{shown(path)} cannot be in an image: to engines, a name that begins with"
                    f" {_WHITEOUT} says that another file is deleted",
                    hint=f"rename it, or name it in {ignore.NAME}",
                )
            kept.append(path)
        return kept


def _paths(folder: Path) -> list[str]:
    """Relative paths of all files, links and folders, each folder before what is in it."""
    found: list[str] = []
    for place, folders, files in trees.walk(folder):
        inside = os.path.relpath(place, folder)
        found += [name if inside == "." else f"{inside}/{name}" for name in (*folders, *files)]
    return sorted(found, key=os.fsencode)


def _is_large(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size >= LARGE_BYTES


def _required(code: Path) -> list[str]:
    """The requirements with what their lines name: they install before the code is there."""
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


def _redacted(code: Path, paths: list[str]) -> dict[str, bytes]:
    """Configuration files that hold secrets, as they go into the image: without them.

    Beside the one that is used lie others, as a rule: its original, and those of variants.
    """
    found = {}
    for path in paths:
        file = code / path
        if "/" in path or file.suffix not in _CONFIG_SUFFIXES or not file.is_file():
            continue
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
        left = redacted(data, path)
        if left != data:
            found[path] = left
    return found


def _lay_out(handler: Path, code: Path, paths: list[str], others: dict[str, bytes]) -> None:
    """The code as a folder; `others` are files with other bytes than the staged ones.

    Large files are links to those: they may be very large.
    """
    handler.mkdir()
    for path in paths:
        source, target = code / path, handler / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.symlink_to(os.readlink(source))
        elif source.is_dir():
            target.mkdir(exist_ok=True)
        elif path in others:
            target.write_bytes(others[path])
            target.chmod(0o644)
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
