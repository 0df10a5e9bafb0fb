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
    "type": "CVAT: what the function does.",
    "spec": "CVAT: the labels a detector finds, as JSON text: a list of objects with a name.",
    "version": "CVAT: the version of the function's interface; interactors answer as version 2.",
    "min_pos_points": "CVAT: positive clicks that an interactor needs before it is called.",
    "min_neg_points": "CVAT: negative clicks that an interactor needs; -1 offers none.",
    "startswith_box": 'CVAT: any text that is not empty asks for a box first, "false" too.',
    "startswith_box_optional": 'CVAT: any text that is not empty offers a box, "false" too.',
    "help_message": "CVAT: what the tooltip of an interactor says.",
    "animated_gif": "CVAT: the address of a picture that shows how an interactor is used.",
    "supported_shape_types": "CVAT: the shapes a tracker follows, with commas between them.",
    "framework": "The framework of the model, for people to read.",
}

_FUNCTION_KEYS = {
    "metadata": "What the function is called and what belongs to it.",
    "spec": "What the function is made of and how it runs.",
    "status": "The state of a running function; ignored in a file.",
}

_METADATA_KEYS = {
    "name": "The name of the function: letters, digits, '-', '_' and '.'.",
    "namespace": "The namespace, which the command line's own setting overrides.",
    "labels": "Labels; nuclio.io/project-name names the project.",
    "annotations": "Annotations; CVAT reads what it shows from them.",
    "resourceVersion": "The version that an update expects to replace.",
}

_SPEC_KEYS = {
    "description": "One line for people; CVAT shows it.",
    "handler": "The entry point as module:function, such as main:handler.",
    "runtime": "The Python version, as python:3.9; any from 3.6 on.",
    "env": "Environment variables: a list of name and value.",
    "envFrom": "Kubernetes sources of environment variables.",
    "resources": "Limits and requests of CPU, memory and GPUs.",
    "image": "A ready image to run; then nothing is built.",
    "imageHash": "A stamp of the deploy, written by the platform.",
    "replicas": "A fixed number of replicas.",
    "minReplicas": "The least replicas; 0 scales to zero.",
    "maxReplicas": "The most replicas.",
    "targetCPU": "The CPU load in percent that scaling aims at.",
    "dataBindings": "Data sources by name; of no use to Python functions.",
    "triggers": "What calls the function, by name; one may be of kind http.",
    "volumes": "Kubernetes volumes, each with its volumeMount.",
    "version": "A number without effect.",
    "alias": "A word without effect.",
    "build": "How the image or the environment is made.",
    "runRegistry": "The registry that images are pulled from.",
    "imagePullSecrets": "The name of the secret for pulling images.",
    "runtimeAttributes": "Settings of other runtimes; Python has none.",
    "loggerSinks": "Where logs go and from which level on.",
    "platform": "Settings of the platform.",
    "readinessTimeoutSeconds": "How long a deploy waits for the function to become ready.",
    "waitReadinessTimeoutBeforeFailure": "Whether a deploy waits on after a first crash.",
    "serviceType": "The kind of Kubernetes service.",
    "imagePullPolicy": "When Kubernetes pulls the image.",
    "securityContext": "The Kubernetes security context of the pod.",
    "serviceAccount": "The Kubernetes service account.",
    "scaleToZero": "When to scale to zero.",
    "autoScaleMetrics": "Metrics that scaling follows.",
    "customScalingMetricSpecs": "Metrics as the Kubernetes autoscaler takes them.",
    "disableDefaultHTTPTrigger": "Whether no http trigger is added where there is none.",
    "disableSensitiveFieldsMasking": "Whether secrets in the configuration stay readable.",
    "devices": "Devices that the container sees.",
    "affinity": "The Kubernetes affinity of the pod.",
    "nodeSelector": 'Labels of the nodes that may run the function, such as gpu: "true".',
    "nodeName": "The one node that may run the function.",
    "tolerations": "Taints that the pod tolerates.",
    "priorityClassName": "The Kubernetes priority class.",
    "preemptionPolicy": "The Kubernetes preemption policy.",
    "preemptionMode": "Whether the function may run on nodes that can be taken away.",
    "deploymentStrategy": "How Kubernetes replaces pods.",
    "hostIPC": "Whether the pod shares the node's IPC namespace.",
    "eventTimeout": "The time one event may take, such as 30s; none by default.",
    "sidecars": "Containers that run beside the function.",
    "initContainers": "Containers that run before the function.",
    "disable": "Whether the function is stopped.",
    "publish": "A flag without effect.",
    "dealerURI": "An address without effect.",
}

_BUILD_KEYS = {
    "path": "Where the code is: a file, a folder, an archive or an address.",
    "functionSourceCode": "One source file, as base64.",
    "functionConfigPath": "Another path of function.yaml.",
    "tempDir": "Where building keeps its temporary files.",
    "registry": "The registry that the image is pushed to.",
    "baseImageRegistry": "The registry of the default base image.",
    "image": "The name of the image that is built.",
    "baseImage": "The image that the build starts from.",
    "onbuildImage": "The image that Nuclio takes its processor from.",
    "noBaseImagesPull": "Whether base images are taken as they are on this machine.",
    "offline": "Whether building does without the network.",
    "noCache": "Whether every step runs anew.",
    "noCleanup": "Whether temporary files stay.",
    "commands": "Commands that run in the image; where there are any, directives are ignored.",
    "directives": "Dockerfile lines before (preCopy) and after (postCopy) the code is copied.",
    "args": "Build arguments.",
    "flags": "Further flags of the builder's command.",
    "mode": "Whether to build always or never.",
    "buildTimeoutSeconds": "The time a build may take; 0 is without end.",
    "timestamp": "When the image was built, written by the builder.",
    "codeEntryType": "Where the code comes from, such as git, s3 or archive.",
    "codeEntryAttributes": "What the origin of the code needs, such as branch.",
    "builderServiceAccount": "The Kubernetes service account of the build.",
    "dependencies": "Of no use to Python functions.",
    "runtimeAttributes": "Of no use to Python functions.",
    "scriptPaths": "A list without effect.",
    "addedPaths": "A mapping without effect.",
}

_TRIGGER_KEYS = {
    "kind": "What calls: http, cron and others.",
    "name": "The trigger's own key again.",
    "class": "A word without effect.",
    "numWorkers": "How many events are handled at once.",
    "maxWorkers": "The old name of numWorkers.",
    "workerAvailabilityTimeoutMilliseconds": "How long an event waits for a free worker.",
    "workerTerminationTimeout": "How long a worker may take to end, such as 10s.",
    "workerAllocatorName": "The pool of workers that triggers of this name share.",
    "explicitAckMode": "Whether the handler itself acknowledges events.",
    "waitExplicitAckDuringRebalanceTimeout": "How long a rebalance waits for acknowledgements.",
    "batch": "Hands several events to the handler at once.",
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
            "valueFrom": "Where Kubernetes takes its value from.",
        }),
        ("Resources", {
            "limits": "The most it may use, such as nvidia.com/gpu: 1.",
            "requests": "What is set aside for it.",
        }),
        ("Directives", {
            "preCopy": "Lines before the code is copied.",
            "postCopy": "Lines after the code is copied.",
        }),
        ("Directive", {
            "kind": "The Dockerfile verb, such as RUN.",
            "value": "What follows the verb.",
        }),
        ("Batch", {
            "mode": "enable or disable.",
            "batchSize": "The most events in a batch.",
            "timeout": "How long a batch waits for its events, such as 1s.",
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
