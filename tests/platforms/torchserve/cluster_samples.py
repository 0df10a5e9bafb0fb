"""Sample functions and revisions for tests of TorchServe in a cluster."""

from __future__ import annotations

from typing import Any

from fnbuild.function.reader import function_from_dict
from fnbuild.function.rules import with_defaults
from fnbuild.function.types import Function
from fnbuild.platforms.revision_records import stored_config
from fnbuild.platforms.torchserve.cluster.planning import packed_content
from fnbuild.platforms.torchserve.cluster.records import RevisionRecord

NAMESPACE = "fnbuild-test"


def function(
    name: str = "embedding", torchserve: dict[str, Any] | None = None, **spec: Any
) -> Function:
    """Return a function with defaults and with settings for TorchServe."""
    metadata = {"name": name, "namespace": spec.pop("namespace", NAMESPACE)}
    platform = {"attributes": {"torchserve": torchserve or {}}}
    raw = {"metadata": metadata, "spec": {"handler": "main:handler", "platform": platform, **spec}}
    return with_defaults(function_from_dict(raw, name))


def revision(sample: Function, **values: Any) -> RevisionRecord:
    """Return the first revision of a function."""
    name = sample.metadata.name
    defaults = {
        "number": 1,
        "created": "2026-01-02T03:04:05.678Z",
        "digest": "c0de" * 16,
        "source": 1,
        **packed_content(sample, "210110_0930"),
    }
    return RevisionRecord(
        namespace=sample.metadata.namespace,
        name=name,
        config=stored_config(sample),
        **(defaults | values),
    )
