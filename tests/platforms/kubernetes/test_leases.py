"""Leases on functions, and recovery from killed deploys."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fnbuild.datadir import make_private_dir
from fnbuild.errors import BusyError, ConflictError, ForbiddenError, NotReadyError
from fnbuild.function.types import Raw
from fnbuild.platforms import Artifact
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubernetes import KubernetesPlatform, labels, leases
from fnbuild.platforms.kubernetes.inventory import FunctionObjects
from fnbuild.platforms.kubernetes.labels import REVISION, KubernetesKey, canonical_json
from fnbuild.platforms.kubernetes.leases import FunctionLease, hold_lease
from fnbuild.platforms.kubernetes.revision_record import RevisionRecord
from fnbuild.platforms.leases import local_owner
from tests.cluster import invoke, kubeconfig_of, merge_patch
from tests.engine import until
from tests.platforms.kubernetes.author import Author, function_of

pytestmark = pytest.mark.system

DEPLOYING = """\
import sys
from tests.platforms.kubernetes.author import Author
from fnbuild.platforms.kubernetes import KubernetesPlatform
from pathlib import Path

namespace, image, home = sys.argv[1:]
Author(Path(home), KubernetesPlatform(), namespace).run(image, env={"FAULT": "hang"})
"""


@pytest.fixture
def key(namespace: str, data: Path) -> KubernetesKey:
    return KubernetesKey(namespace, "greeter")


def record(cluster: Cluster, key: KubernetesKey) -> Raw | None:
    return cluster.get(kinds.CONFIG_MAP, key.namespace, key.object_name)


def revision(key: KubernetesKey, number: int, **more: str) -> RevisionRecord:
    return RevisionRecord(
        key, number, "2026-01-01T00:00:00Z", "c0de", "i", "", {"spec": {}}, number, **more
    )


def create_foreign_lease(cluster: Cluster, key: KubernetesKey, seconds: float) -> None:
    lease = canonical_json(
        {"owner": "elsewhere:/data", "participle": "deployed", "until": time.time() + seconds}
    )
    metadata = {
        "name": key.object_name,
        "namespace": key.namespace,
        "labels": {labels.MANAGED_BY: labels.MANAGER, labels.RECORD: "revisions"},
        "annotations": {"fnbuild.io/deploying": lease},
    }
    cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})


def test_a_lease_without_revisions_leaves_no_record(cluster: Cluster, key: KubernetesKey) -> None:
    with hold_lease(cluster, key, "deployed"):
        config_map = record(cluster, key)
        assert config_map is not None
        assert "fnbuild.io/deploying" in config_map["metadata"]["annotations"]
    assert record(cluster, key) is None


def test_recorded_revisions_are_read_again(cluster: Cluster, key: KubernetesKey) -> None:
    with hold_lease(cluster, key, "deployed") as lease:
        lease.record_revision(revision(key, 1))
    with hold_lease(cluster, key, "deployed") as lease:
        assert lease.revisions == {1: revision(key, 1)}
    config_map = record(cluster, key)
    assert config_map is not None
    assert "fnbuild.io/deploying" not in config_map["metadata"].get("annotations", {})


def test_the_newest_revisions_that_fit_are_kept(cluster: Cluster, key: KubernetesKey) -> None:
    with hold_lease(cluster, key, "deployed") as lease:
        for number in range(1, 20):
            lease.record_revision(revision(key, number))
    numbers = sorted(int(name) for name in (record(cluster, key) or {})["data"])
    assert numbers == list(range(10, 20))
    with hold_lease(cluster, key, "deployed") as lease:
        for number in range(20, 30):
            lease.record_revision(revision(key, number, note="x" * 200_000))
    numbers = sorted(int(name) for name in (record(cluster, key) or {})["data"])
    assert numbers == [26, 27, 28, 29]


def test_a_foreign_lease_is_valid_until_it_expires(cluster: Cluster, key: KubernetesKey) -> None:
    create_foreign_lease(cluster, key, seconds=100)
    with (
        pytest.raises(ConflictError, match="is being deployed from elsewhere:/data") as failure,
        hold_lease(cluster, key, "deployed"),
    ):
        pass
    assert "its lease expires in" in (failure.value.hint or "")
    cluster.delete(kinds.CONFIG_MAP, key.namespace, key.object_name)
    create_foreign_lease(cluster, key, seconds=-1)
    with hold_lease(cluster, key, "deployed") as lease:
        lease.record_revision(revision(key, 1))


def test_one_of_two_concurrent_leases_is_refused(cluster: Cluster, key: KubernetesKey) -> None:
    with hold_lease(cluster, key, "deployed") as lease:
        lease.record_revision(revision(key, 1))
    candidates = [
        FunctionLease.of(cluster, FunctionObjects(key, config_map=record(cluster, key)))
        for _ in range(2)
    ]
    candidates[0].acquire("deployed")
    with pytest.raises(ConflictError, match="another client"):
        candidates[1].acquire("deployed")


def test_a_lease_includes_the_local_lock(cluster: Cluster, key: KubernetesKey) -> None:
    with (
        hold_lease(cluster, key, "deployed"),
        pytest.raises(ConflictError, match="being deployed by process"),
        hold_lease(cluster, key, "deleted"),
    ):
        pass


def test_a_record_changed_by_another_client_is_merged(cluster: Cluster, key: KubernetesKey) -> None:
    with hold_lease(cluster, key, "deployed") as lease:
        lease.record_revision(revision(key, 1))
        body = {"metadata": {"labels": {"team": "blue"}}}
        merge_patch(cluster, kinds.CONFIG_MAP, key.namespace, key.object_name, body)
    config_map = record(cluster, key)
    assert config_map is not None
    assert config_map["metadata"]["labels"]["team"] == "blue"
    assert list(config_map["data"]) == ["1"]


def test_missing_permission_to_write_records_is_reported_before_changes(
    author: Author, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules: list[Raw] = [
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["services"], "verbs": ["*"]},
    ]
    cluster = author.platform.cluster
    file = kubeconfig_of(cluster, author.namespace, "half", rules, tmp_path / "kubeconfig")
    monkeypatch.setenv("KUBECONFIG", str(file))
    author.platform = KubernetesPlatform()
    with pytest.raises(ForbiddenError, match="may not create configmaps"):
        author.run(image)
    assert cluster.list(kinds.DEPLOYMENT, author.namespace) == []


def test_the_next_deploy_recovers_from_a_killed_one(
    author: Author, image: str, tmp_path: Path, data: Path
) -> None:
    author.run(image)
    arguments = [sys.executable, "-c", DEPLOYING, author.namespace, image, str(tmp_path)]
    process = subprocess.Popen(arguments, env={**os.environ, "PYTHONPATH": os.getcwd()})
    try:
        until(
            "the second revision",
            lambda: author.live_deployment()["metadata"]["annotations"][REVISION] == "2",
            seconds=60,
        )
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    deployment = author.deployment()
    assert invoke(deployment.external_urls[0]) == "hello"

    # Other machines see a running deploy; this machine knows that its process has ended.
    other = make_private_dir(tmp_path / "elsewhere")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FNBUILD_DATA_DIR", str(other))
        with pytest.raises(ConflictError, match="is being deployed from"):
            author.run(image, env={"WORD": "three"})
    third = author.run(image, env={"WORD": "three"})
    assert (third.state, third.revision) == ("ready", 3)
    revisions = author.platform.revisions(author.namespace, "greeter")
    assert [record.state for record in revisions] == ["active", "failed", "superseded"]
    assert "interrupted" in revisions[1].message


def test_a_deploy_is_refused_before_its_build_during_another(
    author: Author, tmp_path: Path
) -> None:
    folder = author.write()
    function = function_of(author.namespace, "greeter", "unused")
    with author.platform.reserve(function, author.progress.append):
        other = make_private_dir(tmp_path / "elsewhere")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FNBUILD_DATA_DIR", str(other))
            with pytest.raises(BusyError, match="greeter is being deployed from"):
                author.deploy(folder)
        assert author.progress == []
    assert author.platform.deployments(author.namespace) == []


def test_a_lease_is_renewed_while_it_is_held(
    cluster: Cluster, key: KubernetesKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 2.0)
    monkeypatch.setattr(leases, "_RENEWAL_SECONDS", 0.1)

    def expiry() -> float:
        return float(FunctionObjects(key, config_map=record(cluster, key)).lease["until"])

    with hold_lease(cluster, key, "deployed") as lease:
        first = expiry()
        until("the renewal of the lease", lambda: expiry() > first + 2, seconds=30)
        lease.refresh()
        lease.record_revision(revision(key, 1))
        lease.save()
        saved = record(cluster, key)
        assert saved is not None
        assert list(saved["data"]) == ["1"]
        assert "fnbuild.io/deploying" in saved["metadata"]["annotations"]
    released = record(cluster, key)
    assert released is not None
    assert "fnbuild.io/deploying" not in released["metadata"].get("annotations", {})


def test_a_lost_lease_saves_nothing(cluster: Cluster, key: KubernetesKey) -> None:
    with hold_lease(cluster, key, "deployed") as lease:
        cluster.delete(kinds.CONFIG_MAP, key.namespace, key.object_name)
        with pytest.raises(BusyError, match="the lease on greeter was removed"):
            lease.refresh()
        create_foreign_lease(cluster, key, seconds=100)
        with pytest.raises(BusyError, match="being deployed from elsewhere:/data"):
            lease.refresh()
        lease.record_revision(revision(key, 1))
    assert list((record(cluster, key) or {}).get("data") or {}) == []


def test_concurrent_deploys_succeed_or_conflict(author: Author, image: str) -> None:
    platform, namespace = author.platform, author.namespace
    names = ["same"] * 4 + [f"other-{number}" for number in range(19)] + ["broken"]
    start = threading.Barrier(len(names))

    def deploy(name: str) -> str:
        env = {"FAULT": "raise"} if name == "broken" else {}
        function = function_of(namespace, name, image, env=env)
        start.wait(30)
        try:
            plan = platform.plan(function, Artifact("image", image, "", pinned=image))
            return platform.apply(plan, lambda _: None).state
        except (ConflictError, NotReadyError) as error:
            return "conflict" if "is being" in error.message else error.message

    with ThreadPoolExecutor(len(names)) as pool:
        results = list(pool.map(deploy, names))
    assert results[4:-1] == ["ready"] * 19
    assert "the weights are missing" in results[-1]
    assert "ready" in results[:4]
    assert set(results[:4]) <= {"ready", "conflict"}
    assert platform.deployment(namespace, "same").state == "ready"


def test_the_owner_includes_the_data_directory(data: Path) -> None:
    assert local_owner().endswith(f":{data}")
