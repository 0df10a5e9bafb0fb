"""A user who writes and deploys functions, and inspects their containers."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

from fnbuild.deploy import pipeline
from fnbuild.platforms import Deployment, PlanOptions
from fnbuild.platforms.docker import DockerPlatform
from tests.engine import EngineResources, call
from tests.platforms.folders import Folders


class Author(Folders):
    def __init__(
        self, home: Path, platform: DockerPlatform, namespace: str, resources: EngineResources
    ):
        super().__init__(
            home, lambda name: resources.name(name.lower().replace("_", "-").replace(".", "-"))
        )
        self.platform = platform
        self.namespace = namespace
        self.resources = resources
        self.progress: list[str] = []

    def deploy(self, folder: Path, **options: Any) -> Deployment:
        request = pipeline.DeployRequest(
            path=folder, platform="local", namespace=self.namespace, options=PlanOptions(**options)
        )
        return pipeline.deploy(request, self.progress.append)

    def deployment(self, name: str = "greeter") -> Deployment:
        return self.platform.deployment(self.namespace, name)

    def container(self, name: str = "greeter") -> str:
        return f"nuclio-{self.namespace}-{name}"

    def inspect_container(self, name: str = "greeter") -> Any:
        """Return the description of the function's container by the engine's client."""
        return json.loads(self.docker("inspect", self.container(name)))[0]

    def docker(self, *arguments: str) -> str:
        return call(self.resources.engine, *arguments)


def invoke(port: int, path: str = "/", timeout: float = 60.0, host: str = "127.0.0.1") -> str:
    """Return the body of a response with status 200."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        text = reply.read().decode()
        assert reply.status == 200, (reply.status, text)
        return text
    finally:
        connection.close()
