"""Sidecars and init containers, and explanations for single pods."""

from __future__ import annotations

from typing import Any

import pytest

from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient.objects import Container, Termination
from fnbuild.platforms.kubernetes import pod_status
from fnbuild.platforms.kubernetes.diagnosis.kubelet import (
    explain_config_error,
    explain_mount_failure,
    explain_start_failure,
    explain_termination,
)
from fnbuild.platforms.kubernetes.diagnosis.rollout_status import RolloutStatus
from tests.platforms.kubernetes.test_rollout_status import recording, status_of


def status_with_container(name: str, part: str, spec: Raw, status: Raw) -> RolloutStatus:
    """Return the status of a recording with one more container in its pod."""
    recorded: Any = recording(name)
    kind = "initContainers" if part == "init" else "containers"
    for pod in (recorded["deployment"]["spec"]["template"], recorded["pods"][0]):
        pod["spec"].setdefault(kind, []).append({"image": "a", **spec})
    statuses = "initContainerStatuses" if part == "init" else "containerStatuses"
    recorded["pods"][0]["status"].setdefault(statuses, []).append({"restartCount": 0, **status})
    return status_of(recorded)


def test_a_restarting_sidecar_is_a_failure() -> None:
    state = {"waiting": {"reason": "CrashLoopBackOff"}}
    last = {"terminated": {"exitCode": 1, "finishedAt": "2026-11-20T14:58:36Z"}}
    status = {"name": "proxy", "state": state, "lastState": last, "restartCount": 4}
    rollout = status_with_container("started", "", {"name": "proxy"}, status)
    assert rollout.failure == "sidecar proxy ended with exit status 1, 5 times so far"
    assert rollout.container == "proxy"


def test_a_restartable_init_container_counts_as_a_sidecar() -> None:
    status = {"name": "proxy", "state": {"running": {}}, "started": True}
    spec = {"name": "proxy", "restartPolicy": "Always"}
    assert status_with_container("started", "init", spec, status).messages == (
        "the container has started",
    )
    assert status_with_container("started", "init", {"name": "proxy"}, status).messages == (
        "init container proxy is running",
    )


def test_a_missing_image_of_an_init_container_is_a_failure() -> None:
    message = 'Back-off pulling image "a": ErrImagePull: manifest unknown'
    state = {"waiting": {"reason": "ImagePullBackOff", "message": message}}
    rollout = status_with_container(
        "started", "init", {"name": "fetch"}, {"name": "fetch", "state": state}
    )
    assert rollout.failure == "init container fetch: the registry docker.io has no image a"
    assert rollout.hint == "correct the name in spec.initContainers, or push it there"


def test_a_missing_image_of_a_sidecar_is_a_failure() -> None:
    message = "Error response from daemon: dial tcp 10.0.0.2:443: connect: connection refused"
    state = {"waiting": {"reason": "ErrImagePull", "message": message}}
    spec = {"name": "proxy", "imagePullPolicy": "Always"}
    rollout = status_with_container("started", "", spec, {"name": "proxy", "state": state})
    assert rollout.failure.startswith(
        "sidecar proxy: the nodes cannot reach the registry docker.io"
    )
    assert "-r REGISTRY" not in rollout.hint
    assert "`imagePullPolicy: IfNotPresent` in spec.sidecars runs an image" in rollout.hint


def test_a_first_restart_is_reported() -> None:
    recorded: Any = recording("started")
    (status,) = recorded["pods"][0]["status"]["containerStatuses"]
    last = {"exitCode": 1, "finishedAt": "2026-11-20T14:59:00Z"}
    status |= {"restartCount": 1, "lastState": {"terminated": last}}
    rollout = status_of(recorded)
    assert rollout.messages == ("the container ended with exit status 1, and runs again",)
    assert not rollout.failure
    last["reason"] = "OOMKilled"
    failure = status_of(recorded).failure
    assert failure.startswith("the container was killed because it ran out of memory")


