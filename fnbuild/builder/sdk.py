"""Provide the nuclio_sdk that a handler imports, in a folder for the end of the import path.

From Python 3.7 on it is a copy of the package that is installed with fnbuild. Python 3.6 needs an
older release, which is downloaded once and kept.
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
from fnbuild.datadir import data_dir, make_private_dir
from fnbuild.errors import BuildError

_PACKAGE = "nuclio_sdk"
_OLD_RELEASE = "0.5.13"
_OLD_SHA256 = "43270502883cdd8c80e43b449f3ed04a3cf504558c557c72495c725fc3bdd044"


def ensure_sdk(version: tuple[int, int, int], offline: bool = False) -> Path:
    """Return a folder that contains only the nuclio_sdk for a version of Python.

    Its name is the release. Raises `BuildError` if the release is not available. `offline` prevents
    a download.
    """
    if version < (3, 7):
        return _cached(_OLD_RELEASE, _refuse_offline if offline else _download)
    try:
        release = importlib.metadata.version("nuclio-sdk")
    except importlib.metadata.PackageNotFoundError as error:
        raise BuildError(
            "nuclio-sdk is not installed with fnbuild",
            hint="install it: `pip install nuclio-sdk`",
        ) from error
    return _cached(release, _copy_installed)


def ensure_all_sdks() -> list[Path]:
    """Provide every release, so that later builds need no network for them."""
    return [ensure_sdk(version) for version in ((3, 6, 0), (3, 7, 0))]


def _cached(release: str, fill: Callable[[Path], None]) -> Path:
    folder = data_dir() / "sdk" / release
    if (folder / _PACKAGE / "__init__.py").is_file():
        return folder
    make_private_dir(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".draft-") as temporary:
        draft = Path(temporary, "sdk")
        draft.mkdir()
        try:
            fill(draft)
            os.rename(draft, folder)
        except OSError as error:
            # Another process may have created the same folder.
            if not (folder / _PACKAGE / "__init__.py").is_file():
                raise BuildError(f"cannot write {folder}: {error.strerror}") from error
    return folder


def _copy_installed(folder: Path) -> None:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise BuildError("the installed nuclio-sdk has no package")
    source = spec.submodule_search_locations[0]
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", "test")
    shutil.copytree(source, folder / _PACKAGE, ignore=ignored)


def _refuse_offline(_folder: Path) -> None:
    raise BuildError(
        f"Python 3.6 needs nuclio-sdk {_OLD_RELEASE}, which may not be downloaded offline",
        hint="`fnbuild build --prepare-offline` downloads it in advance, on a machine with network",
    )


def _download(folder: Path) -> None:
    command = [*pip.own_pip_command(), "download", "--no-deps", "--only-binary", ":all:"]
    what = f"Python 3.6 needs nuclio-sdk {_OLD_RELEASE}, which cannot be downloaded"
    try:
        words = [*command, "--dest", str(folder), f"nuclio-sdk=={_OLD_RELEASE}"]
        pip.run_pip(words, what, lambda _: None, str(folder))
    except BuildError as error:
        raise BuildError(
            error.message,
            detail=error.detail,
            hint="deploy once with network access; later deploys use the copy",
        ) from error
    (wheel,) = folder.glob("*.whl")
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != _OLD_SHA256:
        raise BuildError(
            f"{wheel.name} is not the published file of that name",
            hint="pip's package index serves another file; check PIP_INDEX_URL",
        )
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(f"{_PACKAGE}/")]
        archive.extractall(folder, [name for name in names if "/test/" not in name])
    wheel.unlink()
