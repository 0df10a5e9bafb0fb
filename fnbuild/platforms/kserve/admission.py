"""KServe's rules for InferenceServices, checked before anything is sent.

They are those of the schema, of the webhook and of the controller. Some of the latter would show
only after the objects exist, and then as a service that never becomes ready.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fnbuild.errors import InputError
from fnbuild.function.suggestions import closest
from fnbuild.function.types import Raw
from fnbuild.models.uris import check_model_folder, parse_storage_uri
from fnbuild.platforms.kserve.identity import (
    AUTOSCALER_ANNOTATION,
    KNOWN_ANNOTATIONS,
    SERVING_CONTAINER,
    validate_service_name,
)
from fnbuild.platforms.kserve.pod_fields import Mode
from fnbuild.platforms.kubeclient.kinds import INFERENCE_SERVICE
from fnbuild.runtime.storage.uris import KSERVE_SCHEMES

FRAMEWORKS = (
    "sklearn", "xgboost", "tensorflow", "pytorch", "triton", "onnx", "huggingface", "pmml",
    "lightgbm", "paddle",
)  # fmt: skip
"""The old fields of a predictor for models in one format."""

_COMPONENTS = ("predictor", "transformer", "explainer")
_MODEL_FILES = (".mar", ".pt", ".pth", ".pkl", ".joblib", ".onnx", ".h5", ".bst", ".pmml")
_KNATIVE_METRICS = ("concurrency", "rps")
_STANDARD_METRICS = ("cpu", "memory")
_FULL_TRAFFIC = 100
_LOGGER_STORAGE = ("path", "parameters", "key")
_MODEL_FOLDER = "/mnt/models"
_NOT_IN_CANARIES = (
    "maxReplicas", "scaleMetric", "scaleMetricType", "scaleTarget", "autoScaling", "workerSpec",
)  # fmt: skip
# The arguments by which a server of KServe's kind is recognized.
_KSERVE_ARGUMENTS = frozenset({"--model_dir", "--http_port", "--grpc_port"})
_TEMPLATE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_TEMPLATE_FIELD = re.compile(r"\s*\.(Name|Namespace|(Labels|Annotations)\.\w+)\s*")


@dataclass(frozen=True, slots=True)
class AdmissionProblem:
    """The violation of a rule: its place in the manifest, the reason and the remedy."""

    place: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.place}: {self.message}"
        return f"{text}; {self.remedy}" if self.remedy else text


def require_admissible(problems: Iterator[AdmissionProblem], target: str) -> None:
    """Raise `InputError` with all problems; the first one is the message."""
    found_problems = list(problems)
    if not found_problems:
        return
    first, others = found_problems[0], found_problems[1:]
    raise InputError(
        f"KServe would refuse {target}: {first.place}: {first.message}",
        hint=first.remedy or None,
        detail="\n".join(map(str, others)) or None,
    )


def service_problems(manifest: Raw, mode: Mode) -> Iterator[AdmissionProblem]:
    """Yield the rules that an InferenceService violates."""
    metadata, spec = manifest["metadata"], manifest.get("spec") or {}
    try:
        suffix = max(_name_suffixes(spec), key=len, default="-predictor")
        validate_service_name(str(metadata.get("name", "")), "metadata.name", suffix)
    except InputError as error:
        yield AdmissionProblem("metadata.name", error.message, error.hint or "")
    autoscaler = str((metadata.get("annotations") or {}).get(AUTOSCALER_ANNOTATION, ""))
    for name in _COMPONENTS:
        if (component := spec.get(name)) is not None:
            yield from _component_problems(component, f"spec.{name}", mode, autoscaler)
    transformer = spec.get("transformer")
    if transformer is not None and not transformer.get("containers"):
        yield AdmissionProblem(
            "spec.transformer", "a transformer has containers", "give it an image"
        )
    yield from _canary_problems(spec, mode)


def _name_suffixes(spec: Raw) -> Iterator[str]:
    """Yield what KServe adds to the name of the service in the names of its components."""
    components = [(kind, spec[kind]) for kind in _COMPONENTS if spec.get(kind)]
    canaries = spec.get("canary") or []
    components += [("predictor", canary.get("predictor") or {}) for canary in canaries]
    for kind, component in components:
        variant = component.get("name")
        yield f"-{variant}-{kind}" if variant else f"-{kind}"


def misspelt_annotations(annotations: dict[str, str]) -> Iterator[AdmissionProblem]:
    """Yield annotations that look like misspelt ones: nothing else reports them."""
    for key in annotations:
        if key in KNOWN_ANNOTATIONS or "/" not in key:
            continue
        if word := closest(key, KNOWN_ANNOTATIONS, 0.8):
            place = f"metadata.annotations[{key}]"
            yield AdmissionProblem(place, "nothing reads it", f"did you mean {word!r}?")


def _component_problems(
    component: Raw, place: str, mode: Mode, autoscaler: str
) -> Iterator[AdmissionProblem]:
    yield from _implementation_problems(component, place)
    yield from _scaling_problems(component, place, mode, autoscaler)
    logger = component.get("logger")
    if logger is not None and logger.get("mode") not in ("all", "request", "response"):
        yield AdmissionProblem(
            f"{place}.logger.mode", "the mode of the logger is missing", "`mode: all`"
        )
    storage = (logger or {}).get("storage") or {}
    if storage and (missing := [key for key in _LOGGER_STORAGE if not storage.get(key)]):
        message = f"it lacks {', '.join(missing)}"
        yield AdmissionProblem(f"{place}.logger.storage", message, "a storage has all of them")
    yield from _download_problems(component, place)
    for kind in ("containers", "initContainers"):
        for index, container in enumerate(component.get(kind) or []):
            yield from _container_problems(container, f"{place}.{kind}[{index}]")
            yield from _literal_problems(container, f"{place}.{kind}[{index}]")
    if (model := component.get("model")) is not None:
        yield from _container_problems(model, f"{place}.model")
        yield from _model_problems(model, f"{place}.model")
    for framework in FRAMEWORKS:
        if (model := component.get(framework)) is not None:
            model = {**model, "modelFormat": {"name": framework}}
            yield from _container_problems(model, f"{place}.{framework}")
            yield from _model_problems(model, f"{place}.{framework}")


def _implementation_problems(component: Raw, place: str) -> Iterator[AdmissionProblem]:
    """Check that a component has exactly one implementation."""
    containers = component.get("containers") or []
    serving = [item for item in containers if item.get("name") == SERVING_CONTAINER]
    frameworks = [name for name in ("model", *FRAMEWORKS) if component.get(name) is not None]
    if len(frameworks) > 1:
        yield AdmissionProblem(
            place, f"it has {' and '.join(frameworks)}, and may have one of them", "remove one"
        )
    elif frameworks and serving:
        message = f"{frameworks[0]} and a container {SERVING_CONTAINER} are two implementations"
        yield AdmissionProblem(place, message, "remove one, or give the container another name")
    elif not frameworks and len(containers) > 1 and not serving:
        message = f"none of its containers is called {SERVING_CONTAINER}"
        yield AdmissionProblem(f"{place}.containers", message, "give the server's that name")
    elif not frameworks and not containers:
        yield AdmissionProblem(place, "it has neither a model nor a container", "give it one")


def _scaling_problems(
    component: Raw, place: str, mode: Mode, autoscaler: str
) -> Iterator[AdmissionProblem]:
    least, most = component.get("minReplicas"), component.get("maxReplicas") or 0
    if least is not None and least < 0:
        yield AdmissionProblem(f"{place}.minReplicas", "it is below zero", "0 or more")
    elif most and least is not None and least > most:
        message = f"minReplicas {least} is above maxReplicas {most}"
        yield AdmissionProblem(f"{place}.minReplicas", message, "raise maxReplicas")
    if least == 0 and mode == "Standard" and autoscaler not in ("keda", "external", "none"):
        yield AdmissionProblem(
            f"{place}.minReplicas",
            "0 needs Knative or KEDA: nothing wakes a service without pods in Standard mode",
            "`minReplicas: 1`, `deploymentMode: Knative` or `autoscalerClass: keda`",
        )
    metric = component.get("scaleMetric")
    metrics = _KNATIVE_METRICS if mode == "Knative" else _STANDARD_METRICS
    if metric and autoscaler == "keda":
        yield AdmissionProblem(
            f"{place}.scaleMetric", "KEDA has metrics of its own", "remove it for KEDA"
        )
    elif metric and metric not in metrics:
        message = f"{metric} is no metric of {mode} mode"
        yield AdmissionProblem(f"{place}.scaleMetric", message, f"one of: {', '.join(metrics)}")
    if component.get("deploymentStrategy") is not None and mode != "Standard":
        message = "only Standard mode has a strategy"
        yield AdmissionProblem(f"{place}.deploymentStrategy", message, "remove it")
    if component.get("canaryTrafficPercent") is not None and mode == "Standard":
        yield AdmissionProblem(
            f"{place}.canaryTrafficPercent",
            "KServe ignores it in Standard mode",
            "`spec.canary` splits traffic there",
        )


def _container_problems(container: Raw, place: str) -> Iterator[AdmissionProblem]:
    for index, variable in enumerate(container.get("env") or []):
        name, value = variable.get("name"), variable.get("value")
        if name == "PYTHONPATH":
            message = "KServe refuses the variable PYTHONPATH in every container"
            remedy = "set the path in the image, or in the code"
            yield AdmissionProblem(f"{place}.env[{index}]", message, remedy)
        if value is not None and not isinstance(value, str):
            message = f"the value of {name} is no text"
            remedy = f'write it in quotes: "{value}"'
            yield AdmissionProblem(f"{place}.env[{index}].value", message, remedy)
    resources = container.get("resources") or {}
    for kind in ("limits", "requests"):
        for name, quantity in (resources.get(kind) or {}).items():
            if isinstance(quantity, float):
                message = f"{quantity} is no quantity in the schema"
                remedy = f'write it in quotes: "{quantity}"'
                yield AdmissionProblem(f"{place}.resources.{kind}.{name}", message, remedy)


def _literal_problems(container: Raw, place: str) -> Iterator[AdmissionProblem]:
    """Check that a custom container has no templates, which KServe expands in runtimes only."""
    for key in ("args", "command"):
        for index, text in enumerate(container.get(key) or []):
            if "{{" in str(text):
                yield AdmissionProblem(
                    f"{place}.{key}[{index}]",
                    f"{text!r}: KServe fills in templates of serving runtimes only",
                    "write the value itself",
                )


def _model_problems(model: Raw, place: str) -> Iterator[AdmissionProblem]:
    model_format = model.get("modelFormat") or {}
    if not model_format.get("name"):
        message = "without modelFormat.name no runtime matches"
        yield AdmissionProblem(f"{place}.modelFormat", message, "`modelFormat: {name: sklearn}`")
    version = model_format.get("version")
    if version is not None and not isinstance(version, str):
        remedy = f'write it in quotes: "{version}"'
        yield AdmissionProblem(f"{place}.modelFormat.version", "it is no text", remedy)
    if model.get("name"):
        yield AdmissionProblem(f"{place}.name", "the webhook does not allow it", "remove it")
    if uri := model.get("storageUri"):
        yield from _storage_problems(str(uri), str(model_format.get("name")), place)


def _storage_problems(uri: str, model_format: str, place: str) -> Iterator[AdmissionProblem]:
    field = f"{place}.storageUri"
    scheme, colon, rest = uri.partition(":")
    if scheme in KSERVE_SCHEMES or not colon:
        return
    try:
        parsed = parse_storage_uri(uri)
        check_model_folder(parsed, model_format)
    except InputError as error:
        yield AdmissionProblem(field, error.message, error.hint or "")
        return
    if parsed.scheme == "pvc" and parsed.name.lower().endswith(_MODEL_FILES):
        message = f"{uri} is a file, and KServe mounts folders"
        yield AdmissionProblem(field, message, f"pvc:{_parent(rest)}")


def _download_problems(component: Raw, place: str) -> Iterator[AdmissionProblem]:
    """Check the list of downloads, whose folders are mounts in the container."""
    items = component.get("storageUris")
    if items is None:
        return
    if not items:
        yield AdmissionProblem(f"{place}.storageUris", "it is empty", "remove it")
    if (component.get("model") or {}).get("storageUri"):
        message = "storageUris and storageUri exclude each other"
        yield AdmissionProblem(f"{place}.storageUris", message, "add that URI to the list")
    parents = set()
    for index, item in enumerate(items):
        path = str(item.get("mountPath") or _MODEL_FOLDER)
        if not path.startswith("/") or path == "/" or ".." in path.split("/"):
            message = f"{path} is not an absolute path below / without '..'"
            remedy = f"`mountPath: {_MODEL_FOLDER}`"
            yield AdmissionProblem(f"{place}.storageUris[{index}].mountPath", message, remedy)
        if not str(item.get("uri")).startswith("pvc://"):
            parents.add(path.split("/")[1:2][0] if path.startswith("/") else path)
    if len(parents) > 1:
        message = "the folders of downloads have no common parent"
        remedy = f"choose paths such as {_MODEL_FOLDER}/a and {_MODEL_FOLDER}/b"
        yield AdmissionProblem(f"{place}.storageUris", message, remedy)


def _parent(path: str) -> str:
    return path.rstrip("/").rpartition("/")[0]


def _canary_problems(spec: Raw, mode: Mode) -> Iterator[AdmissionProblem]:
    canaries = spec.get("canary") or []
    if canaries and mode != "Standard":
        message = "spec.canary exists in Standard mode only"
        yield AdmissionProblem("spec.canary", message, "use canaryTrafficPercent")
    if sum(int(canary.get("trafficPercent") or 0) for canary in canaries) > _FULL_TRAFFIC:
        yield AdmissionProblem("spec.canary", "the traffic is more than 100 percent", "lower it")
    names = [(canary.get("predictor") or {}).get("name") for canary in canaries]
    if not all(names) or len(set(names)) != len(names):
        yield AdmissionProblem("spec.canary", "each predictor has a name of its own", "add names")
    least = (spec.get("predictor") or {}).get("minReplicas")
    for index, canary in enumerate(canaries):
        predictor, place = canary.get("predictor") or {}, f"spec.canary[{index}].predictor"
        for key in _NOT_IN_CANARIES:
            if predictor.get(key) is not None:
                message = "a canary scales with the predictor that serves"
                yield AdmissionProblem(f"{place}.{key}", message, "remove it")
        replicas = predictor.get("minReplicas")
        if least is not None and replicas is not None and replicas > least:
            message = f"{replicas} is more than the {least} of the predictor that serves"
            yield AdmissionProblem(f"{place}.minReplicas", message, f"{least} or less")


def runtime_problems(manifest: Raw) -> Iterator[AdmissionProblem]:
    """Yield the rules that a serving runtime violates, apart from conflicts with others."""
    spec = manifest.get("spec") or {}
    containers = spec.get("containers") or []
    if not any(container.get("name") == SERVING_CONTAINER for container in containers):
        message = f"none is called {SERVING_CONTAINER}"
        yield AdmissionProblem("spec.containers", message, "give the server's that name")
    for index, container in enumerate(containers):
        place = f"spec.containers[{index}]"
        yield from _container_problems(container, place)
        yield from _template_problems(container, place)
    yield from _format_problems(spec.get("supportedModelFormats") or [])


def _format_problems(formats: list[Raw]) -> Iterator[AdmissionProblem]:
    priorities: dict[object, object] = {}
    for index, item in enumerate(formats):
        name, priority = item.get("name"), item.get("priority")
        if priorities.setdefault(name, priority) != priority:
            message = f"{name} has another priority above; the webhook takes one for each format"
            place = f"spec.supportedModelFormats[{index}].priority"
            yield AdmissionProblem(place, message, f"`priority: {priorities[name]}` for both")
        version = item.get("version")
        if version is not None and not isinstance(version, str):
            place = f"spec.supportedModelFormats[{index}].version"
            yield AdmissionProblem(place, "it is no text", f'write it in quotes: "{version}"')


def manifest_warnings(manifest: Raw) -> Iterator[AdmissionProblem]:
    """Yield what KServe accepts, but only seems to work."""
    spec = manifest.get("spec") or {}
    if manifest["kind"] == INFERENCE_SERVICE.name:
        # The controller names the model of transformers.
        containers = (spec.get("predictor") or {}).get("containers")
        place, argument = "spec.predictor", f"--model_name={manifest['metadata'].get('name')}"
    else:
        containers, place, argument = spec.get("containers"), "spec", "--model_name={{.Name}}"
    for index, container in enumerate(containers or []):
        names = {str(text).partition("=")[0] for text in container.get("args") or []}
        if names & _KSERVE_ARGUMENTS and "--model_name" not in names:
            message = "without --model_name the server calls every model `model`"
            yield AdmissionProblem(
                f"{place}.containers[{index}].args", message, f"add `{argument}`"
            )


def _template_problems(container: Raw, place: str) -> Iterator[AdmissionProblem]:
    """Check the templates, which KServe fills in with the metadata of the InferenceService."""
    texts = [(f"{place}.args[{i}]", text) for i, text in enumerate(container.get("args") or [])]
    texts += [
        (f"{place}.env[{i}].value", variable.get("value") or "")
        for i, variable in enumerate(container.get("env") or [])
    ]
    for location, text in texts:
        fields = _TEMPLATE.findall(str(text))
        if "{{" in str(text) and not fields:
            yield AdmissionProblem(location, f"{text!r} has an open template", "close it with }}")
        for name in fields:
            if not _TEMPLATE_FIELD.fullmatch(name):
                message = f"KServe cannot fill in {{{{{name}}}}}"
                remedy = "{{.Name}}, {{.Namespace}}, {{.Labels.KEY}} or {{.Annotations.KEY}}"
                yield AdmissionProblem(location, message, remedy)
