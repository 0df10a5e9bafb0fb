"""A Nuclio dashboard on one machine, as far as its clients can tell.

It keeps the rules of Nuclio's API (pkg/dashboard/resource, pkg/platform/local) and runs functions
as containers of the engine that is there, each with Nuclio's own configuration mounted over the
folder where an image has its own.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import threading
import time
import traceback
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

Raw = dict[str, Any]

PROVISIONED = ("ready", "error", "unhealthy", "scaledToZero", "imported")
RESERVED = ("dashboard", "controller", "dlx", "scaler")
PROJECT = "nuclio.io/project-name"
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?")
_POLL = 0.05


class RefusedError(Exception):
    """What the API answers with this status."""

    def __init__(self, status: int, error: str):
        super().__init__(error)
        self.status = status


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return done.stdout.strip()


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
    lock: Any = field(default_factory=threading.RLock)
    stopped: Any = field(default_factory=threading.Event)

    # Functions

    def listed(self, namespace: str, project: str) -> Raw:
        with self.lock:
            return {
                name: _shown(one)
                for (where, name), one in self.functions.items()
                if where == namespace
                and project in ("", one["metadata"].get("labels", {}).get(PROJECT))
            }

    def one(self, namespace: str, name: str) -> Raw:
        with self.lock:
            if (namespace, name) not in self.functions:
                raise RefusedError(404, "Function not found")
            return _shown(self.functions[namespace, name])

    def store_and_deploy(self, body: Raw, *, create: bool) -> None:
        metadata, spec = _parts(body)
        key = (metadata.get("namespace") or "nuclio", metadata["name"])
        with self.lock:
            self.orders.append(json.loads(json.dumps(body)))
            before = self.functions.get(key)
            self._check(key, metadata, before, create=create)
            self._refuse_builds(spec, metadata, before)
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
                    "resourceVersion": str(_version(before) + 1),
                },
                "spec": _enriched(spec),
                "status": {"state": "building", "logs": [_record("Deploying function")]},
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
        version = metadata.get("resourceVersion")
        if version and int(version) != _version(before):
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
            self.one(namespace, name)
            one = self.functions[namespace, name]
            if body.get("desiredState") != "ready":
                raise RefusedError(400, "Unsupported state")
            if not one["spec"].get("image"):
                raise RefusedError(412, "Function image is missing")
            for skip in ("skip-build", "skip-deploy"):
                one["metadata"].get("annotations", {}).pop(skip, None)
            one["metadata"]["resourceVersion"] = str(_version(one) + 1)
            one["status"] = {"state": "building", "logs": [_record("Redeploying function")]}
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
        one["status"]["logs"].append(_record("Creating container"))
        port = self.ports.get(key, 0)  # a redeploy keeps it
        with suppress(RuntimeError):
            docker("rm", "--force", container(key))
        if one["spec"].get("disable"):
            return {"state": "ready"}
        folder = self.folder / "config" / container(key)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "processor.yaml").write_text(yaml.safe_dump(one))
        words = ["run", "--detach", "--name", container(key)]
        words += ["--publish", f"127.0.0.1:{port}:8080" if port else "127.0.0.1::8080"]
        words += ["--volume", f"{folder}:/etc/nuclio/config/processor:ro"]
        for variable in one["spec"].get("env", []):
            # It would stand between single quotes, unescaped.
            assert "'" not in variable.get("value", ""), variable["name"]
            words += ["--env", f"{variable['name']}={variable.get('value', '')}"]
        try:
            docker(*words, one["spec"]["image"])
        except RuntimeError as error:
            return {"state": "error", "message": f"Failed to run container: {error}"}
        return self._ready(key, float(one["spec"].get("readinessTimeoutSeconds") or 30))

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
                said = _log(name)
                return {
                    "state": "error",
                    "message": f"Container exited with status: {code}\n\n{said}",
                }
            port = self._port(key)
            if port and _healthy(port):
                address = docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", name)
                self.ports[key] = port
                return {
                    "state": "ready",
                    "httpPort": port,
                    "internalInvocationUrls": [f"{address}:8080"],
                    "externalInvocationUrls": [f"0.0.0.0:{port}"],
                }
            time.sleep(_POLL)
        return {"state": "error", "message": f"Function wasn't ready in time\n\n{_log(name)}"}

    def replicas(self, namespace: str, name: str) -> Raw:
        self.one(namespace, name)
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


def _parts(body: Raw) -> tuple[Raw, Raw]:
    if not isinstance(body.get("metadata"), dict):
        raise RefusedError(400, "Function metadata must be provided")
    if not isinstance(body.get("spec"), dict):
        raise RefusedError(500, "Timed out waiting for creation state to be set")
    if not _NAME.fullmatch(body["metadata"].get("name", "")):
        raise RefusedError(400, "Function name is not valid")
    return body["metadata"], body["spec"]


def _version(one: Raw | None) -> int:
    return int(one["metadata"]["resourceVersion"]) if one else 0


def _record(message: str) -> Raw:
    return {"time": time.time() * 1000, "level": "info", "name": "dashboard", "message": message}


def _enriched(spec: Raw) -> Raw:
    """With what Nuclio fills in, so that what comes back is more than what was sent."""
    triggers = {
        name: {
            "class": "sync",
            "numWorkers": 1,
            "workerAvailabilityTimeoutMilliseconds": 10000,
            "workerTerminationTimeout": "10s",
            **trigger,
            "name": name,
        }
        for name, trigger in (spec.get("triggers") or {}).items()
    }
    if not any(one.get("kind") == "http" for one in triggers.values()):
        triggers["default-http"] = {"kind": "http", "name": "default-http", "numWorkers": 1}
    resources = {"requests": {"cpu": "25m", "memory": "1Mi"}, **(spec.get("resources") or {})}
    return {
        "eventTimeout": "",
        "minReplicas": 1,
        "maxReplicas": 1,
        "targetCPU": 75,
        "securityContext": {},
        "loggerSinks": [{"level": "debug"}],
        **spec,
        "version": -1,
        "alias": "latest",
        "imageHash": str(time.time_ns()),
        "triggers": triggers,
        "resources": resources,
    }


def _shown(one: Raw) -> Raw:
    """As an answer has it: without empty annotations, and cut off from what is stored."""
    found: Raw = json.loads(json.dumps(one))
    if not found["metadata"].get("annotations"):
        found["metadata"].pop("annotations", None)
    return found


def _healthy(port: int) -> bool:
    try:
        url = f"http://127.0.0.1:{port}/__internal/health"
        with urllib.request.urlopen(url, timeout=1) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def _log(name: str) -> str:
    done = subprocess.run(["docker", "logs", name], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def serve(nuclio: Nuclio) -> ThreadingHTTPServer:
    """The API on a port of its own, until `shutdown`."""

    class Handler(_Api):
        pass

    Handler.nuclio = nuclio
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


class _Api(BaseHTTPRequestHandler):
    nuclio: Nuclio
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET  # noqa: N815

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path.rstrip("/")
        self.nuclio.requests.append((self.command, path))
        try:
            self._refuse_strangers()
            if path.startswith("/api/function_invocations"):
                self._invoke(body)
                return
            self._route([unquote(part) for part in path.split("/")[2:]], body)
        except RefusedError as error:
            self._json(error.status, {"error": str(error), "errorStackTrace": f"{error}\nstack"})
        except AssertionError as error:
            self.nuclio.broken.append(str(error))
            self._json(500, {"error": str(error)})

    def _refuse_strangers(self) -> None:
        given = self.headers.get("Authorization", "")
        if self.nuclio.credentials:
            wanted = "Basic " + base64.b64encode(self.nuclio.credentials.encode()).decode()
            if given != wanted:
                raise RefusedError(401, "Unauthorized")
        if self.nuclio.token and given != f"Bearer {self.nuclio.token}":
            raise RefusedError(403, "Missing Authorization header")

    def _namespace(self, kind: str = "Function") -> str:
        return self.headers.get(f"X-Nuclio-{kind}-Namespace") or "nuclio"

    def _route(self, parts: list[str], body: bytes) -> None:
        if parts[:1] == ["functions"]:
            self._functions(parts[1:], body)
        elif parts[:1] == ["projects"]:
            self._projects(body)
        elif parts == ["versions"]:
            self._json(200, {"dashboard": {"label": "1.14.1", "os": "linux"}})
        else:
            self._json(404, {"error": "Not found"})

    def _functions(self, parts: list[str], body: bytes) -> None:
        match [self.command, *parts]:
            case ["GET"]:
                project = self.headers.get("X-Nuclio-Project-Name", "")
                self._json(200, self.nuclio.listed(self._namespace(), project))
            case ["GET", name]:
                self._json(200, self.nuclio.one(self._namespace(), name))
            case ["GET", name, "replicas"]:
                self._json(200, self.nuclio.replicas(self._namespace(), name))
            case ["GET", name, "logs", replica]:
                self._logs(name, replica)
            case ["POST" | "PUT", *_]:
                create = self.command == "POST"
                self.nuclio.store_and_deploy(_read(body), create=create)
                self._empty(202)
            case ["PATCH", name]:
                self.nuclio.patch(self._namespace(), name, _read(body))
                self._empty(202)
            case ["DELETE"]:
                header = "X-Nuclio-Delete-Function-Ignore-State-Validation"
                whatever = self.headers.get(header) == "true"
                self.nuclio.delete(_read(body), whatever_state=whatever)
                self._empty(204)

    def _projects(self, body: bytes) -> None:
        if self.command == "GET":
            self._json(200, self.nuclio.listed_projects(self._namespace("Project")))
        elif self.command == "POST":
            self._json(201, self.nuclio.create_project(_read(body)))
        else:
            strategy = self.headers.get("X-Nuclio-Delete-Project-Strategy", "restricted")
            self.nuclio.delete_project(_read(body), strategy)
            self._empty(204)

    def _logs(self, name: str, replica: str) -> None:
        if replica not in self.nuclio.replicas(self._namespace(), name)["names"]:
            raise RefusedError(400, f"{replica} replica does not belong to function {name}")
        asked = parse_qs(urlsplit(self.path).query)
        words = ["docker", "logs"]
        if asked.get("follow", ["true"])[0] == "true":
            words.append("--follow")
        for key, flag in (("since", "--since"), ("tailLines", "--tail")):
            if key in asked:
                words += [flag, asked[key][0]]
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        reading = subprocess.Popen(
            [*words, replica], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert reading.stdout is not None
        try:
            for line in reading.stdout:
                self.wfile.write(line)
                self.wfile.flush()
        except OSError:
            pass
        finally:
            reading.kill()
            reading.wait()
            reading.stdout.close()

    def _invoke(self, body: bytes) -> None:
        name = self.headers.get("X-Nuclio-Function-Name", "")
        if not name:
            raise RefusedError(400, "Function name must be provided")
        one = self.nuclio.one(self._namespace(), name)
        urls = one["status"].get("internalInvocationUrls") or []
        path = self.headers.get("X-Nuclio-Path", "").lstrip("/")
        headers = {k: v for k, v in self.headers.items() if k not in ("Host", "Content-Length")}
        headers["X-Nuclio-Target"] = name
        if not urls:
            raise RefusedError(500, "Failed to invoke function: no URL")
        request = urllib.request.Request(
            f"http://{urls[0]}/{path}",
            data=body or None,
            headers=headers,
            method=self.command,
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                status, found, answer = reply.status, reply.getheaders(), reply.read()
        except urllib.error.HTTPError as error:
            with error:
                status, found, answer = error.code, list(error.headers.items()), error.read()
        except OSError as error:
            raise RefusedError(500, f"Failed to invoke function: {error}") from None
        self.send_response(status)
        for key, text in found:
            left_out = ("content-length", "connection", "transfer-encoding", "server", "date")
            if not key.lower().startswith("x-nuclio") and key.lower() not in left_out:
                self.send_header(key, text)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _json(self, status: int, value: Any) -> None:
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _empty(self, status: int) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()


def _read(body: bytes) -> Raw:
    try:
        found = json.loads(body)
    except ValueError:
        raise RefusedError(400, "Failed to parse JSON body") from None
    if not isinstance(found, dict):
        raise RefusedError(400, "Failed to parse JSON body")
    return found
