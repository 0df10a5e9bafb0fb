"""Warnings about a deploy: settings without effect, or with a surprising one, in a cluster."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from fnbuild.builder.image.references import explicit_registry
from fnbuild.function.sleep_settings import sleep_settings
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import Artifact
from fnbuild.platforms.kubernetes.inventory import FunctionObjects
from fnbuild.platforms.kubernetes.labels import means_absent
from fnbuild.platforms.kubernetes.manifests import cron_jobs, keda, network, scaling
from fnbuild.platforms.kubernetes.manifests.network import NODE_PORT_RANGE, service_type
from fnbuild.platforms.kubernetes.manifests.pods import function_volumes
from fnbuild.platforms.kubernetes.manifests.rendering import RenderContext
from fnbuild.platforms.kubernetes.revision_record import RevisionRecord
from fnbuild.platforms.settings import (
    GPU_RESOURCE,
    ignored_trigger_attributes,
    requested_port,
    restart_policy,
    unserved_trigger_warnings,
)

_GPU_WORDS = re.compile(r"gpu|nvidia|accelerator|cuda", re.IGNORECASE)


def configuration_warnings(function: Function) -> tuple[str, ...]:
    """Return the warnings, one sentence each. Raises `InputError` for invalid values."""
    warnings = [
        *_gpu_warnings(function),
        *_volume_warnings(function),
        *_port_warnings(function),
        *_scaling_warnings(function),
        *_restart_warnings(function),
        *network.network_warnings(function),
        *unserved_trigger_warnings(function),
    ]
    if meaningless := _ignored_settings(function):
        warnings.insert(0, f"without effect on the kube platform: {', '.join(meaningless)}")
    return tuple(warnings)


def _gpu_warnings(function: Function) -> list[str]:
    spec = function.spec
    if spec.resources.limits.get(GPU_RESOURCE):
        return []
    labels = spec.node_selector.items()
    chosen = [f"{key}={value}" for key, value in labels if not means_absent(value)]
    chosen = [f"nodeSelector {label}" for label in chosen if _GPU_WORDS.search(label)]
    if spec.affinity and _GPU_WORDS.search(json.dumps(spec.affinity.get("nodeAffinity"))):
        chosen.append("affinity")
    if not chosen:
        return []
    return [
        f"{chosen[0]} selects a node with a GPU, but the function requests none: its container may"
        f" not see the GPU; `--resource-limit {GPU_RESOURCE}=1` requests one"
    ]


def _volume_warnings(function: Function) -> list[str]:
    left_out = function_volumes(function).left_out
    if not left_out:
        return []
    return [
        "folders of a node are not mounted because pods may run on any node:"
        f" {', '.join(left_out)}; use a persistentVolumeClaim instead"
    ]


def _port_warnings(function: Function) -> list[str]:
    requested = requested_port(function)
    if not requested or requested in NODE_PORT_RANGE or service_type(function) == "ClusterIP":
        return []
    return [
        f"port {requested} is not used: it is outside of the node ports that clusters usually have,"
        f" {NODE_PORT_RANGE.start} to {NODE_PORT_RANGE.stop - 1}; the cluster chooses one, which"
        " stays"
    ]


def _scaling_warnings(function: Function) -> list[str]:
    warnings = []
    spec = function.spec
    replica_settings = {"minReplicas": spec.min_replicas, "maxReplicas": spec.max_replicas}
    ignored = [
        f"{key} {value}"
        for key, value in replica_settings.items()
        if value not in (None, spec.replicas)
    ]
    if spec.replicas and ignored:
        warnings.append(
            f"replicas {spec.replicas} goes before {' and '.join(ignored)}: nothing scales it"
        )
    if scaling.scales_by_cpu(function) and "cpu" not in spec.resources.requests:
        warnings.append(
            "the autoscaler compares CPU usage with spec.resources.requests, which has no cpu:"
            f" {' and '.join(f'{name} {text}' for name, text in scaling.CPU_REQUESTS.items())} are"
            " requested, within the limits; `--resource-request cpu=AMOUNT` says what a pod needs"
        )
    if (
        scaling.replica_bounds(function)[1] > 1
        and cron_jobs.cron_triggers(function)
        and not cron_jobs.uses_cron_jobs(function)
    ):
        warnings.append(
            "every replica runs the cron triggers for itself;"
            " spec.platform.attributes.cronTriggerCreationMode: kube runs them once"
        )
    return warnings


def zero_replicas_warnings(function: Function, context: RenderContext) -> tuple[str, ...]:
    """Return what a minimum of no replicas means in this cluster."""
    spec = function.spec
    if (
        spec.min_replicas != 0
        or spec.replicas is not None
        or scaling.replica_bounds(function)[0] < 1
    ):
        return ()
    if context.route_kind is not None and keda.scales_to_zero(function):
        return tuple(_keda_warnings(function))
    add_on = "KEDA with its HTTP add-on is not in this cluster"
    idle_timeout = sleep_settings(function).idle_timeout
    if idle_timeout is not None:
        return (
            f"minReplicas 0 counts as 1, because {add_on}: the pod stays, and its workers sleep"
            f" after {idle_timeout:g} s without a request",
        )
    return (
        f"minReplicas 0 counts as 1: nothing wakes a function here that has no pods, because"
        f" {add_on}; with `--idle-timeout 10m` the workers in the pod sleep until the next request,"
        " and `--replicas 0` stops it by hand",
    )


def _keda_warnings(function: Function) -> Iterator[str]:
    """Yield what does not go through KEDA's interceptor, and settings that it replaces."""
    if service_type(function) != "ClusterIP":
        yield (
            f"KEDA scales it to zero: requests to its {service_type(function)} port start no pod,"
            " those to the internal address and to an ingress do"
        )
    if cron_jobs.cron_triggers(function):
        yield "KEDA scales it to zero: its cron triggers do not run while it has no pods"
    if scaling.uses_custom_metrics(function):
        yield (
            "KEDA scales it by the number of requests, not by spec.autoScaleMetrics or"
            " spec.customScalingMetricSpecs"
        )


