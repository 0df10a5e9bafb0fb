"""A Nuclio, the platform that uses it, and common steps of tests."""

from __future__ import annotations

import hashlib
import json
import time
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from fnbuild.deploy.projects import ensure_project, with_project_label
from fnbuild.function.reader import function_from_dict
from fnbuild.function.rules import with_defaults
from fnbuild.function.types import Function
from fnbuild.platforms import Artifact, Deployment, Plan, PlanOptions, Project
from fnbuild.platforms.nuclio import NuclioPlatform
from tests.platforms.nuclio.fake_nuclio import Nuclio

Raw = dict[str, Any]


@dataclass
class Scenario:
    """A Nuclio and the platform that uses it."""

    platform: NuclioPlatform
    namespace: str
    images: dict[str, str]
    nuclio: Nuclio
    progress: list[str] = field(default_factory=list)

    def function(self, name: str = "greeter", **spec: Any) -> Function:
        """Return a function of project cvat; `spec` has additional keys."""
        raw = {
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "labels": {"nuclio.io/project-name": "cvat"},
                "annotations": {"type": "detector"},
            },
            "spec": {"handler": "main:handler", "runtime": "python:3.11", **spec},
        }
        return with_defaults(function_from_dict(raw, name))

    def artifact(self, word: str) -> Artifact:
        reference = self.images[word]
        digest = hashlib.sha256(word.encode()).hexdigest()
        # The node has the image without a push, and its name never changes.
        return Artifact("image", reference, digest, pinned=reference)

    def plan(self, word: str, function: Function | None = None, **options: Any) -> Plan:
        function = function or self.function()
        return self.platform.plan(
            with_project_label(function, None), self.artifact(word), PlanOptions(**options)
        )

    def deploy(self, word: str, function: Function | None = None, **options: Any) -> Deployment:
        function = function or self.function()
        ensure_project(self.platform, function, None, self.progress.append)
        return self.platform.apply(self.plan(word, function, **options), self.progress.append)

    def invoke(self, deployment: Deployment, body: object = None) -> Raw:
        with self.platform.reachable_url(deployment) as url:
            return invoke(url, body)

    def deployment(self, name: str = "greeter") -> Deployment:
        return self.platform.deployment(self.namespace, name)

    def add_foreign(self, name: str, *, state: str = "ready", **spec: Any) -> None:
        """Store a function as nuctl deploys it."""
        self.platform.create_project(Project("cvat", self.namespace))
        metadata = {
            "name": name,
            "namespace": self.namespace,
            "labels": {"nuclio.io/project-name": "cvat"},
            "annotations": {"type": "detector", "framework": "opencv"},
        }
        spec = {
            "handler": "main:handler",
            "runtime": "python:3.9",
            "imageHash": "17",
            "imagePullPolicy": "IfNotPresent",
            **spec,
        }
        status = {"state": state, "httpPort": 31999}
        stored = {**metadata, "resourceVersion": "1"}
        function = {"metadata": stored, "spec": spec, "status": status}
        self.nuclio.functions[self.namespace, name] = function

    def stored(self, name: str = "greeter") -> Raw:
        from fnbuild.platforms.base import FunctionKey

        function = self.platform.dashboard.function(FunctionKey(self.namespace, name))
        assert function is not None
        return function


def invoke(url: str, body: object = None) -> Raw:
    """Return the reply; try again at first, because a node port may be late."""
    deadline = time.monotonic() + 60
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                received: Raw = json.load(reply)
                return received
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
