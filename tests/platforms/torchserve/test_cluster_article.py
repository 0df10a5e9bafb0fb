"""The article about TorchServe in a pipeline: its server in a cluster, and trees of other tools."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fnbuild.cli.app import run
from fnbuild.errors import ConfigError
from fnbuild.platforms.kubeclient import kinds
from tests.cluster import node_address
from tests.platforms.torchserve.cluster_author import (
    ClusterAuthor,
    busy_clients,
    cluster_author,
    post,
)
from tests.torchserve_image import torchserve_image

pytestmark = pytest.mark.system

CODE = """\
def handler(context, event):
    return {"greeting": "VERSION", "dists": [0.1, 0.2], "pred": len(event.body)}
"""
FOREIGN_HANDLER = """\
def handle(data, context):
    return [{"sum": sum(row["body"])} for row in data or []]
"""

Shell = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def author(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterAuthor]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FNBUILD_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        with cluster_author(tmp_path_factory.mktemp("author")) as user:
            yield user


@pytest.fixture
def shell(author: ClusterAuthor, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Run command lines for the author's namespace; return their status and output."""

    def call(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        place = ("--platform", "torchserve", "--namespace", author.namespace)
        status = run([*map(str, arguments), *place])
        output = capsys.readouterr()
        return status, output.out + output.err

    return call


def service_url(author: ClusterAuthor, name: str, port: str) -> str:
    """Return the address of a port of a Service on the node."""
    service = author.cluster.get(kinds.SERVICE, author.namespace, name)
    assert service is not None
    ports = {item["name"]: item["nodePort"] for item in service["spec"]["ports"]}
    return f"http://{node_address(author.cluster)}:{ports[port]}"


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as reply:
        return json.load(reply)


def test_the_article_about_torchserve_in_a_cluster(author: ClusterAuthor, shell: Shell) -> None:
    store = "pvc://serving-model-pvc/article"
    settings = {
        "deploymentName": "torchserve",
        "serviceName": "torchserve",
        "loadModels": "all",
        "tokens": False,
        "store": store,
    }
    folder = author.write("embedding", settings, CODE.replace("VERSION", "first"))
    deploy = ("deploy", "--path", folder, "--base-image", torchserve_image())

    # The objects of the article's own step are replaced.
    author.create_article_objects()
    status, output = shell(*deploy)
    assert status == 1
    assert "deployment torchserve is not managed by fnbuild" in output

    # The Service is a LoadBalancer, whose address this cluster never assigns.
    status, output = shell(*deploy, "--expose-management", "--force-conflicts")
    assert status == 0, output
    assert "warning: the management port is in the Service for clients" in output
    deployment = author.cluster.get(kinds.DEPLOYMENT, author.namespace, "torchserve")
    service = author.cluster.get(kinds.SERVICE, author.namespace, "torchserve")
    assert deployment is not None
    assert service is not None
    [archive] = author.archives(root="article")
    version = archive.removeprefix("embedding_").removesuffix(".mar")
    assert deployment["metadata"]["labels"]["app.kubernetes.io/version"] == version
    assert (deployment["spec"]["replicas"], service["spec"]["type"]) == (2, "LoadBalancer")
    volumes = deployment["spec"]["template"]["spec"]["volumes"]
    assert [volume["name"] for volume in volumes] == ["store", "run"]
    details = author.platform.deployment(author.namespace, "embedding").details
    assert details["externalIP"] == "pending"

    # The clients of the article.
    model = f"embedding_{version}"
    management = service_url(author, "torchserve", "mdl")
    assert [item["modelName"] for item in get(f"{management}/models")["models"]] == [model]
    [described] = get(f"{management}/models/{model}")
    assert [worker["status"] for worker in described["workers"]] == ["READY"]
    url = f"{service_url(author, 'torchserve', 'preds')}/predictions/{model}"
    assert post(url, "x") == {"greeting": "first", "dists": [0.1, 0.2], "pred": 1}

    # Another version rolls out, and the clients of the first one notice nothing.
    author.write("embedding", settings, CODE.replace("VERSION", "second"))
    with busy_clients(url) as clients:
        status, output = shell(*deploy)
    assert status == 0, output
    assert clients.failures == []
    assert set(clients.greetings) == {"first"}
    newest = author.archives(root="article")[1].removesuffix(".mar")
    assert post(url.replace(model, newest), "x")["greeting"] == "second"
    status, output = shell("torchserve", "models", "embedding")
    assert (status, output.count("embedding_")) == (0, 8), output
    # Without the option, the management port is for the cluster only again.
    service = author.cluster.get(kinds.SERVICE, author.namespace, "torchserve")
    assert service is not None
    assert [port["name"] for port in service["spec"]["ports"]] == ["preds", "metrics"]
    status, output = shell("delete", "function", "embedding")
    assert status == 0, output


def write_tree(folder: Path, shell: Shell) -> None:
    """Write a tree whose archive has a handler of TorchServe's own kind."""
    (folder / "model-store").mkdir(parents=True)
    (folder / "config").mkdir()
    handler = folder.parent / "sums.py"
    handler.write_text(FOREIGN_HANDLER)
    package = ("package", "torchserve", "--model-name", "sums", "--version", "2.0")
    status, output = shell(*package, "--handler", handler, "--export-path", folder / "model-store")
    assert status == 0, output
    settings = {
        "defaultVersion": True,
        "marName": "sums.mar",
        "minWorkers": 1,
        "maxWorkers": 1,
        "batchSize": 4,
        "maxBatchDelay": 10,
        "responseTimeout": 60,
    }
    snapshot = {"modelCount": 1, "models": {"sums": {"2.0": settings}}}
    text = f"model_store=/mnt/models/model-store\nmodel_snapshot={json.dumps(snapshot)}\n"
    (folder / "config/config.properties").write_text(text)


def test_a_tree_is_served_as_it_is(author: ClusterAuthor, shell: Shell) -> None:
    settings = {"modelTree": True, "store": "pvc://serving-model-pvc/tree"}
    tree = author.work / "sums"
    write_tree(tree, shell)
    deployed = author.deploy("sums", torchserve=settings, replicas=1)
    assert author.invoke(deployed, [1, 2]) == {"sum": 3}
    assert author.archives(root="tree") == ["sums.mar"]
    with author.platform.management(author.namespace, "sums") as [client]:
        [version] = client.describe("sums")
    assert (version.model_version, version.batch_size) == ("2.0", 4)
    # A tree that TorchServe cannot serve changes nothing.
    config = tree / "config/config.properties"
    config.write_text(config.read_text().replace("sums.mar", "absent.mar"))
    with pytest.raises(ConfigError, match="TorchServe cannot serve"):
        author.deploy("sums", torchserve=settings, replicas=1)
    assert author.invoke(deployed, [1, 2]) == {"sum": 3}
    assert author.platform.deployment(author.namespace, "sums").revision == 1
