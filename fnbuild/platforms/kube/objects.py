"""The objects of a function as plans have them, name them and compare them."""

from __future__ import annotations

from fnbuild.platforms import Manifest
from fnbuild.platforms.kube import labels as own
from fnbuild.spec.types import Raw

# What the cluster and its clients write into metadata, which nobody has asked for.
_NOISE = ("managedFields", "uid", "resourceVersion", "generation", "creationTimestamp", "selfLink")
_NOISY_ANNOTATIONS = (
    *own.OF_REVISIONS,
    own.CONFIG,  # told as the function
    "deployment.kubernetes.io/revision",
    "kubectl.kubernetes.io/last-applied-configuration",
)


def target(manifest: Raw) -> str:
    """What a step calls an object: `deployment nuclio-NAME`."""
    return f"{str(manifest['kind']).lower()} {manifest['metadata']['name']}"


def shown(manifest: Raw) -> Manifest:
    """An object without what the cluster alone knows of it: what somebody would write."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in _NOISE}
    annotations = metadata.pop("annotations", None) or {}
    kept = {key: text for key, text in annotations.items() if key not in _NOISY_ANNOTATIONS}
    if kept:
        metadata["annotations"] = kept
    rest = {key: value for key, value in manifest.items() if key not in ("metadata", "status")}
    return {
        "apiVersion": rest.pop("apiVersion", ""),
        "kind": rest.pop("kind", ""),
        "metadata": metadata,
        **rest,
    }


def without_replicas(manifest: Manifest) -> Manifest:
    """A Deployment that leaves the number of its pods to others; anything else as it is."""
    if manifest["kind"] != "Deployment":
        return manifest
    spec = {key: value for key, value in manifest["spec"].items() if key != "replicas"}
    return {**manifest, "spec": spec}
