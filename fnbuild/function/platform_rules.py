"""Rules on where and how a function runs: replicas, resources, GPUs, volumes, labels, restarts."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from fnbuild.function.gpu_group_settings import WORKERS_PER_DEVICE
from fnbuild.function.quantities import parse_quantity
from fnbuild.function.rule_context import RuleContext
from fnbuild.function.source_text import has_room, quoted
from fnbuild.function.suggestions import closest, did_you_mean
from fnbuild.function.trigger_rules import SERVICE_TYPES
from fnbuild.function.types import FieldPath, Function

_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?\Z")
_LABEL_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?\Z")
_LABEL_PREFIX = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\Z")
_RESTART_POLICIES = ("no", "always", "unless-stopped", "on-failure")
_PLATFORM_ATTRIBUTES = (
    "network", "restartPolicy", "healthCheckInterval", "mountMode", "processorMountMode",
    "cronTriggerCreationMode", "hardened", "allowFrom", "kserve", "torchserve",
)  # fmt: skip
_PULL_POLICIES = ("", "Always", "IfNotPresent", "Never")
_PREEMPTION_MODES = ("", "allow", "constrain", "prevent", "none")
_METRIC_SOURCES = ("Resource", "Pods", "Object", "External", "ContainerResource")
_LOG_LEVELS = ("", "debug", "info", "warn", "warning", "error")
_RESERVED_PORTS = frozenset({8080, 8081, 8082, 8090})
_RESERVED_PORT_NAMES = frozenset({"http", "metrics"})
_DURATION = re.compile(r"([0-9.]+(ns|us|µs|ms|s|m|h))+\Z")


def check_choices(context: RuleContext) -> None:
    """Check values that must be in a fixed list."""
    spec = context.function.spec
    for key, text, choices in (
        ("serviceType", spec.service_type, ("", *SERVICE_TYPES)),
        ("imagePullPolicy", spec.image_pull_policy, _PULL_POLICIES),
        ("preemptionMode", spec.preemption_mode, _PREEMPTION_MODES),
    ):
        if text not in choices:
            message = f"{key} is one of {', '.join(choices[1:])}; not {quoted(text)}"
            hint = did_you_mean(text, choices[1:])
            context.error(_kebab_case(key), message, ("spec", key), hint)
    for index, sink in enumerate(spec.logger_sinks):
        if sink.level.lower() not in _LOG_LEVELS:
            message = f"a log level is debug, info, warn or error, not {quoted(sink.level)}"
            context.error("log-level", message, ("spec", "loggerSinks", index, "level"))


def _kebab_case(key: str) -> str:
    return re.sub(r"([A-Z])", lambda match: f"-{match[1].lower()}", key)


def check_replicas(context: RuleContext) -> None:
    """Check that the minimum and maximum of replicas are consistent and fit the triggers."""
    spec = context.function.spec
    least, most = spec.min_replicas, spec.max_replicas
    place = ("spec", "minReplicas")
    if most is not None and most <= 0:
        context.error("replicas", "maxReplicas must be above zero", ("spec", "maxReplicas"))
    elif least == 0 and most is None:
        context.error("replicas", "minReplicas 0 needs a maxReplicas", place)
    elif least is not None and most is not None and least > most:
        message = f"minReplicas ({least}) is more than maxReplicas ({most})"
        context.error("replicas", message, place)
    kinds = {trigger.kind for trigger in spec.triggers.values()}
    if least == 0 and "http" not in kinds:
        context.error("replicas", "scaling to zero needs an http trigger", place)
    if "v3ioStream" in kinds and None not in (least, most) and least != most:
        message = "a v3ioStream trigger does not scale: minReplicas must equal maxReplicas"
        context.error("replicas", message, place)


def check_ranges(context: RuleContext) -> None:
    """Check that numbers are in their ranges."""
    spec = context.function.spec
    for key, number, most in (
        ("replicas", spec.replicas, None),
        ("minReplicas", spec.min_replicas, None),
        ("readinessTimeoutSeconds", spec.readiness_timeout_seconds, None),
        ("targetCPU", spec.target_cpu, 100),
    ):
        if number is not None and (number < 0 or (most is not None and number > most)):
            bound = f"0 to {most}" if most else "0 or more"
            context.error("range", f"{key} is {bound}, not {number}", ("spec", key))


def check_readiness_timeout(context: RuleContext) -> None:
    """Warn about a readiness timeout of zero, which counts as not set."""
    key = "readinessTimeoutSeconds"
    flags = context.overrides.spec.readiness_timeout_seconds if context.overrides else None
    seconds = context.function.spec.readiness_timeout_seconds
    if 0 in (flags, seconds):
        timeout = f"{seconds} seconds" if seconds else "the platform's default"
        message = f"{key}: 0 counts as not set; the timeout is {timeout}"
        context.warning("readiness", message, ("spec", key))


def check_scaling(context: RuleContext) -> None:
    """Check that metrics for scaling have a name, a supported source and a threshold."""
    for index, metric in enumerate(context.function.spec.auto_scale_metrics):
        path = ("spec", "autoScaleMetrics", index)
        if not metric.get("metricName"):
            context.error("scale-metric", "a metric to scale by has no metricName", path)
        source = metric.get("sourceType")
        if source not in _METRIC_SOURCES:
            message = f"sourceType is one of {', '.join(_METRIC_SOURCES)}; not {quoted(source)}"
            hint = did_you_mean(str(source), _METRIC_SOURCES)
            context.error("scale-metric", message, (*path, "sourceType"), hint)
        threshold = metric.get("threshold")
        if isinstance(threshold, bool) or not isinstance(threshold, int) or threshold <= 0:
            message = f"threshold is a number above zero, not {quoted(threshold)}"
            context.error("scale-metric", message, (*path, "threshold"))


def check_resources(context: RuleContext) -> None:
    """Check that requests are within limits, and that GPUs are whole and not shared."""
    resources = context.function.spec.resources
    for name, text in resources.limits.items():
        if "gpu" not in name:
            continue
        number = _quantity_or_none(text)
        path = ("spec", "resources", "limits", name)
        if number is not None and number != int(number):
            context.error("gpu", f"{name} is a whole number, not {text}", path)
        if name == "gpu":
            message = "the resource of NVIDIA's GPUs is called nvidia.com/gpu"
            context.warning("gpu", message, path, "write nvidia.com/gpu: 1", "key")
    for name, text in resources.requests.items():
        limit, number = _quantity_or_none(resources.limits.get(name, "")), _quantity_or_none(text)
        if limit is None or number is None:
            continue
        path = ("spec", "resources", "requests", name)
        if number > limit:
            message = f"the request of {name} ({text}) is above its limit"
            context.error("resources", message, path)
        elif "gpu" in name and number != limit:
            context.error("gpu", f"request and limit of {name} must be the same", path)


def _quantity_or_none(text: str) -> Decimal | None:
    try:
        return parse_quantity(text)
    except ValueError:
        # Not a quantity: reported by the decoder.
        return None


def check_kubernetes_labels(context: RuleContext) -> None:
    """Check that labels and node selectors are valid in Kubernetes."""
    metadata, spec = context.function.metadata, context.function.spec
    for place, values in (
        (("metadata", "labels"), metadata.labels),
        (("spec", "nodeSelector"), spec.node_selector),
    ):
        for key, value in values.items():
            if not has_room(context.report, "error"):
                return
            prefix, slash, rest = key.rpartition("/")
            if not _LABEL_NAME.match(rest) or (slash and not _LABEL_PREFIX.match(prefix)):
                message = f"{quoted(key)} is not a label's key"
                context.error("label", message, (*place, key), part="key")
            if not _LABEL_VALUE.match(value):
                message = f"{quoted(value)} is not a label's value"
                hint = "up to 63 letters, digits, '-', '_' and '.'"
                context.error("label", message, (*place, key), hint)


def check_volumes(context: RuleContext) -> None:
    """Check that a volume and its mount have the same name, and that the mount has a path."""
    seen: dict[str, Any] = {}
    for index, entry in enumerate(context.function.spec.volumes):
        path = ("spec", "volumes", index)
        volume, mount = entry.get("volume"), entry.get("volumeMount")
        if not isinstance(volume, dict) or not isinstance(mount, dict):
            message = "an item of volumes has a `volume` and a `volumeMount`"
            context.error("volume", message, path)
            continue
        name, mounted = volume.get("name"), mount.get("name")
        if not name:
            context.error("volume", "the volume has no name", (*path, "volume"))
        elif not mounted:
            context.error("volume", "the volume mount has no name", (*path, "volumeMount"))
        elif name != mounted:
            message = f"volume {quoted(name)} and mount {quoted(mounted)} must have the same name"
            context.error("volume", message, (*path, "volumeMount", "name"))
        elif seen.setdefault(str(name), volume) != volume:
            message = f"another volume already has the name {quoted(name)}"
            context.error("volume", message, (*path, "volume", "name"))
        if not mount.get("mountPath"):
            context.error("volume", "the volume mount has no mountPath", (*path, "volumeMount"))


def check_platform_attributes(context: RuleContext) -> None:
    """Check the attributes of the platform: restart policy and health checks."""
    attributes = context.function.spec.platform.attributes
    path = ("spec", "platform", "attributes")
    for key in attributes:
        word = closest(key, _PLATFORM_ATTRIBUTES)
        if word and key.lower() != word.lower() and word not in attributes:
            message = f"no platform reads the attribute {quoted(key)}"
            context.warning("unknown-key", message, (*path, key), f"did you mean {word}?", "key")
    policy = attributes.get("restartPolicy")
    if policy is not None:
        _check_restart_policy(context, policy, (*path, "restartPolicy"))
    interval = attributes.get("healthCheckInterval")
    if isinstance(interval, bool | int | float) or (
        isinstance(interval, str) and not _DURATION.match(interval)
    ):
        message = f"healthCheckInterval is a duration such as 10s, not {quoted(interval)}"
        context.error("duration", message, (*path, "healthCheckInterval"))


def _check_restart_policy(context: RuleContext, policy: Any, path: FieldPath) -> None:
    if not isinstance(policy, dict):
        context.error("restart-policy", "restartPolicy is a mapping with a `name`", path)
        return
    name = policy.get("name", "no")
    if name is False:
        # The bare word `no` is a boolean in YAML, but the policy is meant.
        name = "no"
    if name not in _RESTART_POLICIES:
        message = f"restartPolicy is one of {', '.join(_RESTART_POLICIES)}; not {quoted(name)}"
        hint = did_you_mean(str(name), _RESTART_POLICIES)
        context.error("restart-policy", message, (*path, "name"), hint)
    count = policy.get("maximumRetryCount", 0)
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        message = f"maximumRetryCount is a number from 0, not {quoted(count)}"
        context.error("restart-policy", message, (*path, "maximumRetryCount"))


def check_containers(context: RuleContext) -> None:
    """Check that sidecars and init containers have a name, an image and free ports."""
    spec = context.function.spec
    for key, items in (("sidecars", spec.sidecars), ("initContainers", spec.init_containers)):
        for index, container in enumerate(items):
            path = ("spec", key, index)
            for required in ("name", "image"):
                if not container.get(required):
                    context.error("container", f"a container in {key} has no {required}", path)
            if key == "sidecars":
                _check_ports(context, container.get("ports") or [], (*path, "ports"))


def _check_ports(context: RuleContext, ports: Any, path: FieldPath) -> None:
    for index, port in enumerate(ports if isinstance(ports, list) else []):
        number = port.get("containerPort") if isinstance(port, dict) else None
        name = port.get("name") if isinstance(port, dict) else None
        if not number or not name:
            message = "a sidecar's port has a name and a containerPort"
            context.error("container", message, (*path, index))
        elif number in _RESERVED_PORTS or name in _RESERVED_PORT_NAMES:
            message = f"port {name} ({number}) is used by the function itself"
            context.error("container", message, (*path, index))


GPU_RESOURCE = "nvidia.com/gpu"


def gpu_count(function: Function) -> int:
    """Return the number of requested GPUs; 0 if the limit is invalid."""
    try:
        return max(0, int(parse_quantity(function.spec.resources.limits.get(GPU_RESOURCE, "0"))))
    except ValueError:
        return 0


def check_workers_per_gpu(context: RuleContext) -> None:
    """Warn if there are more workers than GPUs: each holds its own copy of the model.

    The setting of workers per device shows that this is on purpose.
    """
    http = context.function.http_trigger()
    number = gpu_count(context.function)
    if http is None or not number or context.function.metadata.annotations.get(WORKERS_PER_DEVICE):
        return
    name, trigger = http
    if trigger.num_workers <= number:
        return
    path = ("spec", "triggers", name)
    written = context.written.spec.triggers.get(name)
    key = "numWorkers" if written is None or written.num_workers else "maxWorkers"
    on = "one GPU" if number == 1 else f"{number} GPUs"
    message = (
        f"{trigger.num_workers} workers share {on}, and each holds its own copy of the model in"
        f" GPU memory: {trigger.num_workers} times the memory of one"
    )
    least = "1 worker is" if number == 1 else f"{number} workers are"
    hint = f"{least} the usual choice; keep more only when all copies fit"
    context.warning("gpu-workers", message, (*path, key), hint)
