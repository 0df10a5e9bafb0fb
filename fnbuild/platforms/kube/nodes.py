"""What the cluster's nodes say of themselves: ready, short of something, GPUs. It asks nobody."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fnbuild.platforms import Finding
from fnbuild.platforms.settings import GPU_RESOURCE
from fnbuild.spec.quantities import quantity
from fnbuild.spec.types import Raw

_MOST_NAMES = 5
_PRESSURES = {
    "DiskPressure": "short of disk",
    "MemoryPressure": "short of memory",
    "PIDPressure": "short of process ids",
    "NetworkUnavailable": "without a network",
}
# By hand as CVAT's guides have it, by NVIDIA's feature discovery, by clouds.
_GPU_LABELS = (
    "gpu",
    "nvidia.com/gpu",
    "nvidia.com/gpu.present",
    "feature.node.kubernetes.io/pci-10de.present",
    "accelerator",
    "cloud.google.com/gke-accelerator",
    "k8s.amazonaws.com/accelerator",
)
_NO = ("false", "no", "0", "none", "")
_PLUGIN_REMEDY = (
    "install NVIDIA's device plugin (https://github.com/NVIDIA/k8s-device-plugin) or GPU operator;"
    " `kubectl get daemonsets -A` shows whether one is there"
)


def says_no(value: str) -> bool:
    """Whether the value of a label means that the node has not what the label is about."""
    return value.lower() in _NO


def ready(nodes: Sequence[Raw]) -> Iterator[Finding]:
    """Whether nodes take pods, and what they are short of."""
    well = [node for node in nodes if _condition(node, "Ready") == "True" and not _closed(node)]
    if well:
        yield Finding("nodes", "ok", f"{_count(len(well))} ready: {_names(well)}")
    elif not nodes:
        yield Finding("nodes", "failure", "the cluster has no node", "add one")
    for node in nodes:
        name = _name(node)
        remedy = f"`kubectl describe node {name}` says why"
        if _condition(node, "Ready") != "True":
            why = _message(node, "Ready")
            text = f"node {name} is not ready" + (f": {why}" if why else "")
            yield Finding("nodes", "warning" if well else "failure", text, remedy)
        elif _closed(node):
            text = f"node {name} is closed to new pods"
            state = f"`kubectl uncordon {name}` opens it again"
            yield Finding("nodes", "warning" if well else "failure", text, state)
        for kind, words in _PRESSURES.items():
            if _condition(node, kind) == "True":
                yield Finding("nodes", "warning", f"node {name} is {words}", remedy)


def architecture(nodes: Sequence[Raw], built: str) -> Iterator[Finding]:
    """Whether what the engine builds (`amd64`) runs on the nodes."""
    theirs: dict[str, list[Raw]] = {}
    for node in nodes:
        info = (node.get("status") or {}).get("nodeInfo") or {}
        theirs.setdefault(str(info.get("architecture") or "?"), []).append(node)
    others = {word: group for word, group in theirs.items() if word not in (built, "?")}
    if not others:
        yield Finding("nodes", "ok", f"images of the engine run on them: linux/{built}")
        return
    for word, group in others.items():
        yield Finding(
            "nodes",
            "warning" if built in theirs else "failure",
            f"the engine builds for {built}, and {_names(group)} is {word}: its pods would end with"
            " `exec format error`",
            f"spec.build.flags [`--platform linux/{word}`] builds for them; or spec.nodeSelector"
            f" {{kubernetes.io/arch: {built}}} keeps functions off them",
        )


def gpus(nodes: Sequence[Raw], plugins: Sequence[Raw]) -> Iterator[Finding]:
    """What GPUs there are to ask for. `plugins` are the device plugin's DaemonSets, as far as they
    can be seen."""
    offered = False
    for node in nodes:
        name, status = _name(node), node.get("status") or {}
        there, free = _gpus(status.get("capacity")), _gpus(status.get("allocatable"))
        if there:
            offered = True
            text = f"node {name} offers {free} {GPU_RESOURCE}"
            if free < there:
                yield Finding(
                    "gpu",
                    "warning",
                    f"{text} of {there}: the device plugin thinks that others are broken",
                    f"`kubectl describe node {name}`, and `nvidia-smi` on the node",
                )
            else:
                yield Finding("gpu", "ok", text)
        elif label := _gpu_label(node):
            yield Finding(
                "gpu",
                "warning",
                f"no device plugin answers on node {name}: it has the label {label} and offers no"
                f" {GPU_RESOURCE}",
                _PLUGIN_REMEDY,
            )
            offered = True
    if not offered:
        yield Finding("gpu", "ok", f"no node offers {GPU_RESOURCE}: functions run on the CPU")
    for plugin in plugins:
        yield from _plugin(plugin)


def _plugin(daemon_set: Raw) -> Iterator[Finding]:
    about, status = daemon_set["metadata"], daemon_set.get("status") or {}
    wanted, there = (int(status.get(key) or 0) for key in ("desiredNumberScheduled", "numberReady"))
    place = f"{about['namespace']}/{about['name']}"
    if there < wanted:
        yield Finding(
            "gpu",
            "warning",
            f"the device plugin {place} runs on {there} of {wanted} nodes",
            f"`kubectl describe daemonset {about['name']} -n {about['namespace']}`",
        )
    elif wanted:
        yield Finding("gpu", "ok", f"the device plugin {place} runs on {_count(wanted)}")


def is_plugin(daemon_set: Raw) -> bool:
    """Whether a DaemonSet is NVIDIA's device plugin, by hand or of the GPU operator."""
    return "nvidia-device-plugin" in str(daemon_set["metadata"]["name"])


def addresses(node: Raw) -> list[str]:
    """Where node ports answer: the external addresses first."""
    listed = (node.get("status") or {}).get("addresses") or []
    kinds = ("ExternalIP", "InternalIP")
    return [str(one["address"]) for kind in kinds for one in listed if one.get("type") == kind]


def _gpu_label(node: Raw) -> str:
    labels = node["metadata"].get("labels") or {}
    for key in _GPU_LABELS:
        if not says_no(str(labels.get(key, ""))):
            return f"{key}={labels[key]}"
    return ""


def _gpus(resources: Raw | None) -> int:
    return int(quantity(str((resources or {}).get(GPU_RESOURCE, "0"))))


def _closed(node: Raw) -> bool:
    return bool((node.get("spec") or {}).get("unschedulable"))


def _condition(node: Raw, kind: str) -> str:
    return str(_of_kind(node, kind).get("status") or "")


def _message(node: Raw, kind: str) -> str:
    return str(_of_kind(node, kind).get("message") or "").strip(" .")


def _of_kind(node: Raw, kind: str) -> Raw:
    conditions = (node.get("status") or {}).get("conditions") or []
    return next((one for one in conditions if one.get("type") == kind), {})


def _name(node: Raw) -> str:
    return str(node["metadata"]["name"])


def _names(nodes: Sequence[Raw]) -> str:
    names = [_name(node) for node in nodes]
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def _count(number: int) -> str:
    return f"{number} node{'' if number == 1 else 's'}"
