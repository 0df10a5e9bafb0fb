"""The objects that a function under KServe refers to, looked up before anything is sent.

KServe would report a missing one only by pods that never start.
"""

from __future__ import annotations

from collections.abc import Iterator

from fnbuild.errors import InputError, PreconditionError
from fnbuild.function.kserve_settings import KServeSettings, Model
from fnbuild.function.types import Function
from fnbuild.platforms.kserve.cluster_config import KServeConfig
from fnbuild.platforms.kserve.pod_fields import Mode
from fnbuild.platforms.kserve.selection import (
    ModelRequest,
    RuntimeNotFoundError,
    select_runtime,
)
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster, if_allowed
from fnbuild.runtime.storage.uris import URI_VARIABLE

_STORAGE_SECRET = "storage-config"  # noqa: S105 (a name, and KServe's)
_MOUNTED = ("pvc", "oci", "oci+native", "file")


def require_references(cluster: Cluster, function: Function, settings: KServeSettings) -> None:
    """Raise `PreconditionError` for a claim, an account or a Secret that does not exist."""
    namespace = function.metadata.namespace
    model = settings.model or Model()
    for account in filter(None, (function.spec.service_account, model.service_account)):
        if _is_missing(cluster, kinds.SERVICE_ACCOUNT, namespace, account):
            raise PreconditionError(
                f"spec.serviceAccount: there is no ServiceAccount {account} in namespace"
                f" {namespace}",
                hint="`fnbuild create storage-secret` creates one with credentials; public buckets"
                " need none",
            )
    for place, uri in _model_uris(function, model):
        scheme, separator, rest = uri.partition("://")
        claim = rest.partition("/")[0]
        if not separator or scheme != "pvc":
            continue
        if _is_missing(cluster, kinds.VOLUME_CLAIM, namespace, claim):
            raise PreconditionError(
                f"{place}: there is no PersistentVolumeClaim {claim} in namespace {namespace}",
                hint=f"`fnbuild create volume {claim}` creates one",
            )
    if model.storage is not None:
        _require_storage_entry(cluster, namespace, model.storage.key)


def _model_uris(function: Function, model: Model) -> Iterator[tuple[str, str]]:
    """Yield the storage URIs of models, each with its place.

    Raises `InputError` for two different ones of the same container.
    """
    setting = model.storage_uri
    if setting:
        yield "model.storageUri", setting
    for variable in function.spec.env:
        if variable.name != URI_VARIABLE:
            continue
        place = f"the variable {URI_VARIABLE}"
        if setting and not model.format and variable.value != setting:
            raise InputError(
                f"model.storageUri is {setting}, but {place} is {variable.value or 'a reference'}",
                hint="remove one of them: both name the function's model",
            )
        yield place, variable.value


def _is_missing(cluster: Cluster, kind: kinds.Kind, namespace: str, name: str) -> bool:
    """Return True if the object is known not to exist."""
    return if_allowed(lambda: cluster.get(kind, namespace, name) is None, False)


def _require_storage_entry(cluster: Cluster, namespace: str, key: str) -> None:
    """Raise `PreconditionError` if the storage's Secret has no entry for a model."""
    secret = if_allowed(lambda: cluster.get(kinds.SECRET, namespace, _STORAGE_SECRET), {})
    if secret is None:
        raise PreconditionError(
            f"model.storage: there is no Secret {_STORAGE_SECRET} in namespace {namespace}",
            hint="it describes the storage; `storageUri` needs none",
        )
    entries = (secret.get("data") or {}) if secret else {}
    is_default = any(name == "default" or name.startswith("default_") for name in entries)
    if entries and key not in entries and not (not key and is_default):
        raise PreconditionError(
            f"model.storage.key: Secret {_STORAGE_SECRET} has no entry {key or 'default'!r}",
            hint=f"it has {', '.join(sorted(entries))}",
        )


def explain_host(
    function: Function, settings: KServeSettings, config: KServeConfig, mode: Mode
) -> Iterator[str]:
    """Yield the host of the service, which follows from KServe's configuration."""
    is_service = settings.serving_runtime is None and not settings.inference_service
    # Knative has a template of its own.
    if config.is_read and is_service and mode == "Standard":
        metadata = function.metadata
        yield f"the host of the service is {config.host(metadata.namespace, metadata.name)}"


def explain_choices(
    cluster: Cluster, function: Function, settings: KServeSettings, config: KServeConfig
) -> Iterator[str]:
    """Yield the decisions that KServe makes for a model. Raises its errors in advance."""
    model = settings.model
    if settings.serving_runtime is not None or model is None or not model.format:
        return
    namespace = function.metadata.namespace
    request = ModelRequest(model.format, model.version, model.protocol_version or "", model.runtime)
    yield _explain_runtime(cluster, namespace, request)
    scheme = model.storage_uri.partition("://")[0]
    limits = ", ".join(f"{name} {quantity}" for name, quantity in config.initializer_limits)
    if limits and model.storage_uri and scheme not in _MOUNTED:
        yield (
            f"the model is downloaded by an init container with {limits}: these limits are KServe's"
            " own and apply to the whole cluster"
        )


def _explain_runtime(cluster: Cluster, namespace: str, request: ModelRequest) -> str:
    """Return the choice of a runtime, as far as this user may list the runtimes of the cluster."""
    namespaced = cluster.list(kinds.SERVING_RUNTIME, namespace)
    cluster_wide = if_allowed(lambda: cluster.list(kinds.CLUSTER_SERVING_RUNTIME, None), None)
    try:
        return select_runtime(request, namespaced, cluster_wide or []).explanation
    except RuntimeNotFoundError:
        if cluster_wide is not None:
            raise
    target = request.runtime or f"that takes the format {request.description}"
    return (
        f"there is no ServingRuntime {target} in namespace {namespace}: KServe looks for a"
        " ClusterServingRuntime, which this account may not list"
    )
