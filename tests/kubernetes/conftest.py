"""The command line as users run it, with a namespace in the current cluster."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fnbuild.builder.image.engine import Engine
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from tests.cluster import invoke, own_namespace, require_cluster, require_local_node
from tests.containers import conftest as containers
from tests.containers.conftest import PROGRAM, User
from tests.engine import engine_resources, registry_answers

engine, data = containers.engine, containers.data


@dataclass
class OnCluster(User):
    """A user at a shell with a kubeconfig."""

    cluster: Cluster
    space: str

    @property
    def namespace(self) -> str:
        return self.space

    def deploy(self, *arguments: str | Path) -> str:
        """Deploy a function, and return its URL when it answers."""
        options = ("--platform", "kube", "-o", "url")
        url = self.fnbuild("deploy", *options, *arguments).strip()
        # A new node port may be available a little later than the pod.
        invoke(url.removeprefix("http://"), "/__internal/health")
        return url

    def describe(self, name: str) -> Any:
        arguments = ("get", "function", name, "--platform", "kube", "-o", "json")
        return json.loads(self.fnbuild(*arguments))

    def live_object(self, kind: kinds.Kind, name: str) -> Any:
        """Return a live object of the cluster."""
        live_object = self.cluster.get(kind, self.space, name)
        assert live_object is not None, f"no {kind.name} {name}"
        return live_object

    def pods(self, function: str) -> list[Any]:
        labels = f"nuclio.io/function-name={function}"
        return self.cluster.list(kinds.POD, self.space, labels=labels)


@pytest.fixture(scope="session")
def user(engine: Engine, data: Path) -> Iterator[OnCluster]:
    """One namespace for all tests, because a new one takes longer than a function."""
    cluster = require_cluster()
    with engine_resources(engine) as resources, own_namespace(cluster) as namespace:
        environment = {
            name: value for name, value in os.environ.items() if not containers.is_ours(name)
        }
        path = f"{PROGRAM.parent}{os.pathsep}{environment['PATH']}"
        variables = {"FNBUILD_DATA_DIR": str(data), "NUCTL_NAMESPACE": namespace, "PATH": path}
        yield OnCluster(resources, environment | variables, cluster, namespace)


@pytest.fixture(scope="session")
def registry() -> str:
    """The address of the registry, which is the same for the engine and the nodes."""
    address = os.environ.get("REGISTRY", "127.0.0.1:5000")
    if not registry_answers(address):
        pytest.skip(f"no registry answers at {address}; REGISTRY names another")
    if address.startswith("127."):
        require_local_node(require_cluster())
    return address
