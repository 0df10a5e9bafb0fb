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


def counted(wanted: Pod, nodes: list[Node], *pods: Pod, own: tuple[str, ...] = ()) -> Capacity:
    return measure_capacity(wanted, nodes, pods, own)


def test_what_the_functions_own_pods_hold_is_free_once_they_end() -> None:
    wanted = pod(on="")
    found = counted(wanted, [node()], pod("mine"), pod("other"), own=("mine",))
    assert (found.beside, found.instead) == (0, 1)
    found = counted(wanted, [node()], pod("mine"), own=("mine",))
    assert (found.beside, found.instead) == (1, 2)
    # A pod of that name in another namespace is somebody else's.
    found = counted(wanted, [node()], pod("mine", namespace="elsewhere"), own=("mine",))
    assert (found.beside, found.instead) == (1, 1)


def test_pods_that_have_ended_hold_nothing() -> None:
    done = Pod(pod("done", gpus=2) | {"status": {"phase": "Succeeded"}})
    assert counted(pod(on=""), [node()], done, pod("pending", gpus=2, on="")).beside == 2


@pytest.mark.parametrize(
    ("wanted", "others", "text", "hint"),
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
def test_what_is_missing_is_told_with_node_number_and_remedy(
    wanted: Raw, others: tuple[Raw, ...], text: str, hint: str
) -> None:
    found = counted(wanted, [node()], *others)
    assert found.instead == 0
    assert text in found.shortage.text
    assert hint in found.shortage.hint


def test_a_cluster_without_gpus_says_that_there_are_none() -> None:
    found = counted(pod(on=""), [node(gpus=0)])
    assert found.shortage.text.endswith("node one offers none")
    assert "device plugin" in found.shortage.hint


def test_init_containers_count_by_the_largest_and_sidecars_of_theirs_by_the_sum() -> None:
    one = pod(requests={"cpu": "1"})
    many = {"resources": {"requests": {"cpu": "3", "memory": "1Gi"}}}
    beside = {"restartPolicy": "Always", "resources": {"requests": {"cpu": "2"}}}
    one["spec"] |= {"initContainers": [beside, many], "overhead": {"cpu": "500m"}}
    found = pod_requests(one)
    assert (float(found["cpu"]), int(found["memory"]), int(found[GPU])) == (3.5, 1 << 30, 1)


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
def test_taints_are_tolerated_as_the_scheduler_does(spec: Raw, fits: bool) -> None:
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
def test_required_node_affinity(requirement: Raw, fits: bool) -> None:
    one = node(labels={"kind": "a", "memory": "16"})
    assert (not ineligibility(one, Pod(spec=affinity(requirement)))) is fits
