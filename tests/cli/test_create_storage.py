"""`fnbuild create volume` and `create storage-secret` without a cluster: manifests and mistakes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.conftest import Outcome

Fnbuild = Callable[..., Outcome]


def manifests(outcome: Outcome) -> list[Any]:
    assert outcome.status == 0, outcome.err
    return list(yaml.safe_load_all(outcome.out))


def test_a_claim_of_the_default_class(fnbuild: Fnbuild) -> None:
    result = fnbuild("create", "volume", "models", "--size", "10Gi", "-n", "ns", "--dry-run")
    (claim,) = manifests(result)
    assert claim["kind"] == "PersistentVolumeClaim"
    assert claim["metadata"]["name"] == "models"
    assert claim["metadata"]["namespace"] == "ns"
    assert claim["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "10Gi"}},
    }


def test_an_empty_class(fnbuild: Fnbuild) -> None:
    arguments = ("--size", "10Gi", "--class", "", "--access-mode", "ROX", "--dry-run")
    (claim,) = manifests(fnbuild("create", "volume", "models", *arguments))
    assert claim["spec"]["storageClassName"] == ""
    assert claim["spec"]["accessModes"] == ["ReadOnlyMany"]


@pytest.mark.parametrize(
    ("options", "source"),
    [
        (
            ("--host-path", "/srv/models"),
            {"hostPath": {"path": "/srv/models", "type": "DirectoryOrCreate"}},
        ),
        (
            ("--nfs", "nfs.example.com:/exports/models"),
            {"nfs": {"server": "nfs.example.com", "path": "/exports/models"}},
        ),
        (
            ("--ebs", "vol-0123456789abcdef0"),
            {
                "csi": {
                    "driver": "ebs.csi.aws.com",
                    "volumeHandle": "vol-0123456789abcdef0",
                    "fsType": "ext4",
                }
            },
        ),
    ],
)
def test_a_back_end_has_a_volume_for_this_claim_alone(
    options: tuple[str, str], source: Any, fnbuild: Fnbuild
) -> None:
    arguments = ("--size", "1Gi", "-n", "ns", "--dry-run", *options)
    volume, claim = manifests(fnbuild("create", "volume", "models", *arguments))
    assert volume["kind"] == "PersistentVolume"
    assert "namespace" not in volume["metadata"]
    assert volume["spec"].items() >= source.items()
    assert volume["spec"]["storageClassName"] == claim["spec"]["storageClassName"] == ""
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"] == "ns-models"
    reference = volume["spec"]["claimRef"]
    assert (reference["namespace"], reference["name"]) == ("ns", "models")
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"


def test_a_host_path_on_one_node(fnbuild: Fnbuild) -> None:
    arguments = ("--size", "1Gi", "--host-path", "/srv", "--node", "node1", "--dry-run")
    volume, _ = manifests(fnbuild("create", "volume", "models", *arguments, "-o", "yaml"))
    (term,) = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term["matchExpressions"][0]["values"] == ["node1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", "10"), ""),
        (("--size", "many"), "is not a quantity"),
        (("--size", "0"), "is not above zero"),
        (("--size", "1Gi", "--nfs", "server"), "is not a folder of NFS"),
        (("--size", "1Gi", "--ebs", "disk"), "is not a disk of EBS"),
        (("--size", "1Gi", "--host-path", "a/../b"), "is not an absolute path"),
        (("--size", "1Gi", "--host-path", "/"), "whole disk"),
        (("--size", "1Gi", "--host-path", "/a", "--nfs", "s:/b"), "one back end"),
        (("--size", "1Gi", "--node", "n"), "only a host path is on one node"),
    ],
)
def test_mistakes_of_volumes(arguments: tuple[str, ...], message: str, fnbuild: Fnbuild) -> None:
    result = fnbuild("create", "volume", "models", *arguments, "--dry-run")
    assert (result.status == 0) == (not message)
    assert message in result.err
    assert fnbuild("create", "volume", "My_Models", "--size", "1", "--dry-run").status == 1


def test_shared_writes_on_block_storage_are_refused_with_the_reason(fnbuild: Fnbuild) -> None:
    arguments = ("--size", "1Gi", "--ebs", "vol-0a1b", "--access-mode", "ReadWriteMany")
    result = fnbuild("create", "volume", "models", *arguments, "--dry-run")
    assert result.status == 1
    assert "it is block storage, and a disk is attached to one node at a time" in result.err
    assert "ReadWriteOnce" in result.err


S3_VARIABLES = {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "s3cret/+"}


def test_settings_of_s3_are_annotations(fnbuild: Fnbuild, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in S3_VARIABLES.items():
        monkeypatch.setenv(name, value)
    arguments = (
        *("--type", "s3", "--endpoint", "http://minio.storage:9000", "--region", "eu-west-1"),
        *("--no-verify-ssl", "--virtual-bucket", "--accelerate", "--no-anonymous"),
        *("--ca-bundle", "/etc/ca.pem", "--ca-bundle-config-map", "authorities"),
        *("--service-account", "models", "-n", "ns", "--dry-run"),
    )
    result = fnbuild("create", "storage-secret", "bucket", *arguments)
    secret, account = manifests(result)
    prefix = "serving.kserve.io/s3-"
    assert secret["metadata"]["annotations"] == {
        prefix + "endpoint": "minio.storage:9000",
        prefix + "region": "eu-west-1",
        prefix + "usehttps": "0",
        prefix + "verifyssl": "0",
        prefix + "usevirtualbucket": "1",
        prefix + "useaccelerate": "1",
        prefix + "useanoncredential": "0",
        prefix + "cabundle": "/etc/ca.pem",
        prefix + "cabundle-configmap": "authorities",
    }
    assert secret["stringData"] == dict.fromkeys(S3_VARIABLES, "********")
    assert account["secrets"] == [{"name": "bucket"}]
    assert "s3cret" not in result.out + result.err


def test_a_role_of_aws_is_an_annotation_of_the_account(fnbuild: Fnbuild) -> None:
    arn = "arn:aws:iam::123456789012:role/models"
    arguments = ("--type", "s3", "--role-arn", arn, "--region", "eu-west-1", "--dry-run")
    (account,) = manifests(fnbuild("create", "storage-secret", "models", *arguments))
    assert (account["kind"], account["metadata"]["name"]) == ("ServiceAccount", "models")
    assert account["metadata"]["annotations"] == {
        "eks.amazonaws.com/role-arn": arn,
        "serving.kserve.io/s3-region": "eu-west-1",
    }
    named = fnbuild("create", "storage-secret", "x", *arguments, "--service-account", "readers")
    (account,) = manifests(named)
    assert account["metadata"]["name"] == "readers"


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (("--type", "gs"), "gcloud-application-credentials.json"),
        (("--type", "hf"), "HF_TOKEN"),
        (("--type", "https", "--host", "example.com"), "headers"),
    ],
)
def test_keys_of_the_secret(
    arguments: tuple[str, ...], key: str, fnbuild: Fnbuild, tmp_path: Path
) -> None:
    file = tmp_path / "value"
    file.write_text('{"Authorization": "s3cret"}\n')
    options = ("--from-file", f"{key}={file}", "--dry-run", "-o", "json")
    result = fnbuild("create", "storage-secret", "models", *arguments, *options)
    assert result.status == 0, result.err
    (secret,) = json.loads(result.out)["items"]
    expected = {key: "********"}
    if "https" in arguments:
        expected["https-host"] = "example.com"
    assert secret["stringData"] == expected
    assert "annotations" not in secret["metadata"]
    assert "s3cret" not in result.out + result.err


def test_values_come_from_stdin_and_from_the_file_of_google(
    fnbuild: Fnbuild, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("t0ken\n"))
    options = ("--type", "hf", "--from-stdin", "HF_TOKEN", "--dry-run")
    assert fnbuild("create", "storage-secret", "models", *options).status == 0
    (tmp_path / "key.json").write_text('{"type": "service_account"}')
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    assert fnbuild("create", "storage-secret", "models", "--type", "gs", "--dry-run").status == 0


@pytest.mark.parametrize(
    "endpoint", ["foo bar", "minio:9000/path", "ftp://minio", "http://", "minio:x", "http:minio"]
)
def test_an_endpoint_is_the_address_of_a_server(
    endpoint: str, fnbuild: Fnbuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in S3_VARIABLES.items():
        monkeypatch.setenv(name, value)
    arguments = ("--type", "s3", "--endpoint", endpoint, "--dry-run")
    result = fnbuild("create", "storage-secret", "bucket", *arguments)
    assert result.status == 1
    assert f"--endpoint {endpoint!r} is not the address of a server" in result.err


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*S3_VARIABLES, "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def test_the_credentials_of_google_are_the_key_of_an_account(
    fnbuild: Fnbuild, tmp_path: Path
) -> None:
    file = tmp_path / "key.json"
    file.write_text("s3cret")
    option = f"gcloud-application-credentials.json={file}"
    arguments = ("--type", "gs", "--from-file", option, "--dry-run")
    result = fnbuild("create", "storage-secret", "models", *arguments)
    assert (result.status, "is not the JSON key of an account" in result.err) == (1, True)
    assert "s3cret" not in result.err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--type", "s3"), 2, "there is no value for AWS_ACCESS_KEY_ID"),
        (("--type", "hf", "--from-stdin", "TOKEN"), 2, "'TOKEN' is not a key"),
        (("--type", "hf", "--from-file", "HF_TOKEN=/missing"), 1, "cannot read HF_TOKEN from"),
        (("--type", "https", "--from-file", "headers={}", "--region", "x"), 2, "is an option of"),
        (("--type", "https", "--from-file", "headers={}"), 1, "need the name of the host"),
        (("--type", "gs", "--from-stdin", "HF_TOKEN"), 2, "'HF_TOKEN' is not a key"),
        (("--type", "ftp"), 2, "ftp"),
        (("--type", "s3", "--role-arn", "models"), 1, "'models' is not a role of AWS"),
        (("--type", "hf", "--role-arn", "arn:aws:iam::1:role/x"), 2, "is an option of --type s3"),
        (("--type", "hf", "--from-file", "HF_TOKEN={}", "--service-account", "A_b"), 1,
         "'A_b' is not the name of a ServiceAccount"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("no_credentials")
def test_mistakes_of_secrets(
    arguments: tuple[str, ...], status: int, message: str, fnbuild: Fnbuild, tmp_path: Path
) -> None:
    file = tmp_path / "value"
    file.write_text("s3cret")
    filled = [argument.replace("{}", str(file)) for argument in arguments]
    result = fnbuild("create", "storage-secret", "models", *filled, "--dry-run")
    assert (result.status, message in result.err) == (status, True), result.err
    assert "s3cret" not in result.err
