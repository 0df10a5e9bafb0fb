"""Virtual environments for functions, created once for equal requirements and kept.

An environment is identified by a hash over the interpreter and everything that pip is told. It is
created in its final place, because its scripts contain that path. `complete.json` is written last;
an environment without it is created again.

Published packages and the function's own packages are in separate environments. The own packages
are edited often, and published ones hardly ever. So the published ones are installed once, into a
base environment. The own packages go into a second environment that extends it, which takes
seconds.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
import tomllib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from fnbuild import trees
from fnbuild.builder import pip
from fnbuild.builder.interpreter import Interpreter
from fnbuild.builder.requirement_files import is_local_path, split_extras
from fnbuild.builder.requirements import PipStep, Requirements
from fnbuild.builder.staging import scan_folder, tree_hash
from fnbuild.builder.venv import create_venv, extend_venv
from fnbuild.datadir import LockHolder, data_dir, hold_lock, make_private_dir
from fnbuild.errors import BuildError
from fnbuild.function.secret_detection import mask_userinfo
from fnbuild.progress import Progress

# With these options pip reinstalls existing packages, so that a base environment saves nothing.
_REINSTALLING_OPTIONS = frozenset(
    ("-U", "--upgrade", "-I", "--ignore-installed", "--force-reinstall")
)
_LINK_OPTIONS = frozenset(("-f", "--find-links"))

_FORMAT = 1
_COMPLETE_MARK = "complete.json"


def requirements_of_base(requirements: Requirements) -> Requirements | None:
    """Return the requirements without the function's own packages; None if splitting saves nothing.

    These go into the base environment. They include the dependencies that the `pyproject.toml` of
    the own packages declares.
    """
    steps = requirements.steps
    if not any(step.own_packages for step in steps) or any(_is_indivisible(step) for step in steps):
        return None
    remaining = [step for step in map(_without_own_packages, steps) if step.packages]
    if not remaining or tuple(remaining) == steps:
        return None
    return replace(requirements, steps=tuple(remaining))


def _is_indivisible(step: PipStep) -> bool:
    return step.verb != "install" or not _REINSTALLING_OPTIONS.isdisjoint(step.arguments)


def _without_own_packages(step: PipStep) -> PipStep:
    lines = [line for line in step.requirements if not _is_own_package(line)]
    arguments = [
        word
        for option, word in zip(("", *step.arguments), step.arguments, strict=False)
        if option in _LINK_OPTIONS or not _names_own_package(word, step.own_packages)
    ]
    packages = [name for name in step.packages if not _is_own_package(name)]
    places = dict(step.places)
    for text in (*step.requirements, *step.arguments):
        for dependency in _declared_dependencies(text, step.own_packages):
            lines.append(dependency)
            packages.append(dependency)
            places.setdefault(dependency, step.place)
    lines = list(dict.fromkeys(lines))
    used = [
        path
        for path in step.own_packages
        if any(str(path) in text for text in (*lines, *arguments, *step.constraints))
    ]
    return replace(
        step,
        arguments=tuple(arguments),
        requirements=tuple(lines),
        own_packages=tuple(used),
        packages=tuple(dict.fromkeys(packages)),
        places=places,
    )


def _is_own_package(requirement: str) -> bool:
    return is_local_path(_split_requirement(requirement)[0])


def _split_requirement(requirement: str) -> tuple[str, str]:
    return split_extras(requirement.partition(";")[0].strip())


def _names_own_package(word: str, own_packages: Sequence[Path]) -> bool:
    return any(_split_requirement(word)[0] == str(path) for path in own_packages)


def _declared_dependencies(text: str, own_packages: Sequence[Path]) -> list[str]:
    """Return the declared dependencies of a package of the function.

    The list is empty if only a build of the package would reveal them.
    """
    name, extras = _split_requirement(text)
    if not _names_own_package(text, own_packages) or not Path(name).is_dir():
        return []
    try:
        project = tomllib.loads(Path(name, "pyproject.toml").read_text())["project"]
        dependencies = [*project.get("dependencies", [])]
        optional = project.get("optional-dependencies", {})
        for extra in filter(None, extras.strip("[]").replace(" ", "").split(",")):
            dependencies += optional.get(extra, [])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    # pip handles a package that depends on itself with another extra, or on a folder.
    itself = str(project.get("name", "")).lower()
    return [
        dependency
        for dependency in dependencies
        if isinstance(dependency, str)
        and "@ file:" not in dependency
        and not dependency.lower().startswith(f"{itself}[")
    ]


def ensure_environment(
    interpreter: Interpreter, requirements: Requirements, progress: Progress
) -> Path | None:
    """Return the Python of an environment with the requirements; None if there are none.

    An existing environment needs neither network nor pip. Raises `BuildError` with pip's output in
    `detail`.
    """
    if not requirements.steps:
        return None
    folder = _environment_folder(interpreter, requirements)
    base = None
    base_requirements = requirements_of_base(requirements)
    if base_requirements is not None and not _is_complete(folder):
        base = _ensure_folder(
            _environment_folder(interpreter, base_requirements),
            interpreter,
            base_requirements,
            progress,
        )
    return _ensure_folder(folder, interpreter, requirements, progress, base) / "bin" / "python"


def _environment_folder(interpreter: Interpreter, requirements: Requirements) -> Path:
    return data_dir() / "environments" / _environment_key(interpreter, requirements)


def _ensure_folder(
    folder: Path,
    interpreter: Interpreter,
    requirements: Requirements,
    progress: Progress,
    base: Path | None = None,
) -> Path:
    """Return the folder of the environment; if it is created, it extends `base`."""
    count = len(requirements.packages)
    packages = f"{count} package{'' if count == 1 else 's'}"
    if _is_complete(folder):
        progress(f"environment with {packages} already exists")
        return folder

    def wait(holder: LockHolder) -> None:
        progress(f"waiting for {holder}, which creates the same environment")

    with hold_lock(folder.with_suffix(".lock"), "created", wait):
        if not _is_complete(folder):
            for warning in requirements.warnings:
                progress(f"warning: {warning}")
            version = interpreter.version_text
            progress(f"creating an environment with {packages} for Python {version}")
            try:
                _create(folder, interpreter, requirements, progress, base)
            except OSError as error:
                trees.try_remove(folder)
                raise BuildError(f"cannot write {folder}: {error.strerror}") from error
            except BaseException:
                trees.try_remove(folder)
                raise
    return folder


@contextmanager
def keep_environments() -> Iterator[None]:
    """Prevent the removal of environments, for a caller whose environment is not recorded yet."""
    with _prune_lock(fcntl.LOCK_SH):
        yield


def prune_environments(used: Callable[[], Collection[Path]]) -> None:
    """Remove the environments whose Python is not in `used`.

    Nothing is removed while a caller is in `keep_environments`; `used` is called when there is
    none.
    """
    with suppress(BlockingIOError), _prune_lock(fcntl.LOCK_EX | fcntl.LOCK_NB):
        for folder in unused_environments(used()):
            # Without its mark it is ignored if the removal stops halfway.
            (folder / _COMPLETE_MARK).unlink(missing_ok=True)
            trees.try_remove(folder)
            folder.with_suffix(".lock").unlink(missing_ok=True)


def unused_environments(used: Collection[Path]) -> list[Path]:
    """List the environments whose Python is not in `used`, except those that a used one extends."""
    folders = {path.parent.parent for path in used}
    folders |= {base for folder in folders if (base := _base_folder(folder)) is not None}
    marks = (data_dir() / "environments").glob(f"*/{_COMPLETE_MARK}")
    return sorted(mark.parent for mark in marks if mark.parent not in folders)


@contextmanager
def _prune_lock(operation: int) -> Iterator[None]:
    path = make_private_dir(data_dir() / "environments") / "gate"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, operation)
        yield
    finally:
        os.close(descriptor)


def _environment_key(interpreter: Interpreter, requirements: Requirements) -> str:
    digests: dict[Path, str] = {}
    steps = []
    for step in requirements.steps:
        for source in (*step.own_packages, *step.links):
            digests.setdefault(source, _source_hash(source))
        texts = [*step.arguments, "", *step.requirements, "", *step.constraints]
        # A path differs from revision to revision; its content counts.
        for source, digest in sorted(digests.items(), reverse=True):
            texts = [text.replace(str(source), digest) for text in texts]
        steps.append([step.verb, *texts])
    parts = [_FORMAT, interpreter.path, interpreter.version, interpreter.requested, steps]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _source_hash(source: Path) -> str:
    if source.is_dir():
        return tree_hash(scan_folder(source))
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_complete(folder: Path) -> bool:
    # bin/python is a link, which breaks when its interpreter is removed.
    if not (folder / _COMPLETE_MARK).is_file() or not os.access(folder / "bin" / "python", os.X_OK):
        return False
    base = _base_folder(folder)
    return base is None or _is_complete(base)


def _base_folder(folder: Path) -> Path | None:
    """Return the environment that this one extends, or None."""
    try:
        name = json.loads((folder / _COMPLETE_MARK).read_text(encoding="utf-8")).get("base")
    except (OSError, ValueError, AttributeError):
        return None
    return folder.with_name(str(name)) if name else None


def _create(
    folder: Path,
    interpreter: Interpreter,
    requirements: Requirements,
    progress: Progress,
    base: Path | None,
) -> None:
    if folder.exists():
        trees.remove(folder)
    make_private_dir(folder.parent)
    create_venv(folder, interpreter, progress)
    if base is not None:
        extend_venv(folder, base)
    command = pip.pip_command(str(folder / "bin" / "python"), interpreter)
    for number, step in enumerate(requirements.steps):
        _run_step(folder, number, step, command, progress)
    record: dict[str, Any] = {
        "interpreter": str(interpreter),
        "packages": list(requirements.packages),
        "base": base.name if base is not None else "",
    }
    text = mask_userinfo(json.dumps(record, indent=1))
    (folder / _COMPLETE_MARK).write_text(text, encoding="utf-8")


def _run_step(
    folder: Path, number: int, step: PipStep, command: list[str], progress: Progress
) -> None:
    if step.verb == "uninstall":
        words = ["uninstall", "-y", *step.arguments]
        pip.run_pip(
            [*command, *words], f"{step.place}: pip cannot uninstall", progress, str(folder)
        )
        return
    copies = folder / "sources"
    texts = [list(step.arguments), list(step.requirements), list(step.constraints)]
    for index, source in enumerate(step.own_packages):
        copy = _copy_source(source, copies / str(index))
        texts = [[text.replace(str(source), str(copy)) for text in part] for part in texts]
    arguments, *files = texts
    written = {}
    for option, lines, author_lines in zip(
        ("-r", "-c"), files, (step.requirements, step.constraints), strict=True
    ):
        if lines:
            path = folder / f"pip-{number}{option}.txt"
            # It may contain an index password, and other users may read the environment.
            path.touch(mode=0o600)
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            arguments += [option, str(path)]
            written[str(path)] = [step.places.get(line, step.place) for line in author_lines]
    error = f"{step.place}: packages cannot be installed"
    pip.run_pip([*command, "install", *arguments], error, progress, str(folder), written)
    trees.try_remove(copies)


def _copy_source(source: Path, folder: Path) -> Path:
    """Copy a source for a build, because builds write into their source folder."""
    folder.mkdir(parents=True)
    copy = folder / source.name
    if source.is_file():
        return Path(shutil.copyfile(source, copy))
    ignored = shutil.ignore_patterns(".git", "__pycache__", "*.pyc")
    shutil.copytree(source, copy, symlinks=True, ignore=ignored)
    for path in copy.rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | stat.S_IWUSR)
    return copy
