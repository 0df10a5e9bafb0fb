"""Records of functions in ConfigMaps: each platform has its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from fnbuild.errors import BusyError, ConflictError
from fnbuild.platforms.base import FunctionKey
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.function_records import RecordKind
from fnbuild.platforms.kubeclient.stored_revision import StoredRevision

pytestmark = pytest.mark.system


@dataclass(frozen=True, slots=True, kw_only=True)
class _ArchiveRevision(StoredRevision):
    archive: str


ARCHIVES = RecordKind("archives", _ArchiveRevision)
SERVICES = RecordKind("services", StoredRevision)


@pytest.fixture(autouse=True)
def _data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(tmp_path))


def _revision(key: FunctionKey, number: int, archive: str) -> _ArchiveRevision:
    return _ArchiveRevision(
        namespace=key.namespace,
        name=key.name,
        number=number,
        created="2026-01-01T00:00:00Z",
        digest="",
        config={"metadata": {"name": key.name}},
        source=number,
        archive=archive,
    )


def test_platforms_do_not_share_the_records_of_functions_of_one_name(
    cluster: Cluster, cluster_namespace: str
) -> None:
    key = FunctionKey(cluster_namespace, "digits")
    with ARCHIVES.hold_lease(cluster, key, "deployed") as lease:
        lease.add_revision(_revision(key, 1, "digits_1.mar"), applied=True)
        with SERVICES.hold_lease(cluster, key, "deployed"):
            assert SERVICES.read(cluster, key).exists
        assert not SERVICES.read(cluster, key).exists  # it was never deployed
    record = ARCHIVES.read(cluster, key)
    assert record.applied is not None
    assert record.applied.archive == "digits_1.mar"
    assert not record.lease
    assert [item.key for item in ARCHIVES.read_all(cluster, None) if item.key == key] == [key]
    assert key not in [item.key for item in SERVICES.read_all(cluster, cluster_namespace)]


def test_another_client_cannot_change_a_function_that_is_leased(
    cluster: Cluster, cluster_namespace: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = FunctionKey(cluster_namespace, "letters")
    with ARCHIVES.hold_lease(cluster, key, "deployed") as lease:
        lease.add_revision(_revision(key, 1, "letters_1.mar"), applied=True)
        monkeypatch.setenv("FNBUILD_DATA_DIR", str(tmp_path / "other"))
        assert "being deployed from" in ARCHIVES.read(cluster, key).ongoing_change
        with pytest.raises(BusyError, match="letters is being deployed from") as error:
            ARCHIVES.hold_lease(cluster, key, "deleted").__enter__()
        assert "expires in" in (error.value.hint or "")


def test_a_config_map_of_another_tool_is_left_alone(
    cluster: Cluster, cluster_namespace: str
) -> None:
    metadata = {"name": "archives-words", "namespace": cluster_namespace}
    cluster.create(kinds.CONFIG_MAP.manifest(metadata, data={"their": "own"}))
    with pytest.raises(ConflictError, match=r"archives-words.* is not managed by fnbuild"):
        ARCHIVES.hold_lease(
            cluster, FunctionKey(cluster_namespace, "words"), "deployed"
        ).__enter__()
