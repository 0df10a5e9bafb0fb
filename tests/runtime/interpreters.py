"""The interpreters that the runtime supports, if this machine has them."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

VERSIONS = ("3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13")
PYPY = "pypy3.9"
CURRENT = ".".join(map(str, sys.version_info[:2]))
FEW = ("3.6", "3.11", "3.13")
"""For tests that hardly depend on the release: the oldest, fnbuild's own, and the newest."""

# "3.9", or "pypy3.9".
_WHICH = """
import sys
name = "" if sys.implementation.name == "cpython" else sys.implementation.name
print("%s%d.%d" % ((name,) + sys.version_info[:2]))
"""


@functools.cache
def find(version: str) -> str | None:
    """An interpreter of this version, from pyenv or the search path."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    installed = [str(p) for p in sorted(root.glob(f"versions/{version}.*/bin/python"))]
    names = (version, "pypy3") if version.startswith("pypy") else (f"python{version}",)
    # The environment of the tests has packages that a function's interpreter may lack.
    folders = [folder for folder in os.get_exec_path() if Path(folder).parent != Path(sys.prefix)]
    path = os.pathsep.join(folders)
    on_path = [python for name in names if (python := shutil.which(name, path=path))]
    for python in [*installed, *on_path]:
        # A shim of pyenv exists for versions that are not installed, too.
        command = [python, "-c", _WHICH]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.stdout.strip() == version:
            return python
    return None


def numbers(version: str) -> tuple[int, int]:
    """The release's numbers, as in `sys.version_info`."""
    major, minor = version.removeprefix("pypy").split(".")
    return int(major), int(minor)


def every(*more: str) -> list:
    """Return a parameter for each version; the test is skipped if the interpreter is missing."""
    return [_parameter(version) for version in (*VERSIONS, *more)]


def few() -> list:
    """Return a parameter for each version in `FEW`."""
    return [_parameter(version) for version in FEW]


def _parameter(version: str) -> Any:
    name = version if version.startswith("pypy") else f"python{version}"
    missing = find(version) is None
    marks = [pytest.mark.skipif(missing, reason=f"no {name} on this machine")]
    if version != CURRENT:
        marks.append(pytest.mark.versions)
    return pytest.param(version, id=name, marks=marks)
