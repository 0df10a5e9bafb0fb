"""The serving runtime of a function: its image, for models in the formats that it supports."""

from __future__ import annotations

from fnbuild.function.kserve_settings import (
    KServeSettings,
    RuntimeSettings,
    SupportedFormat,
    kserve_settings,
)
from fnbuild.function.types import Raw
from fnbuild.names import PROCESSOR_PATH
from fnbuild.platforms import Manifest
from fnbuild.platforms.kserve.identity import (
    HTTP_PORT,
    NAMESPACE_LABEL,
    SERVER_TYPE_ANNOTATION,
    SERVING_CONTAINER,
    object_labels,
    qualified_annotations,
)
from fnbuild.platforms.kserve.pod_fields import (
    container_fields,
    names_model,
    processor_variable,
    readiness_probe,
)
from fnbuild.platforms.kserve.revision_record import RevisionRecord
from fnbuild.platforms.kubeclient.kinds import CLUSTER_SERVING_RUNTIME, SERVING_RUNTIME
from fnbuild.platforms.kubeclient.pod_fields import pod_volumes

# KServe fills in the name of the InferenceService. Without it, the server calls every model
# `model`, and neither URLs nor transformers find it.
_NAME_ARGUMENT = "--model_name={{.Name}}"
_DEFAULT_ARGUMENTS = ("--model_dir=/mnt/models", f"--http_port={HTTP_PORT}")


def render_runtime(record: RevisionRecord, runtime: RuntimeSettings, pull_secret: str) -> Manifest:
    """Return the ServingRuntime, or the ClusterServingRuntime, of a revision."""
    function = record.function
    annotations = qualified_annotations(function.metadata.annotations.items())
    if runtime.server_type:
        annotations[SERVER_TYPE_ANNOTATION] = runtime.server_type
    metadata: Raw = {"name": function.metadata.name, "labels": object_labels(function)}
    if annotations:
        metadata["annotations"] = annotations
    spec: Raw = {"supportedModelFormats": [_format(item) for item in runtime.formats]}
    if runtime.protocol_versions:
        spec["protocolVersions"] = list(runtime.protocol_versions)
    if runtime.disabled or function.spec.disable:
        spec["disabled"] = True
    spec |= _pod_settings(record, pull_secret)
    spec["containers"] = [_container(record)]
    if runtime.cluster:
        metadata["labels"][NAMESPACE_LABEL] = record.namespace
        return CLUSTER_SERVING_RUNTIME.manifest(metadata, spec=spec)
    return SERVING_RUNTIME.manifest({**metadata, "namespace": record.namespace}, spec=spec)


def _format(item: SupportedFormat) -> Raw:
    content: Raw = {"name": item.name}
    if item.version:
        content["version"] = item.version
    content["autoSelect"] = item.auto_select
    if item.priority is not None:
        content["priority"] = item.priority
    return content


def _container(record: RevisionRecord) -> Raw:
    settings = kserve_settings(record.function)
    container: Raw = {"name": SERVING_CONTAINER, "image": record.image_reference}
    if command := [PROCESSOR_PATH] if record.is_built else settings.command:
        container["command"] = list(command)
    container["args"] = _arguments(record, settings)
    # The mode is that of the services, and both of them accept these fields.
    container |= container_fields(record.function.spec, "Standard")
    if record.is_built:
        variable = processor_variable(record)
        # KServe would take two braces for the start of a template.
        variable["value"] = variable["value"].replace("{{", "{\\u007b")
        container["env"].append(variable)
    if not container["env"]:
        del container["env"]
    if settings.readiness_path:
        container["readinessProbe"] = readiness_probe(settings.readiness_path)
    return container


def _arguments(record: RevisionRecord, settings: KServeSettings) -> list[str]:
    if settings.args is None:
        return [_NAME_ARGUMENT, *_DEFAULT_ARGUMENTS]
    # A server that is not of KServe's kind may refuse other arguments.
    if not record.is_built or names_model(settings.args):
        return list(settings.args)
    return [_NAME_ARGUMENT, *settings.args]


def _pod_settings(record: RevisionRecord, pull_secret: str) -> Raw:
    spec = record.function.spec
    secret = spec.image_pull_secrets or pull_secret
    settings: Raw = {
        "imagePullSecrets": [{"name": secret}] if secret else [],
        "nodeSelector": dict(spec.node_selector),
        "affinity": spec.affinity,
        "tolerations": spec.tolerations,
        "hostIPC": spec.host_ipc,
        "volumes": pod_volumes(spec),
    }
    return {name: value for name, value in settings.items() if value}
