"""The article about TorchServe under KServe: from a bucket to a prediction through a port.

A server in Python stands for TorchServe, whose image would take minutes to build: it reads the same
tree, and knows the models of the configuration.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.runtime.http.client import request
from tests.cluster import node_address, own_namespace, require_local_node
from tests.engine import PYTHON_IMAGE, require_engine, require_image
from tests.environments import environment_python
from tests.platforms.kserve.article_manifests import TORCHSERVE, TORCHSERVE_CONFIG
from tests.platforms.kserve.controller import StandardController
from tests.platforms.kserve.samples import supported
from tests.platforms.kserve.shell import Shell
from tests.storage_servers import google_server, put_google

pytestmark = [pytest.mark.system, pytest.mark.versions]

BUCKET = "pipeline_kserve_test_01"
SERVER = """\
import http.server, json, os, signal, zipfile
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
config = open("/mnt/models/config/config.properties").read()
snapshot = json.loads(config.partition("model_snapshot=")[2])
models = {name: version["marName"] for name, versions in snapshot["models"].items()
          for version in versions.values()}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        archive = models.get(self.path[len("/v1/models/"):-len(":predict")])
        reply = {"host": self.headers["Host"]}
        if archive:
            with zipfile.ZipFile("/mnt/models/model-store/" + archive) as opened:
                weights = json.loads(opened.read("pipeline.pth"))
            reply["predictions"] = [weights[item["data"]] for item in body["instances"]]
        data = json.dumps(reply).encode()
        self.send_response(200 if archive else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""


@pytest.fixture
def storage(kserve_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server of Google Cloud Storage that pods reach, with a public bucket."""
    require_local_node(kserve_cluster)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with google_server(node_address(kserve_cluster)) as url:
        put_google(url, BUCKET)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        yield url


@pytest.fixture
def namespace(kserve_cluster: Cluster, storage: str) -> Iterator[str]:
    """A namespace whose models are downloaded by KServe's own package."""
    require_image(require_engine())
    python = environment_python("3.11", "kserve-storage==0.21.0")
    [packages] = (python.parent.parent / "lib").glob("python3*/site-packages")
    variables = {"STORAGE_EMULATOR_HOST": storage}
    with (
        own_namespace(kserve_cluster) as name,
        StandardController(kserve_cluster, name, packages, environment=variables) as controller,
    ):
        yield name
        assert controller.errors == []


@pytest.fixture
def shell(namespace: str, data: Path, capsys: Any) -> Shell:
    return Shell(namespace, capsys)


def model_tree(folder: Path) -> Path:
    """Write the configuration and the archive as the article has them."""
    (folder / "config").mkdir(parents=True)
    (folder / "config" / "config.properties").write_text(TORCHSERVE_CONFIG)
    (folder / "model-store").mkdir()
    with zipfile.ZipFile(folder / "model-store" / "pipeline.mar", "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", '{"model": {"modelName": "pipeline"}}')
        archive.writestr("pipeline.pth", '{"x": 0.5}')
    return folder


def deploy_runtime(shell: Shell, folder: Path) -> None:
    """Deploy the stand-in of KServe's runtime for PyTorch."""
    kserve = {
        "command": ["python3", "-u", "-c", SERVER],
        "servingRuntime": {"formats": [supported("pytorch", "1", priority=2)]},
    }
    spec = {"platform": {"attributes": {"kserve": kserve}}}
    file = folder / "function.yaml"
    file.write_text(yaml.safe_dump({"metadata": {"name": "kserve-torchserve"}, "spec": spec}))
    shell("deploy", "-f", file, "--run-image", PYTHON_IMAGE)


def test_the_article_about_torchserve(
    shell: Shell, kserve_cluster: Cluster, tmp_path: Path
) -> None:
    deploy_runtime(shell, tmp_path)

    # The tree is uploaded to a folder of the bucket.
    tree = model_tree(tmp_path / "gs")
    assert "root of a bucket" in shell.fails("model", "upload", tree, f"gs://{BUCKET}")
    uri = f"gs://{BUCKET}/dir/gs"
    assert shell("model", "upload", tree, uri) == f"{uri}\n"

    # The InferenceService is deployed; its annotation is misspelled.
    file = tmp_path / "pipeline.yaml"
    file.write_text(TORCHSERVE.replace("/dir/gs", "/dir/gs/model-store/pipeline.mar"))
    assert "spec.predictor.model.storageUri" in shell.fails("deploy", "-f", file)
    file.write_text(TORCHSERVE)
    shell("deploy", "-f", file)
    assert "did you mean 'sidecar.istio.io/inject'?" in shell.messages
    assert "ServingRuntime kserve-torchserve (of the namespace) serves the model" in shell.messages

    # Its pods, the log of the download, and its state.
    selector = "serving.kserve.io/inferenceservice=pipeline-test"
    [pod] = kserve_cluster.list(kinds.POD, shell.namespace, labels=selector)
    [initializer] = pod["spec"]["initContainers"]
    assert initializer["name"] == "storage-initializer"
    assert f"Copying contents of {uri} to local" in shell("logs", "pipeline-test", "--init")
    host = f"pipeline-test-{shell.namespace}.example.com"
    listed = shell("get", "functions", "pipeline-test", "-o", "wide")
    assert f"http://{host}" in listed
    assert "True" in listed

    # A request through a forwarded port, with the host of the URL and the name of the archive.
    body = b'{"instances": [{"data": "x"}]}'
    with shell.forwarded_port("pipeline-test", "0:8080") as url:
        headers = {"Host": host, "Content-Type": "application/x-www-form-urlencoded"}
        reply = request("POST", url, "/v1/models/pipeline:predict", body, headers, 30.0)
        assert reply.status == 200
        assert json.loads(reply.body) == {"host": host, "predictions": [0.5]}
        unknown = request("POST", url, "/v1/models/pipeline-test:predict", body, headers, 30.0)
        assert unknown.status == 404
        port = url.rpartition(":")[2]
        assert f"port {port} of this machine" in shell.fails(
            "port-forward", "pipeline-test", f"{port}:8080"
        )
    # `invoke` forwards a port and sends the host itself.
    path = ("-p", "/v1/models/pipeline:predict")
    answer = shell("invoke", "pipeline-test", "-b", body.decode(), *path)
    assert json.loads(answer) == {"host": host, "predictions": [0.5]}
    shell("delete", "function", "pipeline-test")
