"""What every key of function.yaml means, in one sentence each: the words of its JSON Schema."""

from __future__ import annotations

ANNOTATIONS = {
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

_FUNCTION = {
    "metadata": "What the function is called and what belongs to it.",
    "spec": "What the function is made of and how it runs.",
    "status": "The state of a running function; ignored in a file.",
}

_METADATA = {
    "name": "The name of the function: letters, digits, '-', '_' and '.'.",
    "namespace": "The namespace, which the command line's own setting overrides.",
    "labels": "Labels; nuclio.io/project-name names the project.",
    "annotations": "Annotations; CVAT reads what it shows from them.",
    "resourceVersion": "The version that an update expects to replace.",
}

_SPEC = {
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

_BUILD = {
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

_TRIGGER = {
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

FIELDS = {
    f"{name}.{key}": text
    for name, texts in (
        ("Function", _FUNCTION),
        ("Metadata", _METADATA),
        ("Spec", _SPEC),
        ("Build", _BUILD),
        ("Trigger", _TRIGGER),
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
"""By the name of the struct and the key."""
