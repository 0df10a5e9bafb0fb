"""scikit-learn models as functions, and the article about a serving runtime with its own Python."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from fnbuild.function.kserve_settings import kserve_settings
from fnbuild.function.reader import load_function
from fnbuild.platforms.kserve.admission import runtime_problems
from fnbuild.platforms.kserve.runtime_manifest import render_runtime
from fnbuild.runtime.http.client import request
from tests import storage_servers
from tests.environments import environment_python
from tests.functions.conftest import ROOT
from tests.platforms.crds import schema_errors
from tests.platforms.kserve import samples
from tests.platforms.kserve.article_manifests import SKLEARN

pytestmark = [pytest.mark.system, pytest.mark.versions]

FOLDER = ROOT / "functions/sklearn/classifier"
TRAIN = ROOT / "tests/data/train_sklearn.py"
# The image of KServe's server in the article has Python 3.7.
OLD = ("3.7", "scikit-learn==1.0.2")
NEW = ("3.8", "scikit-learn==1.3.2")

Fnbuild = Callable[..., str]


class Trained(NamedTuple):
    """A model's file, some rows, and what the model says about them."""

    path: Path
    rows: list[list[float]]
    labels: list[int]
    probabilities: list[list[float]]


@pytest.fixture(scope="module")
def old_python() -> Path:
    return environment_python(*OLD, "joblib==1.3.2")


@pytest.fixture(scope="module")
def new_python() -> Path:
    return environment_python(*NEW, "joblib==1.4.2")


