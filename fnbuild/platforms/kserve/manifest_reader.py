"""Manifests of KServe and KFServing as configurations of functions.

Every field is taken over or reported: a deploy from a manifest does what the manifest says.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from fnbuild.errors import InputError
from fnbuild.function.types import Raw
from fnbuild.platforms.kserve import v1alpha2
from fnbuild.platforms.kserve.admission import FRAMEWORKS
from fnbuild.platforms.kserve.identity import (
    AUTOSCALER_ANNOTATION,
    HTTP_PORT,
    MODE_ANNOTATION,
    PROBE_SECONDS,
    SERVER_TYPE_ANNOTATION,
)

_POD_FIELDS = {
    "minReplicas": "minReplicas",
    "maxReplicas": "maxReplicas",
    "nodeSelector": "nodeSelector",
    "nodeName": "nodeName",
    "affinity": "affinity",
    "tolerations": "tolerations",
    "priorityClassName": "priorityClassName",
    "securityContext": "securityContext",
    "serviceAccountName": "serviceAccount",
    "deploymentStrategy": "deploymentStrategy",
    "initContainers": "initContainers",
}
_COMPONENT_SETTINGS = (
    "scaleMetric", "scaleTarget", "containerConcurrency", "canaryTrafficPercent", "batcher",
    "logger",
)  # fmt: skip
# KServe presets the protocol of these fields, but not of `model` with the same format.
_V2_FRAMEWORKS = ("triton", "onnx", "huggingface")
_MODEL_FIELDS = ("storageUri", "runtime", "runtimeVersion", "protocolVersion", "storage")
_SERVICE, _RUNTIME, _CLUSTER_RUNTIME = (
    "InferenceService", "ServingRuntime", "ClusterServingRuntime",
)  # fmt: skip
_GROUPS = ("serving.kserve.io/", f"{v1alpha2.API_GROUP}/")


def is_manifest(document: Any) -> bool:
    """Return True for an object that `function_config` reads."""
    if not isinstance(document, dict):
        return False
    kinds = (_SERVICE, _RUNTIME, _CLUSTER_RUNTIME)
    group = str(document.get("apiVersion", ""))
    return document.get("kind") in kinds and group.startswith(_GROUPS)


def function_config(manifest: Raw) -> Raw:
    """Return the configuration of a function whose deploy results in the manifest.

    Raises `InputError` with the place of what functions do not have.
    """
    try:
        return _convert(manifest)
    except (AttributeError, LookupError, TypeError, ValueError) as problem:
        # The schema is that of KServe, which the cluster checks.
        raise InputError(
            f"it does not have the form of {manifest['kind']}: {problem}",
            hint="`kubectl apply --dry-run=server -f FILE` names the field",
        ) from problem


def _convert(manifest: Raw) -> Raw:
    if v1alpha2.is_kfserving(manifest):
        manifest = v1alpha2.to_v1beta1(manifest)
    manifest = deepcopy(manifest)
    metadata = manifest.get("metadata") or {}
    annotations = dict(metadata.get("annotations") or {})
    spec: Raw = {}
    content = manifest.get("spec") or {}
    if manifest["kind"] == _SERVICE:
        settings = _service_settings(content, spec)
        for key, name in (
            ("deploymentMode", MODE_ANNOTATION),
            ("autoscalerClass", AUTOSCALER_ANNOTATION),
        ):
            if name in annotations:
                settings[key] = annotations.pop(name)
    else:
        settings = _runtime_settings(content, spec)
        settings["servingRuntime"]["cluster"] = manifest["kind"] == _CLUSTER_RUNTIME
        if server := annotations.pop(SERVER_TYPE_ANNOTATION, ""):
            settings["servingRuntime"]["serverType"] = server
    spec["platform"] = {"attributes": {"kserve": settings}}
    config_metadata: Raw = {"name": metadata.get("name", "")}
    for key, value in (
        ("namespace", metadata.get("namespace")),
        ("labels", metadata.get("labels")),
        ("annotations", annotations),
    ):
        if value:
            config_metadata[key] = value
    return {"metadata": config_metadata, "spec": spec}


def _service_settings(content: Raw, spec: Raw) -> Raw:
    predictor, transformer = content.pop("predictor", None), content.pop("transformer", None)
    _require_empty(content, "spec")
    if not predictor:
        raise InputError("spec has no predictor", hint="every InferenceService has one")
    settings: Raw = {}
    if transformer:
        settings["component"] = "transformer"
        _read_component(transformer, "spec.transformer", spec, settings)
        _read_neighbour(predictor, "spec.predictor", settings)
    else:
        _read_component(predictor, "spec.predictor", spec, settings)
    return settings


def _read_component(component: Raw, place: str, spec: Raw, settings: Raw) -> None:
    """Read the component that the function itself runs."""
    _move(component, spec, _POD_FIELDS)
    for key in _COMPONENT_SETTINGS:
        if component.get(key) is not None:
            settings[key] = component.pop(key)
    if (seconds := component.pop("timeout", None)) is not None:
        spec["eventTimeout"] = f"{seconds}s"
    _read_pull_secret(component, place, spec)
    model = _pop_model(component)
    if model is not None:
        _read_model(model, f"{place}.model", settings)
        _read_container(model, f"{place}.model", spec, settings)
    else:
        _read_server(component, place, spec, settings)
    _read_volumes(component, place, spec)
    _require_empty(component, place)


def _read_pull_secret(component: Raw, place: str, spec: Raw) -> None:
    secrets = component.pop("imagePullSecrets", None) or []
    if len(secrets) > 1:
        raise InputError(
            f"{place}.imagePullSecrets: functions have one secret",
            hint="put the logins of all registries into one secret",
        )
    if secrets:
        spec["imagePullSecrets"] = secrets[0]["name"]


def _read_volumes(component: Raw, place: str, spec: Raw) -> None:
    """Read the volumes of a pod, whose mounts have been read with its container."""
    volumes = {volume["name"]: volume for volume in component.pop("volumes", None) or []}
    mounts = spec.pop("volumeMounts", [])
    if unmatched := volumes.keys() ^ {mount["name"] for mount in mounts}:
        raise InputError(
            f"{place}.volumes: {', '.join(sorted(unmatched))} is no volume that the container"
            " mounts",
            hint="functions have volumes with a mount; remove the others",
        )
    if mounts:
        spec["volumes"] = [
            {"volume": volumes[mount["name"]], "volumeMount": mount} for mount in mounts
        ]


def _read_neighbour(predictor: Raw, place: str, settings: Raw) -> None:
    """Read the predictor beside a transformer."""
    model = _pop_model(predictor)
    if model is None:
        container = _only_container(predictor, place)
        container.pop("name", None)
        settings["predictorImage"] = container.pop("image", "")
        arguments = container.pop("args", None) or []
        _require_empty(container, f"{place}.containers[0]")
        settings["model"] = {"args": arguments}
    else:
        _read_model(model, f"{place}.model", settings)
        for key in ("args", "resources"):
            if model.get(key):
                settings["model"][key] = model.pop(key)
        _require_empty(model, f"{place}.model")
    fields = {"serviceAccountName": "serviceAccount", "minReplicas": "minReplicas",
              "maxReplicas": "maxReplicas"}  # fmt: skip
    _move(predictor, settings["model"], fields)
    _require_empty(predictor, place)


def _pop_model(component: Raw) -> Raw | None:
    """Take the model of a component, whose format may be the name of its field."""
    if (model := component.pop("model", None)) is not None:
        return dict(model)
    for framework in FRAMEWORKS:
        if (content := component.pop(framework, None)) is not None:
            preset = {"protocolVersion": "v2"} if framework in _V2_FRAMEWORKS else {}
            return {"modelFormat": {"name": framework}, **preset, **content}
    return None


def _read_model(model: Raw, place: str, settings: Raw) -> None:
    content = dict(model.pop("modelFormat", None) or {})
    result: Raw = {"format": content.pop("name", "")}
    if version := content.pop("version", None):
        result["version"] = version
    _require_empty(content, f"{place}.modelFormat")
    _move(model, result, {key: key for key in _MODEL_FIELDS})
    settings["model"] = result


def _read_container(container: Raw, place: str, spec: Raw, settings: Raw) -> None:
    """Read a container; of a model, the fields that it shares with one."""
    container.pop("name", None)
    if image := container.pop("image", ""):
        spec["image"] = image
        spec["build"] = {"codeEntryType": "image"}
    _move(
        container,
        spec,
        {key: key for key in ("resources", "env", "envFrom", "imagePullPolicy", "volumeMounts")},
    )
    _move(container, settings, {"args": "args", "command": "command"})
    for index, port in enumerate(container.pop("ports", None) or []):
        _read_port(dict(port), f"{place}.ports[{index}]")
    if (container.get("readinessProbe") or {}).get("httpGet"):
        probe = dict(container.pop("readinessProbe"))
        settings["readinessPath"] = _read_probe(probe, f"{place}.readinessProbe")
    _require_empty(container, place)


def _read_server(component: Raw, place: str, spec: Raw, settings: Raw) -> None:
    """Read the only container of a component or a runtime."""
    container = _only_container(component, place)
    _read_container(container, f"{place}.containers[0]", spec, settings)
    # Without a list, a deploy would add arguments.
    settings.setdefault("args", [])


def _read_port(port: Raw, place: str) -> None:
    """Accept the port of HTTP, which all functions have. Raises `InputError` for another one."""
    _accept(port, "containerPort", HTTP_PORT)
    _accept(port, "protocol", "TCP")
    _accept(port, "name", "http", "http1")
    _require_empty(port, place)


def _read_probe(probe: Raw, place: str) -> str:
    """Return the path of a probe. Raises `InputError` for settings that functions do not have."""
    request = dict(probe.pop("httpGet"))
    path = str(request.pop("path", None) or "/")
    _accept(request, "port", HTTP_PORT)
    _accept(request, "scheme", "HTTP")
    _require_empty(request, f"{place}.httpGet")
    for name in ("periodSeconds", "timeoutSeconds"):
        _accept(probe, name, PROBE_SECONDS)
    _require_empty(probe, place)
    return path


def _accept(content: Raw, key: str, *values: Any) -> None:
    """Remove a field with one of the values that all functions have."""
    if content.get(key) in values:
        del content[key]


def _only_container(component: Raw, place: str) -> Raw:
    containers = component.pop("containers", None) or []
    if len(containers) != 1:
        raise InputError(
            f"{place} has {len(containers)} containers; a function has one",
            hint="keep the server's, and apply the manifest itself if it needs the others",
        )
    return dict(containers[0])


def _runtime_settings(content: Raw, spec: Raw) -> Raw:
    formats = content.pop("supportedModelFormats", None) or []
    runtime: Raw = {"formats": formats}
    _move(content, runtime, {"protocolVersions": "protocolVersions", "disabled": "disabled"})
    if content.get("multiModel") is False:
        del content["multiModel"]
    settings: Raw = {"servingRuntime": runtime}
    _read_server(content, "spec", spec, settings)
    _read_pull_secret(content, "spec", spec)
    _read_volumes(content, "spec", spec)
    for key in ("nodeSelector", "affinity", "tolerations"):
        _move(content, spec, {key: key})
    _require_empty(content, "spec")
    return settings


def _move(source: Raw, target: Raw, names: dict[str, str]) -> None:
    """Move fields, by their name there and here."""
    for old, new in names.items():
        value = source.pop(old, None)
        if value is not None and value not in ({}, []):
            target[new] = value


def _require_empty(content: Raw, place: str) -> None:
    left = [_description(key, value) for key, value in content.items() if value is not None]
    if left:
        raise InputError(
            f"{place}: functions have no {', '.join(sorted(left))}",
            hint="remove it, or apply the manifest itself with kubectl",
        )


def _description(key: str, value: Any) -> str:
    """Return a field for an error; the value says which other one functions have."""
    return key if isinstance(value, dict | list) else f"{key}: {value}"
