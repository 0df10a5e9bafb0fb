"""Makes a bare virtual environment that behaves as the Python of a base image would."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

from fnbuild.build import pip
from fnbuild.build.interpreter import Interpreter
from fnbuild.errors import BuildError

_TIMEOUT_SECONDS = 300.0
# From the first pip that knows every kind of wheel for Python 3.6 to the last that runs on it.
_OLD_PIP = "pip>=20.3,<22"
_QUESTION = """
import json, os, site, sys
try:
    import ensurepip
    bundled = os.path.join(os.path.dirname(ensurepip.__file__), "_bundled")
except ImportError:
    bundled = ""
inner = sys.prefix != sys.base_prefix
print(json.dumps({"bundled": bundled, "packages": site.getsitepackages() if inner else []}))
"""


def make(folder: Path, interpreter: Interpreter, progress: pip.Progress) -> None:
    """Make an environment at `folder`; `BuildError` with the interpreter's own words."""
    command = [interpreter.path, "-I", "-m", "venv"]
    with_own_pip = pip.own_fits(interpreter.version[:2])
    if with_own_pip:
        # Quicker, and it works where Debian has split ensurepip off.
        command.append("--without-pip")
    if interpreter.asked:
        # Whoever names an interpreter means the packages in it too, as those of a base image.
        command.append("--system-site-packages")
    done = _run([*command, str(folder)], interpreter)
    if done.returncode != 0:
        raise BuildError(
            f"cannot make an environment with {interpreter}",
            detail=done.stdout.strip(),
            hint="the interpreter needs its venv module (on Debian: `apt install python3-venv`)",
        )
    about = _about(interpreter)
    (packages,) = folder.glob("lib/python*/site-packages")
    if interpreter.asked and about["packages"]:
        # A virtual environment made from another one does not see what that one has.
        lines = "".join(f"{path}\n" for path in about["packages"])
        (packages / "named-interpreter.pth").write_text(lines, encoding="utf-8")
    if with_own_pip and interpreter.version < (3, 12):
        _add_setuptools(Path(about["bundled"]), packages)
    if not with_own_pip:
        _renew_pip(folder, progress)


def put_on_top(folder: Path, base: Path) -> None:
    """Make the environment extend `base`: its packages, after its own, and its programs."""
    (packages,) = folder.glob("lib/python*/site-packages")
    (below,) = base.glob("lib/python*/site-packages")
    # Not the bare path, so that `.pth` files of the base take effect as well.
    line = f"import site; site.addsitedir({str(below)!r})\n"
    (packages / "fnbuild-base.pth").write_text(line, encoding="utf-8")
    for program in (base / "bin").iterdir():
        place = folder / "bin" / program.name
        if not os.path.lexists(place):
            place.symlink_to(program)


def _about(interpreter: Interpreter) -> dict[str, Any]:
    done = _run([interpreter.path, "-E", "-s", "-c", _QUESTION], interpreter)
    try:
        about: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        raise BuildError(f"{interpreter} does not run", detail=done.stdout.strip()) from error
    return about


def _add_setuptools(bundled: Path, packages: Path) -> None:
    """Unpack the setuptools that came with the interpreter.

    Up to Python 3.11 every environment and every base image has it, and models of those years
    import its pkg_resources without asking for it.
    """
    for wheel in bundled.glob("setuptools-*-py3-none-any.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(packages)


def _renew_pip(folder: Path, progress: pip.Progress) -> None:
    python = str(folder / "bin" / "python")
    words = [python, "-I", "-m", "pip", "install", "--quiet", "--upgrade", _OLD_PIP]
    try:
        pip.run(words, "pip cannot be renewed", progress, str(folder))
    except BuildError:
        # Offline, perhaps. What is there may do; if not, the next step says so in pip's words.
        progress("pip could not be renewed; going on with the one that is there")


def _run(command: list[str], interpreter: Interpreter) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=pip.surroundings(),
            timeout=_TIMEOUT_SECONDS,
            text=True,
            errors="replace",
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"cannot make an environment with {interpreter}: {error}") from error
