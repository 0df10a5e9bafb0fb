"""Storage URIs of users: parsed with fnbuild's errors, and checked for the server that reads them.

`fnbuild.runtime.storage.uris` describes the schemes.
"""

from __future__ import annotations

from fnbuild.errors import InputError
from fnbuild.runtime.storage import uris
from fnbuild.runtime.storage.uris import BUCKET_SCHEMES, StorageUri, StorageUriError

_PYTORCH = "pytorch"


def parse_storage_uri(text: str) -> StorageUri:
    """Return the parsed storage URI. Raises `InputError` for the first mistake."""
    try:
        return uris.parse_storage_uri(text)
    except StorageUriError as error:
        raise InputError(error.message, hint=error.hint) from None


def check_model_folder(uri: StorageUri, model_format: str) -> None:
    """Check that a model server can load the folder. Raises `InputError` if it cannot.

    The PyTorch server of KServe reads `config` and `model-store` in a folder below the bucket.
    """
    if model_format != _PYTORCH:
        return
    if uri.scheme in BUCKET_SCHEMES and not uri.path:
        raise InputError(
            f"{uri} is the root of a bucket, from which the pytorch server cannot load a model",
            hint=f"upload the tree to a folder, for example {uri}/{_PYTORCH}",
        )
    if uri.scheme in (*BUCKET_SCHEMES, "pvc") and uri.name.endswith(".mar"):
        raise InputError(
            f"{uri} is an archive, but the pytorch server reads a folder with `config` and"
            " `model-store`",
            hint="upload the folder that contains both, and use its URI",
        )
