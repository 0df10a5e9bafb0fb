"""Pulled images, and the code that is read from images."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fnbuild.cli.app import run
from fnbuild.deploy import artifacts, exports, pipeline
from fnbuild.errors import FnbuildError, NotFoundError, PreconditionError
from fnbuild.function import reader
from fnbuild.platforms import Deployment
from fnbuild.platforms.docker import DockerPlatform
from tests.conftest import ROOT
from tests.engine import PYTHON_IMAGE, free_port, registry
from tests.platforms.docker.author import Author, invoke

pytestmark = pytest.mark.system


def run_image(author: Author, image: str, policy: str, *, offline: bool = False) -> Deployment:
    """Deploy an existing image with the pull policy."""
    folder = author.write("unused", spec=f"imagePullPolicy: {policy}")
    if offline:
        file = folder / "function.yaml"
        file.write_text(file.read_text().replace("  build:\n", "  build:\n    offline: true\n"))
    request = pipeline.DeployRequest(
        path=folder, platform="local", namespace=author.namespace, image=image
    )
    author.progress.clear()
    return pipeline.deploy(request, author.progress.append)


def built_image(author: Author, word: str) -> str:
    """Build the image of a function that answers the word."""
    loaded = reader.load_function(author.write(word, name=word))
    return artifacts.build_image(loaded, author.resources.engine, print).reference


def test_the_pull_policy_decides_on_pulls(author: Author, tmp_path: Path) -> None:
    old, new = built_image(author, "old"), built_image(author, "new")
    with registry(tmp_path, free_port()) as server:
        image = author.resources.image("pulled", prefix=f"{server.address}/")
        author.docker("tag", new, image)
        author.docker("push", image)
        author.docker("tag", old, image)
        assert invoke(run_image(author, image, "IfNotPresent").http_port) == "old"
        assert invoke(run_image(author, image, "Never").http_port) == "old"
        assert invoke(run_image(author, image, "Always", offline=True).http_port) == "old"
        assert f"pulling {image}" not in author.progress
        # The name now refers to another image, which is a change.
        assert invoke(run_image(author, image, "Always").http_port) == "new"
        assert f"pulling {image}" in author.progress
        revision = author.deployment().revision
        assert run_image(author, image, "Always").revision == revision
        assert f"pulling {image}" in author.progress

        # An image that only the registry has is pulled unless the policy is Never.
        author.platform.delete(author.namespace, "greeter", image=True)
        assert author.docker("images", "-q", image) == ""
        with pytest.raises(NotFoundError, match="has no image") as failure:
            run_image(author, image, "Never")
        assert "imagePullPolicy" in (failure.value.hint or "")
        assert author.docker("images", "-q", image) == ""
        assert invoke(run_image(author, image, "IfNotPresent").http_port) == "new"


def test_an_existing_image_runs_if_it_cannot_be_pulled(author: Author) -> None:
    image = author.resources.image("alone", prefix="127.0.0.1:1/")
    with pytest.raises(FnbuildError, match="alone"):
        run_image(author, image, "Always")
    author.docker("tag", built_image(author, "old"), image)
    assert invoke(run_image(author, image, "Always").http_port) == "old"
    [warning] = [line for line in author.progress if line.startswith("warning: ")]
    assert "the existing image is used" in warning
    assert "127.0.0.1:1" in warning


READING = """
import os, signal, sys
from fnbuild.platforms.docker import DockerPlatform, image_code
image_code.add_tar_member = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
DockerPlatform().code_folder(*sys.argv[1:])
"""


def test_readers_of_killed_processes_are_removed(author: Author, platform: DockerPlatform) -> None:
    author.deploy(author.write("hello"))
    command = [sys.executable, "-c", READING, author.namespace, "greeter"]
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True)
    assert result.returncode == -9, result.stderr

    def readers() -> list[str]:
        filters = ("--filter", f"name={author.namespace}", "--filter", "label=fnbuild.io/reader")
        return author.docker("ps", "-aq", *filters).split()

    [abandoned] = readers()
    labels = json.loads(author.docker("inspect", abandoned))[0]["Config"]["Labels"]
    owner = labels["fnbuild.io/reader"].rpartition(":")[0]
    running_label = f"fnbuild.io/reader={owner}:{os.getpid()}"
    name = ("--name", f"{author.container()}.other")
    author.docker("create", *name, "--label", running_label, PYTHON_IMAGE, "true")
    assert [deployment.name for deployment in platform.deployments(author.namespace)] == ["greeter"]
    folder = platform.code_folder(author.namespace, "greeter")
    assert folder is not None
    assert "hello" in (folder / "main.py").read_text()
    [remaining] = readers()
    assert remaining != abandoned


def test_an_imported_function_runs_from_its_image(author: Author, platform: DockerPlatform) -> None:
    deployment = author.deploy(author.write())
    raw = exports.export_configuration(deployment.function, state=deployment.state)
    platform.delete(author.namespace, "greeter")
    exports.import_function(platform, raw, author.namespace, "test")
    redeployed = platform.redeploy(author.namespace, "greeter", author.progress.append)
    assert (redeployed.state, redeployed.revision) == ("ready", 1)
    assert "skip-deploy" not in redeployed.function.metadata.annotations
    assert invoke(redeployed.http_port) == "hello"


def test_an_imported_function_with_inline_source_is_built(
    author: Author, platform: DockerPlatform
) -> None:
    source = b'def handler(context, event):\n    return "from inside"\n'
    raw = {
        "metadata": {"name": "greeter"},
        "spec": {
            "handler": "main:handler",
            "runtime": "python:3.11",
            "build": {
                "functionSourceCode": base64.b64encode(source).decode(),
                "image": author.resources.name("inline"),
                "noBaseImagesPull": True,
            },
        },
    }
    exports.import_function(platform, raw, author.namespace, "test")
    with pytest.raises(PreconditionError, match="no code of greeter") as failure:
        platform.redeploy(author.namespace, "greeter", author.progress.append)
    assert "`fnbuild deploy greeter`" in (failure.value.hint or "")
    assert "--path" not in (failure.value.hint or "")
    options = ["--platform", "local", "-n", author.namespace]
    assert run(["deploy", "greeter", *options]) == 0
    deployment = author.deployment()
    assert (deployment.revision, invoke(deployment.http_port)) == (1, "from inside")
    redeployed = platform.redeploy(author.namespace, "greeter", author.progress.append)
    assert (redeployed.revision, invoke(redeployed.http_port)) == (2, "from inside")
