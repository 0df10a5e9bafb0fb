"""A function as Nuclio's clients read it: metadata, spec and status in plain JSON values."""

from __future__ import annotations

from fnbuild.platforms import Deployment
from fnbuild.spec.types import Raw, to_dict


def function_object(one: Deployment) -> Raw:
    """Nuclio's shape (pkg/functionconfig/types.go). The status leaves empty values out, but never
    httpPort, which CVAT reads without asking whether it is there."""
    raw = to_dict(one.function)
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
