"""Leases on functions, and the remains of killed deploys."""

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
from tests.cluster import ask, kubeconfig_of, merge_patch
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


def made(key: KubernetesKey, number: int, **more: str) -> RevisionRecord:
    return RevisionRecord(
        key, number, "2026-01-01T00:00:00Z", "c0de", "i", "", {"spec": {}}, number, **more
    )


def claim_of_another(cluster: Cluster, key: KubernetesKey, seconds: float) -> None:
    said = canonical_json(
        {"owner": "elsewhere:/data", "participle": "deployed", "until": time.time() + seconds}
    )
    about = {
        "name": key.object_name,
        "namespace": key.namespace,
        "labels": {labels.MANAGED_BY: labels.MANAGER, labels.RECORD: "revisions"},
        "annotations": {"fnbuild.io/deploying": said},
    }
    cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": about})


def test_a_claim_that_recorded_nothing_leaves_nothing(cluster: Cluster, key: KubernetesKey) -> None:
    with hold_lease(cluster, key, "deployed"):
        found = record(cluster, key)
        assert found is not None
        assert "fnbuild.io/deploying" in found["metadata"]["annotations"]
    assert record(cluster, key) is None


def test_what_was_recorded_is_read_again(cluster: Cluster, key: KubernetesKey) -> None:
    with hold_lease(cluster, key, "deployed") as lease:
        lease.add(made(key, 1))
    with hold_lease(cluster, key, "deployed") as lease:
        assert lease.revisions == {1: made(key, 1)}
    found = record(cluster, key)
    assert found is not None
    assert "fnbuild.io/deploying" not in found["metadata"].get("annotations", {})


def test_the_newest_revisions_are_kept_and_find_room(cluster: Cluster, key: KubernetesKey) -> None:
    with hold_lease(cluster, key, "deployed") as lease:
        for number in range(1, 20):
            lease.add(made(key, number))
    kept = sorted(int(name) for name in (record(cluster, key) or {})["data"])
    assert kept == list(range(10, 20))
    with hold_lease(cluster, key, "deployed") as lease:
        for number in range(20, 30):
            lease.add(made(key, number, note="x" * 200_000))
    kept = sorted(int(name) for name in (record(cluster, key) or {})["data"])
    assert kept == [26, 27, 28, 29]


def test_another_owners_claim_stands_until_it_ends(cluster: Cluster, key: KubernetesKey) -> None:
    claim_of_another(cluster, key, seconds=100)
    with (
        pytest.raises(ConflictError, match="is being deployed from elsewhere:/data") as failure,
        hold_lease(cluster, key, "deployed"),
    ):
        pass
    assert "its lease expires in" in (failure.value.hint or "")
    cluster.delete(kinds.CONFIG_MAP, key.namespace, key.object_name)
    claim_of_another(cluster, key, seconds=-1)
    with hold_lease(cluster, key, "deployed") as lease:
        lease.add(made(key, 1))


def test_of_two_that_claim_at_once_one_is_refused(cluster: Cluster, key: KubernetesKey) -> None:
    with hold_lease(cluster, key, "deployed") as lease:
        lease.add(made(key, 1))
    both = [
        FunctionLease.of(cluster, FunctionObjects(key, config_map=record(cluster, key)))
        for _ in range(2)
    ]
    both[0].acquire("deployed")
    with pytest.raises(ConflictError, match="another client"):
        both[1].acquire("deployed")


def test_a_lock_of_this_machine_stands_as_well(cluster: Cluster, key: KubernetesKey) -> None:
    with (
        hold_lease(cluster, key, "deployed"),
        pytest.raises(ConflictError, match="being deployed by process"),
        hold_lease(cluster, key, "deleted"),
    ):
        pass


def test_a_record_that_somebody_touches_meanwhile_is_written(
    cluster: Cluster, key: KubernetesKey
) -> None:
    with hold_lease(cluster, key, "deployed") as lease:
        lease.add(made(key, 1))
        body = {"metadata": {"labels": {"team": "blue"}}}
        merge_patch(cluster, kinds.CONFIG_MAP, key.namespace, key.object_name, body)
    found = record(cluster, key)
    assert found is not None
    assert found["metadata"]["labels"]["team"] == "blue"
    assert list(found["data"]) == ["1"]


def test_who_may_not_write_records_hears_of_it_before_anything_changes(
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


def test_a_deploy_that_was_killed_is_mended_by_the_next(
    author: Author, image: str, tmp_path: Path, data: Path
) -> None:
    author.run(image)
    arguments = [sys.executable, "-c", DEPLOYING, author.namespace, image, str(tmp_path)]
    process = subprocess.Popen(arguments, env={**os.environ, "PYTHONPATH": os.getcwd()})
    try:
        until(
            "the second revision",
            lambda: author.live()["metadata"]["annotations"][REVISION] == "2",
            seconds=60,
        )
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    deployment = author.shown()
    assert ask(deployment.external_urls[0]) == "hello"

    # From elsewhere it looks as if it were still under way; from here it is known to be over.
    other = make_private_dir(tmp_path / "elsewhere")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FNBUILD_DATA_DIR", str(other))
        with pytest.raises(ConflictError, match="is being deployed from"):
            author.run(image, env={"WORD": "three"})
    again = author.run(image, env={"WORD": "three"})
    assert (again.state, again.revision) == ("ready", 3)
    revisions = author.platform.revisions(author.namespace, "greeter")
    assert [record.state for record in revisions] == ["active", "failed", "superseded"]
    assert "interrupted" in revisions[1].message


def test_a_deploy_from_elsewhere_is_refused_before_its_build(
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


def test_a_claim_stays_as_long_as_its_holder_works(
    cluster: Cluster, key: KubernetesKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 2.0)
    monkeypatch.setattr(leases, "_RENEWAL_SECONDS", 0.1)

    def end() -> float:
        return float(FunctionObjects(key, config_map=record(cluster, key)).lease["until"])

    with hold_lease(cluster, key, "deployed") as lease:
        first = end()
        until("the renewal of the lease", lambda: end() > first + 2, seconds=30)
        lease.refresh()
        lease.add(made(key, 1))
        lease.save()
        saved = record(cluster, key)
        assert saved is not None
        assert list(saved["data"]) == ["1"]
        assert "fnbuild.io/deploying" in saved["metadata"]["annotations"]
    given_back = record(cluster, key)
    assert given_back is not None
    assert "fnbuild.io/deploying" not in given_back["metadata"].get("annotations", {})


def test_a_claim_that_was_lost_during_a_build_changes_nothing(
    cluster: Cluster, key: KubernetesKey
) -> None:
    with hold_lease(cluster, key, "deployed") as lease:
        cluster.delete(kinds.CONFIG_MAP, key.namespace, key.object_name)
        with pytest.raises(BusyError, match="the lease on greeter was removed"):
            lease.refresh()
        claim_of_another(cluster, key, seconds=100)
        with pytest.raises(BusyError, match="being deployed from elsewhere:/data"):
            lease.refresh()
        lease.add(made(key, 1))
    assert list((record(cluster, key) or {}).get("data") or {}) == []


def test_many_deploys_at_once(author: Author, image: str) -> None:
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
        ended = list(pool.map(deploy, names))
    assert ended[4:-1] == ["ready"] * 19
    assert "the weights are missing" in ended[-1]
    assert "ready" in ended[:4]
    assert set(ended[:4]) <= {"ready", "conflict"}
    assert platform.deployment(namespace, "same").state == "ready"


def test_the_owner_is_a_machine_and_its_data_directory(data: Path) -> None:
    assert local_owner().endswith(f":{data}")
