"""The volume of the function's model, which STORAGE_URI names."""

from __future__ import annotations

from fnbuild.errors import InputError
from fnbuild.function.types import Function, Raw
from fnbuild.runtime.container import MODELS_PATH
from fnbuild.runtime.storage.uris import (
    OCI_SCHEMES,
    URI_VARIABLE,
    StorageUriError,
    parse_storage_uri,
)

MODEL_VOLUME = "fnbuild-model"


def model_volume(function: Function) -> tuple[Raw, Raw] | None:
    """Return a volume and its mount, or None if the function needs none.

    A claim is mounted read-only, as KServe does. For a download it is an empty folder, which
    outlives the container and is writable for every user. Raises `InputError` for an image.
    """
    text = next((item.value for item in function.spec.env if item.name == URI_VARIABLE), "")
    mounts = [item.get("volumeMount") or {} for item in function.spec.volumes]
    if not text or any(mount.get("mountPath") == MODELS_PATH for mount in mounts):
        return None
    try:
        uri = parse_storage_uri(text)
    except StorageUriError as error:
        raise InputError(f"{URI_VARIABLE}: {error.message}", hint=error.hint) from None
    if uri.scheme == "file":
        return None
    if uri.scheme in OCI_SCHEMES:
        raise InputError(
            f"{URI_VARIABLE}: only KServe can mount the image {uri}",
            hint="copy the model to a claim or a bucket",
        )
    mount: Raw = {"name": MODEL_VOLUME, "mountPath": MODELS_PATH}
    if uri.scheme != "pvc":
        return {"name": MODEL_VOLUME, "emptyDir": {}}, mount
    claim = {"claimName": uri.location, "readOnly": True}
    if uri.path:
        mount["subPath"] = uri.path
    return {"name": MODEL_VOLUME, "persistentVolumeClaim": claim}, mount | {"readOnly": True}
