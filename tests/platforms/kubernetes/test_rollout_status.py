"""Rollout statuses of recorded clusters (tests/data/kube)."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fnbuild.function.types import Raw
from fnbuild.platforms.base import WorkerStatus
from fnbuild.platforms.kubeclient.objects import KubeDeployment, KubeEvent, Node, Pod
from fnbuild.platforms.kubernetes import pod_status
from fnbuild.platforms.kubernetes.diagnosis import kubelet, rollout_status
from fnbuild.platforms.kubernetes.diagnosis.rollout_status import RolloutStatus
from fnbuild.platforms.kubernetes.pod_status import parse_timestamp
from fnbuild.platforms.processor_status import ProcessorStatus

DATA = Path(__file__).resolve().parents[2] / "data" / "kube"
NODES = [Node(node) for node in json.loads((DATA / "nodes.json").read_text())]

OUT_OF_MEMORY = (
    "the container was killed because it ran out of memory"
    " (spec.resources.limits.memory lets it have 48Mi in all)"
)

# The failure of each recording, a part of its hint, and the container whose log has details.
FAILURES = {
    "as-root": ("the image runs as root, and runAsNonRoot forbids it", "runAsUser", ""),
    "configmap-env-missing": ("the ConfigMap absent does not exist", "configmap absent", ""),
    "configmap-volume-missing": (
        "volume v: the ConfigMap absent does not exist",
        "kubectl create configmap absent -n vision",
        "",
    ),
    "crash": ("the container ended with exit status 1, 9 times so far", "", "nuclio"),
    "ended-twice": ("the container ended with exit status 1, 2 times so far", "", "nuclio"),
    "evicted": (
        'its pod was evicted: usage of EmptyDir volume "v" exceeds the limit "1Mi"',
        "spec.volumes",
        "",
    ),
    "hostpath-missing": (
        "volume v: /no/such/folder is not a directory on the node",
        "DirectoryOrCreate",
        "",
    ),
    "image-name": ('"Not/Valid:Name:x" is no name of an image', "REGISTRY/NAME:TAG", ""),
    "image-never": (
        "the node has no image nothere:1, and spec.imagePullPolicy Never forbids pulling it",
        "IfNotPresent",
        "",
    ),
    "image-not-found": (
        "the registry 127.0.0.1:5000 has no image 127.0.0.1:5000/none:1",
        "-r REGISTRY",
        "",
    ),
    "init-failing": (
        "init container fetch ended with exit status 4, 9 times so far",
        "",
        "fetch",
    ),
    "limit-range": (
        "a limit range of namespace vision refuses its resources: maximum memory usage per"
        " Container is 512Mi, but limit is 640Mi",
        "spec.resources",
        "",
    ),
    "no-account": ("the service account absent does not exist", "spec.serviceAccount", ""),
    "no-cpu": ("no node has 100 cpu free, they have 2 at most (0/1 nodes fit)", "requests", ""),
    "no-gpu": (
        "no node has 9 nvidia.com/gpu free, they have 0 at most (0/1 nodes fit)",
        "device plugin",
        "",
    ),
    "no-node-label": (
        "no node has the label zone=far (0/1 nodes fit)",
        "kubectl label node NODE zone=far",
        "",
    ),
    "no-priority": ("there is no priority class absent", "spec.priorityClassName", ""),
    "no-program": (
        "the container did not start: the image has no program /no/such/program, 9 times so far",
        "",
        "nuclio",
    ),
    "not-alive": (
        "the container was ended, for its liveness probe failed: HTTP status 404, 12 times so far",
        "",
        "nuclio",
    ),
    "oom": (f"{OUT_OF_MEMORY}, 9 times so far", "spec.resources.limits.memory", "nuclio"),
    "pvc-missing": (
        "the PersistentVolumeClaim absent does not exist (0/1 nodes fit)",
        "kubectl get pvc absent",
        "",
    ),
    "pvc-unbound": (
        "PersistentVolumeClaim unbound has no volume yet (0/1 nodes fit)",
        "kubectl describe pvc unbound",
        "",
    ),
    "quota": (
        "the quota small of namespace vision does not allow another pod"
        " (pods=1 more, pods=1 used, pods=1 allowed)",
        "Recreate",
        "",
    ),
    "registry-login": (
        "the registry 127.0.0.1:5555 requires a login for the image 127.0.0.1:5555/private:1",
        "fnbuild create registry-secret --platform kube -n vision --registry 127.0.0.1:5555",
        "",
    ),
    "registry-plain-http": (
        "the registry 172.17.0.1:5556 speaks plain HTTP, and the nodes ask it by HTTPS",
        "insecure-registries",
        "",
    ),
    "registry-refused": (
        "the nodes cannot reach the registry 127.0.0.1:5999: connection refused",
        "on a node, 127.0.0.1:5999 is the node itself",
        "",
    ),
    "rolling": (
        "the registry 127.0.0.1:5000 has no image 127.0.0.1:5000/none:2",
        "-r REGISTRY",
        "",
    ),
    "secret-key-missing": ("the Secret some has no key token", "spec.env asks for it", ""),
    "secret-missing": ("the Secret absent does not exist", "kubectl create secret generic", ""),
    "secret-volume-missing": (
        "volume v: the Secret absent does not exist",
        "spec.volumes asks for it",
        "",
    ),
    "signal": ("the container was ended by SIGSEGV, 2 times so far", "", "nuclio"),
}

# The message of each recording that may still become ready.
UNDER_WAY = {
    "init-running": "init container fetch is running",
    "just-missing": "volume v: the ConfigMap absent does not exist",
    "just-unschedulable": "no node has the label zone=far (0/1 nodes fit)",
    "not-listening": "the container runs, its readiness probe fails: nothing listens there",
    "not-ready": "the container runs, its readiness probe fails: HTTP status 404",
    "pulling": "pulling 127.0.0.1:5000/none:1",
    "recreate": "waiting for the old pod to end",
    "started": "the container has started",
}


def recording(name: str) -> Any:
    recorded = json.loads((DATA / f"{name}.json").read_text())
    return recorded | {
        "deployment": KubeDeployment(recorded["deployment"]),
        "pods": list(map(Pod, recorded["pods"])),
        "events": list(map(KubeEvent, recorded["events"])),
    }


def status_of(recorded: Any, later: float = 0.0, **more: Any) -> RolloutStatus:
    return rollout_status.rollout_status(
        recorded["deployment"],
        recorded["pods"],
        list(map(KubeEvent, recorded["events"])),
        recorded["now"] + later,
        NODES,
        **more,
    )


def test_every_recording_is_tested() -> None:
    names = {path.stem for path in DATA.glob("*.json")} - {"nodes", "well"}
    assert names == set(FAILURES) | set(UNDER_WAY)


@pytest.mark.parametrize("name", FAILURES)
def test_failures_are_explained(name: str) -> None:
    text, hint, container = FAILURES[name]
    rollout = status_of(recording(name))
    assert (rollout.failure, rollout.container) == (text, container)
    assert hint in rollout.hint
    assert rollout.failure in rollout.messages
    assert not rollout.ready
    assert bool(rollout.pod) is bool(container)


@pytest.mark.parametrize("name", UNDER_WAY)
def test_progress_is_described(name: str) -> None:
    rollout = status_of(recording(name))
    assert rollout == RolloutStatus(
        False, (UNDER_WAY[name],), "", "", rollout.pod, rollout.container
    )


def test_a_healthy_function_is_ready() -> None:
    assert status_of(recording("well")) == RolloutStatus(True)


@pytest.mark.parametrize(("name", "patience"), [("just-missing", 5), ("just-unschedulable", 15)])
def test_missing_objects_are_a_failure_after_a_delay(name: str, patience: float) -> None:
    recorded = recording(name)
    assert not status_of(recorded).failure
    assert status_of(recorded, patience).failure == UNDER_WAY[name]


def test_a_missing_volume_is_a_failure_after_a_delay() -> None:
    recorded = recording("pvc-missing")
    started = recorded["pods"][0].condition("PodScheduled").last_transition
    recorded["now"] = parse_timestamp(started)
    assert not status_of(recorded, 4).failure
    assert status_of(recorded, 6).failure == FAILURES["pvc-missing"][0]


def applied_at(recorded: Any, later: float) -> None:
    """Let the function be changed so many seconds after the recording."""
    moment = datetime.fromtimestamp(recorded["now"] + later, UTC).isoformat()
    change = {"manager": "fnbuild", "operation": "Apply", "time": moment}
    recorded["deployment"]["metadata"]["managedFields"] = [change]


@pytest.mark.parametrize("name", ["no-account", "no-node-label", "configmap-volume-missing"])
def test_failures_from_before_the_last_change_are_ignored(name: str) -> None:
    recorded = recording(name)
    applied_at(recorded, -1)
    assert not status_of(recorded).failure


def test_messages_about_an_older_replica_set_are_ignored() -> None:
    recorded, pods = recording("no-account"), recording("started")["pods"]
    recorded["deployment"]["status"]["updatedReplicas"] = 1
    template = recorded["deployment"]["spec"]["template"]
    pods[0]["metadata"] |= {
        "labels": template["metadata"]["labels"] | {"pod-template-hash": "newer"},
        "annotations": template["metadata"].get("annotations") or {},
    }
    pods[0]["spec"] |= template["spec"]
    assert status_of({**recorded, "pods": pods}, 60).messages == ("the container has started",)


def test_pods_of_another_template_count_until_new_ones_exist() -> None:
    recorded = recording("crash")
    recorded["deployment"]["spec"]["template"]["spec"]["containers"][0]["image"] = "another"
    assert "9 times so far" in status_of(recorded).failure  # admission may have changed it
    recorded["deployment"]["status"].pop("updatedReplicas")
    assert status_of(recorded).messages == ("its pod is being created",)


def test_a_missing_node_is_a_failure_after_a_delay() -> None:
    recorded = recording("pulling")
    pod = recorded["pods"][0]
    pod["spec"]["nodeName"], pod["status"] = "nonode", {"phase": "Pending"}
    recorded["now"] = parse_timestamp(pod["metadata"]["creationTimestamp"])
    assert status_of(recorded).messages == ("there is no node nonode",)
    assert not status_of(recorded).failure
    rollout = status_of(recorded, 5)
    assert rollout.failure == "there is no node nonode"
    assert NODES[0]["metadata"]["name"] in rollout.hint

    def status_without_nodes(later: float) -> RolloutStatus:
        """Return the status for a user who may not list nodes."""
        now = recorded["now"] + later
        return rollout_status.rollout_status(
            recorded["deployment"], recorded["pods"], recorded["events"], now
        )

    assert not status_without_nodes(5).failure
    assert status_without_nodes(15).failure == "no kubelet takes the pod on node nonode"
    pod["spec"]["nodeName"] = NODES[0]["metadata"]["name"]
    assert not status_of(recorded, 60).failure


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("configmap-volume-missing", {"configMap": {"name": "absent"}}),
        ("secret-volume-missing", {"secret": {"secretName": "absent"}}),
        ("secret-volume-missing", {"projected": {"sources": [{"secret": {"name": "absent"}}]}}),
    ],
)
def test_missing_volume_sources_are_found_before_the_kubelet_reports_them(
    name: str, source: Raw
) -> None:
    recorded = recording(name)
    recorded["events"] = []
    pod = recorded["pods"][0]
    optional = {"name": "w", "secret": {"secretName": "perhaps", "optional": True}}
    pod["spec"]["volumes"] = [{"name": "x", "emptyDir": {}}, optional, {"name": "v", **source}]
    pod["status"]["startTime"] = pod["metadata"]["creationTimestamp"]
    recorded["now"] = parse_timestamp(pod["status"]["startTime"])
    [finding] = [
        reference.missing_finding("vision") for reference in kubelet.volume_references(pod)
    ]
    absent = {pod["metadata"]["name"]: finding}
    assert not status_of(recorded, 4, missing_references=absent).failure
    rollout = status_of(recorded, 5, missing_references=absent)
    assert rollout.failure == FAILURES[name][0]
    assert FAILURES[name][1] in rollout.hint
    assert not pod_status.is_waiting_for_volumes(pod, recorded["now"] + 4)
    assert pod_status.is_waiting_for_volumes(pod, recorded["now"] + 5)
    running = recording("started")["pods"][0]
    assert not pod_status.is_waiting_for_volumes(running, recorded["now"] + 3600)


def test_a_cluster_that_adds_nodes_is_no_failure() -> None:
    recorded = recording("no-node-label")
    pod = recorded["pods"][0]["metadata"]
    involved_object = {"kind": "Pod", "name": pod["name"], "uid": pod["uid"]}
    recorded["events"].append(
        {"reason": "TriggeredScaleUp", "type": "Normal", "involvedObject": involved_object}
    )
    rollout = status_of(recorded)
    assert not rollout.failure
    assert rollout.messages[0].endswith("; the cluster adds a node")


def test_an_unprocessed_change_is_reported() -> None:
    recorded = recording("well")
    recorded["deployment"]["metadata"]["generation"] += 1
    waiting = RolloutStatus(False, ("waiting for the cluster to process the change",))
    assert status_of(recorded) == waiting


def test_a_paused_rollout_is_a_failure() -> None:
    recorded = recording("started")
    recorded["deployment"]["spec"]["paused"] = True
    rollout = status_of(recorded)
    assert rollout.failure == "the rollout is paused"
    assert "kubectl rollout resume deployment/nuclio-not-listening -n vision" in rollout.hint


def test_pods_of_older_revisions_do_not_count() -> None:
    recorded = recording("rolling")
    newest = rollout_status.newest_pods(recorded["deployment"], recorded["pods"])
    assert len(recorded["pods"]) == 2
    assert [pod["spec"]["containers"][0]["image"] for pod in newest] == ["127.0.0.1:5000/none:2"]


def test_the_newest_pods_of_a_template_count() -> None:
    recorded = recording("started")
    older = copy.deepcopy(recorded["pods"][0])
    older["metadata"] |= {"name": "older", "creationTimestamp": "2020-01-01T00:00:00Z"}
    older["metadata"]["labels"]["pod-template-hash"] = "other"
    newest = rollout_status.newest_pods(recorded["deployment"], [older, *recorded["pods"]])
    assert newest == recorded["pods"]


def test_a_rollback_is_not_blamed_for_the_failing_pod_that_it_replaces() -> None:
    recorded = recording("crash")
    assert status_of(recorded).failure
    recorded["pods"][0]["spec"]["containers"][0]["args"] = ["of the failed revision"]
    recorded["deployment"]["status"]["updatedReplicas"] = 0
    assert not status_of(recorded).failure


def test_images_changed_by_admission_are_accepted() -> None:
    recorded = recording("rolling")
    for pod in recorded["pods"]:
        image = pod["spec"]["containers"][0]["image"]
        pod["spec"]["containers"][0]["image"] = f"mirror.example.com/{image}"
    newest = rollout_status.newest_pods(recorded["deployment"], recorded["pods"])
    assert [pod["spec"]["containers"][0]["image"] for pod in newest] == [
        "mirror.example.com/127.0.0.1:5000/none:2"
    ]


def test_pods_are_distinguished_by_their_resources() -> None:
    """For example pods of a revision with more memory, and of the one that a rollback restores."""
    recorded = recording("started")
    old, new = recorded["pods"][0], copy.deepcopy(recorded["pods"][0])
    new["metadata"] |= {"name": "new", "creationTimestamp": "2036-01-01T00:00:00Z"}
    new["metadata"]["labels"]["pod-template-hash"] = "other"
    for pod, memory in ((old, "1Gi"), (new, "2Gi")):
        pod["spec"]["containers"][0]["resources"] = {"limits": {"memory": memory}}
    template = recorded["deployment"]["spec"]["template"]["spec"]["containers"][0]
    for memory, pod in (("1Gi", old), ("2Gi", new)):
        template["resources"] = {"limits": {"memory": memory}}
        assert rollout_status.newest_pods(recorded["deployment"], [old, new]) == [pod]


def test_pods_with_additional_variables_do_not_match() -> None:
    """For example pods of a failed revision with an additional variable."""
    recorded = recording("started")
    old, new = recorded["pods"][0], copy.deepcopy(recorded["pods"][0])
    new["metadata"] |= {"name": "new", "creationTimestamp": "2036-01-01T00:00:00Z"}
    new["metadata"]["labels"]["pod-template-hash"] = "other"
    new["spec"]["containers"][0].setdefault("env", []).append({"name": "MORE", "value": "1"})
    assert rollout_status.newest_pods(recorded["deployment"], [old, new]) == [old]


def test_a_single_eviction_is_no_failure() -> None:
    recorded = recording("evicted")
    recorded["pods"] = recorded["pods"][1:]
    rollout = status_of(recorded)
    assert not rollout.failure
    assert rollout.messages[0].startswith("its pod was evicted: usage")


def test_an_unreachable_node_is_reported() -> None:
    recorded = recording("not-ready")
    nodes = copy.deepcopy(NODES)
    nodes[0]["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]
    rollout = rollout_status.rollout_status(
        recorded["deployment"], recorded["pods"], recorded["events"], recorded["now"], nodes, None
    )
    assert rollout.messages == ("its node node1 does not answer",)


def test_the_number_of_ready_replicas_is_reported() -> None:
    recorded = recording("quota")
    recorded["deployment"]["status"]["conditions"] = []
    assert status_of(recorded).messages == ("1 of 2 replicas ready",)


def test_an_unmatched_selector_is_explained_without_nodes() -> None:
    recorded = recording("no-node-label")
    rollout = rollout_status.rollout_status(
        recorded["deployment"], recorded["pods"], recorded["events"], recorded["now"]
    )
    assert rollout.failure == "no node has the label zone=far (0/1 nodes fit)"


# Statuses of processors


def status_of_processor(
    state: Any, reason: str = "", workers: tuple[str, ...] = ()
) -> RolloutStatus:
    recorded = recording("started")
    worker_statuses = [WorkerStatus(number, state) for number, state in enumerate(workers)]
    status = ProcessorStatus(state, 1, 1, reason, f"{reason}\nTraceback", worker_statuses)
    return status_of(recorded, statuses={recorded["pods"][0]["metadata"]["name"]: status})


def test_a_running_init_context_is_reported() -> None:
    assert status_of_processor("starting").messages == ("init_context is running",)
    rollout = status_of_processor("starting", workers=("ready", "starting"))
    assert rollout.messages == ("init_context is running, 1 of 2 workers ready",)
    assert not rollout.failure


def test_a_failed_init_context_is_a_failure() -> None:
    rollout = status_of_processor("unhealthy", "ValueError: no weights")
    assert rollout.failure == "ValueError: no weights"
    assert (rollout.pod, rollout.container) != ("", "")


def test_a_worker_out_of_memory_is_explained() -> None:
    rollout = status_of_processor(
        "unhealthy", "worker 0 was killed (SIGKILL), likely out of memory"
    )
    assert rollout.failure.endswith(
        "likely out of memory (it has no limit, so the node has no more)"
    )
    assert "spec.resources.limits.memory" in rollout.hint


def test_ready_workers_are_reported_before_the_pod_is() -> None:
    assert status_of_processor("ready").messages == ("its workers are ready",)
