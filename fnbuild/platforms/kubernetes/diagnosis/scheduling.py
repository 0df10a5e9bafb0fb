"""Why no node takes a pod: the scheduler's message in the words of function.yaml.

The scheduler counts nodes by what stands against them ("0/3 nodes are available: 2 Insufficient
memory, 1 node(s) didn't match Pod's node affinity."); its wording differs between versions, and
what is meant (which label, how much memory) is in the pod and in the nodes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fnbuild.function.quantities import parse_quantity
from fnbuild.function.types import Raw
from fnbuild.platforms.kubernetes.status import PodFinding, join_words
from fnbuild.platforms.settings import GPU_RESOURCE

_SUMMARY = re.compile(r"(\d+)/(\d+) nodes are available: ")
# Newer schedulers add what they think of preemption.
_PREEMPTION = re.compile(r"\.? preemption: .*$|\.$", re.DOTALL)
_SEPARATOR = re.compile(r", (?=\d+ )")
_PART = re.compile(r"(?:(\d+) )?(.*)", re.DOTALL)
_TAINT = re.compile(r"taint \{([^:}]+): ?([^}]*)\}")
_CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)" (.+)')

_CLAIM_NOT_FOUND = "not found"

_NODE_TAINTS = {
    "not-ready": "not ready",
    "unreachable": "out of reach",
    "disk-pressure": "short of disk",
    "memory-pressure": "short of memory",
    "pid-pressure": "short of process ids",
    "network-unavailable": "without a network",
    "unschedulable": "closed to new pods",
}


@dataclass(frozen=True, slots=True)
class _NodeObstacle:
    """One thing that stands against `count` of `total` nodes."""

    text: str
    count: int
    total: int
    pod: Raw
    nodes: list[Raw] | None

    @property
    def all(self) -> bool:
        return self.count >= self.total

    @property
    def some(self) -> str:
        """The nodes it is about, where it is not all of them."""
        return f"{self.count} of {self.total} nodes"


def explain_unschedulable(message: str, pod: Raw, nodes: list[Raw] | None = None) -> PodFinding:
    """What the scheduler's message means. `nodes` are those of the cluster, None when unknown."""
    head = _SUMMARY.search(message)
    if head is None:
        return _explain_message(message, pod)
    total = int(head[2])
    found = []
    for part in _SEPARATOR.split(_PREEMPTION.sub("", message[head.end() :])):
        count, text = _PART.findall(part)[0]
        found.append(_explain_obstacle(_NodeObstacle(text, int(count or total), total, pod, nodes)))
    fit = f" (0/{total} nodes fit)"
    hints = dict.fromkeys(one.hint for one in found if one.hint)
    return PodFinding("; ".join(dict.fromkeys(one.text for one in found)) + fit, "; ".join(hints))


def is_claim_missing(message: str) -> bool:
    """Whether a PersistentVolumeClaim does not exist: no node that is added brings it."""
    found = _CLAIM.search(message)
    return found is not None and found[2].rstrip(".") == _CLAIM_NOT_FOUND


def _explain_message(message: str, pod: Raw) -> PodFinding:
    if "no nodes available" in message:
        return PodFinding("the cluster has no node", "`kubectl get nodes` lists them")
    return _claim_finding(message, pod) or PodFinding(
        message.rstrip(".") or "no node takes the pod yet"
    )


def _explain_obstacle(case: _NodeObstacle) -> PodFinding:
    for mark, make in _EXPLANATIONS:
        if mark in case.text:
            return make(case)
    if (claim := _claim_finding(case.text, case.pod)) is not None:
        return claim
    if case.text.startswith("node(s) "):
        return PodFinding(f"{case.some} {case.text.removeprefix('node(s) ')}")
    return PodFinding(case.text if case.all else f"{case.some}: {case.text}")


def _selector(case: _NodeObstacle) -> PodFinding:
    spec = case.pod.get("spec") or {}
    labels = [f"{key}={value}" for key, value in (spec.get("nodeSelector") or {}).items()]
    if case.nodes is not None and len(labels) > 1:
        # Those that no node has are the ones to look at.
        labels = [label for label in labels if not _has_label(label, case.nodes)] or labels
    if not labels:
        text = "no node fits" if case.all else f"{case.some} do not fit"
        return PodFinding(f"{text} spec.affinity", "`kubectl get nodes --show-labels` shows theirs")
    words = f"the label {labels[0]}" if len(labels) == 1 else f"the labels {join_words(labels)}"
    text = f"no node has {words}" if case.all else f"{case.some} lack {words}"
    example = f"`kubectl label node NODE {' '.join(labels)}`"
    return PodFinding(text, f"label one: {example}; or change spec.nodeSelector")


def _has_label(label: str, nodes: list[Raw]) -> bool:
    key, _, value = label.partition("=")
    return any((node["metadata"].get("labels") or {}).get(key) == value for node in nodes)


