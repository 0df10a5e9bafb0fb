"""A model in a claim: the volume, the upload, and the function that reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fnbuild.platforms.kubeclient import kinds
from tests.engine import PYTHON_IMAGE
from tests.kubernetes.conftest import OnCluster

pytestmark = pytest.mark.system

CODE = """\
import os

def init_context(context):
    with open(os.path.join(os.environ["STORAGE_URI"], "words.txt")) as file:
        context.user_data.text = file.read()

def handler(context, event):
    return os.environ["STORAGE_URI"] + " " + context.user_data.text
"""


@pytest.fixture
def claim(user: OnCluster, tmp_path: Path) -> Iterator[str]:
    arguments = ("--size", "1Gi", "--host-path", tmp_path / "volume")
    yield user.fnbuild("create", "volume", "words", *arguments).strip()
    user.cluster.delete(kinds.VOLUME_CLAIM, user.namespace, "words")
    user.cluster.delete(kinds.VOLUME, "", f"{user.namespace}-words")


def test_a_function_reads_its_model_from_a_claim(
    user: OnCluster, claim: str, registry: str, tmp_path: Path
) -> None:
    assert claim == "pvc://words"
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "words.txt").write_text("first")
    upload = ("model", "upload", tmp_path / "model", f"{claim}/a/")
    # No function uses the claim yet.
    uri = user.fnbuild(*upload).strip()
    assert uri == "pvc://words/a"

    folder = tmp_path / "reader"
    folder.mkdir()
    (folder / "main.py").write_text(CODE)
    image = user.resources.name("reader")
    user.resources.images += [f"{image}:latest", f"{registry}/{image}:latest"]
    options = ("--path", folder / "main.py", "--image", image, "-r", registry)
    deploy = ("reader", *options, "--base-image", PYTHON_IMAGE, "--env", f"STORAGE_URI={uri}")
    user.deploy(*deploy, "--runtime", "python:3.11", "--handler", "main:handler")
    reply = user.fnbuild("invoke", "reader", "--platform", "kube")
    assert reply.strip() == "/mnt/models first"

    (tmp_path / "model" / "words.txt").write_text("second")
    user.fnbuild(*upload)  # by the image of the function
    files = json.loads(user.fnbuild("model", "ls", uri, "-o", "json"))
    assert [(file["path"], file["size"]) for file in files] == [("words.txt", 6)]
    user.fnbuild("delete", "function", "reader", "--platform", "kube")
