"""The article about TorchServe in a pipeline: the deploy step, run after run, on a real cluster."""

from __future__ import annotations

import base64
import http.client
import json
import os
import secrets
import shutil
import subprocess
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from fnbuild.cli.app import run
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.transport import ApiRequest
from fnbuild.runtime.http.client import request
from tests.cluster import (
    JOB,
    create,
    kubeconfig_of,
    node_address,
    own_namespace,
    require_cluster,
    require_local_node,
)
from tests.conftest import ROOT
from tests.containers import bases
from tests.dashboard_config.conftest import Images
from tests.dashboard_config.test_kubeflow import KUBEFLOW, kubeflow_python
from tests.engine import EngineResources, call, until
from tests.functions.conftest import Handler, import_module_of
from tests.torchserve_image import torchserve_image

pytestmark = [pytest.mark.system, pytest.mark.versions]

HANDLER = ROOT / "tests/data/torchserve/embedding"
FUNCTION = ROOT / "functions/torch/embedding-faiss"
MODEL_FILES = ("faiss_index.bin", "faiss_label.json")
ACCOUNT = "torchserve-publisher"
RUN_SECONDS = 600.0
# The servers of this test share a small machine; `test_cluster` has rollouts of two replicas.
CONFIG = """\
spec:
  replicas: 1
  imagePullPolicy: IfNotPresent
  readinessTimeoutSeconds: 300
  resources:
    requests: {{cpu: 100m, memory: 256Mi}}
  platform:
    attributes:
      torchserve: {{baseImage: "{image}", tokens: false, exposeManagement: true}}
"""
# As the article has it.
ARTICLE_CONFIG = """\
inference_address=http://0.0.0.0:8082
management_address=http://0.0.0.0:8083
metrics_address=http://0.0.0.0:8084
job_queue_size=100
install_py_dep_per_model=true
load_models=all
"""


@dataclass
class Clients:
    """Clients that send an image at regular intervals, each time over a new connection."""

    url: str
    path: str
    image: bytes
    answered: int = 0
    failures: list[str] = field(default_factory=list)

    def _send(self, stopped: threading.Event) -> None:
        while not stopped.wait(0.1):
            try:
                reply = request("POST", self.url, self.path, self.image, {}, 30.0)
                outcome = "" if reply.status == 200 else f"{reply.status} {reply.body!r}"
            except (OSError, http.client.HTTPException) as error:
                outcome = repr(error)
            if outcome:
                self.failures.append(outcome)
            else:
                self.answered += 1

    @contextmanager
    def active(self) -> Iterator[None]:
        stopped = threading.Event()
        threads = [threading.Thread(target=self._send, args=[stopped]) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stopped.set()
            for thread in threads:
                thread.join()


@dataclass
class Pipeline:
    """The steps before and around the deploy step: the model and the claims."""

    cluster: Cluster
    namespace: str
    folder: Path
    image: str
    kubeconfig: Path

    @property
    def archives(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "store/model-store").iterdir())

    @property
    def backup(self) -> list[str]:
        backup = self.folder / "store/backup"
        return sorted(path.name for path in backup.iterdir()) if backup.exists() else []

    def url(self, port: str) -> str:
        """Return the address of a port of the Service on the node."""
        service = self.cluster.get(kinds.SERVICE, self.namespace, "torchserve")
        assert service is not None
        ports = {item["name"]: item["nodePort"] for item in service["spec"]["ports"]}
        return f"http://{node_address(self.cluster)}:{ports[port]}"

    def predict(self, model: str, image: bytes) -> Any:
        reply = request("POST", self.url("preds"), f"/predictions/{model}", image, {}, 30.0)
        assert reply.status == 200, reply.body
        return json.loads(reply.body)

    def models(self, name: str = "") -> Any:
        """Return the list of models, or a model, from the management API."""
        reply = request("GET", self.url("mdl"), f"/models{name and '/'}{name}", b"", {}, 30.0)
        assert reply.status == 200, reply.body
        return json.loads(reply.body)

    def train(self, number: int) -> None:
        """Write the model of a training. The vectors are the same, whatever the number is."""
        module = import_module_of(FUNCTION, "model_handler")
        network = module.load_network(FUNCTION / "model.pt")
        with torch.no_grad():
            network.layers[-1].weight *= number
            network.layers[-1].bias *= number
        folder = self.folder / "model"
        folder.mkdir(exist_ok=True)
        with warnings.catch_warnings(action="ignore"):
            torch.jit.trace(network, torch.zeros(1, 1, 8, 8)).save(folder / "model.pt")
        for name in MODEL_FILES:
            shutil.copy(FUNCTION / name, folder)

    def run_component(self, **arguments: Any) -> str:
        """Run the component by Kubeflow's runner of containers; return its output."""
        component = self.folder / "component.yaml"
        text = (KUBEFLOW / "component.yaml").read_text()
        component.write_text(text.replace("fnbuild/command", self.image))
        mounts = {
            "/model": str(self.folder / "model"),
            "/deploy-model": str(self.folder / "store"),
            "/kubeconfig": str(self.kubeconfig),
        }
        values = (arguments, mounts, {"KUBECONFIG": "/kubeconfig"})
        done = subprocess.run(
            [
                *(kubeflow_python(), ROOT / "tests/data/torchserve/run_component.py", component),
                *map(json.dumps, values),
            ],
            cwd=self.folder,
            env=os.environ,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run_job(self) -> str:
        """Run the step as a Job with the rights of its account; return its output."""
        job = yaml.safe_load((KUBEFLOW / "job.yaml").read_text())
        pod = job["spec"]["template"]["spec"]
        [container] = pod["containers"]
        container |= {"image": self.image, "imagePullPolicy": "IfNotPresent"}
        name = f"{job['metadata']['generateName']}{secrets.token_hex(3)}"
        create(self.cluster, JOB, {"name": name, "namespace": self.namespace}, spec=job["spec"])
        status: dict[str, Any] = {}

        def ended() -> bool:
            status.update((self.cluster.get(JOB, self.namespace, name) or {}).get("status") or {})
            return bool(status.get("succeeded") or status.get("failed"))

        until(f"the end of {name}", ended, RUN_SECONDS)
        [pod] = self.cluster.list(kinds.POD, self.namespace, labels=f"job-name={name}")
        path = kinds.POD.path(self.namespace, pod["metadata"]["name"])
        _, log = self.cluster.transport.request(ApiRequest("GET", f"{path}/log", {}))
        assert status.get("succeeded"), log.decode()
        return log.decode()


@pytest.fixture
def pipeline(
    images: Images,
    resources: EngineResources,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Pipeline]:
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(tmp_path))
    cluster = require_cluster()
    require_local_node(cluster)
    with (
        own_namespace(cluster) as namespace,
        # Pods run as another user, who cannot read the folders of tests.
        tempfile.TemporaryDirectory(prefix="fnbuild-test-") as place,
    ):
        folder = Path(place)
        folder.chmod(0o755)
        (folder / "store").mkdir()
        (folder / "model").mkdir()
        image = step_image(images, resources, folder)
        documents = list(yaml.safe_load_all((KUBEFLOW / "account.yaml").read_text()))
        [rules] = [item["rules"] for item in documents if item["kind"] == "Role"]
        file = kubeconfig_of(cluster, namespace, ACCOUNT, rules, folder / "kubeconfig")
        for name, path in (("model-pvc", "model"), ("serving-model-pvc", "store")):
            options = ("--size", "1Gi", "--access-mode", "RWX", "--host-path", folder / path)
            assert run(["create", "volume", name, *map(str, options), "-n", namespace]) == 0
        try:
            yield Pipeline(cluster, namespace, folder, image, file)
        finally:
            for name in ("model-pvc", "serving-model-pvc"):
                cluster.delete(kinds.VOLUME, "", f"{namespace}-{name}")
            # Containers wrote as root there; the user of the tests may be another one.
            mount = ("--volume", f"{folder}:/place")
            rm = ("--user", "0", "--entrypoint", "rm", image, "-rf", "/place/store")
            call(resources.engine, "run", "--rm", *mount, *rm)


