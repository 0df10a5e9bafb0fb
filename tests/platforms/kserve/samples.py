"""Sample functions, revisions and runtimes for tests of the KServe platform."""

from __future__ import annotations

from typing import Any

from fnbuild.function.reader import function_from_dict
from fnbuild.function.rules import with_defaults
from fnbuild.function.types import Function
from fnbuild.platforms.kserve.pod_fields import Mode
from fnbuild.platforms.kserve.revision_record import RevisionRecord
from fnbuild.platforms.kserve.service_manifest import ServiceContext, render_service
from fnbuild.platforms.revision_records import stored_config

NAMESPACE = "fnbuild-test"
IMAGE = "registry.example.com/fnbuild/{}:latest"
SKLEARN = {"format": "sklearn", "storageUri": "s3://bucket/sklearn/model.joblib"}


def function(name: str = "greeter", kserve: dict[str, Any] | None = None, **spec: Any) -> Function:
    """Return a function with defaults and with settings for KServe."""
    metadata = {"name": name, "namespace": NAMESPACE, **spec.pop("metadata", {})}
    platform = {"platform": {"attributes": {"kserve": kserve}}} if kserve is not None else {}
    raw = {"metadata": metadata, "spec": {"handler": "main:handler", **platform, **spec}}
    return with_defaults(function_from_dict(raw, name))


def revision(function: Function, **values: Any) -> RevisionRecord:
    """Return the first revision of a function whose image fnbuild built."""
    defaults = {
        "number": 1,
        "created": "2026-01-02T03:04:05.678Z",
        "digest": "c0de" * 16,
        "image": IMAGE.format(function.metadata.name),
        "pinned": "",
        "source": 1,
    }
    return RevisionRecord(
        namespace=function.metadata.namespace,
        name=function.metadata.name,
        config=stored_config(function),
        **(defaults | values),
    )


def service(
    function: Function, mode: Mode = "Standard", stable: Function | None = None, **values: Any
) -> dict[str, Any]:
    """Return the InferenceService of a function."""
    context = ServiceContext(mode, revision(stable) if stable is not None else None)
    return render_service(revision(function, **values), context)


def runtime(name: str, *formats: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a ClusterServingRuntime, or with `namespace` a ServingRuntime."""
    namespace = fields.pop("namespace", "")
    created = fields.pop("created", "2026-01-01T00:00:00Z")
    metadata = {"name": name, "creationTimestamp": created}
    if namespace:
        metadata["namespace"] = namespace
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime" if namespace else "ClusterServingRuntime",
        "metadata": metadata,
        "spec": {
            "supportedModelFormats": list(formats),
            "containers": [{"name": "kserve-container", "image": "server:1"}],
            **fields,
        },
    }


def supported(name: str, version: str = "", **fields: Any) -> dict[str, Any]:
    """Return a format that a runtime selects by itself."""
    content: dict[str, Any] = {"name": name, "autoSelect": True, **fields}
    return {**content, "version": version} if version else content
