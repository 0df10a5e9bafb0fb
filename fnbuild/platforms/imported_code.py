"""The code of an imported function, kept until the function's first deploy.

An imported function is a record without a revision, and platforms keep code by revision only. So
the folder is kept in the data directory, separate from the records of the platforms:
`imports/<platform>/<namespace>/<name>/`.
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from fnbuild import trees
from fnbuild.builder.staging import scan_folder
from fnbuild.datadir import data_dir, function_dir, make_private_dir
from fnbuild.errors import InputError


def save(platform: str, key: tuple[str, str], folder: Path) -> None:
    """Copy the folder and replace that of an earlier import of the function.

    Raises `BuildError` for a folder with links that lead out of it.
    """
    scan_folder(folder)
    target = _folder(platform, key)
    draft = make_private_dir(target.parent) / f"{os.getpid()}-{secrets.token_hex(4)}"
    try:
        shutil.copytree(folder, draft, symlinks=True)
        remove(platform, key)
        draft.rename(target)
    except OSError as error:
        raise InputError(f"cannot keep the code of {key[1]} in {target}: {error}") from error
    finally:
        trees.try_remove(draft)


def find(platform: str, key: tuple[str, str]) -> Path | None:
    """Return the folder, or None if the newest import of the function had none.

    Use it only while the function is in state `imported`.
    """
    folder = _folder(platform, key)
    return folder if folder.is_dir() else None


def remove(platform: str, key: tuple[str, str]) -> None:
    """Remove the folder, if there is one."""
    trees.try_remove(_folder(platform, key))


def _folder(platform: str, key: tuple[str, str]) -> Path:
    relative = function_dir(*key).relative_to(data_dir() / "functions")
    return data_dir() / "imports" / platform / relative
