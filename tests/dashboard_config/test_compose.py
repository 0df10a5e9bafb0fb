"""The compose file for CVAT: a simulated CVAT lists functions and invokes them."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.dashboard_config.conftest import CONFIG, Images, log_of, until_healthy
from tests.engine import PYTHON_IMAGE, EngineResources, call, free_port, require_program, until

pytestmark = pytest.mark.system

TOKEN = "a-token-of-these-tests-0123456789abcdef"
FILE = CONFIG / "compose" / "docker-compose.fnbuild.yml"

CODE = """\
import json, os

def handler(context, event):
    found = [{"label": "cat", "type": "rectangle", "points": [1, 2, 30, 40], "confidence": "0.9",
              "attributes": [{"name": "redis", "value": os.environ["CVAT_FUNCTIONS_REDIS_HOST"]}]}]
    return context.Response(body=json.dumps(found), content_type="application/json")
"""
LABELS = [
    {
        "name": "cat",
        "type": "rectangle",
        "attributes": [{"name": "redis", "input_type": "text", "values": []}],
    }
]

# Lists and invokes functions with the settings of the environment, as CVAT's server does.
CVAT_PROGRAM = """\
import json, os, sys
sys.path.insert(0, "/tests")
from cvat import Cvat, Task

own = os.environ
url = "{CVAT_NUCLIO_SCHEME}://{CVAT_NUCLIO_HOST}:{CVAT_NUCLIO_PORT}".format(**own)
way = sys.argv[1] if len(sys.argv) > 1 else own["CVAT_NUCLIO_INVOKE_METHOD"]
cvat = Cvat(url, way, own["CVAT_NUCLIO_FUNCTION_NAMESPACE"], "host.docker.internal",
            float(own["CVAT_NUCLIO_DEFAULT_TIMEOUT"]))
