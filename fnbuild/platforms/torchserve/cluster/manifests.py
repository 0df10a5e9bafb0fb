"""The objects of a function in a cluster: a Deployment of TorchServe servers and its Services."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import msgspec

from fnbuild.bridges.torchserve.model_store import STORE_NAME
from fnbuild.bridges.torchserve.server_config import render
from fnbuild.builder.processor_settings import event_seconds
from fnbuild.function.torchserve_settings import (
    CLAIM_SCHEME,
    DEFAULT_BASE_IMAGE,
    TorchServeSettings,
)
from fnbuild.function.types import Raw, Spec
from fnbuild.names import FUNCTION_LABEL, PROJECT_LABEL
from fnbuild.platforms import Manifest
from fnbuild.platforms.kubeclient.kinds import DEPLOYMENT, SERVICE
from fnbuild.platforms.kubeclient.object_names import validate_name
from fnbuild.platforms.kubeclient.ownership import MANAGED_BY, MANAGER, RECOMMENDED_PREFIX
from fnbuild.platforms.kubeclient.pod_fields import container_fields, pod_fields
from fnbuild.platforms.settings import GPU_RESOURCE, requested_port
from fnbuild.platforms.storage.claims import ClaimFolder
from fnbuild.platforms.torchserve.cluster.records import RevisionRecord
from fnbuild.platforms.torchserve.configuration import (
    ServerPorts,
    served_model,
    server_config,
)
from fnbuild.platforms.torchserve.server_log import LOG_CONFIG
from fnbuild.runtime.torchserve import pod_commands

CONTAINER = "torchserve"
STORE_MOUNT = "/home/model-server/shared"
ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 - of a pod
APP_LABEL = "app"
VERSION_LABEL = f"{RECOMMENDED_PREFIX}/version"
RESTART_ANNOTATION = "fnbuild.io/restarted"
"""An annotation of the pods: a new value restarts them."""

DEFAULT_REPLICAS = 2
_DEFAULT_STORE = f"{CLAIM_SCHEME}serving-model-pvc"
_RUN_FOLDER = "/var/run/torchserve"
_KEY_FILE = f"{_RUN_FOLDER}/key_file.json"
_COMMANDS_VARIABLE = "FNBUILD_POD_COMMANDS"
_MANAGEMENT = "-management"
_DEFAULT_LIMITS = {"cpu": "1", "memory": "4Gi"}
_DEFAULT_REQUESTS = {"cpu": "1", "memory": "1Gi"}
_DEFAULT_RESPONSE_SECONDS = 120.0
_LINGER_SECONDS = 5
_STOP_MARGIN_SECONDS = 10
_PROBE_SECONDS = 5
_PROBE_TIMEOUT_SECONDS = 10
"""A node where new pods start is slow; an old pod that counts as unready then gets no requests."""


def object_name(record: RevisionRecord) -> str:
    """Return the name of the Deployment, which is also the value of the label `app`."""
    return record.settings.deployment_name or record.name


def service_name(record: RevisionRecord) -> str:
    return record.settings.service_name or record.name


def validate_names(record: RevisionRecord) -> None:
    """Raise `InputError` unless the objects can have the names of the function and its settings."""
    validate_name("function name", record.name, f"{CONTAINER}-{record.name}")
    validate_name("deploymentName", object_name(record))
    validate_name("serviceName", service_name(record), f"{service_name(record)}{_MANAGEMENT}")


def store_location(record: RevisionRecord) -> ClaimFolder:
    """Return the claim of the model store, and the folder in it."""
    location = (record.settings.store or _DEFAULT_STORE).removeprefix(CLAIM_SCHEME)
    claim, _, path = location.partition("/")
    return ClaimFolder(record.namespace, claim, path.strip("/"))


def server_ports(settings: TorchServeSettings) -> ServerPorts:
    ports = settings.ports
    return ServerPorts(ports.inference or 8082, ports.management or 8083, ports.metrics or 8084)


def config_file(record: RevisionRecord) -> tuple[str, str]:
    """Return the path of the server's configuration in the store, and its content.

    Each content has a file of its own: pods that start again find what they started with.
    """
    text = record.server_config
    if not text:
        served = served_model(record.function, record.archives[0])
        ports = server_ports(record.settings)
        store = f"{STORE_MOUNT}/{STORE_NAME}"
        config = server_config(record.function, served, ports, store, ALL_ADDRESSES)
        loaded = ",".join(record.loaded) or config.load_models
        text = render(msgspec.structs.replace(config, load_models=loaded))
    return f"config/{record.name}-{_digest(text)}.properties", text


def log_config_file() -> tuple[str, str]:
    """Return the path of the configuration of the server's log, and its content."""
    return f"config/log4j2-{_digest(LOG_CONFIG)}.xml", LOG_CONFIG


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def render_objects(record: RevisionRecord, pull_secret: str = "") -> list[Manifest]:
    """Return the Deployment, and the Services in front of its pods."""
    return [render_deployment(record, pull_secret), *render_services(record)]


