"""A model in S3: uploaded, and downloaded in the cluster by KServe's own package."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fnbuild.cli.app import run
from fnbuild.platforms.kserve.platform import KServePlatform
from fnbuild.platforms.kubeclient.cluster import Cluster
from tests.cluster import node_address, own_namespace, require_local_node
from tests.engine import PYTHON_IMAGE, require_engine, require_image
from tests.environments import environment_python
from tests.platforms.kserve.controller import StandardController
from tests.storage_servers import S3_KEYS, put_s3, s3_server

pytestmark = [pytest.mark.system, pytest.mark.versions]

SERVER = """\
import functools
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

handler = functools.partial(SimpleHTTPRequestHandler, directory="/mnt/models")
ThreadingHTTPServer(("", 8080), handler).serve_forever()
"""
FUNCTION = """
metadata:
  name: files
spec:
  serviceAccount: models
  platform:
    attributes:
      kserve:
        command: {command}
        model:
          storageUri: {uri}
"""


@pytest.fixture
def namespace(kserve_cluster: Cluster) -> Iterator[str]:
    """A namespace whose models are downloaded."""
    require_image(require_engine())
    require_local_node(kserve_cluster)
    python = environment_python("3.11", "kserve-storage==0.21.0")
    [packages] = (python.parent.parent / "lib").glob("python3*/site-packages")
    with (
        own_namespace(kserve_cluster) as name,
        StandardController(kserve_cluster, name, packages) as controller,
    ):
        yield name
        assert controller.errors == []


@pytest.fixture
def server(kserve_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server of S3 that pods reach; uploads of this process go there."""
    with s3_server(node_address(kserve_cluster)) as url:
        put_s3(url, "models")
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        for key, value in S3_KEYS.items():
            monkeypatch.setenv(key, value)
        yield url


def test_a_model_in_s3_is_downloaded_with_the_credentials_of_the_account(
    platform: KServePlatform, namespace: str, server: str, tmp_path: Path, capsys: Any
) -> None:
    def command(*arguments: object) -> str:
        capsys.readouterr()
        status = run([*map(str, arguments), "-n", namespace])
        output = capsys.readouterr()
        assert status == 0, output.err
        return str(output.out)

    model = tmp_path / "model"
    (model / "1").mkdir(parents=True)
    (model / "1/weights.json").write_text("[1, 2]")
    (model / "labels.txt").write_text("cat")
    uri = command("model", "upload", model, "s3://models/pets").strip()
    assert uri == "s3://models/pets/"
    for key, value in S3_KEYS.items():
        (tmp_path / key).write_text(value)
    files = [option for key in S3_KEYS for option in ("--from-file", f"{key}={tmp_path / key}")]
    command(
        *("create", "storage-secret", "bucket", "--type", "s3", *files),
        *("--endpoint", server, "--region", "us-east-1", "--service-account", "models"),
    )

    place = tmp_path / "function.yaml"
    place.write_text(FUNCTION.format(uri=uri, command=json.dumps(["python3", "-c", SERVER])))
    command("deploy", "-f", place, "--run-image", PYTHON_IMAGE, "--platform", "kserve")
    log = command("logs", "files", "--init", "--platform", "kserve")
    assert "Copying contents of s3://models/pets/ to local" in log
    with platform.reachable_url(platform.deployment(namespace, "files")) as url:
        with urllib.request.urlopen(f"{url}/1/weights.json", timeout=30) as reply:
            assert json.load(reply) == [1, 2]
        with urllib.request.urlopen(f"{url}/labels.txt", timeout=30) as reply:
            assert reply.read() == b"cat"
    assert S3_KEYS["AWS_SECRET_ACCESS_KEY"] not in json.dumps(
        platform.deployment(namespace, "files").details
    )
