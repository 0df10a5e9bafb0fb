"""The client on the current cluster: objects, lists, watches, threads."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fnbuild.errors import InputError
from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from tests.cluster import merge_patch
from tests.platforms.kubeclient.pods import pod

pytestmark = pytest.mark.system


def config_map(namespace: str, name: str = "one", **data: str) -> Raw:
    metadata = {"name": name, "namespace": namespace, "labels": {"kind": "test"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def service(namespace: str, name: str = "one") -> Raw:
    ports = [{"name": "http", "port": 8080, "protocol": "TCP"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"type": "NodePort", "ports": ports, "selector": {"app": name}},
    }


def test_objects_are_created_read_changed_and_deleted(
    cluster: Cluster, cluster_namespace: str
) -> None:
    config = cluster.create(config_map(cluster_namespace, a="1"))
    assert cluster.get(kinds.CONFIG_MAP, cluster_namespace, "one") == config
    config["data"]["a"] = "2"
    assert cluster.replace(config)["data"] == {"a": "2"}
    patched = merge_patch(cluster, kinds.CONFIG_MAP, cluster_namespace, "one", {"data": {"b": "3"}})
    assert patched["data"] == {"a": "2", "b": "3"}
    assert cluster.delete(kinds.CONFIG_MAP, cluster_namespace, "one")
    assert cluster.get(kinds.CONFIG_MAP, cluster_namespace, "one") is None
    assert not cluster.delete(kinds.CONFIG_MAP, cluster_namespace, "one")


def test_apply_changes_and_removes_its_own_fields(cluster: Cluster, cluster_namespace: str) -> None:
    planned = cluster.apply(service(cluster_namespace), dry_run=True)
    assert planned["spec"]["ports"][0]["targetPort"] == 8080
    assert cluster.get(kinds.SERVICE, cluster_namespace, "one") is None
    first = cluster.apply(service(cluster_namespace))
    changed = service(cluster_namespace)
    changed["metadata"]["annotations"] = {"a": "b"}
    second = cluster.apply(changed)
    assert second["spec"]["ports"] == first["spec"]["ports"], "the node port is kept"
    assert second["metadata"]["annotations"] == {"a": "b"}
    third = cluster.apply(service(cluster_namespace))
    assert "annotations" not in third["metadata"]
    assert {entry["manager"] for entry in third["metadata"]["managedFields"]} == {"fnbuild"}


def test_lists_use_selectors_and_pages(
    cluster: Cluster, cluster_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"m{number}" for number in range(7)]
    for name in names:
        cluster.create(config_map(cluster_namespace, name))
    monkeypatch.setattr("fnbuild.platforms.kubeclient.cluster._PAGE_SIZE", 3)
    live_objects = cluster.list(kinds.CONFIG_MAP, cluster_namespace, labels="kind=test")
    assert [item["metadata"]["name"] for item in live_objects] == names
    assert {(item["apiVersion"], item["kind"]) for item in live_objects} == {("v1", "ConfigMap")}
    fields = "metadata.name=m3"
    assert len(cluster.list(kinds.CONFIG_MAP, cluster_namespace, fields=fields)) == 1
    everywhere = cluster.list(kinds.CONFIG_MAP, None, labels="kind=test")
    assert {item["metadata"]["namespace"] for item in everywhere} >= {cluster_namespace}


def test_served_kinds_are_detected(cluster: Cluster) -> None:
    assert cluster.version.startswith("v1.")
    assert cluster.serves(kinds.DEPLOYMENT)
    assert cluster.serves(kinds.HPA_V1)
    assert not cluster.serves(kinds.Kind("unknown.example/v1", "Nothing", "nothings"))
    assert not cluster.serves(kinds.Kind("apps/v1", "Nothing", "nothings"))


def test_manifests_of_other_kinds_are_refused() -> None:
    assert kinds.kind_of({"apiVersion": "apps/v1", "kind": "Deployment"}) is kinds.DEPLOYMENT
    assert (
        kinds.kind_of({"apiVersion": "batch/v1beta1", "kind": "CronJob"}) is kinds.CRON_JOB_V1BETA1
    )
    with pytest.raises(InputError, match="Gadget"):
        kinds.kind_of({"apiVersion": "v1", "kind": "Gadget"})


class RecordedWatch:
    """A running watch in a thread, and the events that it has received."""

    def __init__(self, cluster: Cluster, namespace: str, seconds: float):
        self.events: list[tuple[str, str]] = []
        self.started = threading.Event()
        stream = cluster.watch(kinds.CONFIG_MAP, namespace, labels="kind=test", seconds=seconds)
        self._thread = threading.Thread(target=self._run, args=(stream,))
        self._thread.start()

    def _run(self, events: Iterator[tuple[str, Raw]]) -> None:
        for change, item in events:
            assert item["kind"] == "ConfigMap"
            self.events.append((change, item["metadata"]["name"]))
            self.started.set()

    def end(self) -> list[tuple[str, str]]:
        self._thread.join(120)
        assert not self._thread.is_alive()
        return self.events


def test_a_watch_starts_with_the_existing_objects(cluster: Cluster, cluster_namespace: str) -> None:
    cluster.create(config_map(cluster_namespace, "old"))
    started = time.monotonic()
    watched = RecordedWatch(cluster, cluster_namespace, 6)
    assert watched.started.wait(60)
    cluster.create(config_map(cluster_namespace, "new"))
    merge_patch(cluster, kinds.CONFIG_MAP, cluster_namespace, "old", {"data": {"a": "b"}})
    cluster.delete(kinds.CONFIG_MAP, cluster_namespace, "new")
    assert watched.end() == [
        ("ADDED", "old"),
        ("ADDED", "new"),
        ("MODIFIED", "old"),
        ("DELETED", "new"),
    ]
    assert 5.9 < time.monotonic() - started < 60


def test_a_watch_continues_with_a_list_after_its_version_has_expired(
    cluster: Cluster, cluster_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.create(config_map(cluster_namespace, "kept"))
    cluster.create(config_map(cluster_namespace, "lost"))
    list_objects = cluster._list_with_version
    calls = iter(range(10))

    def expired_version(*arguments: object) -> tuple[list[Raw], str]:
        items, version = list_objects(*arguments)
        if next(calls) == 0:
            cluster.delete(kinds.CONFIG_MAP, cluster_namespace, "lost")
            return items, "1"  # a version that the server has compacted or refuses
        return items, version

    monkeypatch.setattr(cluster, "_list_with_version", expired_version)
    events = RecordedWatch(cluster, cluster_namespace, 6).end()
    assert events[:2] == [("ADDED", "kept"), ("ADDED", "lost")]
    assert ("DELETED", "lost") in events


def test_threads_share_one_client(cluster: Cluster, cluster_namespace: str) -> None:
    names = [f"t{number}" for number in range(40)]
    with ThreadPoolExecutor(16) as threads:
        applied = list(
            threads.map(lambda name: cluster.apply(config_map(cluster_namespace, name)), names)
        )
    assert [item["metadata"]["name"] for item in applied] == names
    assert len(cluster.list(kinds.CONFIG_MAP, cluster_namespace, labels="kind=test")) == 40


def test_proxy_requests_reach_a_pod(
    cluster: Cluster, cluster_namespace: str, greeter_image: str
) -> None:
    program = "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=8082)"
    cluster.create(pod(cluster_namespace, "web", greeter_image, program))
    deadline = time.monotonic() + 180
    while (body := cluster.get_from_pod(cluster_namespace, "web", 8082, "/etc/hostname")) is None:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert body == b"web\n"
    assert cluster.get_from_pod(cluster_namespace, "web", 8083, "/") is None
    assert cluster.get_from_pod(cluster_namespace, "gone", 8082, "/") is None


def test_requests_do_not_import_the_official_client(cluster: Cluster) -> None:
    assert cluster.server
    program = """
import sys
from fnbuild.platforms.kubeclient import connection
connection.connect().version
sys.exit("kubernetes" in sys.modules)
"""
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


@pytest.mark.parametrize(("namespace", "name"), [("..", "a"), (".", ""), ("a", ".."), (None, "..")])
def test_names_with_path_segments_are_refused(namespace: str | None, name: str) -> None:
    with pytest.raises(InputError, match="cannot be a name"):
        kinds.POD.path(namespace, name)
