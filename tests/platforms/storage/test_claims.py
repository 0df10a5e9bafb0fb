"""Claims of a real cluster: filled, listed and resumed through a pod."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from fnbuild.errors import InputError, NotFoundError, NotReadyError
from fnbuild.models.local_files import local_files
from fnbuild.models.upload import upload_files
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.storage import claims
from fnbuild.platforms.storage.claims import ClaimFolder, open_claim
from fnbuild.platforms.storage.volumes import HostPathVolume, VolumeRequest, create_volume
from tests.cluster import require_local_node
from tests.engine import PYTHON_IMAGE, require_engine, require_image, until
from tests.platforms.kubeclient.pods import pod, until_phase

pytestmark = pytest.mark.system

WEIGHTS = os.urandom(20_000_000)


@pytest.fixture(scope="module")
def volume(cluster: Cluster, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the volume of the claim `models`."""
    require_local_node(cluster)
    require_image(require_engine())
    folder = tmp_path_factory.mktemp("volume")
    request = VolumeRequest(namespace, "models", "1Gi", backend=HostPathVolume(str(folder)))
    create_volume(cluster, request)
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.pt").write_bytes(WEIGHTS)
    (folder / "ü x.txt").write_bytes(b"")
    return folder


def claim_pods(cluster: Cluster, namespace: str) -> list:
    listed = cluster.list(kinds.POD, namespace, labels="fnbuild.io/claim=models")
    return [item for item in listed if "deletionTimestamp" not in item["metadata"]]


def test_a_claim_is_filled_and_an_interrupted_upload_is_resumed(
    cluster: Cluster, namespace: str, volume: Path, source: Path
) -> None:
    folder = ClaimFolder(namespace, "models", "a/b")
    name = hashlib.sha256(b"1/model.pt").hexdigest()[:32]
    part = volume / "a" / "b" / ".fnbuild" / name
    part.parent.mkdir(parents=True)
    part.write_bytes(WEIGHTS[:15_000_000])  # of an upload that was killed
    sent: list[int] = []
    with open_claim(cluster, folder, PYTHON_IMAGE, [].append, write=True) as claim:
        store = claim.store
        claim.store = lambda file, sha256, count: store(file, sha256, sent.append)  # type: ignore[method-assign]
        result = upload_files(local_files(source), claim, [].append)
        assert sum(sent) == 5_000_000
        again = upload_files(local_files(source), claim, [].append)
        files = {file.path: file.size for file in claim.files()}
    assert (result.uploaded, result.skipped, result.others) == (2, 0, ())
    assert (again.uploaded, again.skipped) == (0, 2)
    assert files == {"1/model.pt": len(WEIGHTS), "ü x.txt": 0}
    assert (volume / "a" / "b" / "1" / "model.pt").read_bytes() == WEIGHTS
    assert not claim_pods(cluster, namespace)


def test_the_part_of_another_version_is_replaced(
    cluster: Cluster, namespace: str, volume: Path, source: Path
) -> None:
    folder = ClaimFolder(namespace, "models", "other")
    name = hashlib.sha256(b"1/model.pt").hexdigest()[:32]
    part = volume / "other" / ".fnbuild" / name
    part.parent.mkdir(parents=True)
    part.write_bytes(b"other" * 1000)
    with open_claim(cluster, folder, PYTHON_IMAGE, [].append, write=True) as claim:
        upload_files(local_files(source), claim, [].append)
    assert (volume / "other" / "1" / "model.pt").read_bytes() == WEIGHTS


def test_a_mounted_claim_is_used_on_its_node_with_its_image(
    cluster: Cluster, namespace: str, volume: Path
) -> None:
    manifest = pod(namespace, "holder", PYTHON_IMAGE, "import time; time.sleep(600)")
    manifest["metadata"]["labels"]["nuclio.io/function-name"] = "holder"
    manifest["spec"]["volumes"] = [
        {"name": "models", "persistentVolumeClaim": {"claimName": "models"}}
    ]
    cluster.create(manifest)
    try:
        until_phase(cluster, namespace, "holder", "Running")
        node = cluster.get(kinds.POD, namespace, "holder")["spec"]["nodeName"]
        folder = ClaimFolder(namespace, "models")
        assert claims.claim_image(cluster, folder) == PYTHON_IMAGE
        assert claims.function_image(cluster, namespace, "holder") == PYTHON_IMAGE
        messages: list[str] = []
        with open_claim(cluster, folder, PYTHON_IMAGE, messages.append, write=False) as claim:
            (item,) = claim_pods(cluster, namespace)
            assert item["spec"]["nodeName"] == node
            claim.files()
        assert f"on node {node}, which has the claim" in messages[0]
    finally:
        cluster.delete(kinds.POD, namespace, "holder")


def test_an_image_that_does_not_exist_is_the_reason(
    cluster: Cluster, namespace: str, volume: Path
) -> None:
    folder = ClaimFolder(namespace, "models")
    with (
        pytest.raises(NotReadyError, match="the pod for the claim models does not start") as raised,
        open_claim(cluster, folder, "127.0.0.1:1/absent:1", [].append, write=False),
    ):
        pass
    assert "--image" in str(raised.value.hint)
    until("the end of the pod", lambda: not claim_pods(cluster, namespace))


def test_missing_and_read_only_claims(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    with (
        pytest.raises(NotFoundError, match="there is no claim absent") as raised,
        open_claim(cluster, ClaimFolder(namespace, "absent"), "x", [].append, write=True),
    ):
        pass
    assert "`fnbuild create volume absent" in str(raised.value.hint)
    backend = HostPathVolume(str(tmp_path))
    request = VolumeRequest(namespace, "shared", "1Gi", "ReadOnlyMany", backend=backend)
    create_volume(cluster, request)
    with (
        pytest.raises(InputError, match="the claim shared is only for reading"),
        open_claim(cluster, ClaimFolder(namespace, "shared"), "x", [].append, write=True),
    ):
        pass
    with pytest.raises(NotFoundError, match="function absent has no pod"):
        claims.function_image(cluster, namespace, "absent")
