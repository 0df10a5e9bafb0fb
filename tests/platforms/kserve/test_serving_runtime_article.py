"""The article about serving runtimes: a model of scikit-learn on a runtime with its own Python."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fnbuild.cli.app import run
from fnbuild.errors import FnbuildError
from fnbuild.function.reader import load_function
from fnbuild.platforms.kserve.platform import KServePlatform
from fnbuild.platforms.kubeclient import kinds
from fnbuild.runtime.http.client import request
from tests.containers import bases
from tests.engine import PYTHON_IMAGE, engine_resources, require_engine, until
from tests.environments import environment_python
from tests.platforms.kserve.test_storage_initializer import namespace, server
from tests.storage_servers import S3_KEYS, put_s3

__all__ = ["namespace", "server"]

pytestmark = [pytest.mark.system, pytest.mark.versions]

ROOT = Path(__file__).resolve().parents[3]
# As in the article, with an account for the credentials of the bucket.
INFERENCE_SERVICE = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: example-sklearn-isvc
spec:
  predictor:
    serviceAccountName: models
    model:
      modelFormat:
        name: sklearn
      storageUri: s3://models/sklearn/model.joblib
      runtime: example-runtime
"""


Command = Callable[..., str]


@pytest.fixture
def command(namespace: str, capsys: Any) -> Command:
    """Run a command line for the platform; return what it prints."""

    def call(*arguments: object) -> str:
        capsys.readouterr()
        status = run([*map(str, arguments), "--platform", "kserve", "-n", namespace])
        output = capsys.readouterr()
        assert status == 0, output.err
        return str(output.out + output.err)

    return call


@pytest.fixture
def bucket(command: Command, server: str, tmp_path: Path) -> str:
    """The URL of a server with a bucket; the account `models` has its credentials."""
    for key, value in S3_KEYS.items():
        (tmp_path / key).write_text(value)
    keys = [option for key in S3_KEYS for option in ("--from-file", f"{key}={tmp_path / key}")]
    endpoint = ("--endpoint", server, "--region", "us-east-1", "--service-account", "models")
    command("create", "storage-secret", "bucket", "--type", "s3", *keys, *endpoint)
    return server


def test_the_article_about_serving_runtimes(
    command: Command, platform: KServePlatform, namespace: str, bucket: str, tmp_path: Path
) -> None:
    def predict(instances: Any) -> tuple[int, Any]:
        path = "/v1/models/example-sklearn-isvc:predict"
        body = json.dumps({"instances": instances}).encode()
        deployment = platform.deployment(namespace, "example-sklearn-isvc")
        with platform.reachable_url(deployment) as url:
            reply = request("POST", url, path, body, {"Content-Type": "application/json"}, 30.0)
        return reply.status, json.loads(reply.body)

    # A model in a bucket, trained with the Python and the scikit-learn of the runtime.
    python = environment_python("3.11", "scikit-learn==1.7.2")
    train = [python, ROOT / "tests/data/train_sklearn.py", tmp_path / "model.joblib", "5"]
    trained = json.loads(subprocess.run(train, capture_output=True, check=True).stdout)
    put_s3(bucket, "models/sklearn/model.joblib", (tmp_path / "model.joblib").read_bytes())

    # The image is built and becomes a runtime; the shared defaults stay as they are. A push would
    # take too long, and the node has the images of the engine.
    function = ROOT / "functions/sklearn/classifier"
    bases.with_lines_of(load_function(function).function)
    with engine_resources(require_engine()) as resources:
        deploy = (
            *("deploy", "example-runtime", "--path", function),
            *("--base-image", PYTHON_IMAGE, "--image", resources.image("runtime")),
        )
        command(*deploy)
        runtime = platform.cluster.get(kinds.SERVING_RUNTIME, namespace, "example-runtime")
        assert runtime is not None
        [container] = runtime["spec"]["containers"]
        assert container["args"] == [
            "--model_name={{.Name}}",
            "--model_dir=/mnt/models",
            "--http_port=8080",
        ]

        # An InferenceService names the runtime, and has its own name in the URL.
        file = tmp_path / "inferenceservice.yaml"
        file.write_text(INFERENCE_SERVICE)
        assert "ServingRuntime example-runtime serves the model" in command(
            "deploy", "-f", file, "--dry-run"
        )
        command("deploy", "-f", file)
        assert predict(trained["rows"]) == (200, {"predictions": trained["labels"]})
        assert predict([[1, 2]])[0] == 400

        # PREDICT_PROBA of the runtime turns labels into probabilities.
        command(*deploy, "--env", "PREDICT_PROBA=True")
        expected = [pytest.approx(row) for row in trained["probabilities"]]

        def has_probabilities() -> bool:
            # The pods are replaced meanwhile.
            with suppress(OSError, FnbuildError):
                return predict(trained["rows"]) == (200, {"predictions": expected})
            return False

        until("an answer with probabilities", has_probabilities, 120.0)
        command("delete", "function", "example-sklearn-isvc")
        command("delete", "function", "example-runtime")
