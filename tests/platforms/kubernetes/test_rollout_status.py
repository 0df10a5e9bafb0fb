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

# What keeps it from ever being ready, a part of the remedy, the container whose log says more.
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

# What is said while it may still become ready.
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
    said = json.loads((DATA / f"{name}.json").read_text())
    return said | {
        "deployment": KubeDeployment(said["deployment"]),
        "pods": list(map(Pod, said["pods"])),
        "events": list(map(KubeEvent, said["events"])),
    }


def standing(said: Any, later: float = 0.0, **more: Any) -> RolloutStatus:
    return rollout_status.rollout_status(
        said["deployment"],
        said["pods"],
        list(map(KubeEvent, said["events"])),
        said["now"] + later,
        NODES,
        **more,
    )


def test_every_recording_is_looked_at() -> None:
    there = {path.stem for path in DATA.glob("*.json")} - {"nodes", "well"}
    assert there == set(FAILURES) | set(UNDER_WAY)


@pytest.mark.parametrize("name", FAILURES)
def test_why_it_will_not_be_ready(name: str) -> None:
    text, hint, container = FAILURES[name]
    found = standing(recording(name))
    assert (found.failure, found.container) == (text, container)
    assert hint in found.hint
    assert found.failure in found.messages
    assert not found.ready
    assert bool(found.pod) is bool(container)


@pytest.mark.parametrize("name", UNDER_WAY)
def test_what_is_going_on(name: str) -> None:
    found = standing(recording(name))
    assert found == RolloutStatus(False, (UNDER_WAY[name],), "", "", found.pod, found.container)


def test_a_function_that_is_well() -> None:
    assert standing(recording("well")) == RolloutStatus(True)


@pytest.mark.parametrize(("name", "patience"), [("just-missing", 5), ("just-unschedulable", 15)])
def test_what_others_may_make_is_waited_for(name: str, patience: float) -> None:
    said = recording(name)
    assert not standing(said).failure
    assert standing(said, patience).failure == UNDER_WAY[name]


def test_a_volume_that_does_not_exist_comes_with_no_node() -> None:
    said = recording("pvc-missing")
    started = said["pods"][0].condition("PodScheduled").last_transition
    said["now"] = parse_timestamp(started)
    assert not standing(said, 4).failure
    assert standing(said, 6).failure == FAILURES["pvc-missing"][0]


def applied_at(said: Any, later: float) -> None:
    """The function was changed so many seconds behind what is recorded."""
    moment = datetime.fromtimestamp(said["now"] + later, UTC).isoformat()
    change = {"manager": "fnbuild", "operation": "Apply", "time": moment}
    said["deployment"]["metadata"]["managedFields"] = [change]


@pytest.mark.parametrize("name", ["no-account", "no-node-label", "configmap-volume-missing"])
def test_what_was_so_before_the_last_change_is_waited_for_again(name: str) -> None:
    said = recording(name)
    applied_at(said, -1)
    assert not standing(said).failure


def test_the_words_about_an_older_replica_set() -> None:
    said, pods = recording("no-account"), recording("started")["pods"]
    template = said["deployment"]["spec"]["template"]
    pods[0]["metadata"] |= {
        "labels": template["metadata"]["labels"] | {"pod-template-hash": "newer"},
        "annotations": template["metadata"].get("annotations") or {},
    }
    pods[0]["spec"] |= template["spec"]
    assert standing({**said, "pods": pods}, 60).messages == ("the container has started",)


def test_pods_of_another_template_while_there_are_none_of_the_newest() -> None:
    said = recording("crash")
    said["deployment"]["spec"]["template"]["spec"]["containers"][0]["image"] = "another"
    assert "9 times so far" in standing(said).failure  # admission may have changed it
    said["deployment"]["status"].pop("updatedReplicas")
    assert standing(said).messages == ("its pod is being created",)


