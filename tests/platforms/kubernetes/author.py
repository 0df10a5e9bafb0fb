"""A user who writes functions and deploys them to the cluster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fnbuild.deploy import pipeline
from fnbuild.function.reader import function_from_dict
from fnbuild.function.rules import with_defaults
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import Artifact, Deployment, Plan, PlanOptions
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.transport import ApiRequest
from fnbuild.platforms.kubernetes import KubernetesPlatform
from tests.cluster import MERGE
from tests.platforms.folders import Folders

Commands = Callable[..., tuple[int, str, str]]
"""Runs a command line in this process, and returns its status, stdout and stderr."""


def function_of(namespace: str, name: str, image: str, **spec: Any) -> Function:
    """Return a function of an image; `env` is a mapping, `labels` are added to its metadata."""
    env = [{"name": key, "value": value} for key, value in spec.pop("env", {}).items()]
    raw = {
        "metadata": {"name": name, "namespace": namespace, "labels": spec.pop("labels", {})},
        "spec": {"handler": "main:handler", "runtime": "python:3.11", "env": env, **spec},
    }
    raw["spec"].setdefault("image", image)
    return with_defaults(function_from_dict(raw, name))


class Author(Folders):
    def __init__(self, home: Path, platform: KubernetesPlatform, namespace: str):
        super().__init__(home, lambda name: f"{namespace}-{name}")
        self.platform = platform
        self.namespace = namespace
        self.progress: list[str] = []

    def request(self, folder: Path, **options: Any) -> pipeline.DeployRequest:
        return pipeline.DeployRequest(
            path=folder, platform="kube", namespace=self.namespace, options=PlanOptions(**options)
        )

    def deploy(self, folder: Path, **options: Any) -> Deployment:
        return pipeline.deploy(self.request(folder, **options), self.progress.append)

    def run(self, image: str, name: str = "greeter", **spec: Any) -> Deployment:
        """Deploy an existing image; `options` in `spec` are the options of the plan."""
        options = spec.pop("options", {})
        plan = self.plan(image, name, options, **spec)
        return self.platform.apply(plan, self.progress.append)

    def plan(
        self, image: str, name: str = "greeter", options: Raw | None = None, **spec: Any
    ) -> Plan:
        function = function_of(self.namespace, name, image, **spec)
        artifact = Artifact("image", image, "", pinned=image)
        return self.platform.plan(function, artifact, PlanOptions(**(options or {})))

    def deployment(self, name: str = "greeter") -> Deployment:
        return self.platform.deployment(self.namespace, name)

    def edit(self, body: Raw, manager: str = "kubectl-edit") -> None:
        """Change the function's Deployment as another field manager."""
        path = kinds.DEPLOYMENT.path(self.namespace, "nuclio-greeter")
        request = ApiRequest("PATCH", path, {"fieldManager": manager}, body, MERGE)
        status, answer = self.platform.cluster.transport.request(request)
        assert status == 200, answer

    def live_deployment(self, name: str = "greeter") -> Raw:
        """Return the function's Deployment in the cluster."""
        live_object = self.platform.cluster.get(kinds.DEPLOYMENT, self.namespace, f"nuclio-{name}")
        assert live_object is not None
        return live_object
