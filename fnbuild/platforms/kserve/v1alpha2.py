"""Manifests of KFServing (serving.kubeflow.org/v1alpha2) as InferenceServices of KServe.

No cluster serves that API any more. Its endpoints `default` and `canary` became one spec, its
frameworks became formats of models, and its containers those of a pod.
"""

from __future__ import annotations

import re

from fnbuild.errors import InputError
from fnbuild.function.types import Raw
from fnbuild.platforms import Manifest
from fnbuild.platforms.kserve.identity import SERVING_CONTAINER
from fnbuild.platforms.kubeclient.kinds import INFERENCE_SERVICE

API_GROUP = "serving.kubeflow.org"
_FRAMEWORKS = ("tensorflow", "sklearn", "xgboost", "pytorch", "onnx", "triton", "tensorrt")
_FORMATS = {"tensorrt": "triton"}
_COUNTS = {
    "minReplicas": "minReplicas",
    "maxReplicas": "maxReplicas",
    "parallelism": "containerConcurrency",
}
_KEPT = ("serviceAccountName", "batcher")
_MODEL_FIELDS = ("storageUri", "runtimeVersion", "resources")
_LOGGER_MODES = ("all", "request", "response")


def is_kfserving(manifest: Raw) -> bool:
    """Return True for a manifest of KFServing, in any of its versions."""
    return str(manifest.get("apiVersion", "")).startswith(f"{API_GROUP}/")


def to_v1beta1(manifest: Raw) -> Manifest:
    """Return the InferenceService in KServe's form. Raises `InputError` with the place."""
    metadata = dict(manifest.get("metadata") or {})
    if manifest.get("apiVersion") != f"{API_GROUP}/v1alpha2":
        # v1beta1 of KFServing differs from that of KServe by the name of the group only.
        return INFERENCE_SERVICE.manifest(metadata, spec=manifest.get("spec") or {})
    spec = manifest.get("spec") or {}
    _refuse_unknown(spec, ("default", "canary", "canaryTrafficPercent"), "spec")
    if spec.get("canary"):
        raise InputError(
            "spec.canary: a canary of KFServing is a second endpoint, which KServe does not have",
            hint="deploy `default` first, then the settings of the canary with `--canary PERCENT`",
        )
    endpoint = spec.get("default") or {}
    _refuse_unknown(endpoint, ("predictor", "transformer", "explainer"), "spec.default")
    if endpoint.get("explainer"):
        raise InputError(
            "spec.default.explainer: KServe has no explainer of Alibi any more",
            hint="remove it, or write an explainer as a function with `explain`",
        )
    if not endpoint.get("predictor"):
        raise InputError("spec.default has no predictor", hint="every InferenceService has one")
    name = str(metadata.get("name", ""))
    components = {
        component: _component(endpoint[component], f"spec.default.{component}", name)
        for component in ("predictor", "transformer")
        if endpoint.get(component)
    }
    return INFERENCE_SERVICE.manifest(metadata, spec=components)


def _component(deployment: Raw, place: str, name: str) -> Raw:
    frameworks = [key for key in _FRAMEWORKS if deployment.get(key) is not None]
    known_keys = (*frameworks, *_COUNTS, *_KEPT, "custom", "logger")
    _refuse_unknown(deployment, known_keys, place)
    component: Raw = {new: deployment[old] for old, new in _COUNTS.items() if old in deployment}
    component |= {key: deployment[key] for key in _KEPT if key in deployment}
    if (logger := deployment.get("logger")) is not None:
        mode = logger.get("mode")
        component["logger"] = {**logger, "mode": mode if mode in _LOGGER_MODES else "all"}
    custom = deployment.get("custom")
    if custom is not None and frameworks:
        raise InputError(f"{place}: custom and {frameworks[0]} exclude each other")
    if custom is not None:
        container = dict(custom.get("container") or {})
        if not container.get("image"):
            raise InputError(f"{place}.custom.container names no image", hint="`image: NAME`")
        component["containers"] = [_renamed(container, name)]
    elif frameworks:
        component["model"] = _model(frameworks[0], deployment[frameworks[0]], place)
    else:
        raise InputError(f"{place} has neither a framework nor `custom`")
    return component


def _renamed(container: Raw, name: str) -> Raw:
    """Return a container with KServe's name for it, and for the Service of its predictor."""
    old_host = re.compile(rf"\b{re.escape(name)}-predictor-default\b")
    if container.get("args"):
        container["args"] = [
            old_host.sub(f"{name}-predictor", str(argument)) for argument in container["args"]
        ]
    return {**container, "name": SERVING_CONTAINER}


def _model(framework: str, content: Raw, place: str) -> Raw:
    _refuse_unknown(content, _MODEL_FIELDS, f"{place}.{framework}")
    fields = {key: content[key] for key in _MODEL_FIELDS if key in content}
    return {"modelFormat": {"name": _FORMATS.get(framework, framework)}, **fields}


def _refuse_unknown(content: Raw, names: tuple[str, ...], place: str) -> None:
    if unknown := [key for key in content if key not in names]:
        raise InputError(
            f"{place}: {', '.join(unknown)} cannot be turned into v1beta1",
            hint=f"remove it; there are {', '.join(names)}",
        )