def render_deployment(record: RevisionRecord, pull_secret: str) -> Manifest:
    spec, name = record.function.spec, object_name(record)
    replicas = replica_count(spec)
    labels = {APP_LABEL: name, VERSION_LABEL: record.version}
    pod_labels = {**labels, FUNCTION_LABEL: record.name}
    template: Raw = {"metadata": {"labels": pod_labels}, "spec": _pod(record, pull_secret)}
    if record.stamp:
        template["metadata"]["annotations"] = {RESTART_ANNOTATION: record.stamp}
    # One replica has no other that could serve meanwhile.
    update = {"maxSurge": 1, "maxUnavailable": 1 if replicas > 1 else 0}
    strategy = {"type": "RollingUpdate", "rollingUpdate": update}
    content = {
        "replicas": replicas,
        "selector": {"matchLabels": {APP_LABEL: name}},
        "strategy": spec.deployment_strategy or strategy,
        "template": template,
    }
    return DEPLOYMENT.manifest(_metadata(record, name, labels), spec=content)


def replica_count(spec: Spec) -> int:
    if spec.disable:
        return 0
    return spec.replicas if spec.replicas is not None else spec.min_replicas or DEFAULT_REPLICAS


def _metadata(record: RevisionRecord, name: str, labels: dict[str, str]) -> Raw:
    own = {FUNCTION_LABEL: record.name, PROJECT_LABEL: record.function.project, MANAGED_BY: MANAGER}
    return {"name": name, "namespace": record.namespace, "labels": {**labels, **own}}


def _pod(record: RevisionRecord, pull_secret: str) -> Raw:
    spec, store = record.function.spec, store_location(record)
    seconds = math.ceil(event_seconds(record.function) or _DEFAULT_RESPONSE_SECONDS)
    pod = pod_fields(spec, pull_secret)
    claim = {"name": "store", "persistentVolumeClaim": {"claimName": store.claim}}
    pod["volumes"] = [claim, {"name": "run", "emptyDir": {}}, *pod.get("volumes", ())]
    mount = {"name": "store", "mountPath": STORE_MOUNT}
    if store.path:
        mount["subPath"] = store.path
    container = container_fields(spec) | _server(record, seconds)
    container["resources"] = _resources(spec)
    container["env"] = [
        {"name": _COMMANDS_VARIABLE, "value": Path(pod_commands.__file__).read_text()},
        {"name": pod_commands.BUSY_LOCK_VARIABLE, "value": f"{_RUN_FOLDER}/busy.lock"},
        *container["env"],
    ]
    run_mount = {"name": "run", "mountPath": _RUN_FOLDER}
    container["volumeMounts"] = [mount, run_mount, *container.get("volumeMounts", ())]
    return pod | {
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _LINGER_SECONDS + seconds + _STOP_MARGIN_SECONDS,
        "containers": [container],
    }


