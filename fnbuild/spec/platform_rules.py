"""Rules on where and how a function runs: replicas, resources, volumes, labels, restarts."""

from __future__ import annotations

import re
from typing import Any

from fnbuild.spec.hints import closest, meant
from fnbuild.spec.quantities import quantity
from fnbuild.spec.source import has_room, shown
from fnbuild.spec.subject import Subject
from fnbuild.spec.trigger_rules import SERVICE_TYPES

_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?\Z")
_LABEL_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?\Z")
_LABEL_PREFIX = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\Z")
_RESTARTS = ("no", "always", "unless-stopped", "on-failure")
_ATTRIBUTES = (
    "network", "restartPolicy", "healthCheckInterval", "mountMode", "processorMountMode",
    "cronTriggerCreationMode", "hardened", "allowFrom",
)  # fmt: skip
_PULLS = ("", "Always", "IfNotPresent", "Never")
_PREEMPTION = ("", "allow", "constrain", "prevent", "none")
_SOURCES = ("Resource", "Pods", "Object", "External", "ContainerResource")
_LEVELS = ("", "debug", "info", "warn", "warning", "error")
_RESERVED_PORTS = frozenset({8080, 8081, 8082, 8090})
_RESERVED_PORT_NAMES = frozenset({"http", "metrics"})
_SECONDS = re.compile(r"([0-9.]+(ns|us|µs|ms|s|m|h))+\Z")


def choices(subject: Subject) -> None:
    """Words of a closed list are in the list."""
    spec = subject.function.spec
    for key, text, words in (
        ("serviceType", spec.service_type, ("", *SERVICE_TYPES)),
        ("imagePullPolicy", spec.image_pull_policy, _PULLS),
        ("preemptionMode", spec.preemption_mode, _PREEMPTION),
    ):
        if text not in words:
            message = f"{key} is one of {', '.join(words[1:])}; not {shown(text)}"
            hint = meant(text, words[1:])
            subject.error(_dashed(key), message, ("spec", key), hint)
    for index, sink in enumerate(spec.logger_sinks):
        if sink.level.lower() not in _LEVELS:
            message = f"a log level is debug, info, warn or error, not {shown(sink.level)}"
            subject.error("log-level", message, ("spec", "loggerSinks", index, "level"))


def _dashed(key: str) -> str:
    return re.sub(r"([A-Z])", lambda found: f"-{found[1].lower()}", key)


def replicas(subject: Subject) -> None:
    """The least and the most replicas fit each other and the triggers."""
    spec = subject.function.spec
    least, most = spec.min_replicas, spec.max_replicas
    place = ("spec", "minReplicas")
    if most is not None and most <= 0:
        subject.error("replicas", "maxReplicas must be above zero", ("spec", "maxReplicas"))
    elif least == 0 and most is None:
        subject.error("replicas", "minReplicas 0 needs a maxReplicas", place)
    elif least is not None and most is not None and least > most:
        message = f"minReplicas ({least}) is more than maxReplicas ({most})"
        subject.error("replicas", message, place)
    kinds = {trigger.kind for trigger in spec.triggers.values()}
    if least == 0 and "http" not in kinds:
        subject.error("replicas", "scaling to zero needs an http trigger", place)
    if "v3ioStream" in kinds and None not in (least, most) and least != most:
        message = "a v3ioStream trigger does not scale: minReplicas must equal maxReplicas"
        subject.error("replicas", message, place)


def ranges(subject: Subject) -> None:
    """Numbers of the specification are in their ranges."""
    spec = subject.function.spec
    for key, number, most in (
        ("replicas", spec.replicas, None),
        ("minReplicas", spec.min_replicas, None),
        ("readinessTimeoutSeconds", spec.readiness_timeout_seconds, None),
        ("targetCPU", spec.target_cpu, 100),
    ):
        if number is not None and (number < 0 or (most is not None and number > most)):
            bound = f"0 to {most}" if most else "0 or more"
            subject.error("range", f"{key} is {bound}, not {number}", ("spec", key))


def readiness(subject: Subject) -> None:
    """A time of zero counts as not given, in the file as in a flag."""
    key = "readinessTimeoutSeconds"
    flags = subject.overrides.spec.readiness_timeout_seconds if subject.overrides else None
    seconds = subject.function.spec.readiness_timeout_seconds
    if 0 in (flags, seconds):
        said = f"{seconds} seconds hold" if seconds else "the platform's own time holds"
        message = f"{key}: 0 counts as not given; {said}"
        subject.warning("readiness", message, ("spec", key))


def scaling(subject: Subject) -> None:
    """Metrics that scale have a name, a known source and a threshold."""
    for index, metric in enumerate(subject.function.spec.auto_scale_metrics):
        path = ("spec", "autoScaleMetrics", index)
        if not metric.get("metricName"):
            subject.error("scale-metric", "a metric to scale by has no metricName", path)
        source = metric.get("sourceType")
        if source not in _SOURCES:
            message = f"sourceType is one of {', '.join(_SOURCES)}; not {shown(source)}"
            hint = meant(str(source), _SOURCES)
            subject.error("scale-metric", message, (*path, "sourceType"), hint)
        threshold = metric.get("threshold")
        if isinstance(threshold, bool) or not isinstance(threshold, int) or threshold <= 0:
            message = f"threshold is a number above zero, not {shown(threshold)}"
            subject.error("scale-metric", message, (*path, "threshold"))


