"""The fields of pods and containers that follow from a function, for services and runtimes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Literal

from fnbuild.builder.processor_settings import processor_settings
from fnbuild.function.types import Raw, Spec
from fnbuild.platforms.kserve.identity import HTTP_PORT, PROBE_SECONDS
from fnbuild.platforms.kserve.revision_record import RevisionRecord
from fnbuild.platforms.kubeclient import pod_fields as kubeclient

Mode = Literal["Standard", "Knative"]

MODE_WORDS: dict[str, Mode] = {
    "Standard": "Standard",
    "RawDeployment": "Standard",
    "Knative": "Knative",
    "Serverless": "Knative",
}
"""The modes by their present and former names."""

_PROCESSOR_VARIABLE = "FNBUILD_PROCESSOR"


def pod_fields(spec: Spec, mode: Mode, pull_secret: str) -> Raw:
    """Return the fields of the pod. Knative refuses most of them unless it is told otherwise."""
    fields = kubeclient.pod_fields(spec, pull_secret)
    if mode == "Knative":
        fields.pop("securityContext")
        if spec.security_context:
            fields["securityContext"] = spec.security_context
    return fields


def container_fields(spec: Spec, mode: Mode) -> Raw:
    """Return variables, resources, mounts and rights of the function's container."""
    return kubeclient.container_fields(spec) | {
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["NET_RAW"] if mode == "Standard" else ["ALL"]},
        }
    }


def processor_variable(record: RevisionRecord) -> Raw:
    """Return the variable with the configuration of the processor, without values of secrets."""
    processor = processor_settings(record.function, record.pod_revision)
    value = json.dumps(processor, sort_keys=True, separators=(",", ":"))
    return {"name": _PROCESSOR_VARIABLE, "value": value}


def readiness_probe(path: str) -> Raw:
    request = {"path": path, "port": HTTP_PORT}
    seconds = {"periodSeconds": PROBE_SECONDS, "timeoutSeconds": PROBE_SECONDS}
    return {"httpGet": request, **seconds}


def names_model(arguments: Iterable[str]) -> bool:
    """Return True if the arguments of a server contain the name of its model."""
    # `--model_name_or_path` is another argument of some servers.
    return any(argument.partition("=")[0] == "--model_name" for argument in arguments)
