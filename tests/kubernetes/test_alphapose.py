"""A keypoint detector on a cluster, deployed with the command line of its author."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient import kinds
from tests.builder.image.bases import docker, image_id
from tests.cluster import gpus_alone, invoke
from tests.containers import alphapose
from tests.containers.conftest import PROGRAM
from tests.kubernetes.conftest import OnCluster

pytestmark = pytest.mark.system

GPU = "nvidia.com/gpu"


@pytest.fixture
def node(user: OnCluster) -> Raw:
    """The node for GPU functions."""
    nodes = user.cluster.list(kinds.NODE, None, labels="gpu=true")
    if not nodes:
        pytest.skip("no node of the cluster has the label gpu=true")
    return nodes[0]


@pytest.fixture
def names(registry: str) -> Iterator[None]:
    with alphapose.names():
        yield
        pushed = f"{registry}/{alphapose.IMAGE}"
        if image_id(pushed):
            docker("rmi", "--force", pushed)


def test_it_runs_on_a_node_with_the_label(
    user: OnCluster, node: Raw, names: None, registry: str, tmp_path: Path
) -> None:
    folder = tmp_path / "alphapose"
    alphapose.write(folder)
    arguments = (
        *("deploy", "--project-name", "cvat", "-n", user.namespace, "--path", "."),
        *("--platform", "kube", "-r", registry, "--http-trigger-service-type", "NodePort"),
    )
    result = user.run(PROGRAM, *arguments, at=folder)
    assert result.returncode == 1
    assert "function.yaml:26:1" in result.stderr
    user.fnbuild("validate", "--fix", folder)

    result = user.run(PROGRAM, *arguments, "-o", "url", at=folder)
    assert result.returncode == 0, result.stderr
    # The selector places the pod on the node, but only a limit gives it the device.
    assert "not see the GPU" in result.stderr
    url = result.stdout.strip()
    # A new node port may be available a little later than the pod.
    invoke(url.removeprefix("http://"), "/__internal/health")
    headers = alphapose.invoke(url, folder)
    assert headers["x-python"] == f"{alphapose.PYTHON} 3.6"
    (pod,) = user.pods("alphapose")
    assert pod["spec"]["nodeName"] == node["metadata"]["name"]
    assert GPU not in str(pod["spec"]["containers"][0]["resources"])
    service = user.live_object(kinds.SERVICE, "nuclio-alphapose")["spec"]
    assert service["type"] == "NodePort"
    port = service["ports"][0]["nodePort"]
    assert url.endswith(f":{port}")
    function = user.describe("alphapose")
    assert function["metadata"]["labels"]["nuclio.io/project-name"] == "cvat"
    assert function["status"]["httpPort"] == port

    if GPU not in node["status"]["allocatable"]:
        pytest.skip(f"the node with the label advertises no {GPU}")
    with gpus_alone(user.cluster):
        second = user.run(
            PROGRAM, *arguments, "--resource-limit", f"{GPU}=1", "-o", "url", at=folder
        )
        assert second.returncode == 0, second.stderr
        assert "not see the GPU" not in second.stderr
        assert second.stdout.strip() == url
        invoke(url.removeprefix("http://"), "/__internal/health")
        assert alphapose.invoke(url, folder)["x-place"].startswith("root ")
        deployment = user.live_object(kinds.DEPLOYMENT, "nuclio-alphapose")["spec"]
        # Two models at the same time would need two devices.
        assert deployment["strategy"] == {"type": "Recreate"}
        limits = deployment["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert limits == {GPU: "1"}
        # The namespace lives as long as the session, and other tests need the GPU.
        user.fnbuild("delete", "function", "alphapose", "--platform", "kube")
