"""The sha256 of files and of models."""

import hashlib
from typing import Mapping

_CHUNK = 1 << 20


def file_sha256(path: str) -> str:
    """Return the sha256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(_CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()


def model_sha256(hashes: Mapping[str, str]) -> str:
    """Return the sha256 of a model by the hashes of its files, whose relative paths are the keys.

    That of a single file is the model's own. Otherwise it is the hash of the sorted list that
    `sha256sum` prints for the files.
    """
    if len(hashes) == 1:
        (path,) = hashes
        if "/" not in path:
            return hashes[path]
    lines = ["%s  %s\n" % (hashes[path], path) for path in sorted(hashes)]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
