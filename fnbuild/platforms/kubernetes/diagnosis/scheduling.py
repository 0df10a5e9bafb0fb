"""Explanations of unschedulable pods, in terms of function.yaml.

The scheduler counts nodes by obstacle ("0/3 nodes are available: 2 Insufficient memory, 1 node(s)
didn't match Pod's node affinity."). Its wording differs between versions, and the details (which
label, how much memory) are in the pod and in the nodes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fnbuild.function.quantities import parse_quantity
from fnbuild.platforms.kubeclient.objects import Node, Pod
from fnbuild.platforms.kubernetes.pod_status import PodFinding, join_words
from fnbuild.platforms.settings import GPU_RESOURCE

_SUMMARY = re.compile(r"(\d+)/(\d+) nodes are available: ")
# Newer schedulers add a note on preemption.
_PREEMPTION = re.compile(r"\.? preemption: .*$|\.$", re.DOTALL)
_SEPARATOR = re.compile(r", (?=\d+ )")
_PART = re.compile(r"(?:(\d+) )?(.*)", re.DOTALL)
_TAINT = re.compile(r"taint \{([^:}]+): ?([^}]*)\}")
_CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)" (.+)')

_CLAIM_NOT_FOUND = "not found"

GPU_HINT = (
    "`kubectl describe nodes` shows what they offer and who uses it; without NVIDIA's device plugin"
    " they offer none"
)

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
    """An obstacle that affects `count` of `total` nodes."""

    text: str
    count: int
    total: int
    pod: Pod
    nodes: list[Node] | None

    @property
    def affects_all(self) -> bool:
        return self.count >= self.total

    @property
    def affected_count_text(self) -> str:
        """The number of affected nodes as text, such as `2 of 3 nodes`."""
        return f"{self.count} of {self.total} nodes"


def explain_unschedulable(message: str, pod: Pod, nodes: list[Node] | None = None) -> PodFinding:
    """Explain the scheduler's message. `nodes` are those of the cluster, None if unknown."""
    head = _SUMMARY.search(message)
    if head is None:
        return _explain_message(message, pod)
    total = int(head[2])
    findings = []
    for part in _SEPARATOR.split(_PREEMPTION.sub("", message[head.end() :])):
        count, text = _PART.findall(part)[0]
        findings.append(
            _explain_obstacle(_NodeObstacle(text, int(count or total), total, pod, nodes))
        )
    fit = f" (0/{total} nodes fit)"
    hints = dict.fromkeys(finding.hint for finding in findings if finding.hint)
    return PodFinding(
        "; ".join(dict.fromkeys(finding.text for finding in findings)) + fit, "; ".join(hints)
    )


def is_claim_missing(message: str) -> bool:
    """Return True if a PersistentVolumeClaim does not exist, which no additional node solves."""
    match = _CLAIM.search(message)
    return match is not None and match[2].rstrip(".") == _CLAIM_NOT_FOUND


def _explain_message(message: str, pod: Pod) -> PodFinding:
    if "no nodes available" in message:
        return PodFinding("the cluster has no node", "`kubectl get nodes` lists them")
    return _claim_finding(message, pod) or PodFinding(
        message.rstrip(".") or "no node takes the pod yet"
    )


def _explain_obstacle(obstacle: _NodeObstacle) -> PodFinding:
    for mark, explain in _EXPLANATIONS:
        if mark in obstacle.text:
            return explain(obstacle)
    if (claim := _claim_finding(obstacle.text, obstacle.pod)) is not None:
        return claim
    if obstacle.text.startswith("node(s) "):
        return PodFinding(
            f"{obstacle.affected_count_text} {obstacle.text.removeprefix('node(s) ')}"
        )
    return PodFinding(
        obstacle.text
        if obstacle.affects_all
        else f"{obstacle.affected_count_text}: {obstacle.text}"
    )


def _selector_finding(obstacle: _NodeObstacle) -> PodFinding:
    labels = [f"{k}={value}" for k, value in obstacle.pod.spec.section("nodeSelector").items()]
    if obstacle.nodes is not None and len(labels) > 1:
        # Only labels that no node has are relevant.
        labels = [label for label in labels if not _has_label(label, obstacle.nodes)] or labels
    if not labels:
        text = (
            "no node fits" if obstacle.affects_all else f"{obstacle.affected_count_text} do not fit"
        )
        return PodFinding(f"{text} spec.affinity", "`kubectl get nodes --show-labels` shows theirs")
    label_text = (
        f"the label {labels[0]}" if len(labels) == 1 else f"the labels {join_words(labels)}"
    )
    text = (
        f"no node has {label_text}"
        if obstacle.affects_all
        else f"{obstacle.affected_count_text} lack {label_text}"
    )
    example = f"`kubectl label node NODE {' '.join(labels)}`"
    return PodFinding(text, f"label one: {example}; or change spec.nodeSelector")


