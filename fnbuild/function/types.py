"""The values of function.yaml, as Nuclio names them (pkg/functionconfig/types.go).

Field names are encoded in camelCase. Every struct keeps unknown keys in `extra`, so nothing that a
user wrote is lost. `None` means absent; zero means zero. The JSON Schema has the strings after
fields as descriptions.
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from fnbuild.names import DEFAULT_PROJECT, PROJECT_LABEL

Raw = dict[str, Any]
"""The JSON object of a Kubernetes type that fnbuild passes on unchanged."""

FieldPath = tuple[str | int, ...]
"""The place of a value in a configuration: keys, and indices of list items."""


class Struct(msgspec.Struct, kw_only=True, frozen=True, rename="camel", omit_defaults=True):
    """Base of all structs: immutable, encoded in camelCase, without defaults."""

    extra: Raw = msgspec.field(default_factory=dict)


class Metadata(Struct, frozen=True):
    """`labels` and `annotations` map strings to strings, whatever their types in the file."""

    name: str = ""
    """The name of the function: letters, digits, '-', '_' and '.'."""
    namespace: str = ""
    """The namespace; the setting of the command line overrides it."""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    """Labels; nuclio.io/project-name names the project."""
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    """Annotations; CVAT reads its settings from them."""
    resource_version: str = ""
    """The version that an update replaces."""


class EnvVar(Struct, frozen=True):
    name: str
    """The variable's name."""
    value: str = ""
    """Its value."""
    value_from: Raw | None = None
    """The source of its value in Kubernetes."""


class Resources(Struct, frozen=True):
    """Quantities as Kubernetes writes them, always strings: `"1"`, `"500m"`, `"4Gi"`."""

    limits: dict[str, str] = msgspec.field(default_factory=dict)
    """The maximum it may use, such as nvidia.com/gpu: 1."""
    requests: dict[str, str] = msgspec.field(default_factory=dict)
    """The reserved amount."""


class Directive(Struct, frozen=True):
    """One Dockerfile line: `kind` is the verb, `value` goes after it verbatim."""

    kind: str
    """The Dockerfile instruction, such as RUN."""
    value: str = ""
    """The arguments of the instruction."""


class Directives(Struct, frozen=True):
    pre_copy: list[Directive] = msgspec.field(default_factory=list)
    """Lines before the code is copied."""
    post_copy: list[Directive] = msgspec.field(default_factory=list)
    """Lines after the code is copied."""


class Build(Struct, frozen=True):
    """`functionSourceCode` is base64 as in Nuclio. `commands` win over `directives`."""

    path: str = ""
    """The location of the code: a file, a folder, an archive or an address."""
    function_source_code: str = ""
    """One source file, as base64."""
    function_config_path: str = ""
    """Another path of function.yaml."""
    temp_dir: str = ""
    """The folder for temporary files of the build."""
    registry: str = ""
    """The registry that the image is pushed to."""
    base_image_registry: str = ""
    """The registry of the default base image."""
    image: str = ""
    """The name of the image to build."""
    base_image: str = ""
    """The image that the build starts from."""
    onbuild_image: str = ""
    """The image that Nuclio takes its processor from."""
    no_base_images_pull: bool = False
    """Use the local base images without pulling."""
    offline: bool = False
    """Build without network access."""
    no_cache: bool = False
    """Run every step without the cache."""
    no_cleanup: bool = False
    """Keep temporary files."""
    commands: list[str] = msgspec.field(default_factory=list)
    """Commands that run in the image; if set, directives are ignored."""
    directives: Directives = msgspec.field(default_factory=Directives)
    """Dockerfile lines before (preCopy) and after (postCopy) the code is copied."""
    args: dict[str, str] = msgspec.field(default_factory=dict)
    """Build arguments."""
    flags: list[str] = msgspec.field(default_factory=list)
    """Additional flags of the build command."""
    mode: str = ""
    """Build always or never."""
    build_timeout_seconds: int | None = None
    """The time limit of the build; 0 means no limit."""
    timestamp: int = 0
    """The time of the build, set by the builder."""
    code_entry_type: str = ""
    """The source of the code, such as git, s3 or archive."""
    code_entry_attributes: Raw = msgspec.field(default_factory=dict)
    """Attributes of the source of the code, such as branch."""
    builder_service_account: str = ""
    """The Kubernetes service account of the build."""
    dependencies: list[Any] = msgspec.field(default_factory=list)
    """Not used by Python functions."""
    runtime_attributes: Raw = msgspec.field(default_factory=dict)
    """Not used by Python functions."""
    script_paths: list[str] = msgspec.field(default_factory=list)
    """Has no effect."""
    added_paths: Raw = msgspec.field(default_factory=dict)
    """Has no effect."""

    def decode_source_code(self) -> bytes:
        """Return the bytes of `functionSourceCode`. Raises `ValueError` if it is not base64."""
        return base64.b64decode("".join(self.function_source_code.split()), validate=True)


