"""The free capacity of nodes for a pod."""

from __future__ import annotations

from typing import Any

import pytest

from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient.objects import Node, Pod
from fnbuild.platforms.kubernetes.rollout.capacity import (
    Capacity,
    ineligibility,
    measure_capacity,
    pod_requests,
)

GPU = "nvidia.com/gpu"


def node(name: str = "one", gpus: int = 2, **values: Any) -> Node:
    allocatable = {"cpu": "4", "memory": "8Gi", "pods": "110", GPU: str(gpus)}
    return Node(
        metadata={"name": name, "labels": values.pop("labels", {})},
        spec=values,
        status={"allocatable": allocatable},
    )


def pod(name: str = "", gpus: int = 1, on: str = "one", **values: Any) -> Pod:
    limits = {GPU: str(gpus)} if gpus else {}
    requests = values.pop("requests", {"cpu": "25m", "memory": "1Mi"})
    containers = [{"name": "nuclio", "resources": {"limits": limits, "requests": requests}}]
    return Pod(
        metadata={"name": name, "namespace": values.pop("namespace", "ns")},
        spec={"nodeName": on, "containers": containers, **values},
        status={"phase": "Running"},
    )


def measure(
    new_pod: Pod, nodes: list[Node], *pods: Pod, own_pods: tuple[str, ...] = ()
) -> Capacity:
    return measure_capacity(new_pod, nodes, pods, own_pods)


def test_resources_of_the_functions_pods_are_free_after_their_end() -> None:
    new_pod = pod(on="")
    capacity = measure(new_pod, [node()], pod("mine"), pod("other"), own_pods=("mine",))
    assert (capacity.beside, capacity.instead) == (0, 1)
    capacity = measure(new_pod, [node()], pod("mine"), own_pods=("mine",))
    assert (capacity.beside, capacity.instead) == (1, 2)
    # A pod of that name in another namespace is a different pod.
    capacity = measure(new_pod, [node()], pod("mine", namespace="elsewhere"), own_pods=("mine",))
    assert (capacity.beside, capacity.instead) == (1, 1)


def test_finished_pods_use_no_resources() -> None:
    finished = Pod(pod("done", gpus=2) | {"status": {"phase": "Succeeded"}})
    assert measure(pod(on=""), [node()], finished, pod("pending", gpus=2, on="")).beside == 2


@pytest.mark.parametrize(
    ("new_pod", "others", "text", "hint"),
    [
        (pod(on="", gpus=9), (), "has 9 nvidia.com/gpu for a pod: node one offers 2", "2 at most"),
        (
            pod(on="", gpus=2),
            (pod("other"),),
            "node one offers 2, of which other pods leave 1",
            "ask for 1 at most (spec.resources.limits)",
        ),
        (
            pod(on="", requests={"memory": "9Gi"}),
            (),
            "no node has 9Gi memory for a pod: node one offers 8Gi",
            "ask for 8Gi at most (spec.resources.requests)",
        ),
        (pod(on="", nodeSelector={"gpu": "a100"}), (), "no node has the label gpu=a100", "label"),
        (pod(on="gone"), (), "another name than spec.nodeName", "kubectl get nodes"),
    ],
)
def test_a_shortage_is_explained_with_node_amount_and_remedy(
    new_pod: Raw, others: tuple[Raw, ...], text: str, hint: str
) -> None:
    capacity = measure(new_pod, [node()], *others)
    assert capacity.instead == 0
    assert text in capacity.shortage.text
    assert hint in capacity.shortage.hint


def test_a_cluster_without_gpus_is_explained() -> None:
    capacity = measure(pod(on=""), [node(gpus=0)])
    assert capacity.shortage.text.endswith("node one offers none")
    assert "device plugin" in capacity.shortage.hint


def test_init_containers_count_by_their_maximum_and_sidecars_by_their_sum() -> None:
    sample = pod(requests={"cpu": "1"})
    init_container = {"resources": {"requests": {"cpu": "3", "memory": "1Gi"}}}
    sidecar = {"restartPolicy": "Always", "resources": {"requests": {"cpu": "2"}}}
    sample["spec"] |= {"initContainers": [sidecar, init_container], "overhead": {"cpu": "500m"}}
    requests = pod_requests(sample)
    assert (float(requests["cpu"]), int(requests["memory"]), int(requests[GPU])) == (
        3.5,
        1 << 30,
        1,
    )


def affinity(*requirements: Raw) -> Raw:
    terms = {"nodeSelectorTerms": [{"matchExpressions": list(requirements)}]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}


@pytest.mark.parametrize(
    ("spec", "fits"),
    [
        ({}, False),
        ({"tolerations": [{"key": "gpu", "operator": "Exists"}]}, True),
        ({"tolerations": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}, True),
        ({"tolerations": [{"key": "gpu", "value": "no"}]}, False),
        ({"tolerations": [{"operator": "Exists", "effect": "NoExecute"}]}, False),
        ({"tolerations": [{"operator": "Exists"}]}, True),
        ({"nodeName": "one"}, True),
    ],
)
def test_tolerations_match_taints_like_the_scheduler(spec: Raw, fits: bool) -> None:
    tainted = node(taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}])
    assert (not ineligibility(tainted, Pod(spec=spec))) is fits


@pytest.mark.parametrize(
    ("requirement", "fits"),
    [
        ({"key": "kind", "operator": "In", "values": ["a", "b"]}, True),
        ({"key": "kind", "operator": "NotIn", "values": ["a"]}, False),
        ({"key": "none", "operator": "NotIn", "values": ["a"]}, True),
        ({"key": "kind", "operator": "Exists"}, True),
        ({"key": "none", "operator": "DoesNotExist"}, True),
        ({"key": "memory", "operator": "Gt", "values": ["15"]}, True),
        ({"key": "memory", "operator": "Lt", "values": ["15"]}, False),
        ({"key": "kind", "operator": "Gt", "values": ["15"]}, False),
        ({"key": "kind", "operator": "Later"}, True),
    ],
)
def test_required_node_affinity_is_evaluated(requirement: Raw, fits: bool) -> None:
    labelled = node(labels={"kind": "a", "memory": "16"})
    assert (not ineligibility(labelled, Pod(spec=affinity(requirement)))) is fits
