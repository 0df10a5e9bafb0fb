"""The InferenceService of a function, as a pure function of its revision."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from fnbuild.builder.grpc_packages import serves_grpc
from fnbuild.builder.processor_settings import event_seconds
from fnbuild.function.kserve_settings import KServeSettings, Model, kserve_settings
from fnbuild.function.types import Function, Raw
from fnbuild.names import PROCESSOR_PATH
from fnbuild.platforms import Manifest
from fnbuild.platforms.kserve.identity import (
    AUTOSCALER_ANNOTATION,
    GRPC_PORT,
    GRPC_PORT_NAME,
    HTTP_PORT,
    MODE_ANNOTATION,
    PROGRESS_DEADLINE_ANNOTATION,
    RESTART_ANNOTATION,
    SERVING_CONTAINER,
    STOP_ANNOTATION,
    object_labels,
    qualified_annotations,
)
from fnbuild.platforms.kserve.pod_fields import (
    Mode,
    container_fields,
    names_model,
    pod_fields,
    processor_variable,
    readiness_probe,
)
from fnbuild.platforms.kserve.revision_record import RevisionRecord
from fnbuild.platforms.kubeclient.kinds import INFERENCE_SERVICE
from fnbuild.platforms.settings import needs_gpu
from fnbuild.runtime.storage.uris import URI_VARIABLE

CANARY_NAME = "canary"
"""The name of the canary's predictor in Standard mode."""