found = {name: cvat.detect(name, Task([b"picture"]), 0) for name in cvat.functions()}
print(json.dumps({"way": way, "found": found}))
"""


@dataclass
class CvatDeployment:
    """CVAT's containers with a dashboard in their network."""

    resources: EngineResources
    images: Images
    port: int
    network: str

    @property
    def nuclio(self) -> str:
        return self.resources.name("nuclio")

    def invoke(self, service: str, *arguments: str) -> Any:
        """Invoke all functions from a service of CVAT, by its own method or the given one."""
        command = [
            "docker",
            "exec",
            self.resources.name(service),
            "python",
            "-c",
            CVAT_PROGRAM,
            *arguments,
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{result.stderr}\n{log_of(self.nuclio)}"
        return json.loads(result.stdout)

    def api(self, method: str, path: str, body: Any = None, token: str = TOKEN) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data, headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
                return answer.status, json.loads(text or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def deploy(self, name: str, **spec: Any) -> dict[str, Any]:
        """Deploy a function through the API, and return it after the end of the deploy."""
        body = {
            "metadata": {
                "name": name,
                "labels": {"nuclio.io/project-name": "cvat"},
                "annotations": {"name": name, "type": "detector", "spec": json.dumps(LABELS)},
            },
            "spec": {
                "handler": "main:handler",
                "runtime": "python:3.11",
                "build": {
                    "functionSourceCode": base64.b64encode(CODE.encode()).decode(),
                    "baseImage": PYTHON_IMAGE,
                    "image": self.resources.image(name).partition(":")[0],
                },
                **spec,
            },
        }
        status, answer = self.api("POST", "/api/functions", body)
        assert status == 202, answer
        function: dict[str, Any] = {}

        def is_finished() -> bool:
            function.update(self.api("GET", f"/api/functions/{name}")[1])
            return function["status"]["state"] not in ("building", "")

        until(f"the deploy of {name}", is_finished, 240)
        return function


@pytest.fixture(scope="module")
def cvat(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CvatDeployment]:
    program = _compose()
    folder = tmp_path_factory.mktemp("cvat")
    resources = EngineResources(images.engine)
    project, port = resources.name("cvat"), free_port()
    deployment = CvatDeployment(resources, images, port, f"{project}_cvat")
    _write(folder, images, deployment)
    files = [folder / "docker-compose.yml", FILE, folder / "tests.yml"]
    arguments = [*program, "-p", project, *(word for file in files for word in ("-f", str(file)))]
    variables = {
        "FNBUILD_DASHBOARD_IMAGE": images.docker,
        "FNBUILD_DASHBOARD_PORT": str(port),
        "FNBUILD_DASHBOARD_TOKEN": TOKEN,
    }
    options: dict[str, Any] = {
        "cwd": folder,
        "env": {**os.environ, **variables},
        "capture_output": True,
    }
    try:
        up = subprocess.run([*arguments, "up", "-d"], check=False, text=True, **options)
        assert up.returncode == 0, up.stderr
        until_healthy(images.engine, deployment.nuclio)
        yield deployment
    finally:
        # Functions use CVAT's network, so they are removed first.
        for name in call(
            images.engine, "ps", "-aq", "--filter", f"network={deployment.network}"
        ).split():
            call(images.engine, "rm", "--force", "--volumes", name)
        subprocess.run([*arguments, "down", "-v"], check=False, **options)
        resources.remove()


def _compose() -> list[str]:
    """Return the compose command: the plugin of the engine or the older program."""
    plugin = ["docker", "compose"]
    result = subprocess.run([*plugin, "version"], capture_output=True, check=False)
    return plugin if result.returncode == 0 else [require_program("docker-compose")]


def _write(folder: Path, images: Images, cvat: CvatDeployment) -> None:
    """Write a folder like CVAT's, and a file with unique names for all containers."""
    service = {
        "image": images.plain,
        "entrypoint": ["sleep", "3600"],
        "networks": ["cvat"],
        "volumes": [f"{ROOT}/tests/cvat_simulator.py:/tests/cvat.py:ro"],
        "environment": {"CVAT_HOST": "localhost"},
    }
    names = ("cvat_server", "cvat_worker_annotation")
    config = yaml.safe_load((CONFIG / "compose" / "cvat.yaml").read_text())
    config["defaults"]["spec"]["platform"]["attributes"]["network"] = cvat.network
    config["namespace"] = cvat.resources.name("ns")
    (folder / "cvat.yaml").write_text(yaml.safe_dump(config))
    for file, services in {
        "docker-compose.yml": dict.fromkeys(names, service),
        "tests.yml": {
            **{name: {"container_name": cvat.resources.name(name)} for name in names},
            "nuclio": {
                "container_name": cvat.nuclio,
                "volumes": [f"{folder}/cvat.yaml:/usr/share/fnbuild/cvat.yaml:ro"],
            },
        },
    }.items():
        networks = {"networks": {"cvat": {}}} if file == "docker-compose.yml" else {}
        (folder / file).write_text(yaml.safe_dump({"services": services, **networks}))
    # The namespace is unique because other tests use the same engine.
    overrides = yaml.safe_load((folder / "tests.yml").read_text())
    for name in names:
        overrides["services"][name]["environment"] = {
            "CVAT_NUCLIO_FUNCTION_NAMESPACE": config["namespace"]
        }
    (folder / "tests.yml").write_text(yaml.safe_dump(overrides))


def _shapes(answer: Any, name: str) -> tuple[Any, ...]:
    (shape,) = answer["found"][name]
    return shape["label"], shape["points"], shape["attributes"]


def test_deployed_functions_are_models_in_cvat(cvat: CvatDeployment) -> None:
    status, answer = cvat.api("POST", "/api/projects", {"metadata": {"name": "cvat"}})
    assert status == 201, answer
    deployed = cvat.deploy("near")
    assert deployed["status"]["state"] == "ready", deployed["status"]
    # A function on the bridge network is reached by its port.
    away = {"platform": {"attributes": {"network": "bridge"}}}
    deployed = cvat.deploy("away", **away)
    assert deployed["status"]["state"] == "ready", deployed["status"]

    expected = ("cat", [1, 2, 30, 40])
    for service in ("cvat_server", "cvat_worker_annotation"):
        by_dashboard = cvat.invoke(service)
        assert by_dashboard["way"] == "dashboard"
        assert set(by_dashboard["found"]) == {"near", "away"}
        direct = cvat.invoke(service, "direct")
        for name in ("near", "away"):
            assert _shapes(by_dashboard, name)[:2] == expected
            assert _shapes(direct, name) == _shapes(by_dashboard, name)
        assert "cvat_redis_ondisk" in json.dumps(by_dashboard)
    _check_with_doctor(cvat)


def _check_with_doctor(cvat: CvatDeployment) -> None:
    """Check that the documented doctor command finds no failures."""
    host = "host.docker.internal"
    arguments = [
        "docker",
        "run",
        "--rm",
        "--network",
        cvat.network,
        "--add-host",
        f"{host}:host-gateway",
    ]
    doctor = ["doctor", "cvat", "--url", "http://nuclio:8070", "--direct-host", host]
    namespace = ["--namespace", cvat.resources.name("ns")]
    image = cvat.images.plain
    result = subprocess.run(
        [*arguments, image, *doctor, *namespace], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "near" in result.stdout


def test_writes_require_the_token(cvat: CvatDeployment) -> None:
    assert cvat.api("GET", "/api/functions", token="")[0] == 200
    assert cvat.api("POST", "/api/functions", {}, token="")[0] == 401
    assert cvat.api("POST", "/api/functions", {}, token="wrong")[0] == 401
    assert TOKEN not in log_of(cvat.nuclio)


def test_the_compose_file_sets_the_variables_of_cvat(cvat: CvatDeployment) -> None:
    services = yaml.safe_load(FILE.read_text())["services"]
    assert services["cvat_server"]["environment"] == {
        "CVAT_SERVERLESS": 1,
        "CVAT_NUCLIO_SCHEME": "http",
        "CVAT_NUCLIO_HOST": "nuclio",
        "CVAT_NUCLIO_PORT": 8070,
        "CVAT_NUCLIO_FUNCTION_NAMESPACE": "nuclio",
        "CVAT_NUCLIO_DEFAULT_TIMEOUT": 120,
        "CVAT_NUCLIO_INVOKE_METHOD": "${CVAT_NUCLIO_INVOKE_METHOD:-dashboard}",
    }
    assert services["nuclio"]["ports"] == ["127.0.0.1:${FNBUILD_DASHBOARD_PORT:-8070}:8070"]
    # CVAT's own variables are kept.
    command = ["docker", "exec", cvat.resources.name("cvat_server"), "printenv", "CVAT_HOST"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"localhost\n"
