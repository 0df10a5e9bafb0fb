"""Functions and projects as Nuclio's clients read them, in plain JSON values."""

from __future__ import annotations

from typing import Any

from fnbuild.platforms.base import Deployment, Project
from fnbuild.spec.types import Raw, to_dict

_TRIGGER_FIELDS = {"class": "", "kind": "", "name": ""}
_DATA_BINDING_FIELDS = {"class": "", "kind": "", "url": ""}


def function_object(one: Deployment) -> Raw:
    """Return the function in Nuclio's form (pkg/functionconfig/types.go).

    It has every field that Nuclio prints even if it is empty, and httpPort, which CVAT requires.
    """
    raw = with_printed_fields(to_dict(one.function))
    status: Raw = {"state": one.state, "httpPort": one.http_port}
    if one.message:
        status["message"] = one.message
    if one.internal_urls:
        status["internalInvocationUrls"] = list(one.internal_urls)
    if one.external_urls:
        status["externalInvocationUrls"] = list(one.external_urls)
    # Beyond Nuclio's fields, which its clients pass over.
    status["platform"] = one.platform
    status["revision"] = one.revision
    if one.details:
        status["details"] = one.details
    raw["status"] = status
    return raw


def with_printed_fields(raw: Raw) -> Raw:
    """Add the fields that Go always prints: those without `omitempty`, and structs."""
    spec = dict(raw.get("spec") or {})
    for key in ("resources", "build", "platform"):
        spec.setdefault(key, {})
    spec.setdefault("eventTimeout", "")
    for key, fields in (("triggers", _TRIGGER_FIELDS), ("dataBindings", _DATA_BINDING_FIELDS)):
        if spec.get(key):
            spec[key] = {name: {**fields, **value} for name, value in spec[key].items()}
    return {**raw, "metadata": raw.get("metadata") or {}, "spec": spec}


def project_object(one: Project) -> Raw:
    """Nuclio's shape (pkg/platform/types.go) without a status; the metadata and the spec leave
    empty values out."""
    metadata = {"labels": one.labels, "annotations": one.annotations}
    spec = {"description": one.description, "owner": one.owner}
    named = {"name": one.name, "namespace": one.namespace}
    return {
        "metadata": named | {key: texts for key, texts in metadata.items() if texts},
        "spec": {key: text for key, text in spec.items() if text},
    }


def project_from_object(raw: Raw, name: str, namespace: str) -> Project:
    """The project that a Nuclio has under that name."""
    metadata, spec = raw.get("metadata") or {}, raw.get("spec") or {}
    return Project(
        name,
        namespace,
        spec.get("description") or "",
        spec.get("owner") or "",
        _string_map(metadata.get("labels")),
        _string_map(metadata.get("annotations")),
    )


def _string_map(given: Any) -> dict[str, str]:
    return {key: str(one) for key, one in (given or {}).items()}
