"""The nuclio_sdk that a handler imports, in a folder of its own for the end of the import path.

From Python 3.7 on it is a copy of the package that fnbuild itself came with. Python 3.6 needs an
older release, which is fetched once and kept.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from fnbuild.builder import pip
from fnbuild.builder.interpreter import Interpreter
from fnbuild.datadir import data_dir, make_private_dir
from fnbuild.errors import BuildError

_PACKAGE = "nuclio_sdk"
_OLD_RELEASE = "0.5.13"
_OLD_SHA256 = "43270502883cdd8c80e43b449f3ed04a3cf504558c557c72495c725fc3bdd044"


def ensure_sdk(interpreter: Interpreter) -> Path:
    """A folder that holds the nuclio_sdk fit for the interpreter. Nothing else is in it."""
    return ensure_sdk_for_version(interpreter.version)


def ensure_sdk_for_version(version: tuple[int, int, int], offline: bool = False) -> Path:
    """The same for a Python of that version, which may be in an image. Its name is the release.

    Raises `BuildError` when the release cannot be had; `offline` forbids to fetch it.
    """
    if version < (3, 7):
        return _cached(_OLD_RELEASE, _refuse_offline if offline else _download)
    try:
        release = importlib.metadata.version("nuclio-sdk")
    except importlib.metadata.PackageNotFoundError as error:
        raise BuildError(
            "nuclio-sdk is missing beside fnbuild", hint="`pip install nuclio-sdk` brings it"
        ) from error
    return _cached(release, _copy_installed)


def ensure_all_sdks() -> list[Path]:
    """Every release, kept from now on, so that builds need no network for them."""
    return [ensure_sdk_for_version(version) for version in ((3, 6, 0), (3, 7, 0))]


def _cached(release: str, fill: Callable[[Path], None]) -> Path:
    folder = data_dir() / "sdk" / release
    if (folder / _PACKAGE / "__init__.py").is_file():
        return folder
    make_private_dir(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as temporary:
        made = Path(temporary, "made")
        made.mkdir()
        try:
            fill(made)
            os.rename(made, folder)
        except OSError as error:
            # Two processes at once: the folder of the other one is as good.
            if not (folder / _PACKAGE / "__init__.py").is_file():
                raise BuildError(f"cannot write {folder}: {error.strerror}") from error
    return folder


def _copy_installed(folder: Path) -> None:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise BuildError("nuclio-sdk beside fnbuild has no package in it")
    source = spec.submodule_search_locations[0]
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", "test")
    shutil.copytree(source, folder / _PACKAGE, ignore=ignored)


def _refuse_offline(_folder: Path) -> None:
    raise BuildError(
        f"Python 3.6 needs nuclio-sdk {_OLD_RELEASE}, which is not here and may not be fetched",
        hint="`fnbuild build --prepare-offline` fetches it ahead, on a machine with network",
    )


def _download(folder: Path) -> None:
    command = [*pip.own_pip_command(), "download", "--no-deps", "--only-binary", ":all:"]
    what = f"Python 3.6 needs nuclio-sdk {_OLD_RELEASE}, which cannot be fetched"
    try:
        words = [*command, "--dest", str(folder), f"nuclio-sdk=={_OLD_RELEASE}"]
        pip.run_pip(words, what, lambda _: None, str(folder))
    except BuildError as error:
        raise BuildError(
            error.message,
            detail=error.detail,
            hint="deploy once with network; from then on the copy is used",
        ) from error
    (wheel,) = folder.glob("*.whl")
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != _OLD_SHA256:
        raise BuildError(
            f"{wheel.name} is not the file that was published under that name",
            hint="the package index of this machine's pip serves another one; check PIP_INDEX_URL",
        )
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(f"{_PACKAGE}/")]
        archive.extractall(folder, [name for name in names if "/test/" not in name])
    wheel.unlink()
