"""The interpreters that the runtime has to run on, as far as this machine has them."""

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

VERSIONS = ("3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13")


@functools.cache
def find(version: str) -> str | None:
    """An interpreter of this version, from pyenv or the search path."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = [str(p) for p in sorted(root.glob(f"versions/{version}.*/bin/python"))]
    on_path = shutil.which(f"python{version}")
    for python in [*found, *([on_path] if on_path else [])]:
        # A shim of pyenv exists for versions that are not installed, too.
        asked = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        answer = subprocess.run(asked, capture_output=True, text=True, check=False)
        if answer.stdout.strip() == version:
            return python
    return None


def every() -> list:
    """A parameter for each version; where it is missing the test is skipped and says so."""
    return [
        pytest.param(
            version,
            id=f"python{version}",
            marks=pytest.mark.skipif(
                find(version) is None, reason=f"no Python {version} on this machine"
            ),
        )
        for version in VERSIONS
    ]
