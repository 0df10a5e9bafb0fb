"""The fields of pods and containers that follow from a function, for services and runtimes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Literal

from fnbuild.builder.processor_settings import processor_settings
from fnbuild.errors import InputError
from fnbuild.function.types import EnvVar, Raw, Spec, to_dict
from fnbuild.platforms.kserve.identity import HTTP_PORT, PROBE_SECONDS
from fnbuild.platforms.kserve.revision_record import RevisionRecord

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
    secret = spec.image_pull_secrets or pull_secret
    settings: Raw = {
        "serviceAccountName": spec.service_account,
        "imagePullSecrets": [{"name": secret}] if secret else [],
        "nodeSelector": dict(spec.node_selector),
        "nodeName": spec.node_name,
        "affinity": spec.affinity,
        "tolerations": spec.tolerations,
        "priorityClassName": spec.priority_class_name,
        "hostIPC": spec.host_ipc,
        "volumes": pod_volumes(spec),
        "initContainers": spec.init_containers,
    }
    if mode == "Standard":
        profile = {"seccompProfile": {"type": "RuntimeDefault"}}
        settings["securityContext"] = profile | (spec.security_context or {})
    elif spec.security_context:
        settings["securityContext"] = spec.security_context
    pod = {name: value for name, value in settings.items() if value}
    if not spec.service_account:
        pod["automountServiceAccountToken"] = False
    return pod


def container_fields(spec: Spec, mode: Mode) -> Raw:
    """Return variables, resources and mounts of the function's container."""
    settings: Raw = {"env": [variable_entry(variable) for variable in spec.env]}
    if spec.env_from:
        settings["envFrom"] = spec.env_from
    if resources := to_dict(spec.resources):
        settings["resources"] = resources
    if mounts := [item["volumeMount"] for item in _mounted_volumes(spec)]:
        settings["volumeMounts"] = mounts
    settings["securityContext"] = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["NET_RAW"] if mode == "Standard" else ["ALL"]},
    }
    if spec.image_pull_policy:
        settings["imagePullPolicy"] = spec.image_pull_policy
    return settings


def variable_entry(variable: EnvVar) -> Raw:
    if variable.value_from is not None:
        return {"name": variable.name, "valueFrom": variable.value_from}
    return {"name": variable.name, "value": variable.value}


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


def pod_volumes(spec: Spec) -> list[Raw]:
    """Return the volumes by name, without folders of a node: a pod may run on any node."""
    volumes = {str(item["volume"]["name"]): item["volume"] for item in _mounted_volumes(spec)}
    return [volumes[name] for name in sorted(volumes)]


def _mounted_volumes(spec: Spec) -> list[Raw]:
    mounted = []
    for number, item in enumerate(spec.volumes):
        volume, mount = item.get("volume") or {}, item.get("volumeMount") or {}
        if not volume.get("name") or not mount.get("mountPath"):
            raise InputError(
                f"spec.volumes[{number}] needs a name and a volumeMount.mountPath",
                hint="as in `volumeMount: {name: weights, mountPath: /weights}`",
            )
        if "hostPath" not in volume:
            mounted.append({"volume": volume, "volumeMount": {"name": volume["name"], **mount}})
    return mounted