def _insufficient(case: _NodeObstacle) -> PodFinding:
    resource = case.text.split()[-1]
    asked = _requested(case.pod, resource)
    amount = f"{asked} {resource}" if asked else f"enough {resource}"
    text = f"no node has {amount} free" if case.all else f"{case.some} have less than {amount} free"
    most = _largest_offer(case.nodes, resource)
    if most is not None:
        lacking = not asked or parse_quantity(most) < parse_quantity(asked)
        text += f", they have {_in_mebibytes(most)} at most" if lacking else ", others use it"
    if resource == GPU_RESOURCE:
        return PodFinding(
            text,
            "`kubectl describe nodes` shows what they offer and who uses it; without NVIDIA's"
            " device plugin they offer none",
        )
    return PodFinding(text, "ask for less in spec.resources.requests, or make room")


def _requested(pod: Raw, resource: str) -> str:
    """The most that one of the pod's containers asks for; "" when none does."""
    found = []
    for container in (pod.get("spec") or {}).get("containers") or []:
        resources = container.get("resources") or {}
        given = (resources.get("requests") or {}).get(resource) or (
            resources.get("limits") or {}
        ).get(resource)
        if given:
            found.append(str(given))
    return max(found, key=parse_quantity, default="")


def _largest_offer(nodes: list[Raw] | None, resource: str) -> str | None:
    """What the node with the most of it offers in all; None when unknown."""
    if not nodes:
        return None
    offered = [
        str(((node.get("status") or {}).get("allocatable") or {}).get(resource, "0"))
        for node in nodes
    ]
    return max(offered, key=parse_quantity)


def _in_mebibytes(amount: str) -> str:
    """Kubelets tell memory in Ki, whatever its size."""
    if not amount.endswith("Ki") or not amount[:-2].isdecimal():
        return amount
    return f"{int(amount[:-2]) >> 10}Mi"


def _taint(case: _NodeObstacle) -> PodFinding:
    found = _TAINT.search(case.text)
    if found is None:
        return PodFinding(f"{case.some} have taints that spec.tolerations does not tolerate")
    key, value = found[1].strip(), found[2].strip()
    who = "every node is" if case.all else f"{case.some} are"
    if key.startswith("node.kubernetes.io/"):
        state = _NODE_TAINTS.get(key.partition("/")[2], key)
        return PodFinding(f"{who} {state}", "`kubectl describe nodes` says why")
    taint = f"{key}={value}" if value else key
    who = "every node has" if case.all else f"{case.some} have"
    tolerated = f"key {key}, value {value}" if value else f"key {key}, operator Exists"
    return PodFinding(
        f"{who} the taint {taint}, which the function does not tolerate",
        f"an entry of spec.tolerations with {tolerated}",
    )


def _fixed_explanation(every: str, hint: str) -> Callable[[_NodeObstacle], PodFinding]:
    """`every` completes the sentence "every node …" and "2 of 3 nodes …"."""

    def make(case: _NodeObstacle) -> PodFinding:
        return PodFinding(f"{'all nodes' if case.all else case.some} {every}", hint)

    return make


def _claim_finding(text: str, pod: Raw) -> PodFinding | None:
    if found := _CLAIM.search(text):
        name, what = found[1], found[2].rstrip(".")
        namespace = pod["metadata"]["namespace"]
        if what == _CLAIM_NOT_FOUND:
            return PodFinding(
                f"the PersistentVolumeClaim {name} does not exist",
                f"create it, or correct spec.volumes; `kubectl get pvc {name} -n {namespace}`"
                " shows it then",
            )
        return PodFinding(f"the PersistentVolumeClaim {name} {what}")
    return None


def _unbound_claim(case: _NodeObstacle) -> PodFinding:
    claims = list(_claim_names(case.pod))
    words = join_words([f"PersistentVolumeClaim {name}" for name in claims] or ["a claim"])
    name, namespace = claims[0] if claims else "NAME", case.pod["metadata"]["namespace"]
    return PodFinding(
        f"{words} has no volume yet",
        f"`kubectl describe pvc {name} -n {namespace}` says why: no PersistentVolume fits, or there"
        " is no storage class that makes one",
    )


def _claim_names(pod: Raw) -> Iterator[str]:
    for volume in (pod.get("spec") or {}).get("volumes") or []:
        if claim := volume.get("persistentVolumeClaim"):
            yield str(claim.get("claimName"))


_EXPLANATIONS: tuple[tuple[str, Callable[[_NodeObstacle], PodFinding]], ...] = (
    ("node selector", _selector),
    ("Pod's node affinity", _selector),
    ("Insufficient ", _insufficient),
    ("taint", _taint),
    ("unbound immediate PersistentVolumeClaims", _unbound_claim),
    (
        "were unschedulable",
        _fixed_explanation("are closed to new pods", "`kubectl uncordon NODE` opens one again"),
    ),
    (
        "Too many pods",
        _fixed_explanation("have as many pods as they take", "delete some, or add a node"),
    ),
    (
        "volume node affinity conflict",
        _fixed_explanation(
            "cannot mount its volume", "the PersistentVolume is bound to other nodes"
        ),
    ),
    (
        "available persistent volumes to bind",
        _fixed_explanation("have no PersistentVolume for its claim", "`kubectl get pv` lists them"),
    ),
    (
        "requested node name",
        _fixed_explanation(
            "have another name than spec.nodeName", "`kubectl get nodes` lists the names"
        ),
    ),
    (
        "free ports",
        _fixed_explanation("have its host port taken", "another hostPort, or fewer replicas"),
    ),
)
