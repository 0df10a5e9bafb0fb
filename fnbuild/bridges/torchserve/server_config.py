"""The configuration of a TorchServe server: the file `config.properties`, as typed values."""

from __future__ import annotations

import json
import os
import re
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType, field

from fnbuild.bridges.torchserve.properties import parse_properties, render_property
from fnbuild.errors import InputError

CONFIG_NAME = "config.properties"
SNAPSHOT_KEY = "model_snapshot"
JSON_KEYS = frozenset((SNAPSHOT_KEY, "models"))
ADDRESS_KEYS = ("inference_address", "management_address", "metrics_address")

_KEYS = tomllib.loads(Path(__file__).with_name("config_keys.toml").read_text())
BOOLEAN_KEYS = frozenset(_KEYS["booleans"])
NUMBER_KEYS = frozenset(_KEYS["numbers"])
KNOWN_KEYS = BOOLEAN_KEYS | NUMBER_KEYS | frozenset(_KEYS["texts"])
"""The keys that TorchServe 0.12 or its start script reads; others have no effect."""
IMPORTED_KEYS = frozenset(_KEYS["imported"])
"""The keys that select models, or have a counterpart in functions."""
RENAMED_KEYS: dict[str, str] = _KEYS["renamed"]
REMEDIES: dict[str, str] = _KEYS["remedies"]
"""Remedies for unknown keys without a counterpart."""

VARIABLE = re.compile(r"\$\$([^$]+[^$])\$\$")
"""A variable in a value, which TorchServe replaces from its environment."""

_ADDRESS = re.compile(r"https?://(?P<host>[^:/^]+)(?::(?P<port>[0-9]+))?|unix:/.*", re.IGNORECASE)


class ModelSettings(msgspec.Struct, kw_only=True, frozen=True, rename="camel"):
    """The settings of one version of a model in `model_snapshot`; times in ms and seconds.

    Without one of the first six, the server ends with a NullPointerException at its start.
    """

    default_version: bool
    mar_name: str
    min_workers: int
    max_workers: int
    batch_size: int
    max_batch_delay: int
    response_timeout: int | UnsetType = UNSET
    startup_timeout: int | UnsetType = UNSET
    runtime_type: str | UnsetType = UNSET
    parallel_level: int | UnsetType = UNSET


class _Snapshot(msgspec.Struct):
    models: dict[str, dict[str, ModelSettings]]


class ServerConfig(msgspec.Struct, kw_only=True, frozen=True):
    """The settings of a server. Fields have the names and defaults of TorchServe's keys.

    The exception is `metrics_mode`: TorchServe's own is `log`, with which its metrics are empty.
    `snapshot` is `model_snapshot`: the models to load, by name and version. `other` has the keys
    that are not fields.
    """

    inference_address: str = "http://127.0.0.1:8080"
    management_address: str = "http://127.0.0.1:8081"
    metrics_address: str = "http://127.0.0.1:8082"
    grpc_inference_port: int = 7070
    grpc_management_port: int = 7071
    metrics_mode: str = "prometheus"
    job_queue_size: int = 100
    default_workers_per_model: int = 0
    default_response_timeout: int = 120
    max_request_size: int = 6553500
    max_response_size: int = 6553500
    install_py_dep_per_model: bool = False
    disable_token_authorization: bool = False
    enable_model_api: bool = False
    service_envelope: str = ""
    model_store: str = ""
    load_models: str = ""
    snapshot: dict[str, dict[str, ModelSettings]] = field(default_factory=dict)
    other: dict[str, str] = field(default_factory=dict)

    def port(self, key: str) -> int:
        """Return the port of an address, such as `inference_address`."""
        return address_port(key, getattr(self, key)) or 0


_FIELDS = {item.name: item for item in msgspec.structs.fields(ServerConfig)}
_SPECIAL_FIELDS = ("snapshot", "other")
_ALWAYS_WRITTEN = (*ADDRESS_KEYS, "metrics_mode", "job_queue_size")


def render(config: ServerConfig) -> str:
    """Return the text of the file; a snapshot is one line, as KServe's server needs it."""
    lines = []
    for name, item in _FIELDS.items():
        value = getattr(config, name)
        if name not in _SPECIAL_FIELDS and (name in _ALWAYS_WRITTEN or value != item.default):
            lines.append(render_property(name, str(value).lower() if value is True else str(value)))
    lines += [render_property(key, value) for key, value in config.other.items()]
    if models := msgspec.to_builtins(config.snapshot):
        snapshot = {"name": "startup.cfg", "modelCount": len(models), "models": models}
        lines.append(render_property(SNAPSHOT_KEY, json.dumps(snapshot)))
    return "".join(f"{line}\n" for line in lines)


def parse(text: str, file: str = CONFIG_NAME) -> ServerConfig:
    """Return the configuration in a text. Raises `InputError` for a wrong value.

    Variables stay in texts, such as passwords and paths; other values need those of this process.
    """
    values: dict[str, Any] = {"metrics_mode": "log", "other": {}}
    for item in parse_properties(text):
        value = item.value
        if item.key in BOOLEAN_KEYS | NUMBER_KEYS | JSON_KEYS:
            value = VARIABLE.sub(partial(_variable_value, file, item.key), value)
        if item.key in BOOLEAN_KEYS & set(_FIELDS):
            values[item.key] = value.lower() == "true"
        elif item.key in _FIELDS:
            values[item.key] = value
        else:
            values["other"][item.key] = value
    try:
        if snapshot := values["other"].pop(SNAPSHOT_KEY, None):
            values["snapshot"] = msgspec.json.decode(snapshot, type=_Snapshot).models
        return msgspec.convert(values, ServerConfig, strict=False)
    except msgspec.MsgspecError as error:
        raise InputError(f"{file}: {error}", hint="`fnbuild validate` names the line") from None


def _variable_value(file: str, key: str, match: re.Match[str]) -> str:
    if (value := os.environ.get(match[1])) is None:
        raise InputError(
            f"{file}: {key} needs the environment variable {match[1]}, which is not set",
            hint=f"set {match[1]} as for the server, or write its value",
        )
    return value


def is_number(value: str) -> bool:
    """Return True for a number as Java's `Integer.parseInt` reads it."""
    return bool(re.fullmatch(r"[+-]?[0-9]{1,10}", value))


def address_port(key: str, address: str) -> int | None:
    """Return the port of an address; 0 for a socket's path, None if TorchServe cannot read it."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        return None
    if match["host"] is None:
        return 0
    if match["port"] is None:
        default = 8443 if address.lower().startswith("https") else 8080
        return default + ADDRESS_KEYS.index(key)
    return int(match["port"]) if int(match["port"]) < 65535 else None


def address_host(address: str) -> str:
    """Return the host of an address; "" for a socket's path."""
    match = _ADDRESS.fullmatch(address)
    return (match["host"] or "") if match else ""
