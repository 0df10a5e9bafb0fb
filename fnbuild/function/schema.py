"""The JSON Schema (2020-12) of function.yaml, for editors and other tools.

`python -m fnbuild.function.schema FILE` writes it; without FILE it is printed.
"""

from __future__ import annotations

import json
import sys
import types
import typing
from pathlib import Path
from typing import Any

import msgspec

from fnbuild.function.function_rules import MAX_NAME_LENGTH
from fnbuild.function.labels import FUNCTION_KINDS
from fnbuild.function.trigger_rules import MAX_WORKERS, SERVICE_TYPES
from fnbuild.function.types import Function, Resources, Struct

ANNOTATION_DESCRIPTIONS = {
    "name": "CVAT: the name that annotators see.",
    "type": "CVAT: the kind of the function.",
    "spec": "CVAT: the labels of a detector, as JSON text: a list of objects with a name.",
    "version": "CVAT: the version of the function's interface; it should be 2 for interactors.",
    "min_pos_points": "CVAT: the minimum of positive clicks before an interactor is called.",
    "min_neg_points": "CVAT: the minimum of negative clicks of an interactor; -1 disables them.",
    "startswith_box": 'CVAT: any non-empty text asks for a box first, even "false".',
    "startswith_box_optional": 'CVAT: any non-empty text offers a box, even "false".',
    "help_message": "CVAT: the text of an interactor's tooltip.",
    "animated_gif": "CVAT: the address of an image that shows how to use an interactor.",
    "supported_shape_types": "CVAT: the shapes that a tracker follows, separated by commas.",
    "framework": "The framework of the model, for information.",
}

_FUNCTION_KEYS = {
    "metadata": "Name, namespace, labels and annotations of the function.",
    "spec": "The code of the function and how it runs.",
    "status": "The state of a running function; ignored in a file.",
}

_METADATA_KEYS = {
    "name": "The name of the function: letters, digits, '-', '_' and '.'.",
    "namespace": "The namespace; the setting of the command line overrides it.",
    "labels": "Labels; nuclio.io/project-name names the project.",
    "annotations": "Annotations; CVAT reads its settings from them.",
    "resourceVersion": "The version that an update replaces.",
}

_SPEC_KEYS = {
    "description": "A description in one line; CVAT shows it.",
    "handler": "The entry point as module:function, such as main:handler.",
    "runtime": "The Python version, as python:3.9; any from 3.6 on.",
    "env": "Environment variables: a list of name and value.",
    "envFrom": "Kubernetes sources of environment variables.",
    "resources": "Limits and requests of CPU, memory and GPUs.",
    "image": "An existing image to run; nothing is built then.",
    "imageHash": "An identifier of the deploy, set by the platform.",
    "replicas": "A fixed number of replicas.",
    "minReplicas": "The minimum number of replicas; 0 scales to zero.",
    "maxReplicas": "The maximum number of replicas.",
    "targetCPU": "The target CPU load for scaling, in percent.",
    "dataBindings": "Data sources by name; not used by Python functions.",
    "triggers": "The triggers of the function by name; at most one of kind http.",
    "volumes": "Kubernetes volumes, each with its volumeMount.",
    "version": "Has no effect.",
    "alias": "Has no effect.",
    "build": "How the image or the environment is built.",
    "runRegistry": "The registry that images are pulled from.",
    "imagePullSecrets": "The name of the secret for pulling images.",
    "runtimeAttributes": "Settings of other runtimes; not used by Python functions.",
    "loggerSinks": "Destinations and levels of the logs.",
    "platform": "Settings of the platform.",
    "readinessTimeoutSeconds": "The time that a deploy waits for the function to become ready.",
    "waitReadinessTimeoutBeforeFailure": "Continue to wait for readiness after a crash.",
    "serviceType": "The kind of Kubernetes service.",
    "imagePullPolicy": "When Kubernetes pulls the image.",
    "securityContext": "The Kubernetes security context of the pod.",
    "serviceAccount": "The Kubernetes service account.",
    "scaleToZero": "The conditions for scaling to zero.",
    "autoScaleMetrics": "Metrics for scaling.",
    "customScalingMetricSpecs": "Metrics in the format of the Kubernetes autoscaler.",
    "disableDefaultHTTPTrigger": "Do not add a default http trigger.",
    "disableSensitiveFieldsMasking": "Do not mask secrets in the configuration.",
    "devices": "Devices that are available in the container.",
    "affinity": "The Kubernetes affinity of the pod.",
    "nodeSelector": 'Labels of the nodes that may run the function, such as gpu: "true".',
    "nodeName": "The node that runs the function.",
    "tolerations": "Taints that the pod tolerates.",
    "priorityClassName": "The Kubernetes priority class.",
    "preemptionPolicy": "The Kubernetes preemption policy.",
    "preemptionMode": "Whether the function may run on preemptible nodes.",
    "deploymentStrategy": "How Kubernetes replaces pods.",
    "hostIPC": "Share the node's IPC namespace with the pod.",
    "eventTimeout": "The time limit of an event, such as 30s; none by default.",
    "sidecars": "Containers that run beside the function.",
    "initContainers": "Containers that run before the function.",
    "disable": "Stop the function.",
    "publish": "Has no effect.",
    "dealerURI": "Has no effect.",
}

