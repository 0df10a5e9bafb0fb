"""The manifests on the cluster that is there: the dashboard in a pod, with the least rights."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubernetes.doctor.permissions import REQUIRED_PERMISSIONS
from tests.cluster import own_namespace, require_cluster
from tests.containers import conftest as containers
from tests.cvat_simulator import Cvat, Task
from tests.dashboard.conftest import _DETECTOR, _DETECTOR_ANNOTATIONS, write_function
from tests.dashboard_config.conftest import CONFIG, Images
from tests.engine import PYTHON_IMAGE, EngineResources, call, free_port, require_program, until
from tests.kubernetes import conftest as kubernetes

pytestmark = pytest.mark.system

engine, data, registry = containers.engine, containers.data, kubernetes.registry

MANIFESTS = CONFIG / "kubernetes"
TOKEN = "a-token-of-these-tests-0123456789abcdef"

# In a cluster the dashboard reaches functions by their own names.
_NOT_NEEDED = {("pods/portforward", "get"), ("pods/portforward", "create")}


def _rendered(folder: Path) -> list[dict[str, Any]]:
    command = [require_program("kubectl"), "kustomize", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return [one for one in yaml.safe_load_all(result.stdout) if one]


def test_the_account_may_do_what_the_platform_does_and_no_more() -> None:
    allowed: set[tuple[str, str]] = set()
    for manifest in _rendered(MANIFESTS / "base"):
        for rule in manifest.get("rules") or []:
            assert "resourceNames" not in rule
            allowed |= {
                (f"{resource}.{group}" if group else resource, verb)
                for group in rule["apiGroups"]
                for resource in rule["resources"]
                for verb in rule["verbs"]
            }
    needed = {(right.resource, verb) for right in REQUIRED_PERMISSIONS for verb in right.verbs}
    assert allowed == needed - _NOT_NEEDED


@pytest.mark.parametrize("name", ["local-registry", "build-on-node"])
def test_overlays_change_what_they_say(name: str) -> None:
    made = _rendered(MANIFESTS / "overlays" / name)
    (deployment,) = (one for one in made if one["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    tag = "docker" if name == "build-on-node" else "latest"
    assert container["image"] == f"127.0.0.1:5000/fnbuild/dashboard:{tag}"
    assert {one["name"] for one in container["env"]} == {
        "FNBUILD_DASHBOARD_TOKEN",
        "NUCLIO_DASHBOARD_REGISTRY_URL",
    }
    assert pod["securityContext"]["runAsNonRoot"] == (name == "local-registry")
    assert any("hostPath" in one for one in pod["volumes"]) == (name == "build-on-node")
    assert all(one["metadata"].get("namespace", "nuclio") == "nuclio" for one in made)


@dataclass
class Installed:
    """The dashboard in a namespace of its own, with a detector that the command line deployed."""

    cluster: Cluster
    namespace: str
    name: str
    resources: EngineResources
    environment: dict[str, str]
    registry: str

    def apply(self, folder: Path, overlay: str, image: str) -> None:
        """Push the image to the registry, and apply an overlay of one's own on a shipped one."""
        reference = self.resources.image(overlay, f"{self.registry}/")
        call(self.resources.engine, "tag", image, reference)
        call(self.resources.engine, "push", reference)
        self.kubectl("apply", "-k", str(_overlay(folder, self, overlay, reference)))

    def run(self, *words: str, given: str = "") -> str:
        result = subprocess.run(
            words, input=given, env=self.environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, f"{words}\n{result.stdout}\n{result.stderr}\n{self._about()}"
        return result.stdout

    def kubectl(self, *words: str, given: str = "") -> str:
        return self.run("kubectl", "--namespace", self.namespace, *words, given=given)

    def _about(self) -> str:
        arguments = ["kubectl", "--namespace", self.namespace]
        parts = (["describe", "pods"], ["logs", "--tail=50", "-l", "nuclio.io/app=dashboard"])
        return "\n".join(
            subprocess.run([*arguments, *part], capture_output=True, text=True, check=False).stdout
            for part in parts
        )

    def pods(self) -> list[str]:
        """The dashboards that are ready."""
        return [
            pod["metadata"]["name"]
            for pod in self.cluster.list(
                kinds.POD, self.namespace, labels="nuclio.io/app=dashboard"
            )
            if all(one["ready"] for one in pod["status"].get("containerStatuses") or [{"ready": 0}])
            and "deletionTimestamp" not in pod["metadata"]
        ]

    @contextmanager
    def forwarded(self, target: str) -> Iterator[str]:
        """The URL of the dashboard by `kubectl port-forward`."""
        port = free_port()
        arguments = [
            "kubectl",
            "--namespace",
            self.namespace,
            "port-forward",
            target,
            f"{port}:8070",
        ]
        url = f"http://127.0.0.1:{port}"
        process = subprocess.Popen(
            arguments, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            until(f"port-forward to {target}", lambda: _answers(url))
            yield url
        finally:
            process.terminate()
            process.communicate()


def _lists(cvat: Cvat, *names: str) -> bool:
    return set(cvat.functions()) == set(names)


def _answers(url: str) -> bool:
    try:
        return _api(url, "GET", "/api/versions")[0] == 200
    except OSError:
        return False


def _api(url: str, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


@pytest.fixture(scope="module")
def installed(
    images: Images, data: Path, registry: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installed]:
    cluster, folder = require_cluster(), tmp_path_factory.mktemp("install")
    resources = EngineResources(images.engine)
    with own_namespace(cluster) as namespace:
        environment = {
            name: value for name, value in os.environ.items() if not containers.is_ours(name)
        }
        path = f"{containers.PROGRAM.parent}{os.pathsep}{environment['PATH']}"
        own = {"FNBUILD_DATA_DIR": str(data), "NUCTL_NAMESPACE": namespace, "PATH": path}
        name = f"nuclio-dashboard-{resources.token}"
        found = Installed(cluster, namespace, name, resources, environment | own, registry)
        try:
            found.apply(folder, "local-registry", images.plain)
            token = (
                "create",
                "secret",
                "generic",
                "nuclio-dashboard",
                f"--from-literal=token={TOKEN}",
            )
            found.kubectl(*token)
            image = resources.name("two-boxes")
            source = write_function(
                folder,
                "two-boxes",
                _DETECTOR,
                annotations=_DETECTOR_ANNOTATIONS,
                spec=f"build: {{baseImage: '{PYTHON_IMAGE}', image: {image}}}",
            )
            arguments = ("deploy", "--platform", "kube", "--project-name", "cvat", "-r", registry)
            resources.images.append(f"{registry}/{image}:latest")
            found.run("fnbuild", *arguments, "--path", str(source))
            found.kubectl("rollout", "status", f"deployment/{name}", "--timeout=300s")
            yield found
        finally:
            for kind in ("clusterrolebinding", "clusterrole"):
                arguments = ["kubectl", "delete", kind, f"nuclio-dashboard-nodes-{resources.token}"]
                subprocess.run(arguments, capture_output=True, check=False)
            resources.remove()


def _overlay(folder: Path, installed: Installed, shipped: str, image: str) -> Path:
    """An overlay as users write it: another namespace, another image, and names of its own for what
    is in no namespace.
    """
    own = folder / shipped
    own.mkdir()
    repository, _, tag = image.rpartition(":")
    own_image = {"name": "127.0.0.1:5000/fnbuild/dashboard", "newName": repository, "newTag": tag}
    content = {
        "namespace": installed.namespace,
        "nameSuffix": f"-{installed.resources.token}",
        "bases": [os.path.relpath(MANIFESTS / "overlays" / shipped, own)],
        "images": [own_image],
    }
    (own / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return own


def test_cvats_calls_go_through_a_forwarded_port(installed: Installed) -> None:
    with installed.forwarded(f"service/{installed.name}") as url:
        cvat = Cvat(url, namespace=installed.namespace)
        until("the list", partial(_lists, cvat, "two-boxes"))
        model = cvat.get("two-boxes")
        assert (model.kind, model.name) == ("detector", "Two boxes")
        found = cvat.detect("two-boxes", Task([b"picture"]), 0)
        assert [one["label"] for one in found] == ["person", "car"]
        status, answer = _api(url, "DELETE", "/api/functions/two-boxes")
        assert (status, answer["code"]) == (401, "refused")


def test_an_image_is_deployed_by_the_api_and_every_dashboard_sees_it(installed: Installed) -> None:
    shown = json.loads(
        installed.run(
            *("fnbuild", "get", "function", "two-boxes", "--platform", "kube", "-o", "json")
        )
    )
    body = {
        "metadata": {
            "name": "second",
            "labels": {"nuclio.io/project-name": "cvat"},
            "annotations": shown["metadata"]["annotations"],
        },
        "spec": {
            "handler": "main:handler",
            "runtime": "python:3.11",
            "image": shown["spec"]["image"],
            "build": {"codeEntryType": "image"},
        },
    }
    installed.kubectl("scale", f"deployment/{installed.name}", "--replicas=2")
    with installed.forwarded(f"service/{installed.name}") as url:
        _deployed(url, installed, body)
    assert "second" in installed.run("fnbuild", "get", "functions", "--platform", "kube")

    until("a second dashboard", lambda: len(installed.pods()) == 2)
    for pod in installed.pods():
        with installed.forwarded(f"pod/{pod}") as url:
            cvat = Cvat(url, namespace=installed.namespace)
            until("the list", partial(_lists, cvat, "two-boxes", "second"))
            assert len(cvat.detect("second", Task([b"picture"]), 0)) == 2


def test_code_is_built_by_the_engine_of_the_node(
    installed: Installed, images: Images, tmp_path: Path
) -> None:
    installed.apply(tmp_path, "build-on-node", images.docker)
    installed.kubectl("rollout", "status", f"deployment/{installed.name}", "--timeout=300s")
    name = installed.resources.name("built")
    installed.resources.images.append(f"{installed.registry}/{name}:latest")
    code = base64.b64encode(_DETECTOR.encode()).decode()
    body = {
        "metadata": {"name": "built"},
        "spec": {
            "handler": "main:handler",
            "runtime": "python:3.11",
            "build": {"functionSourceCode": code, "baseImage": PYTHON_IMAGE, "image": name},
        },
    }
    with installed.forwarded(f"service/{installed.name}") as url:
        _deployed(url, installed, body)
        headers = {"x-nuclio-function-name": "built", "x-nuclio-path": "/"}
        where = {"x-nuclio-function-namespace": installed.namespace}
        status, answer = _api(url, "POST", "/api/function_invocations", {}, **headers, **where)
        assert (status, [one["label"] for one in answer]) == (200, ["person", "car"])


def _deployed(url: str, installed: Installed, body: dict[str, Any]) -> None:
    """Deploy by the API, and wait until it is ready."""
    own = {
        "x-nuclio-function-namespace": installed.namespace,
        "Authorization": f"Bearer {TOKEN}",
    }
    status, answer = _api(url, "POST", "/api/functions", body, **own)
    assert status == 202, answer
    found: dict[str, Any] = {}

    def ended() -> bool:
        where = f"/api/functions/{body['metadata']['name']}"
        found.update(_api(url, "GET", where, None, **own)[1])
        return found["status"]["state"] not in ("building", "")

    until(f"the deploy of {body['metadata']['name']}", ended, 240)
    assert found["status"]["state"] == "ready", found["status"]