def test_a_node_that_is_not_there() -> None:
    said = recording("pulling")
    pod = said["pods"][0]
    pod["spec"]["nodeName"], pod["status"] = "nonode", {"phase": "Pending"}
    said["now"] = parse_timestamp(pod["metadata"]["creationTimestamp"])
    assert standing(said).messages == ("there is no node nonode",)
    assert not standing(said).failure
    found = standing(said, 5)
    assert found.failure == "there is no node nonode"
    assert NODES[0]["metadata"]["name"] in found.hint

    def blind(later: float) -> RolloutStatus:
        """As who may not see nodes."""
        now = said["now"] + later
        return rollout_status.rollout_status(said["deployment"], said["pods"], said["events"], now)

    assert not blind(5).failure
    assert blind(15).failure == "no kubelet takes the pod on node nonode"
    pod["spec"]["nodeName"] = NODES[0]["metadata"]["name"]
    assert not standing(said, 60).failure


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("configmap-volume-missing", {"configMap": {"name": "absent"}}),
        ("secret-volume-missing", {"secret": {"secretName": "absent"}}),
        ("secret-volume-missing", {"projected": {"sources": [{"secret": {"name": "absent"}}]}}),
    ],
)
def test_what_a_volume_needs_before_the_kubelet_tells(name: str, source: Raw) -> None:
    said = recording(name)
    said["events"] = []
    pod = said["pods"][0]
    optional = {"name": "w", "secret": {"secretName": "perhaps", "optional": True}}
    pod["spec"]["volumes"] = [{"name": "x", "emptyDir": {}}, optional, {"name": "v", **source}]
    pod["status"]["startTime"] = pod["metadata"]["creationTimestamp"]
    said["now"] = parse_timestamp(pod["status"]["startTime"])
    [missed] = [one.missing_finding("vision") for one in kubelet.volume_references(pod)]
    absent = {pod["metadata"]["name"]: missed}
    assert not standing(said, 4, absent=absent).failure
    found = standing(said, 5, absent=absent)
    assert found.failure == FAILURES[name][0]
    assert FAILURES[name][1] in found.hint
    assert not pod_status.is_waiting_for_volumes(pod, said["now"] + 4)
    assert pod_status.is_waiting_for_volumes(pod, said["now"] + 5)
    running = recording("started")["pods"][0]
    assert not pod_status.is_waiting_for_volumes(running, said["now"] + 3600)


def test_a_cluster_that_grows_is_waited_for() -> None:
    said = recording("no-node-label")
    pod = said["pods"][0]["metadata"]
    about = {"kind": "Pod", "name": pod["name"], "uid": pod["uid"]}
    said["events"].append({"reason": "TriggeredScaleUp", "type": "Normal", "involvedObject": about})
    found = standing(said)
    assert not found.failure
    assert found.messages[0].endswith("; the cluster adds a node")


def test_a_change_that_the_cluster_has_not_seen_yet() -> None:
    said = recording("well")
    said["deployment"]["metadata"]["generation"] += 1
    waiting = RolloutStatus(False, ("waiting for the cluster to process the change",))
    assert standing(said) == waiting


def test_a_paused_rollout() -> None:
    said = recording("started")
    said["deployment"]["spec"]["paused"] = True
    found = standing(said)
    assert found.failure == "the rollout is paused"
    assert "kubectl rollout resume deployment/nuclio-not-listening -n vision" in found.hint


def test_pods_of_older_revisions_do_not_count() -> None:
    said = recording("rolling")
    newest = rollout_status.newest_pods(said["deployment"], said["pods"])
    assert len(said["pods"]) == 2
    assert [pod["spec"]["containers"][0]["image"] for pod in newest] == ["127.0.0.1:5000/none:2"]


def test_of_pods_of_the_same_template_the_newest_count() -> None:
    said = recording("started")
    older = copy.deepcopy(said["pods"][0])
    older["metadata"] |= {"name": "older", "creationTimestamp": "2020-01-01T00:00:00Z"}
    older["metadata"]["labels"]["pod-template-hash"] = "other"
    newest = rollout_status.newest_pods(said["deployment"], [older, *said["pods"]])
    assert newest == said["pods"]


