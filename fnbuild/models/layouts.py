"""The folders that model servers of KServe can load."""

from __future__ import annotations

from collections.abc import Collection

from fnbuild.bridges.torchserve.model_store import CONFIG_PATH, check_files
from fnbuild.errors import InputError
from fnbuild.models.local_files import LocalFile


def detect_format(files: Collection[LocalFile]) -> str:
    """Return the format of a folder that has a server's configuration; "" for others."""
    return "pytorch" if any(file.path == CONFIG_PATH for file in files) else ""


def check_layout(model_format: str, files: Collection[LocalFile]) -> list[str]:
    """Check that the model server of the format can load the files; return warnings.

    Raises `InputError` or `ConfigError` if it cannot.
    """
    if model_format == "pytorch":
        return check_files({file.path: file.source for file in files})
    if model_format == "tensorflow" and not any(_is_numbered(file.path) for file in files):
        raise InputError(
            "the tensorflow server reads a folder with numbered versions, and there is none",
            hint="move the SavedModel into a folder `1`: 1/saved_model.pb",
        )
    return []


def _is_numbered(path: str) -> bool:
    version, _, name = path.partition("/")
    return version.isdecimal() and name in ("saved_model.pb", "saved_model.pbtxt")