_HEALTH_PATH = "/__internal/health"
_FULL_TRAFFIC = 100
# The fields of a canary's predictor that its service decides.
_STABLE_FIELDS = (
    "maxReplicas", "scaleTarget", "scaleMetric", "autoScaling", "workerSpec",
    "canaryTrafficPercent",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ServiceContext:
    """Properties of the cluster and of other revisions on which the manifest depends.

    `stable` is the revision that keeps the remaining traffic during a canary in Standard mode.
    `pull_secret` is the default for functions without one.
    """

    mode: Mode
    stable: RevisionRecord | None = None
    pull_secret: str = ""


def service_name(function: Function, settings: KServeSettings) -> str:
    """Return the name of the InferenceService that a function is, or belongs to."""
    return settings.inference_service or function.metadata.name


def is_canary(settings: KServeSettings) -> bool:
    """Return True if only a part of the requests goes to the revision."""
    percent = settings.canary_traffic_percent
    return percent is not None and percent < _FULL_TRAFFIC


def render_service(record: RevisionRecord, context: ServiceContext) -> Manifest:
    """Return the InferenceService, or for the transformer of another function its part of it."""
    function = record.function
    settings = kserve_settings(function)
    if settings.inference_service:
        metadata: Raw = {"name": settings.inference_service, "namespace": record.namespace}
        spec = {"transformer": _own_component(record, settings, context)}
        return INFERENCE_SERVICE.manifest(metadata, spec=spec)
    spec = _components(record, settings, context)
    stable = context.stable
    if is_canary(settings) and context.mode == "Standard" and stable is not None:
        spec = _with_canary(spec, settings, _stable_components(stable, context))
    metadata = {
        "name": function.metadata.name,
        "namespace": record.namespace,
        "labels": object_labels(function),
        "annotations": _annotations(function, settings, context.mode),
    }
    return INFERENCE_SERVICE.manifest(metadata, spec=spec)


def _stable_components(stable: RevisionRecord, context: ServiceContext) -> Raw:
    settings = kserve_settings(stable.function)
    return _components(stable, settings, replace(context, stable=None))


def _with_canary(spec: Raw, settings: KServeSettings, stable: Raw) -> Raw:
    """Return the stable spec with the new predictor as its canary."""
    predictor = {
        key: value for key, value in spec["predictor"].items() if key not in _STABLE_FIELDS
    }
    predictor["name"] = CANARY_NAME
    if "model" in predictor:
        # The schema requires the name, which the webhook of the stable predictor forbids.
        predictor["model"] = {**predictor["model"], "name": ""}
    least = stable["predictor"].get("minReplicas")
    if least is not None and predictor.get("minReplicas", 1) > least:
        predictor["minReplicas"] = least
    canary = {"trafficPercent": settings.canary_traffic_percent, "predictor": predictor}
    return {**stable, "canary": [canary]}


def _components(record: RevisionRecord, settings: KServeSettings, context: ServiceContext) -> Raw:
    own = _own_component(record, settings, context)
    model = settings.model
    if settings.component == "predictor":
        return {"predictor": own}
    if settings.component == "pair":
        predictor = _with_code(record, settings, context, is_transformer=False)
        return {"predictor": predictor, "transformer": own}
    if settings.predictor_image:
        return {"predictor": _image_predictor(record, settings, context), "transformer": own}
    assert model is not None  # the rules of the settings
    return {"predictor": _model_predictor(record, model, context), "transformer": own}


def _own_component(
    record: RevisionRecord, settings: KServeSettings, context: ServiceContext
) -> Raw:
    """Return the component that the function itself describes."""
    if settings.runs_code:
        is_transformer = settings.component != "predictor"
        return _with_code(record, settings, context, is_transformer=is_transformer)
    assert settings.model is not None
    spec = record.function.spec
    component = _scaling(record, settings, context) | pod_fields(
        spec, context.mode, context.pull_secret
    )
    component["model"] = _model(settings.model) | container_fields(spec, context.mode)
    if arguments := [*(settings.model.args or ()), *(settings.args or ())]:
        component["model"]["args"] = arguments
    return component | _request_settings(settings)


def _with_code(
    record: RevisionRecord,
    settings: KServeSettings,
    context: ServiceContext,
    *,
    is_transformer: bool,
) -> Raw:
    """Return a component that runs the function's image."""
    function = record.function
    container: Raw = {"name": SERVING_CONTAINER, "image": record.image_reference}
    if command := [PROCESSOR_PATH] if record.is_built else settings.command:
        container["command"] = list(command)
    container |= container_fields(function.spec, context.mode)
    env = container["env"]
    if record.is_built:
        env.append(processor_variable(record))
    model = settings.model
    if model is not None and not model.format and model.storage_uri:
        _add_missing_variable(env, URI_VARIABLE, model.storage_uri)
    if record.is_built or settings.args is None:
        container["args"] = _arguments(function, settings, env, is_transformer=is_transformer)
    else:
        # A server that is not of KServe's kind may refuse other arguments.
        container["args"] = list(settings.args)
    container["ports"] = _ports(function, context.mode)
    if path := settings.readiness_path or (_HEALTH_PATH if record.is_built else ""):
        container["readinessProbe"] = readiness_probe(path)
    component = _scaling(record, settings, context) | pod_fields(
        function.spec, context.mode, context.pull_secret
    )
    component["containers"] = [container]
    return component | _request_settings(settings)


def model_name(function: Function) -> str:
    """Return the name of the model in URLs: that of the http trigger, or the function's."""
    return str(_http_attributes(function).get("model") or function.metadata.name)


def _arguments(
    function: Function, settings: KServeSettings, env: list[Raw], *, is_transformer: bool
) -> list[str]:
    """Return KServe's arguments. The controller adds a transformer's model and predictor."""
    own_name = str(_http_attributes(function).get("model") or "")
    own_arguments = settings.args or []
    # The controller adds no name if any argument begins like this.
    is_left_out = any(argument.startswith("--model_name") for argument in own_arguments)
    arguments = []
    if (not is_transformer or own_name or is_left_out) and not names_model(own_arguments):
        arguments.append(f"--model_name={own_name or service_name(function, settings)}")
    protocol = settings.model.protocol_version if settings.model else None
    if settings.component == "pair" and "v1" not in _protocols(function):
        protocol = "v2"
    if is_transformer and protocol in ("v2", "grpc-v2"):
        arguments.append(f"--predictor_protocol={protocol}")
        # The controller chooses the predictor's port by it.
        _add_missing_variable(env, "PROTOCOL", protocol)
    return [*arguments, *own_arguments]


def _add_missing_variable(env: list[Raw], name: str, value: str) -> None:
    """Add a variable unless the function has it."""
    if not any(variable["name"] == name for variable in env):
        env.append({"name": name, "value": value})


def _ports(function: Function, mode: Mode) -> list[Raw]:
    """Return the ports; the first one serves. Knative allows one, whose name is a protocol."""
    if mode == "Knative":
        return [{"name": "http1", "containerPort": HTTP_PORT, "protocol": "TCP"}]
    ports = [{"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"}]
    if serves_grpc(function):
        ports.append({"name": GRPC_PORT_NAME, "containerPort": GRPC_PORT, "protocol": "TCP"})
    return ports


def _protocols(function: Function) -> tuple[str, ...]:
    value = _http_attributes(function).get("protocols") or ["v1"]
    return tuple(map(str, value)) if isinstance(value, list) else tuple(str(value).split(","))


def _http_attributes(function: Function) -> Raw:
    trigger = function.http_trigger()
    return trigger[1].attributes if trigger is not None else {}


def _image_predictor(
    record: RevisionRecord, settings: KServeSettings, context: ServiceContext
) -> Raw:
    """Return a predictor from another image, beside the function as its transformer."""
    model = settings.model or Model()
    arguments = model.args
    if arguments is None:
        arguments = [f"--model_name={model_name(record.function)}"]
    container: Raw = {
        "name": SERVING_CONTAINER,
        "image": settings.predictor_image,
        "args": list(arguments),
        **_resources(model),
    }
    return _beside(record, model, context) | {"containers": [container]}


def _model_predictor(record: RevisionRecord, model: Model, context: ServiceContext) -> Raw:
    """Return a predictor that a serving runtime runs, beside the function as its transformer."""
    content = _model(model) | _resources(model)
    if model.args:
        content["args"] = list(model.args)
    return _beside(record, model, context) | {"model": content}


def _resources(model: Model) -> Raw:
    resources = {"limits": model.resources.limits, "requests": model.resources.requests}
    set_resources = {key: value for key, value in resources.items() if value}
    return {"resources": set_resources} if set_resources else {}


def _beside(record: RevisionRecord, model: Model, context: ServiceContext) -> Raw:
    """Return the settings of a predictor beside the function: replicas and its account."""
    counts = {"minReplicas": model.min_replicas, "maxReplicas": model.max_replicas}
    component: Raw = {key: count for key, count in counts.items() if count is not None}
    account = model.service_account or record.function.spec.service_account
    if account:
        component["serviceAccountName"] = account
    settings = kserve_settings(record.function)
    if is_canary(settings) and context.mode == "Knative":
        component["canaryTrafficPercent"] = settings.canary_traffic_percent
    return component


def _model(model: Model) -> Raw:
    content: Raw = {"modelFormat": {"name": model.format}}
    if model.version:
        content["modelFormat"]["version"] = model.version
    optional = {
        "protocolVersion": model.protocol_version,
        "runtime": model.runtime,
        "runtimeVersion": model.runtime_version,
        "storageUri": model.storage_uri,
    }
    content |= {key: value for key, value in optional.items() if value}
    if (storage := model.storage) is not None:
        parts = {"key": storage.key, "path": storage.path, "parameters": storage.parameters}
        content["storage"] = {key: value for key, value in parts.items() if value}
    return content


def _scaling(record: RevisionRecord, settings: KServeSettings, context: ServiceContext) -> Raw:
    """Return replicas, scaling, time limit, traffic and the restart of a component."""
    function, spec = record.function, record.function.spec
    least, most = spec.min_replicas, spec.max_replicas
    if spec.replicas is not None:
        least = most = spec.replicas
    metric, target = settings.scale_metric, settings.scale_target
    if metric is None and spec.target_cpu and context.mode == "Standard":
        metric, target = "cpu", spec.target_cpu
    seconds = event_seconds(function)
    canary = settings.canary_traffic_percent if is_canary(settings) else None
    values = {
        "minReplicas": least,
        "maxReplicas": most,
        "scaleMetric": metric,
        "scaleTarget": target,
        "containerConcurrency": settings.container_concurrency,
        "timeout": math.ceil(seconds) if seconds else None,
        "canaryTrafficPercent": canary if context.mode == "Knative" else None,
    }
    component: Raw = {key: value for key, value in values.items() if value is not None}
    if context.mode == "Standard":
        strategy = spec.deployment_strategy
        if strategy is None and needs_gpu(function):
            # An old pod may hold the only GPU.
            strategy = {"type": "Recreate"}
        if strategy is not None:
            component["deploymentStrategy"] = strategy
    if record.stamp:
        component["annotations"] = {RESTART_ANNOTATION: record.stamp}
    return component


def _request_settings(settings: KServeSettings) -> Raw:
    component: Raw = {}
    if (batcher := settings.batcher) is not None:
        limits = {
            "maxBatchSize": batcher.max_batch_size,
            "maxLatency": batcher.max_latency,
            "timeout": batcher.timeout,
        }
        component["batcher"] = {key: value for key, value in limits.items() if value is not None}
    if (logger := settings.logger) is not None:
        # The webhook refuses a logger without a mode.
        component["logger"] = {"url": logger.url, "mode": logger.mode}
    return component


def _annotations(function: Function, settings: KServeSettings, mode: Mode) -> dict[str, str]:
    annotations = qualified_annotations(function.metadata.annotations.items())
    if settings.deployment_mode is not None:
        annotations[MODE_ANNOTATION] = settings.deployment_mode
    if settings.autoscaler_class is not None:
        annotations[AUTOSCALER_ANNOTATION] = settings.autoscaler_class
    if function.spec.disable:
        annotations[STOP_ANNOTATION] = "true"
    seconds = function.spec.readiness_timeout_seconds
    if mode == "Knative" and seconds:
        annotations[PROGRESS_DEADLINE_ANNOTATION] = f"{seconds}s"
    return annotations