def test_pods_whose_images_admission_has_changed() -> None:
    said = recording("rolling")
    for pod in said["pods"]:
        image = pod["spec"]["containers"][0]["image"]
        pod["spec"]["containers"][0]["image"] = f"mirror.example.com/{image}"
    newest = rollout_status.newest_pods(said["deployment"], said["pods"])
    assert [one["spec"]["containers"][0]["image"] for one in newest] == [
        "mirror.example.com/127.0.0.1:5000/none:2"
    ]


def test_pods_that_differ_in_their_resources_alone() -> None:
    """As those of a revision with more memory, and of the one to which a failed rollout returns."""
    said = recording("started")
    old, new = said["pods"][0], copy.deepcopy(said["pods"][0])
    new["metadata"] |= {"name": "new", "creationTimestamp": "2036-01-01T00:00:00Z"}
    new["metadata"]["labels"]["pod-template-hash"] = "other"
    for one, memory in ((old, "1Gi"), (new, "2Gi")):
        one["spec"]["containers"][0]["resources"] = {"limits": {"memory": memory}}
    template = said["deployment"]["spec"]["template"]["spec"]["containers"][0]
    for memory, pod in (("1Gi", old), ("2Gi", new)):
        template["resources"] = {"limits": {"memory": memory}}
        assert rollout_status.newest_pods(said["deployment"], [old, new]) == [pod]


def test_pods_that_have_the_same_and_more() -> None:
    """As those of a failed revision, which was given one more variable."""
    said = recording("started")
    old, new = said["pods"][0], copy.deepcopy(said["pods"][0])
    new["metadata"] |= {"name": "new", "creationTimestamp": "2036-01-01T00:00:00Z"}
    new["metadata"]["labels"]["pod-template-hash"] = "other"
    new["spec"]["containers"][0].setdefault("env", []).append({"name": "MORE", "value": "1"})
    assert rollout_status.newest_pods(said["deployment"], [old, new]) == [old]


def test_a_second_eviction_is_one_too_many() -> None:
    said = recording("evicted")
    said["pods"] = said["pods"][1:]
    found = standing(said)
    assert not found.failure
    assert found.messages[0].startswith("its pod was evicted: usage")


def test_a_node_that_does_not_answer() -> None:
    said = recording("not-ready")
    away = copy.deepcopy(NODES)
    away[0]["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]
    found = rollout_status.rollout_status(
        said["deployment"], said["pods"], said["events"], said["now"], away, None
    )
    assert found.messages == ("its node node1 does not answer",)


def test_some_replicas_are_ready() -> None:
    said = recording("quota")
    said["deployment"]["status"]["conditions"] = []
    assert standing(said).messages == ("1 of 2 replicas ready",)


def test_without_nodes_the_selector_is_told_all_the_same() -> None:
    said = recording("no-node-label")
    found = rollout_status.rollout_status(
        said["deployment"], said["pods"], said["events"], said["now"]
    )
    assert found.failure == "no node has the label zone=far (0/1 nodes fit)"


# What the processor says


def told(state: Any, reason: str = "", workers: tuple[str, ...] = ()) -> RolloutStatus:
    said = recording("started")
    some = [WorkerStatus(number, state) for number, state in enumerate(workers)]
    status = ProcessorStatus(state, 1, 1, reason, f"{reason}\nTraceback", some)
    return standing(said, statuses={said["pods"][0]["metadata"]["name"]: status})


def test_init_context_is_running() -> None:
    assert told("starting").messages == ("init_context is running",)
    findings = told("starting", workers=("ready", "starting"))
    assert findings.messages == ("init_context is running, 1 of 2 workers ready",)
    assert not findings.failure


def test_init_context_failed() -> None:
    findings = told("unhealthy", "ValueError: no weights")
    assert findings.failure == "ValueError: no weights"
    assert (findings.pod, findings.container) != ("", "")


def test_a_worker_out_of_memory() -> None:
    findings = told("unhealthy", "worker 0 was killed (SIGKILL), likely out of memory")
    assert findings.failure.endswith(
        "likely out of memory (it has no limit, so the node has no more)"
    )
    assert "spec.resources.limits.memory" in findings.hint


def test_a_pod_that_is_about_to_be_taken_up() -> None:
    assert told("ready").messages == ("its workers are ready",)
