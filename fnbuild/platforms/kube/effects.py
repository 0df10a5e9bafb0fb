"""What a configuration asks for and does not get in a cluster, and what may surprise there."""

from __future__ import annotations

import json
import re

from fnbuild.platforms.kube import cron, isolation, nodes, scaling
from fnbuild.platforms.kube.service import NODE_PORTS, service_type
from fnbuild.platforms.kube.volumes import volumes_of
from fnbuild.platforms.settings import (
    GPU_RESOURCE,
    ignored_trigger_attributes,
    requested_port,
    restart_policy,
    unserved_trigger_warnings,
)
from fnbuild.spec.types import Function, Raw

_OF_GPUS = re.compile(r"gpu|nvidia|accelerator|cuda", re.IGNORECASE)


def warnings_for(function: Function) -> tuple[str, ...]:
    """One sentence each. Raises `InputError` for values that cannot work."""
    found = [
        *_of_gpus(function),
        *_of_volumes(function),
        *_of_ports(function),
        *_of_scaling(function),
        *_of_restarts(function),
        *isolation.warnings_for(function),
        *unserved_trigger_warnings(function),
    ]
    if meaningless := _meaningless(function):
        found.insert(0, f"without effect on the kube platform: {', '.join(meaningless)}")
    return tuple(found)


def _of_gpus(function: Function) -> list[str]:
    spec = function.spec
    if spec.resources.limits.get(GPU_RESOURCE):
        return []
    some = spec.node_selector.items()
    chosen = [f"{key}={value}" for key, value in some if not nodes.says_no(value)]
    chosen = [f"nodeSelector {one}" for one in chosen if _OF_GPUS.search(one)]
    if spec.affinity and _OF_GPUS.search(json.dumps(spec.affinity.get("nodeAffinity"))):
        chosen.append("affinity")
    if not chosen:
        return []
    return [
        f"{chosen[0]} chooses a node with a GPU, and no GPU is asked for: the container may then"
        f" see no GPU; `--resource-limit {GPU_RESOURCE}=1` asks for one"
    ]


def _of_volumes(function: Function) -> list[str]:
    left_out = volumes_of(function).left_out
    if not left_out:
        return []
    return [
        "folders of a node are not mounted, for pods may run on any node:"
        f" {', '.join(left_out)}; a persistentVolumeClaim follows them"
    ]


def _of_ports(function: Function) -> list[str]:
    wanted = requested_port(function)
    if not wanted or wanted in NODE_PORTS or service_type(function) == "ClusterIP":
        return []
    return [
        f"port {wanted} is not used: it is outside of the node ports that clusters usually have,"
        f" {NODE_PORTS.start} to {NODE_PORTS.stop - 1}; the cluster chooses one, which stays"
    ]


def _of_scaling(function: Function) -> list[str]:
    found = []
    spec = function.spec
    given = {"minReplicas": spec.min_replicas, "maxReplicas": spec.max_replicas}
    others = [f"{key} {one}" for key, one in given.items() if one not in (None, spec.replicas)]
    if spec.replicas and others:
        found.append(
            f"replicas {spec.replicas} goes before {' and '.join(others)}: nothing scales it"
        )
    if spec.min_replicas == 0 and spec.replicas is None and scaling.bounds(function)[0] > 0:
        found.append(
            "minReplicas 0 counts as 1: nothing wakes a function here that has no pods;"
            " `--replicas 0` stops it by hand"
        )
    if scaling.by_cpu(function) and "cpu" not in spec.resources.requests:
        found.append(
            "the autoscaler compares CPU usage with spec.resources.requests, which has no cpu:"
            f" {' and '.join(f'{name} {text}' for name, text in scaling.REQUESTS.items())} are"
            " requested, within the limits; `--resource-request cpu=AMOUNT` says what a pod needs"
        )
    if scaling.bounds(function)[1] > 1 and cron.triggers(function) and not cron.in_jobs(function):
        found.append(
            "every replica runs the cron triggers for itself;"
            " spec.platform.attributes.cronTriggerCreationMode: kube runs them once"
        )
    return found


def _of_restarts(function: Function) -> list[str]:
    name = restart_policy(function).name
    if name in ("always", "unless-stopped"):
        return []
    return [f"restartPolicy {name} means nothing here: a cluster starts ended containers again"]


def _meaningless(function: Function) -> list[str]:
    """Keys of spec that are set and mean nothing here."""
    spec = function.spec
    keys: Raw = {
        "devices": spec.devices,
        "scaleToZero": spec.scale_to_zero,
        "preemptionMode": spec.preemption_mode not in ("", "none"),
        "runtimeAttributes": spec.runtime_attributes,
        "dataBindings": spec.data_bindings,
        "loggerSinks.sink": any(sink.sink for sink in spec.logger_sinks),
    }
    found = [key for key, value in keys.items() if value]
    return found + ignored_trigger_attributes(function)