class Batch(Struct, frozen=True):
    """`timeout` is a Go duration. The mode `adaptive` is not Nuclio's."""

    mode: str = ""
    """enable, adaptive or disable."""
    batch_size: int = 10
    """The maximum number of events in a batch."""
    timeout: str = "1s"
    """The time that a batch waits for its events, such as 1s; if it is adaptive, the maximum."""

    @property
    def is_enabled(self) -> bool:
        return self.mode in ("enable", "adaptive")


class Trigger(Struct, frozen=True):
    """`numWorkers` is 0 if it is not set; durations are Go durations."""

    kind: str = ""
    """The kind of the trigger: http, cron and others."""
    name: str = ""
    """The name of the trigger, equal to its key."""
    class_: str = msgspec.field(default="", name="class")
    """Has no effect."""
    num_workers: int = 0
    """The number of events that are handled at the same time."""
    max_workers: int = 0
    """The old name of numWorkers."""
    worker_availability_timeout_milliseconds: int | None = None
    """The time that an event waits for a free worker."""
    worker_termination_timeout: str = ""
    """The time that a worker may take to end, such as 10s."""
    worker_allocator_name: str = ""
    """The pool of workers that triggers of this name share."""
    explicit_ack_mode: str = ""
    """The mode in which the handler acknowledges events itself."""
    wait_explicit_ack_during_rebalance_timeout: str = ""
    """The time that a rebalance waits for acknowledgements."""
    batch: Batch | None = None
    """Pass several events to the handler in one call."""
    url: str = ""
    """The address of the source of events."""
    paths: list[str] = msgspec.field(default_factory=list)
    """Paths of the source of events."""
    username: str = ""
    """The user at the source of events."""
    password: str = ""
    """The password at the source of events."""
    secret: str = ""
    """The secret at the source of events."""
    partitions: list[Any] = msgspec.field(default_factory=list)
    """Partitions of the source of events."""
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    """Annotations of the trigger."""
    attributes: Raw = msgspec.field(default_factory=dict)
    """Settings of the kind: port, maxRequestBodySize, maxReplyBodySize, protocols … of http."""

    @property
    def workers(self) -> int:
        """The number of workers; `maxWorkers` is the old name of `numWorkers`."""
        return self.num_workers or self.max_workers or 1


class Platform(Struct, frozen=True):
    attributes: Raw = msgspec.field(default_factory=dict)
    """Settings such as restartPolicy, network and mountMode."""


class LoggerSink(Struct, frozen=True):
    level: str = ""
    """debug, info, warn or error."""
    sink: str = ""
    """The name of the sink."""


