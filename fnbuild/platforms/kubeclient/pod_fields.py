"""The fields of pods and containers that follow from a function."""

from __future__ import annotations

from fnbuild.errors import InputError
from fnbuild.function.types import EnvVar, Raw, Spec, to_dict


def pod_fields(spec: Spec, pull_secret: str) -> Raw:
    """Return the fields of the pod; `pull_secret` is the default for functions without one."""
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
        "securityContext": {
            "seccompProfile": {"type": "RuntimeDefault"},
            **(spec.security_context or {}),
        },
    }
    pod = {name: value for name, value in settings.items() if value}
    if not spec.service_account:
        pod["automountServiceAccountToken"] = False
    return pod


def container_fields(spec: Spec) -> Raw:
    """Return variables, resources and mounts of the function's container."""
    settings: Raw = {"env": [variable_entry(variable) for variable in spec.env]}
    if spec.env_from:
        settings["envFrom"] = spec.env_from
    if resources := to_dict(spec.resources):
        settings["resources"] = resources
    if mounts := [item["volumeMount"] for item in _mounted_volumes(spec)]:
        settings["volumeMounts"] = mounts
    if spec.image_pull_policy:
        settings["imagePullPolicy"] = spec.image_pull_policy
    return settings


def variable_entry(variable: EnvVar) -> Raw:
    if variable.value_from is not None:
        return {"name": variable.name, "valueFrom": variable.value_from}
    return {"name": variable.name, "value": variable.value}


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
