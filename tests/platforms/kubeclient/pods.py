"""Pods for tests that run a Python program."""

from __future__ import annotations

import textwrap

from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from tests.engine import until

START_SECONDS = 180.0


def pod(namespace: str, name: str, image: str, program: str) -> Raw:
    """Return a pod that runs the program once; its container has the name of a function's."""
    container = {
        "name": "nuclio",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-u", "-c", textwrap.dedent(program)],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": "test"}},
        "spec": {
            "containers": [container],
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
        },
    }


def phase(cluster: Cluster, namespace: str, name: str) -> str:
    live_object = cluster.get(kinds.POD, namespace, name) or {}
    return str(live_object.get("status", {}).get("phase", ""))


def until_phase(cluster: Cluster, namespace: str, name: str, *phases: str) -> None:
    until(
        f"pod {name} being {' or '.join(phases)}",
        lambda: phase(cluster, namespace, name) in phases,
        START_SECONDS,
    )