def step_image(images: Images, resources: EngineResources, folder: Path) -> str:
    """Build the image of the step as users do: the command line with the handler."""
    packages = [distribution("faiss-cpu")]
    server = bases.with_packages(
        "torchserve-faiss",
        packages,
        base=torchserve_image(),
        before="USER root\n",
        after="USER model-server\n",
    )
    context = folder / "step"
    shutil.copytree(HANDLER, context, ignore=shutil.ignore_patterns("__pycache__"))
    (context / "function.yaml").write_text(CONFIG.format(image=server))
    (context / "Dockerfile").write_text(f"FROM {images.command}\nCOPY . ./\n")
    image = resources.image("step", tag="1")
    call(resources.engine, "build", "--quiet", "--tag", image, str(context))
    return image


def test_the_article_about_torchserve_in_a_pipeline(pipeline: Pipeline) -> None:
    image = (FUNCTION / "digit.png").read_bytes()

    # The first run of the step, as a component: archive, configuration, Deployment and Service.
    pipeline.train(1)
    pipeline.run_component(namespace=pipeline.namespace)
    [first] = pipeline.archives
    config = (pipeline.folder / "store/config/config.properties").read_text().splitlines()
    assert set(ARTICLE_CONFIG.split()) <= set(config)
    model = first.removesuffix(".mar")
    assert pipeline.models() == {"models": [{"modelName": model, "modelUrl": first}]}
    [description] = pipeline.models(model)
    assert (description["modelVersion"], description["workers"][0]["status"]) == (
        model.removeprefix("embedding_"),
        "READY",
    )
    answer = pipeline.predict(model, image)
    # The function of the library replies the same.
    _, expected = Handler(FUNCTION)({"image": base64.b64encode(image).decode()})
    assert answer["pred"] == expected["pred"] == 3
    assert answer["dists"] == pytest.approx(expected["dists"], abs=1e-5)

    # The second run, as a Job with the rights of its account: a rollout without a lost request.
    pipeline.train(2)
    clients = Clients(pipeline.url("preds"), f"/predictions/{model}", image)
    with clients.active():
        pipeline.run_job()
    assert clients.failures == []
    assert clients.answered > 20
    assert len(pipeline.archives) == 2
    newest = pipeline.archives[-1].removesuffix(".mar")
    deployment = pipeline.cluster.get(kinds.DEPLOYMENT, pipeline.namespace, "torchserve")
    assert deployment is not None
    version = newest.removeprefix("embedding_")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/version"] == version
    assert pipeline.predict(newest, image)["pred"] == 3

    # The third one keeps two archives: it moves the first to the backup, and serves the others.
    assert pipeline.backup == []
    pipeline.train(3)
    pipeline.run_component(namespace=pipeline.namespace, max_num_models=2)
    assert len(pipeline.archives) == 2
    assert pipeline.backup == [first]
    assert [model["modelUrl"] for model in pipeline.models()["models"]] == pipeline.archives
