"""Files of a model in storage."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fnbuild.errors import InputError, NotFoundError
from fnbuild.models.local_files import local_files
from fnbuild.runtime.storage.errors import StorageError
from fnbuild.runtime.storage.sources import create_source
from fnbuild.runtime.storage.uris import StorageUri


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a model. `size` is -1 if it is unknown; `sha256` and `version` may be ""."""

    path: str
    size: int
    sha256: str = ""
    version: str = ""


def list_files(uri: StorageUri, environment: Mapping[str, str] = os.environ) -> list[StoredFile]:
    """Return the files of a bucket, a model of Hugging Face, a web server or a local folder.

    Raises `InputError`, and `NotFoundError` for a local path that does not exist.
    """
    if uri.scheme == "file":
        if not os.path.exists(uri.path):
            raise NotFoundError(f"{uri.path} does not exist")
        return [StoredFile(file.path, file.size) for file in local_files(Path(uri.path))]
    try:
        files = create_source(uri, environment).files()
    except StorageError as error:
        raise InputError(error.message, hint=error.hint or None) from None
    listed = [StoredFile(file.path, file.size, file.sha256, file.version) for file in files]
    return sorted(listed, key=lambda file: file.path)
