"""A hardened function with a CronJob in a cluster."""

from __future__ import annotations

import json

import pytest

from fnbuild.function.types import Function, Raw
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubernetes.manifests.rendering import render_manifests
from tests.cluster import JOB, create, invoke, node_address
from tests.engine import until
from tests.platforms.kubernetes import samples

pytestmark = pytest.mark.system

TRIGGERS = {
    "web": {"kind": "http", "numWorkers": 1},
    "night": {
        "kind": "cron",
        "attributes": {
            "schedule": "0 3 1 1 *",
            "event": {"body": {"what": 'it\'s "all" $HOME'}, "headers": {"x-kind": "nightly"}},
        },
    },
}


def apply_function(
    cluster: Cluster, namespace: str, function: Function, image: str
) -> dict[str, Raw]:
    context = samples.render_context(function)
    applied_objects = {}
    for manifest in render_manifests(
        samples.revision(function, image=image, pinned=image), context
    ):
        moved = {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}
        applied_objects[manifest["kind"]] = cluster.apply(moved)
    return applied_objects


def wait_for_pod(cluster: Cluster, namespace: str, labels: str, phase: str) -> Raw:
    """Return the first pod with these labels when it is in the phase and, if it runs, ready."""
    pods: list[Raw] = []

    def reached() -> bool:
        pods[:] = cluster.list(kinds.POD, namespace, labels=labels)
        status = pods[0]["status"] if pods else {}
        conditions = {
            condition["type"]: condition["status"] for condition in status.get("conditions") or []
        }
        if phase == "Running" and conditions.get("Ready") != "True":
            return False
        return bool(status.get("phase") == phase)

    until(f"a pod of {labels} in phase {phase}", reached)
    return pods[0]


def test_a_hardened_function_is_called_by_a_cron_job(
    cluster: Cluster, namespace: str, greeter_image: str
) -> None:
    attributes = {"hardened": True, "cronTriggerCreationMode": "kube"}
    function = samples.function(
        name="strict",
        description='Größe: {{ "x" }} \\n',
        triggers=TRIGGERS,
        platform={"attributes": attributes},
    )
    applied_objects = apply_function(cluster, namespace, function, greeter_image)
    pod = wait_for_pod(cluster, namespace, "nuclio.io/class=function", "Running")
    port = applied_objects["Service"]["spec"]["ports"][0]["nodePort"]
    assert invoke(f"{node_address(cluster)}:{port}") == "hello"
    status = cluster.get_from_pod(namespace, pod["metadata"]["name"], 8082, "/status")
    assert status is not None
    assert json.loads(status)["state"] == "ready"
    metadata = {"name": "by-hand", "namespace": namespace}
    create(cluster, JOB, metadata, spec=applied_objects["CronJob"]["spec"]["jobTemplate"]["spec"])
    caller = wait_for_pod(cluster, namespace, "job-name=by-hand", "Succeeded")
    assert "nuclio.io/class" not in caller["metadata"]["labels"]
    lines = [line.decode() for _, line in cluster.logs(namespace, pod["metadata"]["name"])]
    requests = [line for line in lines if "asked" in line]
    assert len(requests) == 2
