"""Volumes and credentials of storage in a real cluster."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path

import pytest

from fnbuild.errors import ConflictError, FnbuildError, InputError, PreconditionError
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.storage.credentials import (
    S3Settings,
    StorageRole,
    StorageSecret,
    store_credentials,
    store_role,
)
from fnbuild.platforms.storage.volumes import (
    EbsVolume,
    HostPathVolume,
    VolumeRequest,
    create_volume,
)
from tests.cluster import create
from tests.engine import until

pytestmark = pytest.mark.system

KEYS = {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "s3cret/+"}


def test_a_claim_is_bound_to_its_volume(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    request = VolumeRequest(namespace, "models", "1Gi", backend=HostPathVolume(str(tmp_path)))
    for _ in range(2):  # a repetition changes nothing
        assert create_volume(cluster, request) == []
    until("the binding of the claim", lambda: _phase(cluster, namespace, "models") == "Bound")
    volume = cluster.get(kinds.VOLUME, "", f"{namespace}-models")
    assert volume is not None
    assert volume["spec"]["claimRef"]["name"] == "models"


def _phase(cluster: Cluster, namespace: str, name: str) -> str:
    claim = cluster.get(kinds.VOLUME_CLAIM, namespace, name) or {}
    return str((claim.get("status") or {}).get("phase"))


def test_a_refused_claim_leaves_no_volume(cluster: Cluster, namespace: str) -> None:
    request = VolumeRequest(namespace, "x" * 250, "1Gi", backend=EbsVolume("vol-0a1b"))
    with pytest.raises(FnbuildError):
        create_volume(cluster, request)
    names = [volume["metadata"]["name"] for volume in cluster.list(kinds.VOLUME, None)]
    assert not [name for name in names if name.startswith(f"{namespace}-x")]


def test_a_change_of_a_claim_is_refused_by_the_cluster(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    request = VolumeRequest(namespace, "fixed", "1Gi", backend=HostPathVolume(str(tmp_path)))
    create_volume(cluster, request)
    other = VolumeRequest(namespace, "fixed", "1Gi", "ReadOnlyMany", storage_class="")
    with pytest.raises(FnbuildError, match="fixed"):
        create_volume(cluster, other)
    claim = cluster.get(kinds.VOLUME_CLAIM, namespace, "fixed")
    assert claim is not None
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]


def test_shared_writes_with_a_class_of_block_storage_are_refused(
    cluster: Cluster, namespace: str
) -> None:
    name = f"fnbuild-test-{secrets.token_hex(4)}"
    create(cluster, kinds.STORAGE_CLASS, {"name": name}, provisioner="ebs.csi.aws.com")
    try:
        request = VolumeRequest(namespace, "shared", "1Gi", "ReadWriteMany", name)
        with pytest.raises(InputError, match="provides block storage"):
            create_volume(cluster, request)
    finally:
        cluster.delete(kinds.STORAGE_CLASS, "", name)
    assert cluster.get(kinds.VOLUME_CLAIM, namespace, "shared") is None
    with pytest.raises(PreconditionError, match=f"has no storage class '{name}'"):
        create_volume(cluster, request)


def test_a_service_account_collects_the_secrets_and_keeps_its_role(
    cluster: Cluster, namespace: str
) -> None:
    settings = S3Settings(endpoint="minio:9000", use_https=False)
    secret = StorageSecret(namespace, "bucket", "s3", KEYS, s3=settings)
    assert store_credentials(cluster, secret, "models")
    token = StorageSecret(namespace, "hub", "hf", {"HF_TOKEN": "t0ken"})
    assert store_credentials(cluster, token, "models")
    assert not store_credentials(cluster, token, "models")
    account = cluster.get(kinds.SERVICE_ACCOUNT, namespace, "models")
    assert account is not None
    assert {"bucket", "hub"} <= {item["name"] for item in account["secrets"]}
    live = cluster.get(kinds.SECRET, namespace, "bucket")
    assert live is not None
    values = {key: base64.b64decode(text).decode() for key, text in live["data"].items()}
    assert values == KEYS
    assert live["metadata"]["annotations"]["serving.kserve.io/s3-usehttps"] == "0"

    arn = "arn:aws:iam::123456789012:role/models"
    store_role(cluster, StorageRole(namespace, "models", arn))
    other = StorageSecret(namespace, "other", "hf", {"HF_TOKEN": "t0ken"})
    store_credentials(cluster, other, "models")
    account = cluster.get(kinds.SERVICE_ACCOUNT, namespace, "models")
    assert account is not None
    assert {"bucket", "hub", "other"} <= {item["name"] for item in account["secrets"]}
    assert account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"] == arn


def test_a_secret_without_its_account_is_removed_again(cluster: Cluster, namespace: str) -> None:
    secret = StorageSecret(namespace, "half", "hf", {"HF_TOKEN": "t0ken"})
    with pytest.raises(FnbuildError, match="Not_A_Name"):
        store_credentials(cluster, secret, "Not_A_Name")
    assert cluster.get(kinds.SECRET, namespace, "half") is None


def test_secrets_of_others_are_left_alone(cluster: Cluster, namespace: str) -> None:
    create(cluster, kinds.SECRET, {"name": "foreign", "namespace": namespace})
    secret = StorageSecret(namespace, "foreign", "hf", {"HF_TOKEN": "t0ken"})
    with pytest.raises(ConflictError, match="is not managed by fnbuild") as raised:
        store_credentials(cluster, secret, "")
    assert "t0ken" not in f"{raised.value} {secret}"
