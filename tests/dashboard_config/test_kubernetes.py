"""The manifests on the current cluster: the dashboard in a pod with few permissions."""

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

from fnbuild.function.yaml_writer import as_yaml
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.permissions import STORAGE_PERMISSIONS
from fnbuild.platforms.kubernetes.doctor.permissions import (
    KEDA_PERMISSIONS,
    REQUIRED_PERMISSIONS,
)
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

# In a cluster the dashboard reaches functions by their names. It has no models.
_NOT_NEEDED = {
    (permission.resource, verb)
    for permission in REQUIRED_PERMISSIONS
    for verb in permission.verbs
    if permission.resource == "pods/portforward" or permission in STORAGE_PERMISSIONS
}


def _rendered(folder: Path) -> list[dict[str, Any]]:
    command = [require_program("kubectl"), "kustomize", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return [manifest for manifest in yaml.safe_load_all(result.stdout) if manifest]


def test_the_account_has_exactly_the_required_permissions() -> None:
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
    needed = {
        (permission.resource, verb)
        for permission in (*REQUIRED_PERMISSIONS, *KEDA_PERMISSIONS)
        for verb in permission.verbs
    }
    assert allowed == needed - _NOT_NEEDED


@pytest.mark.parametrize("name", ["local-registry", "build-on-node"])
def test_overlays_change_image_and_variables(name: str) -> None:
    manifests = _rendered(MANIFESTS / "overlays" / name)
    (deployment,) = (item for item in manifests if item["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    tag = "docker" if name == "build-on-node" else "latest"
    assert container["image"] == f"127.0.0.1:5000/fnbuild/dashboard:{tag}"
    assert {variable["name"] for variable in container["env"]} == {
        "FNBUILD_DASHBOARD_TOKEN",
        "NUCLIO_DASHBOARD_REGISTRY_URL",
    }
    assert pod["securityContext"]["runAsNonRoot"] == (name == "local-registry")
    assert any("hostPath" in volume for volume in pod["volumes"]) == (name == "build-on-node")
    assert all(item["metadata"].get("namespace", "nuclio") == "nuclio" for item in manifests)


@dataclass
class Installation:
    """The dashboard in a separate namespace, with a detector deployed by the command line."""

    cluster: Cluster
    namespace: str
    name: str
    resources: EngineResources
    environment: dict[str, str]
    registry: str

    def apply(self, folder: Path, overlay: str, image: str) -> None:
        """Push the image to the registry, and apply an overlay that is based on a shipped one."""
        reference = self.resources.image(overlay, f"{self.registry}/")
        call(self.resources.engine, "tag", image, reference)
        call(self.resources.engine, "push", reference)
        self.kubectl("apply", "-k", str(_overlay(folder, self, overlay, reference)))

    def run(self, *arguments: str, stdin: str = "") -> str:
        result = subprocess.run(
            arguments,
            input=stdin,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, (
            f"{arguments}\n{result.stdout}\n{result.stderr}\n{self._describe()}"
        )
        return result.stdout

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        return self.run("kubectl", "--namespace", self.namespace, *arguments, stdin=stdin)

    def _describe(self) -> str:
        arguments = ["kubectl", "--namespace", self.namespace]
        parts = (["describe", "pods"], ["logs", "--tail=50", "-l", "nuclio.io/app=dashboard"])
        return "\n".join(
            subprocess.run([*arguments, *part], capture_output=True, text=True, check=False).stdout
            for part in parts
        )

    def pods(self) -> list[str]:
        """Return the pods of dashboards that are ready."""
        return [
            pod["metadata"]["name"]
            for pod in self.cluster.list(
                kinds.POD, self.namespace, labels="nuclio.io/app=dashboard"
            )
            if all(
                status["ready"]
                for status in pod["status"].get("containerStatuses") or [{"ready": 0}]
            )
            and "deletionTimestamp" not in pod["metadata"]
        ]

    @contextmanager
    def forwarded(self, target: str) -> Iterator[str]:
        """Run `kubectl port-forward`, and yield the URL of the dashboard."""
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
) -> Iterator[Installation]:
    cluster, folder = require_cluster(), tmp_path_factory.mktemp("install")
    resources = EngineResources(images.engine)
    with own_namespace(cluster) as namespace:
        environment = {
            name: value for name, value in os.environ.items() if not containers.is_ours(name)
        }
        path = f"{containers.PROGRAM.parent}{os.pathsep}{environment['PATH']}"
        variables = {"FNBUILD_DATA_DIR": str(data), "NUCTL_NAMESPACE": namespace, "PATH": path}
        name = f"nuclio-dashboard-{resources.token}"
        installation = Installation(
            cluster, namespace, name, resources, environment | variables, registry
        )
        try:
            installation.apply(folder, "local-registry", images.plain)
            token = (
                "create",
                "secret",
                "generic",
                "nuclio-dashboard",
                f"--from-literal=token={TOKEN}",
            )
            installation.kubectl(*token)
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
            installation.run("fnbuild", *arguments, "--path", str(source))
            installation.kubectl("rollout", "status", f"deployment/{name}", "--timeout=300s")
            yield installation
        finally:
            for kind in ("clusterrolebinding", "clusterrole"):
                arguments = ["kubectl", "delete", kind, f"nuclio-dashboard-nodes-{resources.token}"]
                subprocess.run(arguments, capture_output=True, check=False)
            resources.remove()


def _overlay(folder: Path, installed: Installation, shipped: str, image: str) -> Path:
    """Write an overlay as users do: with another namespace and image, and unique names of
    cluster-wide objects.
    """
    folder_of_overlay = folder / shipped
    folder_of_overlay.mkdir()
    repository, _, tag = image.rpartition(":")
    own_image = {"name": "127.0.0.1:5000/fnbuild/dashboard", "newName": repository, "newTag": tag}
    content = {
        "namespace": installed.namespace,
        "nameSuffix": f"-{installed.resources.token}",
        "bases": [os.path.relpath(MANIFESTS / "overlays" / shipped, folder_of_overlay)],
        "images": [own_image],
    }
    # kubectl reads plain text such as -4e56 as a number, which PyYAML writes without quotes.
    (folder_of_overlay / "kustomization.yaml").write_text(as_yaml(content))
    return folder_of_overlay


def test_cvat_uses_the_dashboard_through_a_forwarded_port(installed: Installation) -> None:
    with installed.forwarded(f"service/{installed.name}") as url:
        cvat = Cvat(url, namespace=installed.namespace)
        until("the list", partial(_lists, cvat, "two-boxes"))
        model = cvat.get("two-boxes")
        assert (model.kind, model.name) == ("detector", "Two boxes")
        shapes = cvat.detect("two-boxes", Task([b"picture"]), 0)
        assert [shape["label"] for shape in shapes] == ["person", "car"]
        status, answer = _api(url, "DELETE", "/api/functions/two-boxes")
        assert (status, answer["code"]) == (401, "refused")


def test_all_dashboards_list_a_function_deployed_by_the_api(installed: Installation) -> None:
    function = json.loads(
        installed.run(
            *("fnbuild", "get", "function", "two-boxes", "--platform", "kube", "-o", "json")
        )
    )
    body = {
        "metadata": {
            "name": "second",
            "labels": {"nuclio.io/project-name": "cvat"},
            "annotations": function["metadata"]["annotations"],
        },
        "spec": {
            "handler": "main:handler",
            "runtime": "python:3.11",
            "image": function["spec"]["image"],
            "build": {"codeEntryType": "image"},
        },
    }
    installed.kubectl("scale", f"deployment/{installed.name}", "--replicas=2")
    with installed.forwarded(f"service/{installed.name}") as url:
        _deploy(url, installed, body)
    assert "second" in installed.run("fnbuild", "get", "functions", "--platform", "kube")

    until("a second dashboard", lambda: len(installed.pods()) == 2)
    for pod in installed.pods():
        with installed.forwarded(f"pod/{pod}") as url:
            cvat = Cvat(url, namespace=installed.namespace)
            until("the list", partial(_lists, cvat, "two-boxes", "second"))
            assert len(cvat.detect("second", Task([b"picture"]), 0)) == 2


def test_the_engine_of_the_node_builds_code(
    installed: Installation, images: Images, tmp_path: Path
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
        _deploy(url, installed, body)
        headers = {"x-nuclio-function-name": "built", "x-nuclio-path": "/"}
        namespace = {"x-nuclio-function-namespace": installed.namespace}
        status, answer = _api(url, "POST", "/api/function_invocations", {}, **headers, **namespace)
        assert (status, [shape["label"] for shape in answer]) == (200, ["person", "car"])


def _deploy(url: str, installed: Installation, body: dict[str, Any]) -> None:
    """Deploy a function through the API, and wait until it is ready."""
    headers = {
        "x-nuclio-function-namespace": installed.namespace,
        "Authorization": f"Bearer {TOKEN}",
    }
    status, answer = _api(url, "POST", "/api/functions", body, **headers)
    assert status == 202, answer
    function: dict[str, Any] = {}

    def is_finished() -> bool:
        path = f"/api/functions/{body['metadata']['name']}"
        function.update(_api(url, "GET", path, None, **headers)[1])
        return function["status"]["state"] not in ("building", "")

    until(f"the deploy of {body['metadata']['name']}", is_finished, 240)
    assert function["status"]["state"] == "ready", function["status"]
