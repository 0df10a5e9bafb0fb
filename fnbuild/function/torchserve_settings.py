"""The settings of a function for TorchServe: `spec.platform.attributes.torchserve`.

Settings that function.yaml has already (replicas, resources, variables, workers, batches …) are not
repeated here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from msgspec import field

from fnbuild.errors import InputError
from fnbuild.function.platform_attributes import (
    Count,
    PlatformAttribute,
    Port,
    PositiveCount,
    SettingProblem,
    Settings,
)
from fnbuild.function.types import Function

DEFAULT_BASE_IMAGE = "pytorch/torchserve:0.12.0-cpu"
CLAIM_SCHEME = "pvc://"


class TorchServePorts(Settings, frozen=True):
    """The ports of a server. On this machine they are free ones if they are not set."""

    inference: Port | None = None
    """The port of predictions; in a cluster 8082."""
    management: Port | None = None
    """The port of the management API; in a cluster 8083."""
    metrics: Port | None = None
    """The port of the metrics; in a cluster 8084."""


class TorchServeSettings(Settings, frozen=True):
    """The settings of a function for TorchServe, on this machine and in a cluster.

    `loadModels: active` serves the deployed version as /predictions/NAME, `all` serves each archive
    of the store as /predictions/NAME_VERSION.
    """

    base_image: str = ""
    """The image with TorchServe and Java; pytorch/torchserve:0.12.0-cpu by default."""
    python: str = ""
    """The interpreter with torchserve on this machine; its path may be relative to the folder."""
    store: str = ""
    """The model store: a folder, or pvc://CLAIM/PATH in a cluster."""
    store_mount: str = ""
    """The local folder at which that claim is mounted, as in a step of a pipeline."""
    keep: PositiveCount = 3
    """The number of archives to keep in the store; older ones move to a backup beside it."""
    ports: TorchServePorts = field(default_factory=TorchServePorts)
    """The ports of the server."""
    service_type: Literal["LoadBalancer", "NodePort", "ClusterIP"] = "LoadBalancer"
    """The type of the Service in a cluster."""
    expose_management: bool = False
    """Add the management port to that Service."""
    tokens: bool = True
    """Require a token for each request. Without tokens, no models can be registered."""
    batch_size: PositiveCount = 1
    """The maximum number of requests in a batch."""
    max_batch_delay: Count = 100
    """The time in milliseconds that a batch waits for its requests."""
    model_tree: bool = False
    """Serve the archives in model-store/ by config/config.properties, instead of code."""
    load_models: Literal["active", "all"] = "active"
    """Serve the deployed version only, or all archives in the store."""
    deployment_name: str = ""
    """The name of the Deployment; the function's by default."""
    service_name: str = ""
    """The name of the Service; the function's by default."""


def torchserve_settings(function: Function) -> TorchServeSettings:
    """Return the settings. Raises `InputError` with the place of the first invalid one."""
    return ATTRIBUTE.read(function)


def resolve_python(function: Function, folder: Path) -> None:
    """Make the path of the interpreter absolute, which may be relative to the folder."""
    settings: Any = function.spec.platform.attributes.get(ATTRIBUTE.name)
    python = settings.get("python") if isinstance(settings, dict) else None
    if isinstance(python, str) and "/" in python and not python.startswith("~"):
        settings["python"] = str(folder.absolute() / python)


def serves_tree(function: Function) -> bool:
    """Return True if the folder of the function is a model tree, which has no code of its own."""
    try:
        return torchserve_settings(function).model_tree
    except InputError:
        return False


def _contradictions(settings: TorchServeSettings) -> Iterator[SettingProblem]:
    is_claim = settings.store.startswith(CLAIM_SCHEME)
    if is_claim and not settings.store.removeprefix(CLAIM_SCHEME).partition("/")[0]:
        yield SettingProblem(("store",), "the store names no claim", "as in `pvc://CLAIM/PATH`")
    elif not is_claim and "://" in settings.store:
        message = f"TorchServe cannot serve models from {settings.store}"
        yield SettingProblem(("store",), message, "a store is a folder or `pvc://CLAIM/PATH`")
    if settings.store_mount and not is_claim:
        message = "storeMount has no effect without a claim"
        yield SettingProblem(("storeMount",), message, "add `store: pvc://CLAIM`, or remove it")
    seen: dict[int, str] = {}
    ports = settings.ports
    for name, port in (
        ("inference", ports.inference),
        ("management", ports.management),
        ("metrics", ports.metrics),
    ):
        if port is not None and (other := seen.setdefault(port, name)) != name:
            message = f"port {port} is that of {other} as well"
            hint = "with one port for both, TorchServe does not find versions of models"
            yield SettingProblem(("ports", name), message, hint)


ATTRIBUTE = PlatformAttribute("torchserve", "TorchServe", TorchServeSettings, _contradictions)