def _server(record: RevisionRecord, seconds: int) -> Raw:
    """Return the container's fields that make it a server."""
    ports = server_ports(record.settings)
    # Its directory gets the tokens and the log files.
    arguments = ["torchserve", "--start", "--foreground", "--ncs"]
    arguments += ["--model-store", f"{STORE_MOUNT}/{STORE_NAME}/"]
    arguments += ["--ts-config", f"{STORE_MOUNT}/{config_file(record)[0]}"]
    arguments += ["--log-config", f"{STORE_MOUNT}/{log_config_file()[0]}"]
    # Archives of other tools do not say when they are busy.
    watched = ports.inference if record.server_config else 0
    end = pod_command(record, "end", str(_LINGER_SECONDS), str(seconds), str(watched))
    probe = {
        "exec": {"command": pod_command(record, "ready", *record.models)},
        "periodSeconds": _PROBE_SECONDS,
        "timeoutSeconds": _PROBE_TIMEOUT_SECONDS,
    }
    return {
        "name": CONTAINER,
        "image": base_image(record.settings),
        "imagePullPolicy": record.function.spec.image_pull_policy or "Always",
        # The image's entry point would go on without TorchServe.
        "command": ["/usr/bin/env"],
        "args": arguments,
        "workingDir": _RUN_FOLDER,
        "ports": [
            {"name": "ts", "containerPort": ports.inference, "protocol": "TCP"},
            {"name": "ts-management", "containerPort": ports.management, "protocol": "TCP"},
            {"name": "ts-metrics", "containerPort": ports.metrics, "protocol": "TCP"},
        ],
        "readinessProbe": probe,
        "lifecycle": {"preStop": {"exec": {"command": end}}},
        "securityContext": {"allowPrivilegeEscalation": False},
    }


def base_image(settings: TorchServeSettings) -> str:
    return settings.base_image or DEFAULT_BASE_IMAGE


def pod_command(record: RevisionRecord, *arguments: str) -> list[str]:
    """Return the command for one of the `pod_commands` in a pod of the function."""
    code = f"import os; exec(os.environ['{_COMMANDS_VARIABLE}'])"
    port = str(server_ports(record.settings).management)
    return ["python3", "-I", "-S", "-c", code, _KEY_FILE, port, *arguments]


def _resources(spec: Spec) -> Raw:
    limits = {**_DEFAULT_LIMITS, **spec.resources.limits}
    if limits.get(GPU_RESOURCE) in ("0", 0):
        del limits[GPU_RESOURCE]
    return {"limits": limits, "requests": {**_DEFAULT_REQUESTS, **spec.resources.requests}}


def render_services(record: RevisionRecord) -> list[Manifest]:
    """Return the Service for clients, and one for the management port unless it is exposed."""
    settings, name = record.settings, service_name(record)
    ports = server_ports(settings)
    management = _port("mdl", ports.management, "ts-management")
    listed = [_port("preds", ports.inference, "ts")]
    if settings.expose_management:
        listed.append(management)
    listed.append(_port("metrics", ports.metrics, "ts-metrics"))
    service_type = record.function.spec.service_type or settings.service_type
    if service_type != "ClusterIP" and (number := requested_port(record.function)):
        listed[0]["nodePort"] = number
    services = [_service(record, name, service_type, listed)]
    if not settings.expose_management:
        services.append(_service(record, f"{name}{_MANAGEMENT}", "ClusterIP", [management]))
    return services


def _port(name: str, number: int, target: str) -> Raw:
    return {"name": name, "port": number, "targetPort": target, "protocol": "TCP"}


def _service(record: RevisionRecord, name: str, service_type: str, ports: list[Raw]) -> Manifest:
    app = object_name(record)
    spec = {"type": service_type, "selector": {APP_LABEL: app}, "ports": ports}
    return SERVICE.manifest(_metadata(record, name, {APP_LABEL: app}), spec=spec)