def train(python: Path, path: Path, protocol: int = 4) -> Trained:
    command = [python, TRAIN, path, str(protocol)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return Trained(path, *json.loads(done.stdout).values())


def with_versions(folder: Path, version: str, scikit_learn: str) -> Path:
    """Return a copy of the function with another Python and another scikit-learn."""
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    file = folder / "function.yaml"
    text = file.read_text().replace("scikit-learn==1.7.2", scikit_learn)
    file.write_text(text.replace("python:3.11", f"python:{version}"))
    return folder


def deploy(fnbuild: Fnbuild, name: str, folder: Path, python: Path, *variables: str) -> str:
    """Deploy the function in a folder; return its address."""
    variables = (f"NUCLIO_PYTHON_EXE_PATH={python}", *variables)
    words = [word for variable in variables for word in ("--env", variable)]
    fnbuild("deploy", name, "--path", folder, *words)
    status = json.loads(fnbuild("get", "function", name, "-o", "json"))["status"]
    return f"http://127.0.0.1:{status['httpPort']}"


def ask(url: str, path: str, body: Any) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"}
    reply = request("POST", url, path, json.dumps(body).encode(), headers, 60.0)
    return reply.status, json.loads(reply.body)


def load(python: Path, path: Path, setting: str = "") -> str:
    """Load a model with the function's own code; return the error, or ""."""
    code = "import main, sys; main.ModelHandler(sys.argv[1], bool(sys.argv[2]))"
    done = subprocess.run(
        [python, "-c", code, path, setting],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stderr if done.returncode else ""


def test_the_article_about_serving_runtimes(
    fnbuild: Fnbuild,
    old_python: Path,
    new_python: Path,
    tmp_path: Path,
) -> None:
    # The model was trained with Python 3.8, and is in a bucket.
    model = train(new_python, tmp_path / "model.joblib", protocol=5)
    with storage_servers.s3_server() as server:
        storage_servers.put_s3(server, "bucket")
        path = "bucket/sklearn/model.joblib"
        storage_servers.put_s3(server, path, model.path.read_bytes())
        keys = [f"{key}={value}" for key, value in storage_servers.S3_KEYS.items()]
        storage = (
            "STORAGE_URI=s3://bucket/sklearn/model.joblib",
            f"AWS_ENDPOINT_URL={server}",
            "AWS_DEFAULT_REGION=us-east-1",
            *keys,
        )

        # The server with Python 3.7 does not read its pickle protocol.
        folder = with_versions(tmp_path / "py37", *OLD)
        with pytest.raises(AssertionError) as failure:
            deploy(fnbuild, "example-sklearn-isvc", folder, old_python, *storage)
        error = str(failure.value)
        assert "model.joblib was pickled by Python 3.8 or newer (pickle protocol 5)" in error
        assert "this is Python 3.7" in error
        assert "ServingRuntime" in error
        assert "`runtime: NAME`" in error
        assert "Traceback" not in error

        # The same server with Python 3.8 answers with labels …
        folder = with_versions(tmp_path / "py38", *NEW)
        url = deploy(fnbuild, "example-sklearn-isvc", folder, new_python, *storage)
        predict = "/v1/models/example-sklearn-isvc:predict"
        answer = ask(url, predict, {"instances": model.rows})
        assert answer == (200, {"predictions": model.labels})
        # … and with PREDICT_PROBA with the probability of each class.
        setting = "PREDICT_PROBA=True"
        url = deploy(fnbuild, "example-sklearn-isvc", folder, new_python, setting, *storage)
        status, reply = ask(url, predict, {"instances": model.rows})
        assert status == 200
        assert reply["predictions"] == [pytest.approx(row) for row in model.probabilities]

    # Under KServe, this server is a ServingRuntime, which only models that name it get.
    runtime = serving_runtime("example-runtime", PREDICT_PROBA="True")
    [container] = runtime["spec"]["containers"]
    assert container["name"] == "kserve-container"
    assert container["args"] == [
        "--model_name={{.Name}}",
        "--model_dir=/mnt/models",
        "--http_port=8080",
    ]
    assert container["env"][0] == {"name": "PREDICT_PROBA", "value": "True"}
    [model_format] = runtime["spec"]["supportedModelFormats"]
    assert (model_format["name"], model_format["autoSelect"]) == ("sklearn", False)
    service = yaml.safe_load(SKLEARN)
    assert schema_errors(service) == []
    assert service["spec"]["predictor"]["model"]["runtime"] == runtime["metadata"]["name"]


def serving_runtime(name: str, **variables: str) -> dict[str, Any]:
    """Return the ServingRuntime of the function, checked as KServe does."""
    function = load_function(FOLDER).function.with_metadata(name=name, namespace="models")
    settings = kserve_settings(function)
    assert settings.serving_runtime is not None
    revision = samples.revision(function)
    revision.config["spec"]["env"] = [{"name": k, "value": v} for k, v in variables.items()]
    manifest = render_runtime(revision, settings.serving_runtime, "")
    assert schema_errors(manifest) == []
    assert list(runtime_problems(manifest)) == []
    return manifest


@pytest.mark.parametrize("name", ["model.joblib", "model.z.joblib", "model.pkl"])
def test_a_model_of_a_newer_scikit_learn_is_refused(
    old_python: Path, new_python: Path, tmp_path: Path, name: str
) -> None:
    model = train(new_python, tmp_path / name)
    error = load(old_python, model.path)
    assert f"{name} was pickled by scikit-learn 1.3.2, and this is scikit-learn 1.0.2" in error
    assert "ServingRuntime" in error
    assert load(new_python, model.path) == ""


def test_a_file_without_a_model_is_refused(new_python: Path, tmp_path: Path) -> None:
    assert f"{tmp_path} has no model instead of one file *.joblib" in load(new_python, tmp_path)
    for name, content in (("a.joblib", b""), ("b.joblib", b"x nonsense")):
        (tmp_path / name).write_bytes(content)
        error = load(new_python, tmp_path / name)
        assert f"{name} cannot be loaded" in error
        assert "scikit-learn 1.3.2 on Python 3.8" in error
    assert "has a.joblib, b.joblib instead of one file" in load(new_python, tmp_path)


def test_rows_and_tensors_get_labels(fnbuild: Fnbuild, new_python: Path, tmp_path: Path) -> None:
    model = train(new_python, tmp_path / "model.joblib")
    folder = with_versions(tmp_path / "function", *NEW)
    url = deploy(fnbuild, "iris", folder, new_python, f"STORAGE_URI=file://{model.path}")
    assert ask(url, "/v1/models/iris:predict", {"inputs": model.rows})[1] == {
        "predictions": model.labels
    }
    data = [value for row in model.rows for value in row]
    tensor = {"name": "x", "datatype": "FP64", "shape": [len(model.rows), 4], "data": data}
    status, answer = ask(url, "/v2/models/iris/infer", {"inputs": [tensor]})
    assert status == 200
    [output] = answer["outputs"]
    assert output == {
        "name": "output-0",
        "datatype": "INT64",
        "shape": [len(model.rows)],
        "data": model.labels,
    }
    second = {**tensor, "name": "y"}
    narrow = {"name": "x", "datatype": "FP64", "shape": [1, 1], "data": [1.0]}
    for path, body in (
        ("/v1/models/iris:predict", {"instances": [[1, 2]]}),
        ("/v1/models/iris:predict", {"instances": []}),
        ("/v1/models/iris:predict", {"instances": [["a", "b", "c", "d"]]}),
        ("/v1/models/iris:predict", {}),
        ("/v2/models/iris/infer", {"inputs": [tensor, second]}),
        ("/v2/models/iris/infer", {"inputs": [narrow]}),
    ):
        status, answer = ask(url, path, body)
        assert status == 400, answer
        assert isinstance(answer["error"], str)
