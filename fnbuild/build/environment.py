"""Virtual environments for functions, made once for equal requirements and kept.

An environment is known by a hash over the interpreter and everything that pip is told. It is made
in its final place, because scripts in it know that place; `complete.json` is written last, and what
lacks it is made anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fnbuild import trees
from fnbuild.build import layers, pip, venv
from fnbuild.build.interpreter import Interpreter
from fnbuild.build.pip import Progress
from fnbuild.build.requirements import Requirements, Step
from fnbuild.build.tree import contents, hash_of
from fnbuild.datadir import Holder, data_dir, hold, make_private
from fnbuild.errors import BuildError

_FORMAT = 1
_MARK = "complete.json"


def ensure(interpreter: Interpreter, requirements: Requirements, progress: Progress) -> Path | None:
    """The Python of an environment that has what is required; None when nothing is.

    When the environment is there, neither network nor pip is touched. Raises `BuildError` with
    pip's own words in `detail`.
    """
    if not requirements.steps:
        return None
    folder = _folder(interpreter, requirements)
    base = None
    third_party = layers.published(requirements)
    if third_party is not None and not _is_complete(folder):
        base = _ensure(_folder(interpreter, third_party), interpreter, third_party, progress)
    return _ensure(folder, interpreter, requirements, progress, base) / "bin" / "python"


def _folder(interpreter: Interpreter, requirements: Requirements) -> Path:
    return data_dir() / "environments" / _key(interpreter, requirements)


def _ensure(
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
        progress(f"environment with {packages} is there already")
        return folder

    def wait(holder: Holder) -> None:
        progress(f"waiting for {holder}, which makes the same environment")

    with hold(folder.with_suffix(".lock"), "made", wait):
        if not _is_complete(folder):
            for warning in requirements.warnings:
                progress(f"warning: {warning}")
            progress(f"making an environment with {packages} for Python {interpreter.number}")
            try:
                _make(folder, interpreter, requirements, progress, base)
            except OSError as error:
                trees.discard(folder)
                raise BuildError(f"cannot write {folder}: {error.strerror}") from error
            except BaseException:
                trees.discard(folder)
                raise
    return folder


@contextmanager
def kept() -> Iterator[None]:
    """Inside, no environment is removed: for whoever has one that is not on record yet."""
    with _gate(fcntl.LOCK_SH):
        yield


def prune(used: Callable[[], Collection[Path]]) -> None:
    """Remove the environments whose Python is not among the used ones.

    While somebody is in `kept` nothing is removed, and `used` is asked when nobody is.
    """
    with suppress(BlockingIOError), _gate(fcntl.LOCK_EX | fcntl.LOCK_NB):
        folders = {path.parent.parent for path in used()}
        folders |= {base for folder in folders if (base := _base(folder)) is not None}
        for mark in (data_dir() / "environments").glob(f"*/{_MARK}"):
            if mark.parent not in folders:
                # Without its mark it counts for nothing, should the rest survive.
                mark.unlink(missing_ok=True)
                trees.discard(mark.parent)
                mark.parent.with_suffix(".lock").unlink(missing_ok=True)


def unused(used: Collection[Path]) -> list[Path]:
    """List the folders of the environments whose Python is not in `used`."""
    folders = {path.parent.parent for path in used}
    marks = (data_dir() / "environments").glob(f"*/{_MARK}")
    return sorted(mark.parent for mark in marks if mark.parent not in folders)


@contextmanager
def _gate(operation: int) -> Iterator[None]:
    path = make_private(data_dir() / "environments") / "gate"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, operation)
        yield
    finally:
        os.close(descriptor)


def _key(interpreter: Interpreter, requirements: Requirements) -> str:
    known: dict[Path, str] = {}
    steps = []
    for step in requirements.steps:
        for source in (*step.sources, *step.links):
            known.setdefault(source, _hash(source))
        texts = [*step.arguments, "", *step.requirements, "", *step.constraints]
        # A path differs from revision to revision; what lies there says more.
        for source, digest in sorted(known.items(), reverse=True):
            texts = [text.replace(str(source), digest) for text in texts]
        steps.append([step.verb, *texts])
    parts = [_FORMAT, interpreter.path, interpreter.version, interpreter.asked, steps]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _hash(source: Path) -> str:
    if source.is_dir():
        return hash_of(contents(source))
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_complete(folder: Path) -> bool:
    # bin/python is a link: it breaks when the interpreter it was made from is removed.
    if not (folder / _MARK).is_file() or not os.access(folder / "bin" / "python", os.X_OK):
        return False
    base = _base(folder)
    return base is None or _is_complete(base)


def _base(folder: Path) -> Path | None:
    """Return the environment that this one extends, or None."""
    try:
        name = json.loads((folder / _MARK).read_text(encoding="utf-8")).get("base")
    except (OSError, ValueError, AttributeError):
        return None
    return folder.with_name(str(name)) if name else None


def _make(
    folder: Path,
    interpreter: Interpreter,
    requirements: Requirements,
    progress: Progress,
    base: Path | None,
) -> None:
    if folder.exists():
        trees.remove(folder)
    make_private(folder.parent)
    venv.make(folder, interpreter, progress)
    if base is not None:
        venv.put_on_top(folder, base)
    command = pip.command_for(str(folder / "bin" / "python"), interpreter)
    for number, step in enumerate(requirements.steps):
        _run_step(folder, number, step, command, progress)
    about: dict[str, Any] = {
        "interpreter": str(interpreter),
        "packages": list(requirements.packages),
        "base": base.name if base is not None else "",
    }
    text = pip.redacted(json.dumps(about, indent=1))
    (folder / _MARK).write_text(text, encoding="utf-8")


def _run_step(
    folder: Path, number: int, step: Step, command: list[str], progress: Progress
) -> None:
    if step.verb == "uninstall":
        words = ["uninstall", "-y", *step.arguments]
        pip.run([*command, *words], f"{step.place}: pip cannot uninstall", progress, str(folder))
        return
    copies = folder / "sources"
    texts = [list(step.arguments), list(step.requirements), list(step.constraints)]
    for index, source in enumerate(step.sources):
        copy = _copied(source, copies / str(index))
        texts = [[text.replace(str(source), str(copy)) for text in part] for part in texts]
    arguments, *files = texts
    written = {}
    for option, lines, given in zip(
        ("-r", "-c"), files, (step.requirements, step.constraints), strict=True
    ):
        if lines:
            path = folder / f"pip-{number}{option}.txt"
            # It may name an index with a password, and other users may read the environment.
            path.touch(mode=0o600)
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            arguments += [option, str(path)]
            written[str(path)] = [step.places.get(line, step.place) for line in given]
    what = f"{step.place}: packages cannot be installed"
    pip.run([*command, "install", *arguments], what, progress, str(folder), written)
    trees.discard(copies)


def _copied(source: Path, place: Path) -> Path:
    """A copy to build from: a build writes beside its source, which must stay as it is."""
    place.mkdir(parents=True)
    copy = place / source.name
    if source.is_file():
        return Path(shutil.copyfile(source, copy))
    ignored = shutil.ignore_patterns(".git", "__pycache__", "*.pyc")
    shutil.copytree(source, copy, symlinks=True, ignore=ignored)
    for path in copy.rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | stat.S_IWUSR)
    return copy
