"""Nuclio's controller in one namespace of a real cluster, as far as its resources can tell.

It acts on functions whose state is waitingForResourceConfiguration, makes what
pkg/platform/kube/functionres/lazy.go makes of them, and writes the outcome into their status.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import yaml

from fnbuild.errors import FnbuildError, NotFoundError
from fnbuild.platforms.cluster.api import Cluster
from fnbuild.platforms.cluster.faults import StaleError
from fnbuild.platforms.cluster.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    NUCLIO_FUNCTION,
    NUCLIO_PROJECT,
    POD,
    SERVICE,
    Kind,
)
from tests.cluster import CRD, create
from tests.engine import until

Raw = dict[str, Any]

_WAITING = "waitingForResourceConfiguration"
_LOOK = 0.2
_SINGULAR = {NUCLIO_FUNCTION: "nucliofunction", NUCLIO_PROJECT: "nuclioproject"}


def require_resources(cluster: Cluster) -> None:
    """Nuclio's kinds of resources, made where they are missing. They are left there, for other
    tests may be using them.
    """
    for kind, singular in _SINGULAR.items():
        # It may be there, or somebody be quicker.
        create(cluster, CRD, {"name": f"{kind.plural}.{kind.group}"}, spec=_spec(kind, singular))
    until("Nuclio's resources", lambda: all(_served(cluster, kind) for kind in _SINGULAR))


def _served(cluster: Cluster, kind: Kind) -> bool:
    try:
        cluster.list(kind, "default")
    except NotFoundError:
        return False
    return True


def _spec(kind: Kind, singular: str) -> Raw:
    """As hack/k8s/helm/nuclio/templates/crd has it: spec and status are open."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    group, _, version = kind.api.partition("/")
    schema = {"type": "object", "properties": {"spec": anything, "status": anything}}
    return {
        "group": group,
        "scope": "Namespaced",
        "names": {"kind": kind.name, "plural": kind.plural, "singular": singular},
        "versions": [
            {
                "name": version,
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": schema},
            }
        ],
    }


@contextmanager
def controlling(cluster: Cluster, namespace: str, *, quiet: bool = False) -> Iterator[Controller]:
    """A quiet one says of failures that there are some."""
    controller = Controller(cluster, namespace, quiet)
    thread = threading.Thread(target=controller.run, daemon=True)
    thread.start()
    try:
        yield controller
    finally:
        controller.stopped.set()
        thread.join()


class Controller:
    """Looks at the functions of a namespace again and again."""

    def __init__(self, cluster: Cluster, namespace: str, quiet: bool):
        self.quiet = quiet
        self.cluster = cluster
        self.namespace = namespace
        self.stopped = threading.Event()
        self.busy: dict[str, threading.Thread] = {}
        self.made: set[str] = set()

    def run(self) -> None:
        while not self.stopped.wait(_LOOK):
            with suppress(FnbuildError):
                self._look()
        for thread in self.busy.values():
            thread.join()

    def _look(self) -> None:
        functions = self.cluster.list(NUCLIO_FUNCTION, self.namespace)
        for one in functions:
            name = one["metadata"]["name"]
            if name in self.busy and self.busy[name].is_alive():
                continue
            if (one.get("status") or {}).get("state") == _WAITING:
                self.busy[name] = threading.Thread(target=self._act, args=(one,), daemon=True)
                self.busy[name].start()
        for name in self.made - {one["metadata"]["name"] for one in functions}:
            self.made.discard(name)
            for kind in (DEPLOYMENT, SERVICE, CONFIG_MAP):
                self.cluster.delete(kind, self.namespace, f"nuclio-{name}")

    def _act(self, function: Raw) -> None:
        name = function["metadata"]["name"]
        try:
            annotations = function["metadata"].get("annotations") or {}
            if annotations.get("skip-deploy") == "true":
                status: Raw = {"state": "imported"}
            else:
                self.made.add(name)
                for manifest in manifests(function):
                    self.cluster.apply(manifest, force=True)
                status = self._outcome(function)
        except Exception:  # noqa: BLE001 - as with a panic, it ends in the state
            status = {"state": "error", "message": traceback.format_exc()}
        self._tell(function, status)

    def _tell(self, function: Raw, status: Raw) -> None:
        """Write the status of what was acted on; a newer order is for the next look."""
        while not self.stopped.is_set():
            now = self.cluster.get(NUCLIO_FUNCTION, self.namespace, function["metadata"]["name"])
            if now is None or now["spec"] != function["spec"]:
                return
            with suppress(StaleError):
                self.cluster.replace({**now, "status": status})
                return

    def _outcome(self, function: Raw) -> Raw:
        name, spec = function["metadata"]["name"], function["spec"]
        deadline = time.monotonic() + float(spec.get("readinessTimeoutSeconds") or 120)
        while time.monotonic() < deadline and not self.stopped.wait(_LOOK):
            deployment = self.cluster.get(DEPLOYMENT, self.namespace, f"nuclio-{name}") or {}
            if _available(deployment):
                return self._ready(function)
            pods = self._pods(function)
            if any(_crashes(pod) for pod in pods):
                said = "" if self.quiet else "".join(self._log(pod) for pod in pods)
                message = f"NuclioFunction in unhealthy state:\n\nPod logs:\n\n* {said}"
                return {"state": "unhealthy", "message": message}
        return {"state": "unhealthy", "message": "Function wasn't ready in time"}

    def _ready(self, function: Raw) -> Raw:
        name = function["metadata"]["name"]
        service = self.cluster.get(SERVICE, self.namespace, f"nuclio-{name}") or {}
        port = service["spec"]["ports"][0].get("nodePort", 0)
        return {
            "state": "ready",
            "httpPort": port,
            "containerImage": function["spec"]["image"],
            "internalInvocationUrls": [f"nuclio-{name}.{self.namespace}.svc.cluster.local:8080"],
            "externalInvocationUrls": [f"127.0.0.1:{port}"] if port else [],
        }

    def _pods(self, function: Raw) -> list[Raw]:
        """Those of this order."""
        labels = f"nuclio.io/function-name={function['metadata']['name']}"
        stamp = function["spec"]["imageHash"]
        return [
            pod
            for pod in self.cluster.list(POD, self.namespace, labels=labels)
            if pod["metadata"]["annotations"]["nuclio.io/image-hash"] == stamp
        ]

    def _log(self, pod: Raw) -> str:
        name = pod["metadata"]["name"]
        for previous in (True, False):
            lines = [
                line.decode()
                for _, line in self.cluster.logs(self.namespace, name, previous=previous)
            ]
            if lines:
                return "\n".join([name, *lines])
        return name