def test_old_restarts_are_ignored() -> None:
    recorded: Any = recording("started")
    (status,) = recorded["pods"][0]["status"]["containerStatuses"]
    ended = {"exitCode": 1, "finishedAt": "2026-11-20T13:00:00Z"}
    status |= {"restartCount": 3, "lastState": {"terminated": ended}}
    assert status_of(recorded).failure == ""
    status["lastState"]["terminated"]["finishedAt"] = "2026-11-20T14:59:00Z"
    assert status_of(recorded).failure == "the container ended with exit status 1, 3 times so far"


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("well", "Ready"),
        ("not-ready", "Running"),
        ("recreate", "Terminating"),
        ("image-not-found", "ImagePullBackOff"),
        ("no-cpu", "Pending"),
        ("evicted", "Evicted"),
    ],
)
def test_the_state_of_a_pod_is_one_word(name: str, state: str) -> None:
    assert pod_status.pod_state(recording(name)["pods"][0]) == state


def test_restarts_are_counted() -> None:
    (pod,) = recording("crash")["pods"]
    assert pod.restarts == 8
    assert not pod.condition("Nothing")


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ({"exitCode": 0}, "ended with exit status 0"),
        ({"exitCode": 127}, "ended with exit status 127: its program could not be run"),
        ({"exitCode": 143}, "was ended by SIGTERM"),
        ({"exitCode": 255}, "ended with exit status 255"),
        (
            {"exitCode": 137, "reason": "OOMKilled"},
            "was killed because it ran out of memory (it has no limit, so the node has no more)",
        ),
    ],
)
def test_terminations_are_described(state: Raw, text: str) -> None:
    assert explain_termination(Termination(state), Container(name="nuclio")).text == text


def test_an_image_without_a_processor_is_explained() -> None:
    message = (
        "failed to create containerd task: failed to create shim task: OCI runtime create failed:"
        ' runc create failed: unable to start container process: exec: "processor": executable file'
        " not found in $PATH: unknown"
    )
    explanation = explain_start_failure(message)
    assert explanation.text == "did not start: the image has no program processor"
    assert "fnbuild build" in explanation.hint
    other = explain_start_failure("OCI runtime create failed: no such device: unknown")
    assert other.text == "did not start: no such device"


def test_mount_failures_are_explained() -> None:
    attached = 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) nuclio-a-1'
    explanation = explain_mount_failure(attached, "vision")
    assert explanation.text == "volume pvc-1 is still attached to another node"
    assert "Recreate" in explanation.hint
    key = 'MountVolume.SetUp failed for volume "v" : references non-existent secret key: a.pem'
    explanation = explain_mount_failure(key, "vision")
    assert explanation.text == "volume v: the key a.pem does not exist in what it mounts"
    assert explain_mount_failure("something new.", "vision").text == "something new"


def test_late_mounts_are_not_failures() -> None:
    recorded: Any = recording("pulling")
    (pod,) = recorded["pods"]
    involved_object = {
        "kind": "Pod",
        "name": pod["metadata"]["name"],
        "uid": pod["metadata"]["uid"],
    }
    event = {
        "reason": "FailedMount",
        "type": "Warning",
        "message": 'MountVolume.SetUp failed for volume "v" : configmap "c" not found',
        "firstTimestamp": "2026-11-20T14:00:00Z",
        "lastTimestamp": "2026-11-20T14:00:00Z",
        "involvedObject": involved_object,
    }
    recorded["events"].append(event)
    assert status_of(recorded).messages == ("pulling 127.0.0.1:5000/none:1",)
    event["lastTimestamp"] = "2026-11-20T23:00:00Z"
    assert status_of(recorded).failure == "volume v: the ConfigMap c does not exist"


def test_non_numeric_users_are_explained() -> None:
    message = "container has runAsNonRoot and image has non-numeric user (app), cannot verify"
    explanation = explain_config_error(message, "vision")
    assert explanation.text == (
        "the image names its user by a word, so the kubelet cannot tell whether it is root"
    )
    assert explain_config_error("new", "vision").text == "its container cannot be created: new"
