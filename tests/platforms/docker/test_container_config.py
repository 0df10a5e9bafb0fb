"""From a configuration to the body that creates its container; no engine is needed."""

from __future__ import annotations

import io
import json
import tarfile
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

PLACE = ContainerPlacement(
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


def made(one: Function) -> RevisionRecord:
    return RevisionRecord(
        key=key_of(one),
        number=3,
        created="2026-01-01T00:00:00.000Z",
        digest="abc",
        image="f:1",
        image_id="sha256:1",
        config=stored_config(one),
        source=3,
        port=20001,
    )


def body(place: ContainerPlacement = PLACE, **spec: Any) -> Raw:
    return create_body(made(function(**spec)), place)


def host(place: ContainerPlacement = PLACE, **spec: Any) -> Raw:
    config: Raw = body(place, **spec)["HostConfig"]
    return config


def test_what_nuclio_and_its_users_look_for_is_there() -> None:
    labels = body()["Labels"]
    assert labels["nuclio.io/platform"] == "local"
    assert labels["nuclio.io/namespace"] == "nuclio"
    assert labels["nuclio.io/function-name"] == "greeter"
    assert labels["nuclio.io/project-name"] == "cvat"
    assert json.loads(labels["nuclio.io/function-spec"])["handler"] == "main:handler"
    assert json.loads(labels["nuclio.io/annotations"]) == {"type": "detector"}
    assert DockerKey("nuclio", "greeter").container == "nuclio-nuclio-greeter"


def test_labels_tell_everything_about_a_revision() -> None:
    one = made(function(description="d"))
    assert decode_revision(one.container_labels()) == one
    failed = one.with_failure("why")
    assert decode_revision(failed.record_labels()) == failed
    assert one.function == function(description="d")
    assert decode_revision({"nuclio.io/function-name": "f"}) is None


def test_ports_are_explicit_and_on_the_given_addresses() -> None:
    assert host()["PortBindings"] == {
        "8080/tcp": [
            {"HostIp": "127.0.0.1", "HostPort": "20001"},
            {"HostIp": "172.17.0.1", "HostPort": "20001"},
        ]
    }
    assert "PortBindings" not in host(PLACE.unpublished())


def test_a_candidate_is_no_function_and_is_not_started_again() -> None:
    made_body = create_body(made(function()), PLACE.unpublished(), candidate=True)
    assert made_body["Labels"]["fnbuild.io/candidate"] == "true"
    assert made_body["HostConfig"]["RestartPolicy"] == {"Name": "no"}


@pytest.mark.parametrize(
    ("given", "expected"),
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
def test_restart_policies(given: Any, expected: Raw) -> None:
    made_host = host(platform={"attributes": {"restartPolicy": given}})
    assert made_host["RestartPolicy"] == expected


def test_a_disabled_function_is_not_started_by_the_engine() -> None:
    assert host(disable=True)["RestartPolicy"] == {"Name": "no"}


def test_limits_devices_and_gpus() -> None:
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


def test_the_user_of_the_processor() -> None:
    assert "User" not in body()
    assert body(securityContext={"runAsUser": 1000})["User"] == "1000"
    assert body(securityContext={"runAsUser": 1000, "runAsGroup": 5})["User"] == "1000:5"
    placement = ContainerPlacement(0, (), image_user="app:app")
    assert body(placement, securityContext={"runAsGroup": 5})["User"] == "app:5"
    assert host(securityContext={"fsGroup": 7})["GroupAdd"] == ["7"]


def test_env_without_what_needs_a_cluster() -> None:
    env = [{"name": "A", "value": "it's $HOME"}, {"name": "B", "valueFrom": {"secretKeyRef": {}}}]
    assert body(env=env)["Env"] == ["A=it's $HOME"]


def test_stopping_takes_as_long_as_the_slowest_trigger() -> None:
    triggers = {"web": {"kind": "http", "workerTerminationTimeout": "5m"}}
    assert body(triggers=triggers)["StopTimeout"] > 300
    assert body()["StopTimeout"] > 60


def test_the_health_check_keeps_what_the_image_says() -> None:
    assert "Healthcheck" not in body()
    found = body(platform={"attributes": {"healthCheckInterval": "1m30s"}})
    assert found["Healthcheck"] == {"Interval": 90_000_000_000}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("cvat_cvat", ("cvat_cvat",)),
        ("one, two", ("one", "two")),
        (["one", "two", "one"], ("one", "two")),
        (None, ()),
    ],
)
def test_networks(given: Any, expected: tuple[str, ...]) -> None:
    assert network_names(function(platform={"attributes": {"network": given}})) == expected


def test_the_first_network_knows_the_function_by_its_name() -> None:
    placement = ContainerPlacement(20001, ("127.0.0.1",), networks=("cvat_cvat", "other"))
    found = body(placement)
    assert found["HostConfig"]["NetworkMode"] == "cvat_cvat"
    endpoints = found["NetworkingConfig"]["EndpointsConfig"]
    assert endpoints == {"cvat_cvat": {"Aliases": ["nuclio-nuclio-greeter"]}}


def volume(source: Raw, **mount: Any) -> Raw:
    return {"volume": {"name": "v", **source}, "volumeMount": {"name": "v", **mount}}


def test_volumes() -> None:
    found = mounts_of(
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
    assert found.binds == ("/models:/m:ro", "/d/in/side:/d")
    assert found.mounts[0]["Source"] == "/x"
    assert found.mounts[1]["TmpfsOptions"] == {"SizeBytes": 1 << 30}
    assert "v (configMap)" in found.warnings[0]


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
def test_what_no_engine_could_use(spec: Raw) -> None:
    with pytest.raises(InputError, match="spec"):
        body(**spec)


def test_the_machine_as_a_network_goes_alone() -> None:
    with pytest.raises(InputError, match="host"):
        network_names(function(platform={"attributes": {"network": "host,cvat_cvat"}}))


@pytest.mark.parametrize("name", ["pth.sam_vit.B", "YOLO-v8-n-100imgs", "sam2.1_hiera_large.pt"])
def test_names_that_users_have(name: str) -> None:
    key = key_of(function(name))
    assert key.container == f"nuclio-nuclio-{name}"
    assert key.image(7) == f"fnbuild-revisions:nuclio.{name}.7"


def test_names_that_no_container_can_have() -> None:
    with pytest.raises(InputError, match="function name"):
        key_of(function("two words"))


def test_a_name_too_long_for_a_tag() -> None:
    tag = DockerKey("n" * 63, "f" * 63).image(12).partition(":")[2]
    assert len(tag) < 128
    assert tag.endswith(".12")


def test_the_processor_gets_the_configuration_of_the_deploy() -> None:
    archive = container_config.processor_archive(made(function(description="d")))
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        [member] = opened.getmembers()
        content = opened.extractfile(member)
        assert content is not None
        config = json.load(content)
    assert member.name == "etc/nuclio/config/processor/processor.json"
    assert (config["function"]["revision"], config["function"]["description"]) == (3, "d")