def _available(deployment: Raw) -> bool:
    status = deployment.get("status") or {}
    wanted = deployment["spec"]["replicas"]
    return bool(
        status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
        and status.get("updatedReplicas", 0) == wanted
        and status.get("availableReplicas", 0) >= wanted
        and not status.get("unavailableReplicas")
    )


def _crashes(pod: Raw) -> bool:
    return any(
        one.get("restartCount") or (one.get("state") or {}).get("terminated")
        for one in (pod.get("status") or {}).get("containerStatuses") or []
    )


def manifests(function: Raw) -> list[Raw]:
    """What Nuclio makes of a function, as far as its own program is concerned."""
    metadata, spec = function["metadata"], function["spec"]
    name, namespace = metadata["name"], metadata["namespace"]
    own = {
        "nuclio.io/class": "function",
        "nuclio.io/app": "functionres",
        "nuclio.io/function-name": name,
        "nuclio.io/function-version": "latest",
    }
    about = {
        "name": f"nuclio-{name}",
        "namespace": namespace,
        "labels": {**(metadata.get("labels") or {}), **own},
    }
    config = yaml.safe_dump({"metadata": {"name": name}, "spec": spec})
    replicas = 0 if spec.get("disable") else spec.get("replicas") or spec.get("minReplicas") or 1
    service_type = spec.get("serviceType") or "NodePort"
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": about,
            "data": {"processor.yaml": config},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": about,
            "spec": {
                "type": service_type,
                "selector": own,
                "ports": [{"name": "http", "port": 8080, "targetPort": 8080, "protocol": "TCP"}],
            },
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": about,
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": own},
                "template": {
                    "metadata": {
                        "labels": about["labels"],
                        "annotations": {
                            **(metadata.get("annotations") or {}),
                            "nuclio.io/image-hash": spec["imageHash"],
                        },
                    },
                    "spec": {
                        "containers": [_container(name, spec)],
                        "volumes": [
                            {"name": "config", "configMap": {"name": about["name"]}},
                        ],
                    },
                },
            },
        },
    ]


def _container(name: str, spec: Raw) -> Raw:
    return {
        "name": "nuclio",
        "image": spec["image"],
        "imagePullPolicy": spec.get("imagePullPolicy") or "Always",
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "env": [*spec.get("env", []), {"name": "NUCLIO_FUNCTION_NAME", "value": name}],
        "volumeMounts": [{"name": "config", "mountPath": "/etc/nuclio/config/processor"}],
        # Nuclio begins after 5 s.
        "readinessProbe": {
            "httpGet": {"path": "/__internal/health", "port": 8080},
            "periodSeconds": 1,
            "failureThreshold": 10,
        },
        "livenessProbe": {
            "httpGet": {"path": "/live", "port": 8082},
            "initialDelaySeconds": 10,
            "periodSeconds": 5,
        },
    }
