"""Warnings about a deploy: settings without effect, or with a surprising one, under KServe."""

from __future__ import annotations

from fnbuild.builder.grpc_packages import serves_grpc
from fnbuild.builder.image.references import explicit_registry
from fnbuild.function.kserve_settings import KServeSettings
from fnbuild.function.types import Function, Spec
from fnbuild.platforms import Artifact
from fnbuild.platforms.kserve.admission import misspelt_annotations
from fnbuild.platforms.kserve.cluster_config import NAMESPACE_VARIABLE, KServeConfig
from fnbuild.platforms.kserve.pod_fields import Mode
from fnbuild.platforms.settings import ignored_trigger_attributes, unserved_trigger_warnings


def configuration_warnings(
    function: Function, settings: KServeSettings, mode: Mode
) -> tuple[str, ...]:
    """Return the warnings, one sentence each."""
    warnings = [str(item) for item in misspelt_annotations(function.metadata.annotations)]
    if ignored := _ignored_settings(function, settings):
        warnings.append(f"without effect on the kserve platform: {', '.join(ignored)}")
    folders = [
        str((item.get("volume") or {}).get("name"))
        for item in function.spec.volumes
        if "hostPath" in (item.get("volume") or {})
    ]
    if folders:
        warnings.append(
            "folders of a node are not mounted because pods may run on any node:"
            f" {', '.join(folders)}; use a persistentVolumeClaim instead"
        )
    if mode == "Knative":
        warnings += _knative_warnings(function)
    if settings.batcher is not None and serves_grpc(function):
        warnings.append("the batcher reads V1 bodies only: other protocols pass it unbatched")
    return (*warnings, *unserved_trigger_warnings(function))


def _knative_warnings(function: Function) -> list[str]:
    spec = function.spec
    features = {
        "nodeSelector": spec.node_selector,
        "affinity": spec.affinity,
        "tolerations": spec.tolerations,
        "priorityClassName": spec.priority_class_name,
        "securityContext": spec.security_context,
        "initContainers": spec.init_containers,
    }
    warnings = []
    if refused := [name for name, value in features.items() if value]:
        warnings.append(
            f"Knative refuses {', '.join(refused)} unless its ConfigMap config-features enables"
            " them"
        )
    if serves_grpc(function):
        warnings.append(
            "Knative allows one port, which is that of HTTP: gRPC is not reachable; Standard mode"
            " has both"
        )
    if spec.target_cpu:
        warnings.append("targetCPU has no effect in Knative mode; `scaleMetric: concurrency` has")
    return warnings


def _ignored_settings(function: Function, settings: KServeSettings) -> list[str]:
    """Return the keys of spec that are set and have no effect."""
    spec = function.spec
    keys: dict[str, object] = {
        "devices": spec.devices,
        "sidecars": spec.sidecars,
        "serviceType": spec.service_type,
        "scaleToZero": spec.scale_to_zero,
        "autoScaleMetrics": spec.auto_scale_metrics,
        "customScalingMetricSpecs": spec.custom_scaling_metric_specs,
        "platform.attributes.hardened": spec.platform.attributes.get("hardened"),
        "platform.attributes.allowFrom": spec.platform.attributes.get("allowFrom"),
        "loggerSinks.sink": any(sink.sink for sink in spec.logger_sinks),
    }
    if settings.serving_runtime is not None:
        keys |= _settings_of_services(spec, settings)
    return [key for key, value in keys.items() if value] + ignored_trigger_attributes(function)


def _settings_of_services(spec: Spec, settings: KServeSettings) -> dict[str, object]:
    """Return the settings that a serving runtime leaves to the services that use it."""
    return {
        "eventTimeout": spec.event_timeout,
        "replicas": spec.replicas,
        "minReplicas": spec.min_replicas,
        "maxReplicas": spec.max_replicas,
        "targetCPU": spec.target_cpu,
        "serviceAccount": spec.service_account,
        "securityContext": spec.security_context,
        "priorityClassName": spec.priority_class_name,
        "nodeName": spec.node_name,
        "initContainers": spec.init_containers,
        "deploymentStrategy": spec.deployment_strategy,
        "kserve.deploymentMode": settings.deployment_mode,
        "kserve.autoscalerClass": settings.autoscaler_class,
        "kserve.canaryTrafficPercent": settings.canary_traffic_percent,
        "kserve.containerConcurrency": settings.container_concurrency,
        "kserve.scaleMetric": settings.scale_metric,
        "kserve.scaleTarget": settings.scale_target,
        "kserve.batcher": settings.batcher,
        "kserve.logger": settings.logger,
    }


def cluster_warnings(config: KServeConfig) -> tuple[str, ...]:
    """Return a warning if KServe's configuration could not be read."""
    if config.is_read:
        return ()
    return (
        "KServe's ConfigMap inferenceservice-config could not be read, so its defaults are assumed"
        f" ({config.default_mode} mode); {NAMESPACE_VARIABLE} names the namespace of KServe",
    )


def image_warnings(function: Function, artifact: Artifact) -> tuple[str, ...]:
    """Return a warning for an image that only the engine of this machine has."""
    spec = function.spec
    if not artifact.digest or spec.run_registry or spec.build.registry:
        return ()
    if explicit_registry(artifact.reference):
        return ()
    return (
        f"the image {artifact.reference} is only in this machine's engine, which the nodes may not"
        " share: `-r REGISTRY` pushes it to where they can pull it",
    )
