"""The planned image of a deploy, before the build."""

from __future__ import annotations

from pathlib import Path

import pytest

from fnbuild.builder import sdk
from fnbuild.deploy import artifacts
from fnbuild.function import reader
from fnbuild.function.types import Function
from fnbuild.platforms import Artifact, Deployment, lookup
from tests.engine import engine_resources, free_port, registry, require_engine, require_image

CONFIG = """\
metadata: {{name: greeter}}
spec:
  handler: main:handler
  runtime: python:3.11
  build: {{image: {image}, registry: {registry}, noBaseImagesPull: true}}
"""


def test_the_digest_of_the_running_image_is_its_artifact() -> None:
    image = Artifact("image", "r/greeter:1", "c0de", pinned="r/greeter@sha256:ab")
    current = Deployment(Function(), "kube", "ready", image=image)
    same = artifacts.prebuilt("r/greeter@sha256:ab", current)
    assert same is not None
    assert (same.reference, same.pinned, same.digest) == ("r/greeter:1", image.pinned, "c0de")
    for deployment in (current, None):
        other = artifacts.prebuilt("r/greeter:1", deployment)
        assert other is not None
        assert (other.reference, other.pinned, other.digest) == ("r/greeter:1", "", "")
    assert artifacts.prebuilt("", current) is None


def test_a_pushed_image_is_planned_by_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = require_engine()
    require_image(engine)
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(tmp_path / "data"))
    sdk.ensure_sdk((3, 11, 0))
    folder = tmp_path / "greeter"
    folder.mkdir()
    (folder / "main.py").write_text("def handler(context, event):\n    return 1\n")
    kube = lookup("kube")
    with registry(tmp_path, free_port()) as server, engine_resources(engine) as names:
        name = names.image("pushed", tag="1")
        (folder / "function.yaml").write_text(CONFIG.format(image=name, registry=server.address))
        built = artifacts.build_image(reader.load_function(folder), engine, lambda _: None)
        names.images.append(built.registry_reference)
        artifact = artifacts.planned_artifact(
            reader.load_function(folder), None, kube, exactly=True
        )
        assert artifact.reference == f"{server.address}/{name}"
        assert artifact.pinned == f"{built.immutable_reference}@{built.pushed_digest}"
        (folder / "main.py").write_text("def handler(context, event):\n    return 2\n")
        assert (
            artifacts.planned_artifact(
                reader.load_function(folder), None, kube, exactly=True
            ).pinned
            == ""
        )
