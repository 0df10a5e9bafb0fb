"""Choose the Python that runs a function on this machine.

In this order: NUCLIO_PYTHON_EXE_PATH of the function's env, if it exists here; an installed
pythonX.Y that fits the runtime label; the interpreter of fnbuild itself. Anything but what was
requested is one warning. Functions never see fnbuild's own packages: if fnbuild runs in a virtual
environment, the interpreter that the environment was created from is used.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from fnbuild.errors import BuildError
from fnbuild.function.types import Function

OLDEST_PYTHON = (3, 6)
PYTHON_VARIABLE = "NUCLIO_PYTHON_EXE_PATH"
"""The variable in `spec.env` that names the interpreter."""

_QUERY_TIMEOUT_SECONDS = 10.0
_FACTS_PROGRAM = (
    "import sys, json; print(json.dumps({'path': sys.executable, 'prefix': sys.prefix,"
    " 'version': list(sys.version_info[:3])}))"
)

_PLAIN_PYTHON_IMAGES = frozenset(
    {
        "python",
        "pypy",
        "miniconda",
        "miniconda3",
        "anaconda",
        "anaconda3",
        "mambaforge",
        "micromamba",
        "miniforge",
        "miniforge3",
    }
)
"""Last parts of the names of images with Python or conda and no other packages."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A working interpreter. `requested`: the function names its path.

    `prefix` is the folder of its installation or virtual environment, "" if it was not asked for.
    """

    path: str
    version: tuple[int, int, int]
    warning: str | None = None
    requested: bool = False
    prefix: str = field(default="", compare=False)

    @property
    def version_text(self) -> str:
        """Return the version in its usual form, such as `3.11.7`."""
        return ".".join(map(str, self.version))

    def __str__(self) -> str:
        return f"Python {self.version_text} ({self.path})"


def choose_interpreter(
    function: Function, is_accessible: Callable[[str], bool] = lambda _: True
) -> Interpreter:
    """Return the interpreter for the function's workers.

    Interpreters that the function's user cannot run are skipped. Raises `BuildError` if a requested
    one is unfit.
    """
    chosen = _best_interpreter(function, is_accessible)
    if not is_accessible(chosen.path):
        raise BuildError(
            f"the function's user may not run {chosen}",
            hint="install that Python where all users may run it, such as /usr or /opt",
        )
    return chosen


def _best_interpreter(function: Function, is_accessible: Callable[[str], bool]) -> Interpreter:
    requested = _requested_path(function)
    complaint = ""
    if requested:
        installed = _requested_interpreter(requested)
        if installed:
            _reject_old(installed, requested)
            return replace(installed, requested=True)
        complaint = f"{PYTHON_VARIABLE}={requested} does not exist on this machine"
    label = _runtime_version(function.spec.runtime)
    if label is not None:
        installed = _installed_interpreter(label, is_accessible)
        if installed:
            return _with_warning(installed, complaint)
        runtime = function.spec.runtime
        missing = f"function requires {runtime}, which is not installed on this machine"
        complaint = f"{complaint}; {missing}" if complaint else missing
    return _with_warning(_own_interpreter(), complaint)


def _with_warning(interpreter: Interpreter, complaint: str) -> Interpreter:
    if not complaint:
        return interpreter
    return replace(interpreter, warning=f"{complaint}; running on {interpreter}")


def _requested_path(function: Function) -> str:
    for variable in function.spec.env:
        if variable.name == PYTHON_VARIABLE:
            return variable.value.strip()
    return ""


def _runtime_version(runtime: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"python:(\d+)\.(\d+)(?:\.\d+)?", runtime.strip())
    return (int(match[1]), int(match[2])) if match else None


def _reject_old(interpreter: Interpreter, requested: str) -> None:
    if interpreter.version[:2] < OLDEST_PYTHON:
        raise BuildError(
            f"{PYTHON_VARIABLE}={requested} is {interpreter}; functions need Python 3.6 or later",
            hint="name another interpreter, or remove the variable",
        )


def _requested_interpreter(requested: str) -> Interpreter | None:
    path = shutil.which(requested)
    interpreter = interpreter_at(path) if path else None
    match = re.fullmatch(r"python(\d+)\.(\d+)", requested)
    if interpreter is None and match:
        interpreter = _installed_interpreter((int(match[1]), int(match[2])))
    elif interpreter is None and path:
        raise BuildError(
            f"{PYTHON_VARIABLE}={requested} does not run as a Python interpreter",
            hint=f"try: `{path} --version`",
        )
    return interpreter


def _installed_interpreter(
    version: tuple[int, int], is_accessible: Callable[[str], bool] = lambda _: True
) -> Interpreter | None:
    own = _own_interpreter()
    for candidate in _candidates(version):
        interpreter = interpreter_at(candidate)
        if (
            interpreter is None
            or interpreter.version[:2] != version
            or not is_accessible(interpreter.path)
        ):
            continue
        if interpreter.prefix == sys.prefix != sys.base_prefix:
            continue  # fnbuild's own environment, which is activated
        return interpreter
    return own if own.version[:2] == version else None


def _candidates(version: tuple[int, int]) -> Iterator[str]:
    """Yield paths of interpreters, in the order of PATH.

    The shims of pyenv are replaced by what it installed. The shims themselves come last, because
    they are slow and may have nothing to start.
    """
    name = f"python{version[0]}.{version[1]}"
    places, shims = [], []
    for folder in os.get_exec_path():
        if Path(folder).name == "shims":
            places += _pyenv_folders(version)
            shims.append(folder)
        elif os.path.isabs(folder):
            places.append(folder)
    places += [*_pyenv_folders(version), os.path.dirname(_own_interpreter().path)]
    places += ["/usr/local/bin", "/usr/bin", *shims]
    for folder in dict.fromkeys(places):
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            yield path


def _pyenv_folders(version: tuple[int, int]) -> list[str]:
    root = Path(os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv"))

    def patch(folder: Path) -> int:
        digits = re.fullmatch(r"\d+\.\d+\.(\d+)", folder.name)
        return int(digits[1]) if digits else -1

    try:
        folders = list(root.glob(f"versions/{version[0]}.{version[1]}.*"))
    except OSError:
        return []  # possibly another user's
    return [str(folder / "bin") for folder in sorted(folders, key=patch, reverse=True)]


def _own_interpreter() -> Interpreter:
    """Return the interpreter of fnbuild's environment, or the one that runs fnbuild."""
    major, minor, micro = sys.version_info[:3]
    base = getattr(sys, "_base_executable", None) or sys.executable
    path = base if os.access(base, os.X_OK) else sys.executable
    return Interpreter(path, (major, minor, micro), prefix=sys.base_prefix)