_BUILD_KEYS = {
    "path": "The location of the code: a file, a folder, an archive or an address.",
    "functionSourceCode": "One source file, as base64.",
    "functionConfigPath": "Another path of function.yaml.",
    "tempDir": "The folder for temporary files of the build.",
    "registry": "The registry that the image is pushed to.",
    "baseImageRegistry": "The registry of the default base image.",
    "image": "The name of the image to build.",
    "baseImage": "The image that the build starts from.",
    "onbuildImage": "The image that Nuclio takes its processor from.",
    "noBaseImagesPull": "Use the local base images without pulling.",
    "offline": "Build without network access.",
    "noCache": "Run every step without the cache.",
    "noCleanup": "Keep temporary files.",
    "commands": "Commands that run in the image; if set, directives are ignored.",
    "directives": "Dockerfile lines before (preCopy) and after (postCopy) the code is copied.",
    "args": "Build arguments.",
    "flags": "Additional flags of the build command.",
    "mode": "Build always or never.",
    "buildTimeoutSeconds": "The time limit of the build; 0 means no limit.",
    "timestamp": "The time of the build, set by the builder.",
    "codeEntryType": "The source of the code, such as git, s3 or archive.",
    "codeEntryAttributes": "Attributes of the source of the code, such as branch.",
    "builderServiceAccount": "The Kubernetes service account of the build.",
    "dependencies": "Not used by Python functions.",
    "runtimeAttributes": "Not used by Python functions.",
    "scriptPaths": "Has no effect.",
    "addedPaths": "Has no effect.",
}

_TRIGGER_KEYS = {
    "kind": "The kind of the trigger: http, cron and others.",
    "name": "The name of the trigger, equal to its key.",
    "class": "Has no effect.",
    "numWorkers": "The number of events that are handled at the same time.",
    "maxWorkers": "The old name of numWorkers.",
    "workerAvailabilityTimeoutMilliseconds": "The time that an event waits for a free worker.",
    "workerTerminationTimeout": "The time that a worker may take to end, such as 10s.",
    "workerAllocatorName": "The pool of workers that triggers of this name share.",
    "explicitAckMode": "Whether the handler acknowledges events itself.",
    "waitExplicitAckDuringRebalanceTimeout": "How long a rebalance waits for acknowledgements.",
    "batch": "Pass several events to the handler in one call.",
    "url": "The address of the source of events.",
    "paths": "Paths of the source of events.",
    "username": "The user at the source of events.",
    "password": "The password at the source of events.",
    "secret": "The secret at the source of events.",
    "partitions": "Partitions of the source of events.",
    "annotations": "Annotations of the trigger.",
    "attributes": "Settings of the kind: port, maxRequestBodySize, maxReplyBodySize … of http.",
}

FIELD_DESCRIPTIONS = {
    f"{name}.{key}": text
    for name, texts in (
        ("Function", _FUNCTION_KEYS),
        ("Metadata", _METADATA_KEYS),
        ("Spec", _SPEC_KEYS),
        ("Build", _BUILD_KEYS),
        ("Trigger", _TRIGGER_KEYS),
        ("EnvVar", {
            "name": "The variable's name.",
            "value": "Its value.",
            "valueFrom": "The source of its value in Kubernetes.",
        }),
        ("Resources", {
            "limits": "The maximum it may use, such as nvidia.com/gpu: 1.",
            "requests": "The reserved amount.",
        }),
        ("Directives", {
            "preCopy": "Lines before the code is copied.",
            "postCopy": "Lines after the code is copied.",
        }),
        ("Directive", {
            "kind": "The Dockerfile instruction, such as RUN.",
            "value": "The arguments of the instruction.",
        }),
        ("Batch", {
            "mode": "enable or disable.",
            "batchSize": "The maximum number of events in a batch.",
            "timeout": "The time that a batch waits for its events, such as 1s.",
        }),
        ("Platform", {"attributes": "Settings such as restartPolicy, network and mountMode."}),
        ("LoggerSink", {
            "level": "debug, info, warn or error.",
            "sink": "The name of the sink.",
        }),
    )
    for key, text in texts.items()
}  # fmt: skip
"""Descriptions by struct and key, such as `Spec.handler`."""


