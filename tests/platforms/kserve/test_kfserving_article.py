"""The article about KFServing: MobileNet on a volume, with a transformer of KFServing 0.3."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from tests.cluster import own_namespace, require_local_node
from tests.engine import PYTHON_IMAGE, engine_resources, require_engine, require_image
from tests.functions import test_saved_model
from tests.platforms.kserve.article_manifests import KFSERVING
from tests.platforms.kserve.controller import StandardController
from tests.platforms.kserve.shell import Shell

pytestmark = [pytest.mark.system, pytest.mark.versions]

python, home, model = test_saved_model.python, test_saved_model.home, test_saved_model.model

ROOT = Path(__file__).resolve().parents[3]
TRANSFORMER = {
    "metadata": {"name": "image-transformer"},
    "spec": {"runtime": "python:3.11", "handler": "image_transformer:__main__"},
}


@pytest.fixture
def namespace(kserve_cluster: Cluster, python: Path, home: Path) -> Iterator[str]:
    """A namespace whose servers have TensorFlow, and the class names where Keras looks for them.

    Keras reads nothing from a folder that it could not write.
    """
    require_image(require_engine())
    require_local_node(kserve_cluster)
    [packages] = (python.parent.parent / "lib").glob("python3*/site-packages")
    folders = {
        "/root/.local/lib/python3.11/site-packages": packages,
        "/root/.keras": home / ".keras",
    }
    with (
        own_namespace(kserve_cluster) as name,
        StandardController(kserve_cluster, name, folders=folders) as controller,
    ):
        yield name
        kserve_cluster.delete(kinds.VOLUME_CLAIM, name, "model-pvc")
        kserve_cluster.delete(kinds.VOLUME, "", f"{name}-model-pvc")
        assert controller.errors == []


@pytest.fixture
def shell(namespace: str, data: Path, capsys: Any) -> Shell:
    return Shell(namespace, capsys)


def runtime_function(folder: Path) -> Path:
    """Write the library's server of SavedModels as the runtime for TensorFlow."""
    shutil.copytree(ROOT / "functions/tensorflow/saved-model", folder)
    config: Any = yaml.safe_load((folder / "function.yaml").read_text())
    # TensorFlow is mounted, and KServe provides the model.
    del config["spec"]["build"], config["spec"]["env"]
    formats = [{"name": "tensorflow", "autoSelect": True}]
    config["spec"]["platform"]["attributes"]["kserve"] = {"servingRuntime": {"formats": formats}}
    (folder / "function.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.mark.usefixtures("shared_layers")
def test_the_article_about_kfserving(
    shell: Shell, kserve_cluster: Cluster, home: Path, model: Path, tmp_path: Path
) -> None:
    with engine_resources(require_engine()) as resources:
        base = ("--base-image", PYTHON_IMAGE)
        runtime = runtime_function(tmp_path / "runtime")
        image = ("--image", resources.image("runtime"))
        shell("deploy", "tensorflow-serving", "--path", runtime, *base, *image)

        # 1. The model is uploaded to a volume; no pod uses it yet.
        volume = ("--size", "1Gi", "--host-path", tmp_path / "volume")
        assert shell("create", "volume", "model-pvc", *volume) == "pvc://model-pvc\n"
        upload = ("model", "upload", model / "saved_models", "pvc://model-pvc/saved_models/")
        assert shell(*upload) == "pvc://model-pvc/saved_models\n"

        # 2. and 3. The transformer, as it is, becomes an image.
        transformer = tmp_path / "transformer"
        transformer.mkdir()
        shutil.copy(test_saved_model.DATA / "image_transformer.py", transformer)
        (transformer / "function.yaml").write_text(yaml.safe_dump(TRANSFORMER))
        image_name = resources.image("transformer")
        shell("build", "image-transformer", "--path", transformer, "--image", image_name, *base)

        # 4. The InferenceService is deployed, and ready.
        file = tmp_path / "mobilenet_deploy.yaml"
        # The article's own image needs no command, since it has an entry point.
        command = "          command: [/usr/local/bin/processor]\n"
        file.write_text(KFSERVING.format(image=image_name) + command)
        [manifest] = yaml.safe_load_all(shell("deploy", "-f", file, "--dry-run", "-o", "yaml"))
        assert "ServingRuntime tensorflow-serving (of the namespace) serves" in shell.messages
        assert manifest["apiVersion"] == "serving.kserve.io/v1beta1"
        assert manifest["spec"]["predictor"]["model"]["modelFormat"] == {"name": "tensorflow"}
        shell("deploy", "-f", file, "--readiness-timeout", "240")
        listed = shell("get", "functions", "mobilenet", "-o", "wide")
        assert f"http://mobilenet-{shell.namespace}.example.com" in listed
        assert "True" in listed
        pods = kserve_cluster.list(
            kinds.POD, shell.namespace, labels="serving.kserve.io/inferenceservice=mobilenet"
        )
        components = sorted(pod["metadata"]["labels"]["component"] for pod in pods)
        assert components == ["predictor", "transformer"]

        # 5. A request with the content type of `curl -d`.
        text, answer = next(test_saved_model.images_with_answers(model, home))
        body = json.dumps({"instances": [{"image": {"b64": text}}]})
        request = ("-c", "application/x-www-form-urlencoded", "-p", "/v1/models/mobilenet:predict")
        reply = shell("invoke", "mobilenet", "-b", body, *request)
        assert json.loads(reply) == {"predictions": [answer]}
        shell("delete", "function", "mobilenet")
