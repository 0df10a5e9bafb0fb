"""Manifests compared with live objects: their names in a plan, and the fields of the server."""

from __future__ import annotations

from collections.abc import Collection

from fnbuild.function.types import Raw
from fnbuild.platforms.plans import Manifest

# Metadata that the server and its clients add.
_SERVER_FIELDS = (
    "managedFields",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "selfLink",
)


def object_identity(manifest: Raw) -> tuple[str, str]:
    """Return kind and name of an object, whatever its API version."""
    return str(manifest["kind"]), str(manifest["metadata"]["name"])


def change_target(manifest: Raw) -> str:
    """Return the name of an object in a plan: `deployment nuclio-NAME`."""
    return f"{str(manifest['kind']).lower()} {manifest['metadata']['name']}"


def without_server_fields(manifest: Raw, hidden_annotations: Collection[str]) -> Manifest:
    """Return an object without the fields that the server adds, and some annotations."""
    metadata = {
        key: value for key, value in manifest["metadata"].items() if key not in _SERVER_FIELDS
    }
    annotations = metadata.pop("annotations", None) or {}
    kept = {key: text for key, text in annotations.items() if key not in hidden_annotations}
    if kept:
        metadata["annotations"] = kept
    rest = {key: value for key, value in manifest.items() if key not in ("metadata", "status")}
    return {
        "apiVersion": rest.pop("apiVersion", ""),
        "kind": rest.pop("kind", ""),
        "metadata": metadata,
        **rest,
    }
