"""The request body for a function's container; no engine is needed."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from typing import Any

import pytest

from fnbuild.errors import InputError
from fnbuild.function.reader import function_from_dict
from fnbuild.function.rules import with_defaults
from fnbuild.function.types import Function, Raw
from fnbuild.platforms.docker import container_config
from fnbuild.platforms.docker.container_config import (
    ContainerPlacement,
    create_body,
    mounts_of,
    network_names,
)
from fnbuild.platforms.docker.labels import DockerKey, RevisionRecord, decode_revision, key_of
from fnbuild.platforms.revision_records import stored_config

PLACEMENT = ContainerPlacement(
    20001, ("127.0.0.1", "172.17.0.1"), owner="machine:/data", log_driver="json-file"
)


def function(name: str = "greeter", **spec: Any) -> Function:
    base = {"handler": "main:handler", "runtime": "python:3.11", "image": "f:1"}
    metadata = {
        "name": name,
        "namespace": "nuclio",
        "labels": {"nuclio.io/project-name": "cvat"},
        "annotations": {"type": "detector"},
    }
    return with_defaults(function_from_dict({"metadata": metadata, "spec": base | spec}, "test"))


def revision_record(function: Function) -> RevisionRecord:
    return RevisionRecord(
        key=key_of(function),
        number=3,
        created="2026-01-01T00:00:00.000Z",
        digest="abc",
        image="f:1",
        image_id="sha256:1",
        config=stored_config(function),
        source=3,
        port=20001,
    )


def body(placement: ContainerPlacement = PLACEMENT, **spec: Any) -> Raw:
    return create_body(revision_record(function(**spec)), placement)


def host(placement: ContainerPlacement = PLACEMENT, **spec: Any) -> Raw:
    config: Raw = body(placement, **spec)["HostConfig"]
    return config


def test_containers_have_the_labels_of_nuclio() -> None:
    labels = body()["Labels"]
    assert labels["nuclio.io/platform"] == "local"
    assert labels["nuclio.io/namespace"] == "nuclio"
    assert labels["nuclio.io/function-name"] == "greeter"
    assert labels["nuclio.io/project-name"] == "cvat"
    assert json.loads(labels["nuclio.io/function-spec"])["handler"] == "main:handler"
    assert json.loads(labels["nuclio.io/annotations"]) == {"type": "detector"}
    assert DockerKey("nuclio", "greeter").container_name == "nuclio-nuclio-greeter"


def test_the_grpc_port_is_published_beside_the_http_port() -> None:
    triggers = {"web": {"kind": "http", "attributes": {"protocols": ["grpc"]}}}
    placement = replace(PLACEMENT, grpc_port=20002)
    created = body(placement, triggers=triggers)
    assert sorted(created["ExposedPorts"]) == ["8080/tcp", "8081/tcp"]
    bindings = created["HostConfig"]["PortBindings"]
    assert [entry["HostPort"] for entry in bindings["8081/tcp"]] == ["20002", "20002"]
    assert "PortBindings" not in host(placement.unpublished())
    assert sorted(body()["ExposedPorts"]) == ["8080/tcp"]


def test_labels_contain_the_whole_revision() -> None:
    revision = revision_record(function(description="d")).with_ports(20001, 20002)
    assert decode_revision(revision.container_labels()) == revision
    failed = revision.with_failure("why")
    assert decode_revision(failed.record_labels()) == failed
    assert revision.function == function(description="d")
    assert decode_revision({"nuclio.io/function-name": "f"}) is None


def test_ports_are_published_on_the_given_addresses() -> None:
    assert host()["PortBindings"] == {
        "8080/tcp": [
            {"HostIp": "127.0.0.1", "HostPort": "20001"},
            {"HostIp": "172.17.0.1", "HostPort": "20001"},
        ]
    }
    assert "PortBindings" not in host(PLACEMENT.unpublished())


def test_a_trial_container_is_labelled_and_not_restarted() -> None:
    container = create_body(revision_record(function()), PLACEMENT.unpublished(), trial=True)
    assert container["Labels"]["fnbuild.io/candidate"] == "true"
    assert container["HostConfig"]["RestartPolicy"] == {"Name": "no"}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (None, {"Name": "always"}),
        ({"name": "always", "maximumRetryCount": 3}, {"Name": "always"}),
        ({"name": "unless-stopped"}, {"Name": "unless-stopped"}),
        ({"name": False}, {"Name": "no"}),
        (
            {"name": "on-failure", "maximumRetryCount": 3},
            {"Name": "on-failure", "MaximumRetryCount": 3},
        ),
    ],
)
def test_restart_policies_are_translated(policy: Any, expected: Raw) -> None:
    host_config = host(platform={"attributes": {"restartPolicy": policy}})
    assert host_config["RestartPolicy"] == expected


def test_a_disabled_function_is_not_started_by_the_engine() -> None:
    assert host(disable=True)["RestartPolicy"] == {"Name": "no"}


def test_limits_devices_and_gpus_are_translated() -> None:
    limits = {"cpu": "1500m", "memory": "512Mi", "nvidia.com/gpu": 2}
    host_config = host(resources={"limits": limits}, devices=["/dev/video0", "/dev/a:/dev/b:r"])
    assert host_config["NanoCpus"] == 1_500_000_000
    assert host_config["Memory"] == 512 << 20
    assert host_config["DeviceRequests"] == [{"Driver": "", "Count": 2, "Capabilities": [["gpu"]]}]
    assert host_config["Devices"][0]["PathInContainer"] == "/dev/video0"
    assert host_config["Devices"][1] == {
        "PathOnHost": "/dev/a",
        "PathInContainer": "/dev/b",
        "CgroupPermissions": "r",
    }
    assert "DeviceRequests" not in host(resources={"limits": {"nvidia.com/gpu": 0}})


def test_the_security_context_sets_the_user() -> None:
    assert "User" not in body()
    assert body(securityContext={"runAsUser": 1000})["User"] == "1000"
    assert body(securityContext={"runAsUser": 1000, "runAsGroup": 5})["User"] == "1000:5"
    placement = ContainerPlacement(0, (), image_user="app:app")
    assert body(placement, securityContext={"runAsGroup": 5})["User"] == "app:5"
    assert host(securityContext={"fsGroup": 7})["GroupAdd"] == ["7"]


def test_variables_from_the_cluster_are_omitted() -> None:
    env = [{"name": "A", "value": "it's $HOME"}, {"name": "B", "valueFrom": {"secretKeyRef": {}}}]
    assert body(env=env)["Env"] == ["A=it's $HOME"]


def test_the_stop_timeout_follows_the_slowest_trigger() -> None:
    triggers = {"web": {"kind": "http", "workerTerminationTimeout": "5m"}}
    assert body(triggers=triggers)["StopTimeout"] > 300
    assert body()["StopTimeout"] > 60


def test_the_health_check_changes_only_its_interval() -> None:
    assert "Healthcheck" not in body()
    container = body(platform={"attributes": {"healthCheckInterval": "1m30s"}})
    assert container["Healthcheck"] == {"Interval": 90_000_000_000}


@pytest.mark.parametrize(
    ("networks", "expected"),
    [
        ("cvat_cvat", ("cvat_cvat",)),
        ("one, two", ("one", "two")),
        (["one", "two", "one"], ("one", "two")),
        (None, ()),
    ],
)
def test_networks_are_split(networks: Any, expected: tuple[str, ...]) -> None:
    assert network_names(function(platform={"attributes": {"network": networks}})) == expected


def test_the_first_network_has_an_alias_for_the_function() -> None:
    placement = ContainerPlacement(20001, ("127.0.0.1",), networks=("cvat_cvat", "other"))
    container = body(placement)
    assert container["HostConfig"]["NetworkMode"] == "cvat_cvat"
    endpoints = container["NetworkingConfig"]["EndpointsConfig"]
    assert endpoints == {"cvat_cvat": {"Aliases": ["nuclio-nuclio-greeter"]}}


def volume(source: Raw, **mount: Any) -> Raw:
    return {"volume": {"name": "v", **source}, "volumeMount": {"name": "v", **mount}}


def test_volumes_become_mounts() -> None:
    mounts = mounts_of(
        function(
            volumes=[
                volume({"hostPath": {"path": "/models"}}, mountPath="/m", readOnly=True),
                volume({"hostPath": {"path": "/d/"}}, mountPath="/d", subPath="in/side"),
                volume({"hostPath": {"path": "/x", "type": "File"}}, mountPath="/x"),
                volume(
                    {"emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}, mountPath="/dev/shm"
                ),
                volume({"configMap": {"name": "c", "defaultMode": 488}}, mountPath="/c"),
            ]
        )
    )
    assert mounts.binds == ("/models:/m:ro", "/d/in/side:/d")
    assert mounts.mounts[0]["Source"] == "/x"
    assert mounts.mounts[1]["TmpfsOptions"] == {"SizeBytes": 1 << 30}
    assert "v (configMap)" in mounts.warnings[0]


@pytest.mark.parametrize(
    "spec",
    [
        {"volumes": [volume({"hostPath": {"path": "relative"}}, mountPath="/m")]},
        {"volumes": [volume({"hostPath": {"path": "/a"}}, mountPath="/m", subPath="../b")]},
        {"devices": ["video0"]},
        {"platform": {"attributes": {"healthCheckInterval": "often"}}},
        {"platform": {"attributes": {"restartPolicy": "sometimes"}}},
    ],
)
def test_unusable_values_are_refused(spec: Raw) -> None:
    with pytest.raises(InputError, match="spec"):
        body(**spec)


def test_the_host_network_excludes_others() -> None:
    with pytest.raises(InputError, match="host"):
        network_names(function(platform={"attributes": {"network": "host,cvat_cvat"}}))


@pytest.mark.parametrize("name", ["pth.sam_vit.B", "YOLO-v8-n-100imgs", "sam2.1_hiera_large.pt"])
def test_common_function_names_are_valid(name: str) -> None:
    key = key_of(function(name))
    assert key.container_name == f"nuclio-nuclio-{name}"
    assert key.image_reference(7) == f"fnbuild-revisions:nuclio.{name}.7"


def test_invalid_container_names_are_refused() -> None:
    with pytest.raises(InputError, match="function name"):
        key_of(function("two words"))


def test_long_names_are_shortened_for_tags() -> None:
    tag = DockerKey("n" * 63, "f" * 63).image_reference(12).partition(":")[2]
    assert len(tag) < 128
    assert tag.endswith(".12")


def test_the_processor_archive_has_the_configuration() -> None:
    archive = container_config.processor_archive(revision_record(function(description="d")))
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        [member] = files.getmembers()
        content = files.extractfile(member)
        assert content is not None
        config = json.load(content)
    assert member.name == "etc/nuclio/config/processor/processor.json"
    assert (config["function"]["revision"], config["function"]["description"]) == (3, "d")