def resources(subject: Subject) -> None:
    """Requests stay within limits; GPUs are whole and not shared."""
    given = subject.function.spec.resources
    for name, text in given.limits.items():
        if "gpu" not in name:
            continue
        number = _number(text)
        path = ("spec", "resources", "limits", name)
        if number is not None and number != int(number):
            subject.error("gpu", f"{name} is a whole number, not {text}", path)
        if name == "gpu":
            message = "the resource of NVIDIA's GPUs is called nvidia.com/gpu"
            subject.warning("gpu", message, path, "write nvidia.com/gpu: 1", "key")
    for name, text in given.requests.items():
        limit, number = _number(given.limits.get(name, "")), _number(text)
        if limit is None or number is None:
            continue
        path = ("spec", "resources", "requests", name)
        if number > limit:
            message = f"the request of {name} ({text}) is above its limit"
            subject.error("resources", message, path)
        elif "gpu" in name and number != limit:
            subject.error("gpu", f"request and limit of {name} must be the same", path)


def _number(text: str) -> Any:
    try:
        return quantity(text)
    except ValueError:
        # Not a quantity: reported where it was read.
        return None


def labels(subject: Subject) -> None:
    """Labels and node selectors are ones that Kubernetes takes."""
    metadata, spec = subject.function.metadata, subject.function.spec
    for place, values in (
        (("metadata", "labels"), metadata.labels),
        (("spec", "nodeSelector"), spec.node_selector),
    ):
        for key, value in values.items():
            if not has_room(subject.report, "error"):
                return
            prefix, slash, rest = key.rpartition("/")
            if not _LABEL_NAME.match(rest) or (slash and not _LABEL_PREFIX.match(prefix)):
                message = f"{shown(key)} is not a label's key"
                subject.error("label", message, (*place, key), part="key")
            if not _LABEL_VALUE.match(value):
                message = f"{shown(value)} is not a label's value"
                hint = "up to 63 letters, digits, '-', '_' and '.'"
                subject.error("label", message, (*place, key), hint)


def volumes(subject: Subject) -> None:
    """Volume and mount have one and the same name, and say where they lead."""
    seen: dict[str, Any] = {}
    for index, entry in enumerate(subject.function.spec.volumes):
        path = ("spec", "volumes", index)
        volume, mount = entry.get("volume"), entry.get("volumeMount")
        if not isinstance(volume, dict) or not isinstance(mount, dict):
            message = "an item of volumes has a `volume` and a `volumeMount`"
            subject.error("volume", message, path)
            continue
        name, mounted = volume.get("name"), mount.get("name")
        if not name:
            subject.error("volume", "the volume has no name", (*path, "volume"))
        elif not mounted:
            subject.error("volume", "the volume mount has no name", (*path, "volumeMount"))
        elif name != mounted:
            message = f"volume {shown(name)} and mount {shown(mounted)} must have the same name"
            subject.error("volume", message, (*path, "volumeMount", "name"))
        elif seen.setdefault(str(name), volume) != volume:
            message = f"{shown(name)} is the name of another volume already"
            subject.error("volume", message, (*path, "volume", "name"))
        if not mount.get("mountPath"):
            subject.error("volume", "the volume mount has no mountPath", (*path, "volumeMount"))


def platform_attributes(subject: Subject) -> None:
    """What the platform is told: restarts and health checks."""
    attributes = subject.function.spec.platform.attributes
    path = ("spec", "platform", "attributes")
    for key in attributes:
        word = closest(key, _ATTRIBUTES)
        if word and key.lower() != word.lower() and word not in attributes:
            message = f"no platform reads the attribute {shown(key)}"
            subject.warning("unknown-key", message, (*path, key), f"did you mean {word}?", "key")
    policy = attributes.get("restartPolicy")
    if policy is not None:
        _restart(subject, policy, (*path, "restartPolicy"))
    interval = attributes.get("healthCheckInterval")
    if isinstance(interval, bool | int | float) or (
        isinstance(interval, str) and not _SECONDS.match(interval)
    ):
        message = f"healthCheckInterval is a duration such as 10s, not {shown(interval)}"
        subject.error("duration", message, (*path, "healthCheckInterval"))


def _restart(subject: Subject, policy: Any, path: tuple[str, ...]) -> None:
    if not isinstance(policy, dict):
        subject.error("restart-policy", "restartPolicy is a mapping with a `name`", path)
        return
    name = policy.get("name", "no")
    if name is False:
        # The bare word `no` is a boolean in YAML; people mean the policy.
        name = "no"
    if name not in _RESTARTS:
        message = f"restartPolicy is one of {', '.join(_RESTARTS)}; not {shown(name)}"
        hint = meant(str(name), _RESTARTS)
        subject.error("restart-policy", message, (*path, "name"), hint)
    count = policy.get("maximumRetryCount", 0)
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        message = f"maximumRetryCount is a number from 0, not {shown(count)}"
        subject.error("restart-policy", message, (*path, "maximumRetryCount"))


def containers(subject: Subject) -> None:
    """Side containers have a name, an image and ports that are free."""
    spec = subject.function.spec
    for key, items in (("sidecars", spec.sidecars), ("initContainers", spec.init_containers)):
        for index, container in enumerate(items):
            path = ("spec", key, index)
            for wanted in ("name", "image"):
                if not container.get(wanted):
                    subject.error("container", f"a container in {key} has no {wanted}", path)
            if key == "sidecars":
                _ports(subject, container.get("ports") or [], (*path, "ports"))


def _ports(subject: Subject, ports: Any, path: tuple[str | int, ...]) -> None:
    for index, port in enumerate(ports if isinstance(ports, list) else []):
        number = port.get("containerPort") if isinstance(port, dict) else None
        name = port.get("name") if isinstance(port, dict) else None
        if not number or not name:
            message = "a sidecar's port has a name and a containerPort"
            subject.error("container", message, (*path, index))
        elif number in _RESERVED_PORTS or name in _RESERVED_PORT_NAMES:
            message = f"port {name} ({number}) is taken by the function itself"
            subject.error("container", message, (*path, index))
