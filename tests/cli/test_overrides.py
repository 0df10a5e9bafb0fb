"""Flags of deploy and build, and the fields that they set."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from fnbuild.cli.overrides import (
    encoded_source,
    environment_variables,
    function_overrides,
    json_object,
    key_values,
    quantities,
    raw_overrides,
    volumes,
)
from fnbuild.errors import UsageError
from fnbuild.function.reader import load_function
from fnbuild.function.types import EnvVar, Function, to_dict


def test_no_flag_sets_nothing() -> None:
    assert raw_overrides({}) == {}
    assert function_overrides({}) == Function()


def test_flags_with_go_zero_values_set_nothing() -> None:
    flags = {
        "desc": "",
        "disable": False,
        "replicas": -1,
        "triggers": "{}",
        "env": (),
        "labels": "",
    }
    assert raw_overrides(flags) == {}


def test_zero_is_a_number_of_replicas() -> None:
    spec = function_overrides({"replicas": 0, "min_replicas": 0, "max_replicas": 3}).spec
    assert (spec.replicas, spec.min_replicas, spec.max_replicas) == (0, 0, 3)


def test_every_plain_flag_sets_its_field() -> None:
    overrides = function_overrides(
        {
            "desc": "finds faces",
            "handler": "main:handler",
            "runtime": "python:3.11",
            "run_image": "faces:1",
            "run_registry": "registry:5000",
            "node_name": "node-1",
            "priority_class_name": "high",
            "preemption_policy": "Never",
            "http_trigger_service_type": "NodePort",
            "disable": True,
            "image": "faces",
            "registry": "localhost:5000",
            "base_image": "ubuntu:22.04",
            "no_pull": True,
            "offline": True,
            "target_cpu": 75,
            "readiness_timeout": 240,
            "node_selector": "gpu=true,zone=a",
            "labels": "team=vision",
            "annotations": "type=detector",
            "build_command": ("apt-get update", "pip install x"),
            "logger_level": "warn",
        }
    )
    assert to_dict(overrides) == {
        "metadata": {"labels": {"team": "vision"}, "annotations": {"type": "detector"}},
        "spec": {
            "description": "finds faces",
            "handler": "main:handler",
            "runtime": "python:3.11",
            "image": "faces:1",
            "targetCPU": 75,
            "build": {
                "registry": "localhost:5000",
                "image": "faces",
                "baseImage": "ubuntu:22.04",
                "noBaseImagesPull": True,
                "offline": True,
                "commands": ["apt-get update", "pip install x"],
            },
            "runRegistry": "registry:5000",
            "loggerSinks": [{"level": "warn"}],
            "readinessTimeoutSeconds": 240,
            "serviceType": "NodePort",
            "nodeSelector": {"gpu": "true", "zone": "a"},
            "nodeName": "node-1",
            "priorityClassName": "high",
            "preemptionPolicy": "Never",
            "disable": True,
        },
    }


def test_user_and_groups_make_a_security_context() -> None:
    overrides = function_overrides({"run_as_user": 1000, "run_as_group": 0, "fsgroup": -1})
    assert overrides.spec.security_context == {"runAsUser": 1000, "runAsGroup": 0}


def test_env_values_may_hold_equals_signs_and_the_last_of_a_name_wins() -> None:
    assert environment_variables(["A=1", "B=x=y=z", "A=2", "EMPTY="]) == [
        {"name": "A", "value": "2"},
        {"name": "B", "value": "x=y=z"},
        {"name": "EMPTY", "value": ""},
    ]
    assert function_overrides({"env": ("A=1",)}).spec.env == [EnvVar(name="A", value="1")]


@pytest.mark.parametrize("text", ["A", "=1", "  =1"])
def test_the_error_for_an_invalid_env_shows_the_form(text: str) -> None:
    with pytest.raises(UsageError) as failure:
        environment_variables([text])
    assert text in failure.value.message
    assert failure.value.hint == "write `--env NAME=value`"


def test_volumes_become_host_paths() -> None:
    assert volumes(["/data:/opt/data", "/models:/models:ro"]) == [
        {
            "volume": {"name": "volume-1", "hostPath": {"path": "/data"}},
            "volumeMount": {"name": "volume-1", "mountPath": "/opt/data"},
        },
        {
            "volume": {"name": "volume-2", "hostPath": {"path": "/models"}},
            "volumeMount": {"name": "volume-2", "mountPath": "/models", "readOnly": True},
        },
    ]


@pytest.mark.parametrize("text", ["/data", "/data:", ":/data", "/data:relative", "/a:/b:rx", "a=b"])
def test_the_error_for_an_invalid_volume_shows_the_form(text: str) -> None:
    with pytest.raises(UsageError) as failure:
        volumes([text])
    assert failure.value.hint == "write `--volume source:/destination[:ro]`"


def test_resources() -> None:
    overrides = function_overrides(
        {"resource_limit": ("nvidia.com/gpu=1", "memory=2Gi"), "resource_request": ("cpu=500m",)}
    )
    assert overrides.spec.resources.limits == {"nvidia.com/gpu": "1", "memory": "2Gi"}
    assert overrides.spec.resources.requests == {"cpu": "500m"}


@pytest.mark.parametrize("text", ["memory", "memory=", "=1", "memory=lots", "cpu=1 Gi"])
def test_the_error_for_an_invalid_resource_shows_the_form(text: str) -> None:
    with pytest.raises(UsageError) as failure:
        quantities("--resource-limit", [text])
    assert "name=quantity" in (failure.value.hint or "")


def test_triggers_and_platform_config_are_json() -> None:
    overrides = function_overrides(
        {
            "triggers": '{"myHttpTrigger": {"kind": "http", "maxWorkers": 3}}',
            "platform_config": '{"attributes": {"network": "cvat_cvat"}}',
        }
    )
    assert overrides.spec.triggers["myHttpTrigger"].max_workers == 3
    assert overrides.spec.platform.attributes == {"network": "cvat_cvat"}


@pytest.mark.parametrize("text", ["{", "nonsense", "{'a': 1}", "[1]", '"text"', "1"])
def test_the_error_for_invalid_json_has_the_flag_and_the_text(text: str) -> None:
    with pytest.raises(UsageError) as failure:
        json_object("--triggers", text)
    assert failure.value.message.startswith("--triggers")
    assert text in failure.value.message


def test_empty_json_is_an_empty_object() -> None:
    assert json_object("--triggers", "  ") == {}
    assert json_object("--triggers", None) == {}


def test_labels_may_hold_equals_signs_but_need_a_key() -> None:
    assert key_values("--labels", "a=b=c, d=e,,") == {"a": "b=c", "d": "e"}
    for text in ("a", "=b", "a=b,c"):
        with pytest.raises(UsageError):
            key_values("--labels", text)


@pytest.mark.parametrize(
    "text",
    [
        "def handler(context, event):\n    return 'é'\n",
        "from package import handler",
        "pass",  # valid base64 that does not decode to UTF-8
        "",
    ],
)
def test_source_may_be_text_or_base64(text: str) -> None:
    encoded = base64.b64encode(text.encode()).decode()
    assert encoded_source(text) == encoded
    assert encoded_source(encoded) == encoded
    wrapped = base64.encodebytes(text.encode()).decode()
    assert encoded_source(wrapped) == encoded


def test_source_text_is_kept_as_base64() -> None:
    code = "def handler(context, event):\n    return 'ä'\n"
    encoded = function_overrides({"source": code}).spec.build.function_source_code
    assert base64.b64decode(encoded).decode() == code


def test_the_result_is_plain_json() -> None:
    flags = {"env": ("A=1",), "volume": ("/a:/b",), "triggers": '{"t": {"kind": "http"}}'}
    assert json.loads(json.dumps(raw_overrides(flags))) == raw_overrides(flags)


def test_hardening_is_added_to_the_other_attributes() -> None:
    flags = {"hardened": True, "platform_config": '{"attributes": {"network": "a"}}'}
    attributes = function_overrides(flags).spec.platform.attributes
    assert attributes == {"network": "a", "hardened": True}


def test_protocols_are_an_attribute_of_the_http_trigger() -> None:
    raw = raw_overrides({"protocols": "v1, v2,v1"})
    trigger = raw["spec"]["triggers"]["default-http"]
    assert trigger == {"kind": "http", "attributes": {"protocols": ["v1", "v2"]}}
    named = raw_overrides({"protocols": "v2", "triggers": '{"web": {"kind": "http"}}'})
    assert named["spec"]["triggers"] == {
        "web": {"kind": "http", "attributes": {"protocols": ["v2"]}}
    }
    with pytest.raises(UsageError, match='--protocols "v3" is invalid'):
        raw_overrides({"protocols": "v1,v3"})


@pytest.mark.parametrize("file", ["", "  triggers: {web: {kind: http, numWorkers: 2}}\n"])
def test_protocols_of_flags_are_those_of_the_files_http_trigger(tmp_path: Path, file: str) -> None:
    (tmp_path / "main.py").write_text("def handler(context, event):\n    return 1\n")
    text = "metadata: {name: fn}\nspec:\n  runtime: python:3.11\n  handler: main:handler\n"
    (tmp_path / "function.yaml").write_text(text + file)
    overrides = function_overrides({"protocols": "v1,v2"})
    function = load_function(tmp_path, overrides=overrides).function
    (name,) = function.spec.triggers
    assert name == ("web" if file else "default-http")
    trigger = function.spec.triggers[name]
    assert trigger.attributes == {"protocols": ["v1", "v2"]}
    assert trigger.workers == (2 if file else 1)
