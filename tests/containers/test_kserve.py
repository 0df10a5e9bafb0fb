"""Images of models, started as KServe starts its containers."""

from __future__ import annotations

import itertools
import json
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from fnbuild.runtime.http.client import request
from tests.containers.conftest import User
from tests.engine import PYTHON_IMAGE, call, free_port, until

pytestmark = pytest.mark.system

FUNCTION = """
metadata:
  name: model
spec:
  runtime: python:3.11
  handler: model:Model
"""

PREDICTOR = """
import kserve

class Model(kserve.Model):
    def predict(self, payload, headers=None):
        return {"predictions": [2 * value for value in payload["instances"]]}
"""

TRANSFORMER = """
import kserve

class Model(kserve.Model):
    def preprocess(self, payload, headers=None):
        return {"instances": [float(text) for text in payload["instances"]]}
"""


@dataclass(frozen=True)
class Address:
    """The addresses of a container: on this machine, and for other containers."""

    url: str
    internal: str


@pytest.fixture
def start(user: User, tmp_path: Path) -> Callable[..., Address]:
    """`start(source, *arguments)`: build the image of a model, run it, and wait until it is ready.

    The containers end with the user.
    """
    engine, count = user.resources.engine, itertools.count()

    def run(source: str, *arguments: str) -> Address:
        word = f"model-{next(count)}"
        folder = tmp_path / word
        folder.mkdir()
        (folder / "function.yaml").write_text(FUNCTION)
        (folder / "model.py").write_text(textwrap.dedent(source))
        image, name = user.resources.image(word), user.resources.name(word)
        base = ("--base-image", PYTHON_IMAGE)
        user.fnbuild("build", "model", "--path", folder, "--image", image, *base)
        port = free_port()
        publish = ("--publish", f"127.0.0.1:{port}:8085")
        command = ("processor", "--model_name", "m", "--http_port", "8085", *arguments)
        call(engine, "run", "--detach", "--name", name, *publish, image, *command)
        url = f"http://127.0.0.1:{port}"
        until("the model is ready", lambda: _is_ready(url))
        (container,) = json.loads(call(engine, "inspect", name))
        (network,) = container["NetworkSettings"]["Networks"].values()
        return Address(url, f"{network['IPAddress']}:8085")

    return run


def _is_ready(url: str) -> bool:
    try:
        return request("GET", url, "/v2/models/m/ready").status == 200
    except OSError:
        return False


def test_containers_with_the_arguments_of_kserve_are_a_pair(start: Callable[..., Address]) -> None:
    predictor = start(PREDICTOR)
    transformer = start(TRANSFORMER, "--predictor_host", predictor.internal)
    body = b'{"instances": ["1.5", "2"]}'
    answer = request("POST", transformer.url, "/v1/models/m:predict", body)
    assert (answer.status, json.loads(answer.body)) == (200, {"predictions": [3.0, 4.0]})
