"""The processor's configuration file, read and written."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fnbuild.runtime import config as reader
from fnbuild.runtime.config import ConfigFileError, ProcessorConfig
from fnbuild.runtime.triggers.kinds import served_triggers

LEAST: dict[str, Any] = {
    "handler": "main:handler",
    "code": "/srv/code",
    "listeners": {"http": {"port": 8080}},
}

GROUP = {
    "name": "g",
    "folder": "/groups/g",
    "awake": 2,
    "memory": 100,
    "need": 50,
    "permanent": True,
    "instance": "3-17",
}


def test_defaults() -> None:
    config = ProcessorConfig(LEAST)
    (trigger,) = served_triggers(config)
    assert (trigger.kind, trigger.num_workers, trigger.availability_timeout) == ("http", 1, 10.0)
    (http,) = config.http
    assert (http.host, http.port, http.fd) == ("127.0.0.1", 8080, None)
    assert (config.accept, config.restart, config.event_timeout) == ("immediately", "always", None)
    assert (config.admin, config.control, config.mount) == (None, None, None)


def test_every_key_is_read(tmp_path: Path) -> None:
    full = {
        **LEAST,
        "function": {"name": "f", "revision": 3},
        "arguments": ["--limit", 3],
        "mount": "/opt/nuclio",
        "immutable": True,
        "interpreter": "/usr/bin/python3",
        "env": {"A": "1"},
        "models": "/models",
        "sdk_path": "/sdk",
        "allowed_hosts": ["models.example"],
        "neighbours": "/run",
        "grpc_packages": "/grpc",
        "triggers": {
            "c": {"kind": "cron"},
            "t": {
                "kind": "http",
                "num_workers": 4,
                "availability_timeout_ms": 0,
                "attributes": {"protocols": ["v2", "grpc"]},
            },
        },
        "event_timeout": 30,
        "readiness_timeout": 60.5,
        "accept": "when-ready",
        "restart": "no",
        "sleep": {"idle_timeout": 90, "level": "offload", "group": GROUP},
        "record": {"size": 1000, "age": 60, "folder": "/r"},
        "workers_per_device": 2,
        "drain_timeout": 5,
        "linger": 3,
        "listeners": {
            "http": {"fd": 3},
            "grpc": [{"fd": 4}, {"fd": 5}],
            "admin": {"host": "::1", "port": 1},
            "control": "/c",
        },
        "log": {"level": "warn", "format": "human"},
    }
    (tmp_path / "p.json").write_text(json.dumps(full))
    config = ProcessorConfig.from_file(str(tmp_path / "p.json"))
    assert (config.function["name"], config.mount, config.env) == ("f", "/opt/nuclio", {"A": "1"})
    assert (config.interpreter, config.sdk_path) == ("/usr/bin/python3", "/sdk")
    assert (config.neighbours, config.immutable, config.models) == ("/run", True, "/models")
    assert config.arguments == ["--limit", "3"]
    assert [trigger.kind for trigger in served_triggers(config)] == ["http", "cron"]
    assert config.triggers["t"].num_workers == 4
    assert config.triggers["t"].availability_timeout == 0
    assert (config.sleep.idle_timeout, config.sleep.offload) == (90, True)
    assert config.sleep.group == ("g", "/groups/g", 2, 100, 50, True, "3-17")
    assert config.record == (1000, 60.0, "/r")
    assert config.workers_per_device == 2
    assert (config.event_timeout, config.readiness_timeout, config.drain_timeout) == (30, 60.5, 5)
    assert (config.accept, config.restart, config.linger) == ("when-ready", "no", 3)
    assert [listener.fd for listener in config.http] == [3]
    assert [listener.fd for listener in config.grpc] == [4, 5]
    assert config.grpc_packages == "/grpc"
    assert config.allowed_hosts == ["models.example"]
    assert config.admin is not None
    assert (config.admin.host, config.admin.port, config.control) == ("::1", 1, "/c")
    assert (config.log_level, config.log_format) == ("warn", "human")
    documented = set(re.findall(r'^ {4}[ {]"(\w+)":', reader.__doc__ or "", re.M))
    assert set(full) == documented


def test_a_function_without_grpc_does_not_use_its_listener() -> None:
    trigger = {"kind": "http", "attributes": {"protocols": ["v1", "v2"]}}
    listeners = {"http": {"port": 8080}, "grpc": {"port": 8081}}
    config = ProcessorConfig({**LEAST, "triggers": {"t": trigger}, "listeners": listeners})
    assert config.grpc == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"handler": None}, "handler is missing"),
        ({"handler": 3}, "handler: 3 is not a str"),
        ({"listeners": {}}, "listeners.http is missing"),
        ({"listeners": {"http": {"port": "80"}}}, "listeners.http.port: '80' is not a int"),
        ({"listeners": {"http": {"port": 70000}}}, "70000 is not between 0 and 65535"),
        ({"accept": "later"}, "accept: 'later' is not one of immediately, when-ready"),
        ({"log": {"format": "x"}}, "log.format: 'x' is not one of auto, human, json"),
        ({"log": {"level": "loud"}}, 'log.level: "loud" is not one of debug, info, warn, error'),
        ({"triggers": {"t": {"num_workers": 0}}}, "triggers.t.num_workers: 0 is not between"),
        ({"triggers": {"t": {"num_workers": True}}}, "triggers.t.num_workers: True is not"),
        ({"triggers": {"t": 3}}, "triggers.t must be a JSON object"),
        ({"event_timeout": "30s"}, "event_timeout: '30s' is not a float"),
        ({"env": []}, "env: [] is not a dict"),
    ],
)
def test_errors_have_the_key_and_the_value(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigFileError) as caught:
        ProcessorConfig({**LEAST, **change})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is not JSON"), ("[]", "must be a JSON object")]
)
def test_files_that_are_not_a_configuration(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(ConfigFileError) as caught:
        ProcessorConfig.from_file(str(path))
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