# Text fields accept every scalar that Nuclio converts to text.
_TEXT_SCHEMA = {"type": ["string", "number", "boolean", "null"]}
_QUANTITY_SCHEMA = {"type": ["string", "number"]}
_MAPPING_SCHEMA = {"type": ["object", "null"]}

_NARROWER_TYPES: dict[str, dict[str, Any]] = {
    "Metadata.name": {
        "type": "string", "pattern": "^[a-zA-Z0-9][a-zA-Z0-9_.-]*$", "maxLength": MAX_NAME_LENGTH
    },
    "Spec.runtime": {"type": "string", "pattern": r"^python(:3\.([6-9]|[1-9][0-9]+)(\.\d+)?)?$"},
    "Spec.handler": {"type": "string", "pattern": r"^[\w|-]+(\.[\w|-]+)*:\w+$"},
    "Spec.eventTimeout": {"type": "string", "examples": ["30s", "2m"]},
    "Spec.serviceType": {"enum": list(SERVICE_TYPES)},
    "Spec.imagePullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "Spec.targetCPU": {"type": "integer", "minimum": 0, "maximum": 100},
    "Spec.minReplicas": {"type": ["integer", "null"], "minimum": 0},
    "Spec.maxReplicas": {"type": ["integer", "null"], "minimum": 1},
    "Trigger.kind": {"type": "string", "examples": ["http", "cron"]},
    "Trigger.numWorkers": {"type": "integer", "minimum": 1, "maximum": MAX_WORKERS},
    "Trigger.maxWorkers": {
        "type": "integer", "minimum": 1, "maximum": MAX_WORKERS, "deprecated": True
    },
    "Build.mode": {"enum": ["neverBuild", "alwaysBuild"]},
}  # fmt: skip


def build_schema() -> dict[str, Any]:
    """Return the schema as a JSON object."""
    definitions: dict[str, Any] = {}
    root = _struct_schema(Function, definitions)
    root["properties"]["apiVersion"] = {"description": "Ignored."}
    root["properties"]["kind"] = {"description": "Ignored."}
    annotations = definitions["Metadata"]["properties"]["annotations"]
    annotations["properties"] = _annotation_schemas()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "function.yaml",
        **root,
        "$defs": definitions,
    }


def _annotation_schemas() -> dict[str, Any]:
    result: dict[str, Any] = {
        key: {**_TEXT_SCHEMA, "description": text} for key, text in ANNOTATION_DESCRIPTIONS.items()
    }
    result["type"] = {"enum": list(FUNCTION_KINDS), "description": ANNOTATION_DESCRIPTIONS["type"]}
    for key in ("version", "min_pos_points", "min_neg_points"):
        whole = {"type": ["integer", "string"], "pattern": r"^\s*[+-]?\d+\s*$"}
        result[key] = {**whole, "description": ANNOTATION_DESCRIPTIONS[key]}
    return result


def _struct_schema(cls: type[Struct], definitions: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required: list[str] = []
    for field in msgspec.structs.fields(cls):
        if field.name == "extra":
            continue
        name = f"{cls.__name__}.{field.encode_name}"
        value = dict(_NARROWER_TYPES.get(name) or _type_schema(field.type, definitions))
        if cls is Resources:
            value = {"type": ["object", "null"], "additionalProperties": _QUANTITY_SCHEMA}
        value["description"] = FIELD_DESCRIPTIONS[name]
        properties[field.encode_name] = value
        if field.required:
            required.append(field.encode_name)
    result: dict[str, Any] = {"type": ["object", "null"], "properties": properties}
    if required:
        result["required"] = required
    return result


def _type_schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        inner = next(arm for arm in typing.get_args(kind) if arm is not type(None))
        return _type_schema(inner, definitions)
    simple: dict[Any, dict[str, Any]] = {
        str: _TEXT_SCHEMA,
        bool: {"type": ["boolean", "null"]},
        int: {"type": ["integer", "null"]},
        Any: {},
    }
    if kind in simple:
        return simple[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is dict:
        if arguments[1] is Any:
            return _MAPPING_SCHEMA
        values = _type_schema(arguments[1], definitions)
        return {"type": ["object", "null"], "additionalProperties": values}
    if origin is list:
        return {"type": ["array", "null"], "items": _type_schema(arguments[0], definitions)}
    if kind.__name__ not in definitions:
        definitions[kind.__name__] = {}
        definitions[kind.__name__] = _struct_schema(kind, definitions)
    return {"$ref": f"#/$defs/{kind.__name__}"}


def schema_text() -> str:
    """Return the content of the schema's file."""
    return json.dumps(build_schema(), indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> None:
    """Write the schema to the file in the arguments, or print it."""
    if arguments:
        Path(arguments[0]).write_text(schema_text(), encoding="utf-8")
    else:
        sys.stdout.write(schema_text())


if __name__ == "__main__":
    main(sys.argv[1:])