def _has_label(label: str, nodes: list[Node]) -> bool:
    key, _, value = label.partition("=")
    return any(node.labels.get(key) == value for node in nodes)


def _insufficient_finding(obstacle: _NodeObstacle) -> PodFinding:
    resource = obstacle.text.split()[-1]
    requested = _requested(obstacle.pod, resource)
    amount = f"{requested} {resource}" if requested else f"enough {resource}"
    text = (
        f"no node has {amount} free"
        if obstacle.affects_all
        else f"{obstacle.affected_count_text} have less than {amount} free"
    )
    largest = _largest_offer(obstacle.nodes, resource)
    if largest is not None:
        lacking = not requested or parse_quantity(largest) < parse_quantity(requested)
        text += f", they have {_in_mebibytes(largest)} at most" if lacking else ", others use it"
    if resource == GPU_RESOURCE:
        return PodFinding(text, GPU_HINT)
    return PodFinding(text, "ask for less in spec.resources.requests, or make room")


def _requested(pod: Pod, resource: str) -> str:
    """Return the largest request of the pod's containers, or ""."""
    amounts = [
        container.requests.text(resource) or container.limits.text(resource)
        for container in pod.containers
    ]
    return max(filter(None, amounts), key=parse_quantity, default="")


def _largest_offer(nodes: list[Node] | None, resource: str) -> str | None:
    """Return the largest allocatable amount of a node, or None if it is unknown."""
    if not nodes:
        return None
    return max((str(node.allocatable.get(resource, "0")) for node in nodes), key=parse_quantity)


def _in_mebibytes(amount: str) -> str:
    """Convert Ki, the unit of kubelets for memory, to Mi."""
    if not amount.endswith("Ki") or not amount[:-2].isdecimal():
        return amount
    return f"{int(amount[:-2]) >> 10}Mi"


def _taint_finding(obstacle: _NodeObstacle) -> PodFinding:
    match = _TAINT.search(obstacle.text)
    if match is None:
        return PodFinding(
            f"{obstacle.affected_count_text} have taints that spec.tolerations does not tolerate"
        )
    key, value = match[1].strip(), match[2].strip()
    subject = "every node is" if obstacle.affects_all else f"{obstacle.affected_count_text} are"
    if key.startswith("node.kubernetes.io/"):
        state = _NODE_TAINTS.get(key.partition("/")[2], key)
        return PodFinding(f"{subject} {state}", "`kubectl describe nodes` says why")
    taint = f"{key}={value}" if value else key
    subject = "every node has" if obstacle.affects_all else f"{obstacle.affected_count_text} have"
    tolerated = f"key {key}, value {value}" if value else f"key {key}, operator Exists"
    return PodFinding(
        f"{subject} the taint {taint}, which the function does not tolerate",
        f"an entry of spec.tolerations with {tolerated}",
    )


def _fixed_explanation(every: str, hint: str) -> Callable[[_NodeObstacle], PodFinding]:
    """Return an explanation; `every` is the predicate of "all nodes" and "2 of 3 nodes"."""

    def explain(obstacle: _NodeObstacle) -> PodFinding:
        return PodFinding(
            f"{'all nodes' if obstacle.affects_all else obstacle.affected_count_text} {every}", hint
        )

    return explain


def _claim_finding(text: str, pod: Pod) -> PodFinding | None:
    if match := _CLAIM.search(text):
        name, problem = match[1], match[2].rstrip(".")
        namespace = pod.namespace
        if problem == _CLAIM_NOT_FOUND:
            return PodFinding(
                f"the PersistentVolumeClaim {name} does not exist",
                f"create it, or correct spec.volumes; `kubectl get pvc {name} -n {namespace}`"
                " shows it then",
            )
        return PodFinding(f"the PersistentVolumeClaim {name} {problem}")
    return None


def _unbound_claim_finding(obstacle: _NodeObstacle) -> PodFinding:
    claims = list(_claim_names(obstacle.pod))
    claim_text = join_words([f"PersistentVolumeClaim {name}" for name in claims] or ["a claim"])
    name, namespace = claims[0] if claims else "NAME", obstacle.pod.namespace
    return PodFinding(
        f"{claim_text} has no volume yet",
        f"`kubectl describe pvc {name} -n {namespace}` says why: no PersistentVolume fits, or there"
        " is no storage class that makes one",
    )


def _claim_names(pod: Pod) -> Iterator[str]:
    for volume in pod.spec.items_of("volumes"):
        if claim := volume.get("persistentVolumeClaim"):
            yield str(claim.get("claimName"))


_EXPLANATIONS: tuple[tuple[str, Callable[[_NodeObstacle], PodFinding]], ...] = (
    ("node selector", _selector_finding),
    ("Pod's node affinity", _selector_finding),
    ("Insufficient ", _insufficient_finding),
    ("taint", _taint_finding),
    ("unbound immediate PersistentVolumeClaims", _unbound_claim_finding),
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
