"""The API of the cluster that is there."""

from __future__ import annotations

from fnbuild.platforms.cluster import kinds
from fnbuild.platforms.cluster.api import Cluster


def config_map(namespace: str, name: str = "one", **data: str) -> dict[str, object]:
    about = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": data}


def test_objects_are_made_read_changed_and_removed(
    cluster: Cluster, cluster_namespace: str
) -> None:
    made = cluster.create(config_map(cluster_namespace, a="1"))
    assert cluster.get(kinds.CONFIG_MAP, cluster_namespace, "one") == made
    made["data"]["a"] = "2"
    assert cluster.replace(made)["data"] == {"a": "2"}
    patched = cluster.patch(kinds.CONFIG_MAP, cluster_namespace, "one", {"data": {"b": "3"}})
    assert patched["data"] == {"a": "2", "b": "3"}
    assert cluster.delete(kinds.CONFIG_MAP, cluster_namespace, "one")
    assert cluster.get(kinds.CONFIG_MAP, cluster_namespace, "one") is None
    assert not cluster.delete(kinds.CONFIG_MAP, cluster_namespace, "one")


def test_a_function_image_is_there(greeter_image: str) -> None:
    assert greeter_image.startswith("fnbuild-test-")