def _restart_warnings(function: Function) -> list[str]:
    name = restart_policy(function).name
    if name in ("always", "unless-stopped"):
        return []
    return [f"restartPolicy {name} means nothing here: a cluster starts ended containers again"]


def _ignored_settings(function: Function) -> list[str]:
    """Return the keys of spec that are set and have no effect."""
    spec = function.spec
    keys: Raw = {
        "devices": spec.devices,
        "scaleToZero": spec.scale_to_zero and not sleep_settings(function).idle_timeout,
        "preemptionMode": spec.preemption_mode not in ("", "none"),
        "runtimeAttributes": spec.runtime_attributes.keys() - {"arguments"},
        "dataBindings": spec.data_bindings,
        "loggerSinks.sink": any(sink.sink for sink in spec.logger_sinks),
    }
    warnings = [key for key, value in keys.items() if value]
    return warnings + ignored_trigger_attributes(function)


def scale_warnings(
    objects: FunctionObjects, record: RevisionRecord, rerun: bool
) -> tuple[str, ...]:
    """Warn about a manual change of the number of replicas that the deploy reverts."""
    live, applied = objects.deployment, objects.applied_revision
    if live is None or applied is None or objects.hpa is not None:
        return ()
    if objects.is_scaled_to_zero_by_keda:
        return ()
    live_replicas = live.desired_replicas
    number = scaling.deployment_replicas(record.function, None)
    if number in (None, live_replicas) or number != scaling.deployment_replicas(
        applied.function, None
    ):
        return ()
    keeps = f"`--replicas {live_replicas}` keeps them"
    if rerun:
        command = f"`fnbuild update function {objects.key.name} --replicas {live_replicas}`"
        keeps = f"{command} restores them"
    return (f"it was scaled to {live_replicas}; this deploy sets it to {number}: {keeps}",)


def budget_warnings(function: Function, context: RenderContext) -> tuple[str, ...]:
    """Warn about replicas without a disruption budget."""
    if context.budget_kind is not None or scaling.replica_bounds(function)[1] < 2:
        return ()
    return (
        "this user may not read poddisruptionbudgets.policy: the replicas get no disruption budget,"
        " and draining nodes may end all of them at once",
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