def interpreter_at(path: str) -> Interpreter | None:
    """Return what the program reports about itself, or None if it is not a working Python."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return _query_cached(path, status.st_mtime_ns, status.st_size)


@cache
def _query_cached(path: str, mtime_ns: int, size: int) -> Interpreter | None:  # noqa: ARG001  part of the cache key
    # -E and -s: ignore the caller's PYTHON* variables and user packages.
    try:
        result = subprocess.run(
            [path, "-E", "-s", "-c", _FACTS_PROGRAM],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_QUERY_TIMEOUT_SECONDS,
            check=False,
        )
        raw = json.loads(result.stdout) if result.returncode == 0 else {}
        major, minor, micro = raw["version"]
        version = (int(major), int(minor), int(micro))
        return Interpreter(str(raw["path"]), version, prefix=str(raw["prefix"]))
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
        return None


def missing_base_image(function: Function) -> str:
    """Return the base image whose packages a function lacks without a container, or "".

    None are missing if the base image is plain Python or conda, or if NUCLIO_PYTHON_EXE_PATH names
    an interpreter that exists on this machine, which then has the packages.
    """
    image = function.spec.build.base_image
    name = image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    if not name or name in _PLAIN_PYTHON_IMAGES:
        return ""
    return "" if os.access(_requested_path(function), os.X_OK) else image
