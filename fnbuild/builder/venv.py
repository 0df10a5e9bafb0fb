"""Create and extend virtual environments, with an interpreter of any supported version."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

from fnbuild.builder import pip
from fnbuild.builder.interpreter import Interpreter
from fnbuild.errors import BuildError
from fnbuild.progress import Progress

_VENV_TIMEOUT_SECONDS = 300.0
# From the first pip that supports all wheels for Python 3.6 to the last that runs on it.
_PIP_FOR_OLD_PYTHON = "pip>=20.3,<22"
_DETAILS_PROGRAM = """
import json, os, site, sys
try:
    import ensurepip
    bundled = os.path.join(os.path.dirname(ensurepip.__file__), "_bundled")
except ImportError:
    bundled = ""
inner = sys.prefix != sys.base_prefix
print(json.dumps({"bundled": bundled, "packages": site.getsitepackages() if inner else []}))
"""


def create_venv(folder: Path, interpreter: Interpreter, progress: Progress) -> None:
    """Create a virtual environment without the function's packages.

    Raises `BuildError` with the interpreter's output.
    """
    command = [interpreter.path, "-I", "-m", "venv"]
    with_own_pip = pip.own_pip_supports(interpreter.version[:2])
    if with_own_pip:
        # Faster, and it works without ensurepip, which Debian packages separately.
        command.append("--without-pip")
    if interpreter.requested:
        # A named interpreter includes its packages, like those of a base image.
        command.append("--system-site-packages")
    result = _run_interpreter([*command, str(folder)], interpreter)
    if result.returncode != 0:
        raise BuildError(
            f"cannot create an environment with {interpreter}",
            detail=result.stdout.strip(),
            hint="the interpreter needs its venv module (on Debian: `apt install python3-venv`)",
        )
    details = _interpreter_details(interpreter)
    (packages,) = folder.glob("lib/python*/site-packages")
    if interpreter.requested and details["packages"]:
        # A virtual environment that is created from another one does not see its packages.
        lines = "".join(f"{path}\n" for path in details["packages"])
        (packages / "named-interpreter.pth").write_text(lines, encoding="utf-8")
    if with_own_pip and interpreter.version < (3, 12):
        _add_setuptools(Path(details["bundled"]), packages)
    if not with_own_pip:
        _upgrade_pip(folder, progress)


def extend_venv(folder: Path, base: Path) -> None:
    """Make the environment extend `base`: add its packages, after its own, and its programs."""
    (packages,) = folder.glob("lib/python*/site-packages")
    (base_packages,) = base.glob("lib/python*/site-packages")
    # Not the bare path, so that `.pth` files of the base also take effect.
    line = f"import site; site.addsitedir({str(base_packages)!r})\n"
    (packages / "fnbuild-base.pth").write_text(line, encoding="utf-8")
    for program in (base / "bin").iterdir():
        target = folder / "bin" / program.name
        if not os.path.lexists(target):
            target.symlink_to(program)


def _interpreter_details(interpreter: Interpreter) -> dict[str, Any]:
    result = _run_interpreter([interpreter.path, "-E", "-s", "-c", _DETAILS_PROGRAM], interpreter)
    try:
        details: dict[str, Any] = json.loads(result.stdout)
    except ValueError as error:
        raise BuildError(f"{interpreter} does not run", detail=result.stdout.strip()) from error
    return details


def _add_setuptools(bundled: Path, packages: Path) -> None:
    """Unpack the setuptools that is bundled with the interpreter.

    Up to Python 3.11 every environment and base image has it, and models of those years import its
    pkg_resources without requiring it.
    """
    for wheel in bundled.glob("setuptools-*-py3-none-any.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(packages)


def _upgrade_pip(folder: Path, progress: Progress) -> None:
    python = str(folder / "bin" / "python")
    words = [python, "-I", "-m", "pip", "install", "--quiet", "--upgrade", _PIP_FOR_OLD_PYTHON]
    try:
        pip.run_pip(words, "pip cannot be upgraded", progress, str(folder))
    except BuildError:
        # Possibly offline. The existing pip may suffice; if not, the next step reports pip's error.
        progress("pip could not be upgraded; continuing with the existing one")


def _run_interpreter(
    command: list[str], interpreter: Interpreter
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=pip.pip_environment(),
            timeout=_VENV_TIMEOUT_SECONDS,
            text=True,
            errors="replace",
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"cannot create an environment with {interpreter}: {error}") from error
