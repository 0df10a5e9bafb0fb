"""Virtual environments with packages from PyPI, made once for all runs of the tests."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.runtime import interpreters

_FOLDER = Path(__file__).resolve().parent.parent / ".cache" / "environments"


def environment_python(version: str, *requirements: str, data: str = "") -> Path:
    """Return the interpreter of an environment with these packages; skip without that Python.

    `data` is a package that is installed without its dependencies, for the files in it.
    """
    python = interpreters.find(version)
    if python is None:
        pytest.skip(f"no python{version} on this machine")
    words = [version, *requirements, *filter(None, [data])]
    key = hashlib.sha256(" ".join(words).encode()).hexdigest()[:16]
    folder = _FOLDER / key
    _FOLDER.mkdir(parents=True, exist_ok=True)
    with (_FOLDER / f"{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            # uv takes a tenth of pip's CPU time.
            _run(find_uv_bin(), "venv", "--python", str(python), str(folder))
            install = (find_uv_bin(), "pip", "install", "--system-certs", "--python", str(folder))
            _run(*install, *requirements)
            if data:
                _run(*install, "--no-deps", data)
            (folder / "complete").touch()
    return folder / "bin" / "python"


def _run(*command: str) -> None:
    # uv does not read pip's settings. Such a folder may have torch without CUDA.
    folders = os.environ.get("PIP_FIND_LINKS", "").replace(" ", ",")
    environment = {**os.environ, **({"UV_FIND_LINKS": folders} if folders else {})}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=1800, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
