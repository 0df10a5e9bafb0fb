"""A Nuclio on one machine, as far as a client of its dashboard can tell.

It keeps the rules of Nuclio's API (pkg/dashboard/resource, pkg/platform/local) and runs functions
as containers of the engine that is there, each with Nuclio's own configuration mounted over the
folder where an image has its own.
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
    enriched,
    healthy,
    log_of,
    parts,
    record,
    shown,
    version,
)

Raw = dict[str, Any]

PROVISIONED = ("ready", "error", "unhealthy", "scaledToZero", "imported")
RESERVED = ("dashboard", "controller", "dlx", "scaler")
PROJECT = "nuclio.io/project-name"
_POLL = 0.05


def docker(*words: str) -> str:
    result = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(result.stderr.strip())
    return result.stdout.strip()


@dataclass
class Nuclio:
    """`run_registry` is the dashboard's own, which it puts before images without one."""

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
    """How long a function that is deployed again is shown as it was before."""
    stale: dict[tuple[str, str], tuple[float, Raw]] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.RLock)
    stopped: Any = field(default_factory=threading.Event)

    # Functions

    def listed(self, namespace: str, project: str) -> Raw:
        with self.lock:
            return {
                name: shown(one)
                for (where, name), one in self.functions.items()
                if where == namespace
                and project in ("", one["metadata"].get("labels", {}).get(PROJECT))
            }

    def get(self, namespace: str, name: str) -> Raw:
        with self.lock:
            if (namespace, name) not in self.functions:
                raise RefusedError(404, "Function not found")
            until, before = self.stale.get((namespace, name), (0.0, {}))
            return before if time.monotonic() < until else shown(self.functions[namespace, name])

    def store_and_deploy(self, body: Raw, *, create: bool) -> None:
        metadata, spec = parts(body)
        key = (metadata.get("namespace") or "nuclio", metadata["name"])
        with self.lock:
            self.orders.append(json.loads(json.dumps(body)))
            before = self.functions.get(key)
            self._check(key, metadata, before, create=create)
            self._refuse_builds(spec, metadata, before)
            if before is not None:
                self.stale[key] = (time.monotonic() + self.stale_seconds, shown(before))
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
                    "resourceVersion": str(version(before) + 1),
                },
                "spec": enriched(spec),
                "status": {"state": "building", "logs": [record("Deploying function")]},
            }
        threading.Thread(target=self._deployed, args=(key,), daemon=True).start()

    def _check(
        self, key: tuple[str, str], metadata: Raw, before: Raw | None, *, create: bool
    ) -> None:
        if before is not None and create:
            raise RefusedError(409, "Cannot create two functions with the same name")
        if key[1] in RESERVED:
            raise RefusedError(412, f"Function name {key[1]} is reserved")
        project = metadata.setdefault("labels", {}).setdefault(PROJECT, "default")
        if (key[0], project) not in self.projects:
            raise RefusedError(412, "Project does not exist")
        if before is None:
            return
        if before["status"]["state"] not in PROVISIONED:
            raise RefusedError(412, "Function is being provisioned and cannot be updated")
        given = metadata.get("resourceVersion")
        if given and int(given) != version(before):
            raise RefusedError(409, "Function resource version mismatch")

    def _refuse_builds(self, spec: Raw, metadata: Raw, before: Raw | None) -> None:
        """This one cannot build; the order of the questions is Nuclio's."""
        build = spec.get("build", {})
        never = build.get("mode") == "neverBuild"
        if never and before is None:
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
            one = self.functions[namespace, name]
            if body.get("desiredState") != "ready":
                raise RefusedError(400, "Unsupported state")
            if not one["spec"].get("image"):
                raise RefusedError(412, "Function image is missing")
            for skip in ("skip-build", "skip-deploy"):
                one["metadata"].get("annotations", {}).pop(skip, None)
            one["metadata"]["resourceVersion"] = str(version(one) + 1)
            one["status"] = {"state": "building", "logs": [record("Redeploying function")]}
        threading.Thread(target=self._deployed, args=((namespace, name),), daemon=True).start()

    def delete(self, body: Raw, *, whatever_state: bool) -> None:
        metadata = body.get("metadata") or {}
        if not metadata.get("name"):
            raise RefusedError(400, "Function name must be provided")
        key = (metadata.get("namespace") or "nuclio", metadata["name"])
        with self.lock:
            found = self.functions.get(key)
            if found is None:
                return
            if found["status"]["state"] not in PROVISIONED and not whatever_state:
                raise RefusedError(412, "Function is being provisioned and cannot be deleted")
            del self.functions[key]
            self.ports.pop(key, None)
        with suppress(RuntimeError):
            docker("rm", "--force", container(key))

    # Containers

    def _deployed(self, key: tuple[str, str]) -> None:
        with self.lock:
            one = self.functions.get(key)
            if one is None:
                return
            one = json.loads(json.dumps(one))
        try:
            status = self._run(key, one)
        except Exception:  # noqa: BLE001 - as a panic in a dashboard, it ends in the state
            status = {"state": "error", "message": traceback.format_exc()}
        with self.lock:
            now = self.functions.get(key)
            if now and now["metadata"]["resourceVersion"] == one["metadata"]["resourceVersion"]:
                now["status"] = {"logs": one["status"]["logs"], **status}

    def _run(self, key: tuple[str, str], one: Raw) -> Raw:
        annotations = one["metadata"].get("annotations", {})
        if annotations.get("skip-deploy") == "true":
            return {"state": "imported"}
        one["status"]["logs"].append(record("Creating container"))
        port = self.ports.get(key, 0)  # a redeploy keeps it
        with suppress(RuntimeError):
            docker("rm", "--force", container(key))
        if one["spec"].get("disable"):
            return {"state": "ready"}
        folder = self.folder / "config" / container(key)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "processor.yaml").write_text(yaml.safe_dump(one))
        arguments = ["run", "--detach", "--name", container(key)]
        arguments += ["--publish", f"127.0.0.1:{port}:8080" if port else "127.0.0.1::8080"]
        arguments += ["--volume", f"{folder}:/etc/nuclio/config/processor:ro"]
        for variable in one["spec"].get("env", []):
            # It would stand between single quotes, unescaped.
            assert "'" not in variable.get("value", ""), variable["name"]
            arguments += ["--env", f"{variable['name']}={variable.get('value', '')}"]
        try:
            docker(*arguments, one["spec"]["image"])
        except RuntimeError as error:
            return {"state": "error", "message": f"Failed to run container: {error}"}
        return self._ready(key, float(one["spec"].get("readinessTimeoutSeconds") or 120))

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
            running = docker("inspect", "--format", "{{.State.Status}}", name)
            if running in ("exited", "dead"):
                code = docker("inspect", "--format", "{{.State.ExitCode}}", name)
                said = log_of(name)
                return {
                    "state": "error",
                    "message": f"Container exited with status: {code}\n\n{said}",
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
        found = docker("ps", "--all", "--filter", f"name=^{container((namespace, name))}$",
                       "--format", "{{.Names}}")  # fmt: skip
        return {"names": found.split()}

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
            made = {"metadata": metadata, "spec": body.get("spec") or {}, "status": {}}
            self.projects[key] = made
        return made

    def replace_project(self, body: Raw) -> None:
        metadata = body.get("metadata") or {}
        key = (metadata.get("namespace") or "nuclio", metadata.get("name", ""))
        with self.lock:
            if key not in self.projects:
                raise RefusedError(404, "Project not found")
            known = {"metadata": metadata, "spec": body.get("spec") or {}}
            self.projects[key] = {**self.projects[key], **known}

    def delete_project(self, body: Raw, strategy: str) -> None:
        metadata = body.get("metadata") or {}
        key = (metadata.get("namespace") or "nuclio", metadata.get("name", ""))
        if key[1] == "default":
            raise RefusedError(412, "Cannot delete the default project")
        if self.listed(*key) and strategy != "cascading":
            raise RefusedError(412, "Project contains functions")
        with self.lock:
            self.projects.pop(key, None)

    def listed_projects(self, namespace: str) -> Raw:
        with self.lock:
            return {name: one for (where, name), one in self.projects.items() if where == namespace}

    def end(self) -> None:
        self.stopped.set()
        with self.lock:
            keys = list(self.functions)
        for key in keys:
            with suppress(RuntimeError):
                docker("rm", "--force", container(key))


def container(key: tuple[str, str]) -> str:
    return f"nuclio-{key[0]}-{key[1]}"
