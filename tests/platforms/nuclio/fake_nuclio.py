"""A stand-in for Nuclio on one machine, as a client of its dashboard sees it.

It follows the rules of Nuclio's API (pkg/dashboard/resource, pkg/platform/local) and runs functions
as containers of the available engine. Nuclio's configuration is mounted over the one of the image.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.platforms.nuclio.fake_objects import (
    RefusedError,
    healthy,
    log_of,
    parts,
    record,
    representation,
    version,
    with_defaults,
)

Raw = dict[str, Any]

PROVISIONED = ("ready", "error", "unhealthy", "scaledToZero", "imported")
RESERVED = ("dashboard", "controller", "dlx", "scaler")
PROJECT = "nuclio.io/project-name"
_POLL = 0.05


def docker(*arguments: str) -> str:
    result = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(result.stderr.strip())
    return result.stdout.strip()


@dataclass
class Nuclio:
    """The state of a Nuclio; `run_registry` is the registry for images without one."""

    folder: Path
    run_registry: str = ""
    credentials: str = ""
    token: str = ""
    functions: dict[tuple[str, str], Raw] = field(default_factory=dict)
    projects: dict[tuple[str, str], Raw] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    orders: list[Raw] = field(default_factory=list)
    ports: dict[tuple[str, str], int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    stale_seconds: float = 0.0
    """Seconds for which a redeployed function is still shown in its old state."""
    stale: dict[tuple[str, str], tuple[float, Raw]] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.RLock)
    stopped: Any = field(default_factory=threading.Event)

    # Functions

    def functions_of(self, namespace: str, project: str) -> Raw:
        with self.lock:
            return {
                name: representation(function)
                for (owner, name), function in self.functions.items()
                if owner == namespace
                and project in ("", function["metadata"].get("labels", {}).get(PROJECT))
            }

    def get(self, namespace: str, name: str) -> Raw:
        with self.lock:
            if (namespace, name) not in self.functions:
                raise RefusedError(404, "Function not found")
            until, previous = self.stale.get((namespace, name), (0.0, {}))
            return (
                previous
                if time.monotonic() < until
                else representation(self.functions[namespace, name])
            )

    def store_and_deploy(self, body: Raw, *, create: bool) -> None:
        metadata, spec = parts(body)
        key = (metadata.get("namespace") or "nuclio", metadata["name"])
        with self.lock:
            self.orders.append(json.loads(json.dumps(body)))
            previous = self.functions.get(key)
            self._check(key, metadata, previous, create=create)
            self._refuse_builds(spec, metadata, previous)
            if previous is not None:
                self.stale[key] = (time.monotonic() + self.stale_seconds, representation(previous))
            spec["build"] = {k: v for k, v in spec.get("build", {}).items() if k != "mode"}
            if not spec.get("runRegistry") and self.run_registry:
                spec["runRegistry"] = self.run_registry
            registry = spec.get("runRegistry")
            if registry and not spec["image"].startswith(f"{registry}/"):
                spec["image"] = f"{registry}/{spec['image']}"
            self.functions[key] = {
                "metadata": {
                    **metadata,
                    "namespace": key[0],
                    "resourceVersion": str(version(previous) + 1),
                },
                "spec": with_defaults(spec),
                "status": {"state": "building", "logs": [record("Deploying function")]},
            }
        threading.Thread(target=self._deployed, args=(key,), daemon=True).start()

    def _check(
        self, key: tuple[str, str], metadata: Raw, previous: Raw | None, *, create: bool
    ) -> None:
        if previous is not None and create:
            raise RefusedError(409, "Cannot create two functions with the same name")
        if key[1] in RESERVED:
            raise RefusedError(412, f"Function name {key[1]} is reserved")
        project = metadata.setdefault("labels", {}).setdefault(PROJECT, "default")
        if (key[0], project) not in self.projects:
            raise RefusedError(412, "Project does not exist")
        if previous is None:
            return
        if previous["status"]["state"] not in PROVISIONED:
            raise RefusedError(412, "Function is being provisioned and cannot be updated")
        version_sent = metadata.get("resourceVersion")
        if version_sent and int(version_sent) != version(previous):
            raise RefusedError(409, "Function resource version mismatch")

    def _refuse_builds(self, spec: Raw, metadata: Raw, previous: Raw | None) -> None:
        """Refuse builds, which this stand-in does not support; the order of checks is Nuclio's."""
        build = spec.get("build", {})
        never = build.get("mode") == "neverBuild"
        if never and previous is None:
            raise RefusedError(500, "Non existing function cannot be created with neverBuild mode")
        skips = metadata.get("annotations", {}).get("skip-build") == "true"
        from_code = any(build.get(name) for name in ("functionSourceCode", "path", "image"))
        if (from_code or build.get("codeEntryType") == "s3") and not never and not skips:
            raise AssertionError(f"a build was asked for: {build}")
        if skips:
            return
        if not spec.get("image"):
            raise RefusedError(500, "Function must have either spec.build.path or spec.image")
        if not spec.get("runtime"):
            raise RefusedError(500, "If image is passed, runtime must be specified")

    def patch(self, namespace: str, name: str, body: Raw) -> None:
        with self.lock:
            self.get(namespace, name)
            function = self.functions[namespace, name]
            if body.get("desiredState") != "ready":
                raise RefusedError(400, "Unsupported state")
            if not function["spec"].get("image"):
                raise RefusedError(412, "Function image is missing")
            for skip in ("skip-build", "skip-deploy"):
                function["metadata"].get("annotations", {}).pop(skip, None)
            function["metadata"]["resourceVersion"] = str(version(function) + 1)
            function["status"] = {"state": "building", "logs": [record("Redeploying function")]}
        threading.Thread(target=self._deployed, args=((namespace, name),), daemon=True).start()

    def delete(self, body: Raw, *, ignore_state: bool) -> None:
        metadata = body.get("metadata") or {}
        if not metadata.get("name"):
            raise RefusedError(400, "Function name must be provided")
        key = (metadata.get("namespace") or "nuclio", metadata["name"])
        with self.lock:
            function = self.functions.get(key)
            if function is None:
                return
            if function["status"]["state"] not in PROVISIONED and not ignore_state:
                raise RefusedError(412, "Function is being provisioned and cannot be deleted")
            del self.functions[key]
            self.ports.pop(key, None)
        with suppress(RuntimeError):
            docker("rm", "--force", container(key))

    # Containers

    def _deployed(self, key: tuple[str, str]) -> None:
        with self.lock:
            function = self.functions.get(key)
            if function is None:
                return
            function = json.loads(json.dumps(function))
        try:
            status = self._run(key, function)
        except Exception:  # noqa: BLE001 - as a panic in a dashboard, it ends in the state
            status = {"state": "error", "message": traceback.format_exc()}
        with self.lock:
            current = self.functions.get(key)
            if current and version(current) == version(function):
                current["status"] = {"logs": function["status"]["logs"], **status}

    def _run(self, key: tuple[str, str], function: Raw) -> Raw:
        annotations = function["metadata"].get("annotations", {})
        if annotations.get("skip-deploy") == "true":
            return {"state": "imported"}
        function["status"]["logs"].append(record("Creating container"))
        port = self.ports.get(key, 0)  # a redeploy keeps it
        with suppress(RuntimeError):
            docker("rm", "--force", container(key))
        if function["spec"].get("disable"):
            return {"state": "ready"}
        folder = self.folder / "config" / container(key)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "processor.yaml").write_text(yaml.safe_dump(function))
        arguments = ["run", "--detach", "--name", container(key)]
        arguments += ["--publish", f"127.0.0.1:{port}:8080" if port else "127.0.0.1::8080"]
        arguments += ["--volume", f"{folder}:/etc/nuclio/config/processor:ro"]
        for variable in function["spec"].get("env", []):
            # Nuclio puts the value between single quotes without escaping it.
            assert "'" not in variable.get("value", ""), variable["name"]
            arguments += ["--env", f"{variable['name']}={variable.get('value', '')}"]
        try:
            docker(*arguments, function["spec"]["image"])
        except RuntimeError as error:
            return {"state": "error", "message": f"Failed to run container: {error}"}
        return self._ready(key, float(function["spec"].get("readinessTimeoutSeconds") or 120))

    def _port(self, key: tuple[str, str]) -> int:
        try:
            return int(
                docker("port", container(key), "8080/tcp").splitlines()[0].rpartition(":")[2]
            )
        except (RuntimeError, IndexError):
            return 0

    def _ready(self, key: tuple[str, str], seconds: float) -> Raw:
        name, deadline = container(key), time.monotonic() + seconds
        while time.monotonic() < deadline and not self.stopped.is_set():
            container_state = docker("inspect", "--format", "{{.State.Status}}", name)
            if container_state in ("exited", "dead"):
                code = docker("inspect", "--format", "{{.State.ExitCode}}", name)
                log = log_of(name)
                return {
                    "state": "error",
                    "message": f"Container exited with status: {code}\n\n{log}",
                }
            port = self._port(key)
            if port and healthy(port):
                address = docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", name)
                self.ports[key] = port
                return {
                    "state": "ready",
                    "httpPort": port,
                    "internalInvocationUrls": [f"{address}:8080"],
                    "externalInvocationUrls": [f"0.0.0.0:{port}"],
                }
            time.sleep(_POLL)
        return {"state": "error", "message": f"Function wasn't ready in time\n\n{log_of(name)}"}

    def replicas(self, namespace: str, name: str) -> Raw:
        self.get(namespace, name)
        names = docker("ps", "--all", "--filter", f"name=^{container((namespace, name))}$",
                       "--format", "{{.Names}}")  # fmt: skip
        return {"names": names.split()}

    # Projects

    def create_project(self, body: Raw) -> Raw:
        metadata = body.get("metadata") or {}
        name = metadata.get("name", "")
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name):
            raise RefusedError(400, "Project name is not valid")
        key = (metadata.get("namespace") or "nuclio", name)
        with self.lock:
            if key in self.projects:
                raise RefusedError(409, "Project already exists")
            project = {"metadata": metadata, "spec": body.get("spec") or {}, "status": {}}
            self.projects[key] = project
        return project

    def replace_project(self, body: Raw) -> None:
        metadata = body.get("metadata") or {}
        key = (metadata.get("namespace") or "nuclio", metadata.get("name", ""))
        with self.lock:
            if key not in self.projects:
                raise RefusedError(404, "Project not found")
            changes = {"metadata": metadata, "spec": body.get("spec") or {}}
            self.projects[key] = {**self.projects[key], **changes}

    def delete_project(self, body: Raw, strategy: str) -> None:
        metadata = body.get("metadata") or {}
        key = (metadata.get("namespace") or "nuclio", metadata.get("name", ""))
        if key[1] == "default":
            raise RefusedError(412, "Cannot delete the default project")
        if self.functions_of(*key) and strategy != "cascading":
            raise RefusedError(412, "Project contains functions")
        with self.lock:
            self.projects.pop(key, None)

    def projects_of(self, namespace: str) -> Raw:
        with self.lock:
            return {
                name: project
                for (owner, name), project in self.projects.items()
                if owner == namespace
            }

    def end(self) -> None:
        """Stop waiting for containers, and remove all of them."""
        self.stopped.set()
        with self.lock:
            keys = list(self.functions)
        for key in keys:
            with suppress(RuntimeError):
                docker("rm", "--force", container(key))


def container(key: tuple[str, str]) -> str:
    return f"nuclio-{key[0]}-{key[1]}"
