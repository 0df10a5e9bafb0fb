"""Explanations of scheduler messages from several versions of Kubernetes."""

from __future__ import annotations

from typing import Any

import pytest

from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient.objects import Node, Pod
from fnbuild.platforms.kubernetes.diagnosis.scheduling import explain_unschedulable


def pod(**spec: Any) -> Pod:
    return Pod(metadata={"name": "p", "namespace": "vision"}, spec=spec)


def pod_requesting(**resources: str) -> Pod:
    return pod(containers=[{"name": "nuclio", "resources": {"requests": resources}}])


def node(labels: dict[str, str] | None = None, **allocatable: str) -> Node:
    return Node(metadata={"name": "n", "labels": labels or {}}, status={"allocatable": allocatable})


GPU = pod(nodeSelector={"gpu": "true"})
NONE_FITS = "no node has the label gpu=true (0/3 nodes fit)"


@pytest.mark.parametrize(
    "message",
    [
        "0/3 nodes are available: 3 node(s) didn't match node selector.",
        "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity.",
        "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.",
        "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector. preemption:"
        " 0/3 nodes are available: 3 Preemption is not helpful for scheduling.",
    ],
)
def test_selector_messages_of_all_versions_are_explained(message: str) -> None:
    explanation = explain_unschedulable(message, GPU)
    assert explanation.text == NONE_FITS
    assert "kubectl label node NODE gpu=true" in explanation.hint


def test_only_missing_labels_are_named() -> None:
    new_pod = pod(nodeSelector={"gpu": "true", "zone": "a"})
    message = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity."
    explanation = explain_unschedulable(message, new_pod, [node({"zone": "a"})])
    assert explanation.text == "no node has the label gpu=true (0/1 nodes fit)"
    nodes = [node({"zone": "a"}), node({"gpu": "true"})]
    explanation = explain_unschedulable(message, new_pod, nodes)
    assert explanation.text == "no node has the labels gpu=true and zone=a (0/1 nodes fit)"


def test_an_unmatched_affinity_is_explained() -> None:
    message = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
    assert (
        explain_unschedulable(message, pod()).text == "no node fits spec.affinity (0/1 nodes fit)"
    )


def test_reasons_of_different_nodes_are_combined() -> None:
    message = (
        "0/4 nodes are available: 1 Insufficient memory, 1 node(s) had untolerated taint"
        " {dedicated: gpu}, 2 node(s) didn't match Pod's node affinity/selector. preemption: 0/4"
        " nodes are available: 1 No preemption victims found for incoming pod, 3 Preemption is not"
        " helpful for scheduling."
    )
    new_pod = pod(
        nodeSelector={"gpu": "true"},
        containers=[{"name": "nuclio", "resources": {"requests": {"memory": "8Gi"}}}],
    )
    explanation = explain_unschedulable(message, new_pod)
    assert explanation.text == (
        "1 of 4 nodes have less than 8Gi memory free; 1 of 4 nodes have the taint dedicated=gpu,"
        " which the function does not tolerate; 2 of 4 nodes lack the label gpu=true"
        " (0/4 nodes fit)"
    )
    assert "spec.tolerations with key dedicated, value gpu" in explanation.hint
    assert "spec.nodeSelector" in explanation.hint


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (
            "0/2 nodes are available: 2 node(s) had taint {node-role.kubernetes.io/master: }, that"
            " the pod didn't tolerate.",
            "every node has the taint node-role.kubernetes.io/master, which the function does not"
            " tolerate (0/2 nodes fit)",
        ),
        (
            "0/1 nodes are available: 1 node(s) had taint {node.kubernetes.io/not-ready: }, that"
            " the pod didn't tolerate.",
            "every node is not ready (0/1 nodes fit)",
        ),
        (
            "0/2 nodes are available: 1 node(s) were unschedulable, 1 Too many pods.",
            "1 of 2 nodes are closed to new pods; 1 of 2 nodes have as many pods as they take"
            " (0/2 nodes fit)",
        ),
        (
            '0/1 nodes are available: persistentvolumeclaim "weights" not found. preemption: 0/1'
            " nodes are available: 1 Preemption is not helpful for scheduling.",
            "the PersistentVolumeClaim weights does not exist (0/1 nodes fit)",
        ),
        (
            'persistentvolumeclaim "weights" not found',
            "the PersistentVolumeClaim weights does not exist",
        ),
        ("no nodes available to schedule pods", "the cluster has no node"),
        (
            "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules.",
            "2 of 2 nodes didn't match pod anti-affinity rules (0/2 nodes fit)",
        ),
    ],
)
def test_other_messages_are_explained(message: str, text: str) -> None:
    assert explain_unschedulable(message, pod()).text == text


@pytest.mark.parametrize(
    ("nodes", "text"),
    [
        (None, "no node has 64Gi memory free (0/1 nodes fit)"),
        (
            [node(memory="3931648Ki"), node(memory="1Gi")],
            "no node has 64Gi memory free, they have 3839Mi at most (0/1 nodes fit)",
        ),
        ([node(memory="128Gi")], "no node has 64Gi memory free, others use it (0/1 nodes fit)"),
    ],
)
def test_the_available_amount_is_named(nodes: list[Raw] | None, text: str) -> None:
    message = "0/1 nodes are available: 1 Insufficient memory."
    assert explain_unschedulable(message, pod_requesting(memory="64Gi"), nodes).text == text


def test_a_missing_gpu_is_explained() -> None:
    message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    limits = {"limits": {"nvidia.com/gpu": "1"}}
    new_pod = pod(containers=[{"name": "nuclio", "resources": limits}])
    explanation = explain_unschedulable(message, new_pod, [node(cpu="4")])
    assert (
        explanation.text == "no node has 1 nvidia.com/gpu free, they have 0 at most (0/1 nodes fit)"
    )
    assert "device plugin" in explanation.hint


@pytest.mark.parametrize(
    "message",
    [
        'persistentvolumeclaim "weights" not found',
        "0/1 nodes are available: 1 pod has unbound immediate PersistentVolumeClaims.",
    ],
)
def test_commands_about_claims_have_the_namespace(message: str) -> None:
    new_pod = pod(volumes=[{"persistentVolumeClaim": {"claimName": "weights"}}])
    assert "pvc weights -n vision`" in explain_unschedulable(message, new_pod).hint