class Spec(Struct, frozen=True):
    description: str = ""
    """A description in one line; CVAT shows it."""
    handler: str = ""
    """The entry point as module:function, such as main:handler."""
    runtime: str = ""
    """The Python version, as python:3.9; any from 3.6 on."""
    env: list[EnvVar] = msgspec.field(default_factory=list)
    """Environment variables: a list of name and value."""
    env_from: list[Raw] = msgspec.field(default_factory=list)
    """Kubernetes sources of environment variables."""
    resources: Resources = msgspec.field(default_factory=Resources)
    """Limits and requests of CPU, memory and GPUs."""
    image: str = ""
    """An existing image to run; nothing is built then."""
    image_hash: str = ""
    """An identifier of the deploy, set by the platform."""
    replicas: int | None = None
    """A fixed number of replicas."""
    min_replicas: int | None = None
    """The minimum number of replicas; 0 scales to zero."""
    max_replicas: int | None = None
    """The maximum number of replicas."""
    target_cpu: int | None = msgspec.field(default=None, name="targetCPU")
    """The target CPU load for scaling, in percent."""
    data_bindings: dict[str, Raw] = msgspec.field(default_factory=dict)
    """Data sources by name; not used by Python functions."""
    triggers: dict[str, Trigger] = msgspec.field(default_factory=dict)
    """The triggers of the function by name; at most one of kind http."""
    volumes: list[Raw] = msgspec.field(default_factory=list)
    """Kubernetes volumes, each with its volumeMount."""
    version: int | None = None
    """Has no effect."""
    alias: str = ""
    """Has no effect."""
    build: Build = msgspec.field(default_factory=Build)
    """The build of the image or the environment."""
    run_registry: str = ""
    """The registry that images are pulled from."""
    image_pull_secrets: str = ""
    """The name of the secret for pulling images."""
    runtime_attributes: Raw = msgspec.field(default_factory=dict)
    """`arguments`: those of the script of a KServe model, a list. Other keys have no effect."""
    logger_sinks: list[LoggerSink] = msgspec.field(default_factory=list)
    """Destinations and levels of the logs."""
    platform: Platform = msgspec.field(default_factory=Platform)
    """Settings of the platform."""
    readiness_timeout_seconds: int | None = None
    """The time that a deploy waits for the function to become ready."""
    wait_readiness_timeout_before_failure: bool = False
    """Continue to wait for readiness after a crash."""
    service_type: str = ""
    """The kind of Kubernetes service."""
    image_pull_policy: str = ""
    """The condition for pulling the image."""
    security_context: Raw | None = None
    """The Kubernetes security context of the pod."""
    service_account: str = ""
    """The Kubernetes service account."""
    scale_to_zero: Raw | None = None
    """The conditions for scaling to zero."""
    auto_scale_metrics: list[Raw] = msgspec.field(default_factory=list)
    """Metrics for scaling."""
    custom_scaling_metric_specs: list[Raw] = msgspec.field(default_factory=list)
    """Metrics in the format of the Kubernetes autoscaler."""
    disable_default_http_trigger: bool | None = msgspec.field(
        default=None, name="disableDefaultHTTPTrigger"
    )
    """Do not add a default http trigger."""
    disable_sensitive_fields_masking: bool = False
    """Do not mask secrets in the configuration."""
    devices: list[str] = msgspec.field(default_factory=list)
    """Devices that are available in the container."""
    affinity: Raw | None = None
    """The Kubernetes affinity of the pod."""
    node_selector: dict[str, str] = msgspec.field(default_factory=dict)
    """Labels of the nodes that may run the function, such as gpu: "true"."""
    node_name: str = ""
    """The node that runs the function."""
    tolerations: list[Raw] = msgspec.field(default_factory=list)
    """Taints that the pod tolerates."""
    priority_class_name: str = ""
    """The Kubernetes priority class."""
    preemption_policy: str | None = None
    """The Kubernetes preemption policy."""
    preemption_mode: str = ""
    """The use of preemptible nodes."""
    deployment_strategy: Raw | None = None
    """The way in which Kubernetes replaces pods."""
    host_ipc: bool = msgspec.field(default=False, name="hostIPC")
    """Share the node's IPC namespace with the pod."""
    event_timeout: str = ""
    """The time limit of an event, such as 30s; none by default."""
    sidecars: list[Raw] = msgspec.field(default_factory=list)
    """Containers that run beside the function."""
    init_containers: list[Raw] = msgspec.field(default_factory=list)
    """Containers that run before the function."""
    disable: bool = False
    """Stop the function."""
    publish: bool = False
    """Has no effect."""
    dealer_uri: str = msgspec.field(default="", name="dealerURI")
    """Has no effect."""


class Function(Struct, frozen=True):
    """The desired configuration of a function. `status` is set only in values from an API."""

    metadata: Metadata = msgspec.field(default_factory=Metadata)
    """Name, namespace, labels and annotations of the function."""
    spec: Spec = msgspec.field(default_factory=Spec)
    """The code of the function and how it runs."""
    status: Raw | None = None
    """The state of a running function; ignored in a file."""

    @property
    def project(self) -> str:
        return self.metadata.labels.get(PROJECT_LABEL, DEFAULT_PROJECT)

    def http_trigger(self) -> tuple[str, Trigger] | None:
        """Return the name and the trigger of kind http, or None."""
        for name, trigger in self.spec.triggers.items():
            if trigger.kind == "http":
                return name, trigger
        return None

    def with_metadata(self, **changes: Any) -> Function:
        """Return the function with other values of fields of its metadata."""
        return msgspec.structs.replace(
            self, metadata=msgspec.structs.replace(self.metadata, **changes)
        )

    def with_spec(self, **changes: Any) -> Function:
        """Return the function with other values of fields of its spec."""
        return msgspec.structs.replace(self, spec=msgspec.structs.replace(self.spec, **changes))

    def with_build(self, **changes: Any) -> Function:
        """Return the function with other values of fields of `spec.build`."""
        return self.with_spec(build=msgspec.structs.replace(self.spec.build, **changes))


def to_dict(value: Any) -> Raw:
    """Return the JSON object of a struct, including its unknown keys."""
    result = _plain(value)
    assert isinstance(result, dict)
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, Struct):
        result: Raw = {}
        for field in msgspec.structs.fields(value):
            item = getattr(value, field.name)
            if field.name == "extra" or (not field.required and _is_default(field, item)):
                continue
            plain = _plain(item)
            if plain == {} and isinstance(item, Struct):
                continue
            result[field.encode_name] = plain
        result.update(value.extra)
        return result
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _is_default(field: msgspec.structs.FieldInfo, item: Any) -> bool:
    if field.default_factory is not msgspec.NODEFAULT:
        return bool(item == field.default_factory())
    return bool(item == field.default)
