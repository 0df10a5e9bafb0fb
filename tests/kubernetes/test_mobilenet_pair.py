"""The article about KFServing on a cluster: MobileNet and its transformer, as Deployments.

The containers have the names and arguments that KServe gives them. TensorFlow is mounted into them,
since an image with it would take minutes to build.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.objects import KubeDeployment
from fnbuild.platforms.kubeclient.port_forward import forward_port
from fnbuild.runtime.http.client import request
from tests.cluster import require_local_node
from tests.engine import PYTHON_IMAGE, until
from tests.functions import test_saved_model
from tests.kubernetes.conftest import OnCluster

pytestmark = [pytest.mark.system, pytest.mark.versions]

python, home, model = test_saved_model.python, test_saved_model.home, test_saved_model.model

ROOT = Path(__file__).resolve().parents[2]
PREDICTOR = ROOT / "functions/tensorflow/saved-model"
TRANSFORMER = {
    "metadata": {"name": "mobilenet"},
    "spec": {"runtime": "python:3.11", "handler": "image_transformer:__main__"},
}


class Pair:
    """The objects of the pair in the user's namespace."""

    def __init__(self, user: OnCluster, mounts: dict[str, Path]):
        self._user = user
        self._mounts = mounts

    def start(self, name: str, image: str, *arguments: str, **hosts: str) -> str:
        """Create a Deployment and its Service; return the Service's address when it is ready."""
        paths = {"/packages": "packages", "/home-of-keras": "home", "/mnt/models": "models"}
        container = {
            "name": "kserve-container",
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "args": ["processor", "--model_name", "mobilenet", "--http_port", "8080", *arguments],
            "env": [
                {"name": "PYTHONPATH", "value": "/packages"},
                {"name": "KERAS_HOME", "value": "/home-of-keras/.keras"},
                {"name": "HOME", "value": "/home-of-keras"},
            ],
            "readinessProbe": {
                "httpGet": {"path": "/v1/models/mobilenet", "port": 8080},
                "periodSeconds": 2,
            },
            "volumeMounts": [
                # Keras reads no class names from a folder that it could not write.
                {"name": volume, "mountPath": path, "readOnly": volume != "home"}
                for path, volume in paths.items()
            ],
        }
        spec: Raw = {
            "containers": [container],
            "hostAliases": [{"ip": ip, "hostnames": [host]} for host, ip in hosts.items()],
            "volumes": [
                {"name": volume, "hostPath": {"path": str(path)}}
                for volume, path in self._mounts.items()
            ],
        }
        labels = {"app": name}
        metadata = {"name": name, "namespace": self._user.namespace, "labels": labels}
        deployment: Raw = {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        }
        service = {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}
        self._user.cluster.create(kinds.DEPLOYMENT.manifest(dict(metadata), spec=deployment))
        self._user.cluster.create(kinds.SERVICE.manifest(dict(metadata), spec=service))
        until(f"the pod of {name}", lambda: self._is_ready(name), seconds=240)
        return str(self._user.live_object(kinds.SERVICE, name)["spec"]["clusterIP"])

    def _is_ready(self, name: str) -> bool:
        time.sleep(0.5)
        deployment = KubeDeployment(self._user.live_object(kinds.DEPLOYMENT, name))
        return deployment.condition("Available").is_true

    def pod(self, name: str) -> str:
        pods = self._user.cluster.list(kinds.POD, self._user.namespace, labels=f"app={name}")
        return str(pods[0]["metadata"]["name"])


def _build(user: OnCluster, folder: Path, config: Raw) -> str:
    (folder / "function.yaml").write_text(yaml.safe_dump(config))
    image = user.resources.image(folder.name)
    base = ("--base-image", PYTHON_IMAGE)
    user.fnbuild("build", "mobilenet", "--path", folder, "--image", image, *base)
    return image


def test_the_transformer_and_its_predictor_answer_as_in_the_article(
    user: OnCluster, python: Path, home: Path, model: Path, tmp_path: Path
) -> None:
    require_local_node(user.cluster)
    predictor = shutil.copytree(PREDICTOR, tmp_path / "predictor")
    config: Any = yaml.safe_load((predictor / "function.yaml").read_text())
    del config["spec"]["build"]
    (tmp_path / "transformer").mkdir()
    shutil.copy(test_saved_model.DATA / "image_transformer.py", tmp_path / "transformer")
    images = (
        _build(user, predictor, config),
        _build(user, tmp_path / "transformer", TRANSFORMER),
    )
    [packages] = (python.parent.parent / "lib").glob("python3*/site-packages")
    mounts = {"packages": packages, "home": home, "models": model / "saved_models"}
    pair = Pair(user, mounts)

    address = pair.start("mobilenet-predictor", images[0], "--model_dir", "/mnt/models")
    host = f"mobilenet-predictor.{user.namespace}"
    predictor_host = ("--predictor_host", host)
    pair.start("mobilenet-transformer", images[1], *predictor_host, **{host: address})

    index = json.loads((home / ".keras/models/imagenet_class_index.json").read_text())
    pictures = json.loads((model / "classes.json").read_text())
    logits = json.loads((model / "logits.json").read_text())
    number, (text, *_) = next(iter(pictures.items()))
    weights = [math.exp(value - max(logits[0])) for value in logits[0]]
    percent = str(round(weights[int(number)] / sum(weights) * 100, 2)) + "%"
    body = json.dumps({"instances": [{"image": {"b64": text}}]}).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}  # as curl sends with -d
    pod = pair.pod("mobilenet-transformer")
    with forward_port(user.cluster, user.namespace, pod) as url:
        reply = request("POST", url, "/v1/models/mobilenet:predict", body, headers, 120.0)
    assert reply.status == 200
    assert json.loads(reply.body) == {"predictions": [[index[number][1], percent]]}
