"""The configuration of a server that serves a function, as `config.properties`.

A function is code, which is packed as an archive, or a tree of archives and a configuration
(`modelTree`), which servers load as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from fnbuild.bridges.torchserve.archive import read_manifest
from fnbuild.bridges.torchserve.export import model_config, snapshot_settings
from fnbuild.bridges.torchserve.model_store import (
    CONFIG_PATH,
    STORE_NAME,
    ModelTree,
    loaded_files,
    require_servable,
)
from fnbuild.bridges.torchserve.server_config import ServerConfig, parse
from fnbuild.errors import InputError
from fnbuild.function.torchserve_settings import torchserve_settings
from fnbuild.function.types import Function
from fnbuild.runtime.http.messages import ConnectionLimits

# Ten years: the tokens are in a file that only the owner of the server can read, who could renew
# them as well.
_TOKEN_LIFETIME = {"token_expiration_min": str(10 * 366 * 24 * 60)}


class ServedModel(NamedTuple):
    """A model as clients call it: its name, its version, and its file in the model store."""

    name: str
    version: str
    file: str


class ServerPorts(NamedTuple):
    """The ports of a server."""

    inference: int
    management: int
    metrics: int
    grpc_inference: int = 7070
    grpc_management: int = 7071


# Code


def served_model(function: Function, file: str) -> ServedModel:
    """Return the model that serves the function from its archive NAME_VERSION.mar.

    With `loadModels: all` its name is that in the archive.
    """
    name, archived = function.metadata.name, file.removesuffix(".mar")
    serves_all = torchserve_settings(function).load_models == "all"
    return ServedModel(archived if serves_all else name, archived.removeprefix(f"{name}_"), file)


def server_config(
    function: Function, served: ServedModel, ports: ServerPorts, store: str, host: str
) -> ServerConfig:
    """Return the configuration of a server on this host for the model of the function."""
    serves_all = torchserve_settings(function).load_models == "all"
    model = snapshot_settings(model_config(function), served.file)
    trigger = function.http_trigger()
    size = trigger[1].attributes.get("maxRequestBodySize") if trigger is not None else None
    body_size = int(size or ConnectionLimits().max_body)
    return ServerConfig(
        **_access(function, host, ports),
        default_workers_per_model=model.min_workers,
        default_response_timeout=int(model.response_timeout or 0),
        max_request_size=body_size,
        max_response_size=body_size,
        install_py_dep_per_model=True,
        model_store=store,
        load_models="all" if serves_all else "",
        snapshot={} if serves_all else {served.name: {served.version: model}},
        other=_TOKEN_LIFETIME,
    )


def _access(function: Function, host: str, ports: ServerPorts) -> dict[str, Any]:
    """Return the settings by which clients reach a server.

    With tokens, the model API is on: deploys register archives while requests are served.
    """
    has_tokens = torchserve_settings(function).tokens
    tokens = {"disable_token_authorization": not has_tokens, "enable_model_api": has_tokens}
    return addresses(host, ports) | tokens


def addresses(host: str, ports: ServerPorts) -> dict[str, Any]:
    """Return the settings with the addresses and ports of a server."""
    return {
        "inference_address": f"http://{host}:{ports.inference}",
        "management_address": f"http://{host}:{ports.management}",
        "metrics_address": f"http://{host}:{ports.metrics}",
        "grpc_inference_port": ports.grpc_inference,
        "grpc_management_port": ports.grpc_management,
    }


# Trees


def tree_models(first: str, tree: Path) -> tuple[ServedModel, ...]:
    """Return the models of a tree, beginning with the one of the name `first`, if there is one."""
    path = tree / CONFIG_PATH
    models = [
        ServedModel(name or model.model_name, model.model_version, file)
        for name, file, _ in loaded_files(parse(path.read_text(), str(path)), ModelTree(path))
        for model in [read_manifest(tree / STORE_NAME / file).model]
    ]
    if not models:
        raise InputError(
            f"{CONFIG_PATH} names no models, so that TorchServe would serve none",
            hint="`load_models=all` loads the archives of the store",
        )
    return tuple(sorted(models, key=lambda model: model.name != first))


def tree_config(
    function: Function, tree: Path, ports: ServerPorts, host: str, folder: Path | None = None
) -> ServerConfig:
    """Return the configuration of a server on this host, which sees the tree at `folder`."""
    path = tree / CONFIG_PATH
    config = parse(ModelTree(path).local_config({}, folder), str(path))
    other = config.other | _TOKEN_LIFETIME
    access = _access(function, host, ports)
    return replace(config, **access, metrics_mode="prometheus", other=other)


def tree_warnings(tree: Path) -> tuple[str, ...]:
    """Check a tree of archives. Raises `ConfigError` if TorchServe cannot serve it."""
    report = require_servable(tree / CONFIG_PATH)
    tree_models("", tree)
    return tuple(
        f"{item.message} (line {item.span.line})" if item.span else item.message
        for item in report.warnings
        if not item.rule.startswith("kserve-")
    )
