"""The values of function.yaml, as Nuclio names them (pkg/functionconfig/types.go).

Field names are encoded in camelCase. Every struct keeps unknown keys in `extra`, so nothing that a
user wrote is lost. `None` means absent; zero means zero.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fnbuild.names import DEFAULT_PROJECT, PROJECT_LABEL

Raw = dict[str, Any]
"""The JSON object of a Kubernetes type that fnbuild passes on unchanged."""


class Struct(msgspec.Struct, kw_only=True, frozen=True, rename="camel", omit_defaults=True):
    """Base of all structs: immutable, encoded in camelCase, without defaults."""

    extra: Raw = msgspec.field(default_factory=dict)


class Metadata(Struct, frozen=True):
    """`labels` and `annotations` map strings to strings, whatever their types in the file."""

    name: str = ""
    namespace: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    resource_version: str = ""


class EnvVar(Struct, frozen=True):
    name: str
    value: str = ""
    value_from: Raw | None = None


class Resources(Struct, frozen=True):
    """Quantities as Kubernetes writes them, always strings: `"1"`, `"500m"`, `"4Gi"`."""

    limits: dict[str, str] = msgspec.field(default_factory=dict)
    requests: dict[str, str] = msgspec.field(default_factory=dict)


class Directive(Struct, frozen=True):
    """One Dockerfile line: `kind` is the verb, `value` goes after it verbatim."""

    kind: str
    value: str = ""


class Directives(Struct, frozen=True):
    pre_copy: list[Directive] = msgspec.field(default_factory=list)
    post_copy: list[Directive] = msgspec.field(default_factory=list)


class Build(Struct, frozen=True):
    """`functionSourceCode` is base64 as in Nuclio. `commands` win over `directives`."""

    path: str = ""
    function_source_code: str = ""
    function_config_path: str = ""
    temp_dir: str = ""
    registry: str = ""
    base_image_registry: str = ""
    image: str = ""
    base_image: str = ""
    onbuild_image: str = ""
    no_base_images_pull: bool = False
    offline: bool = False
    no_cache: bool = False
    no_cleanup: bool = False
    commands: list[str] = msgspec.field(default_factory=list)
    directives: Directives = msgspec.field(default_factory=Directives)
    args: dict[str, str] = msgspec.field(default_factory=dict)
    flags: list[str] = msgspec.field(default_factory=list)
    mode: str = ""
    build_timeout_seconds: int | None = None
    timestamp: int = 0
    code_entry_type: str = ""
    code_entry_attributes: Raw = msgspec.field(default_factory=dict)
    builder_service_account: str = ""
    dependencies: list[Any] = msgspec.field(default_factory=list)
    runtime_attributes: Raw = msgspec.field(default_factory=dict)
    script_paths: list[str] = msgspec.field(default_factory=list)
    added_paths: Raw = msgspec.field(default_factory=dict)


class Batch(Struct, frozen=True):
    """`timeout` is a Go duration."""

    mode: str = ""
    batch_size: int = 10
    timeout: str = "1s"


class Trigger(Struct, frozen=True):
    """`numWorkers` is 0 if it is not set; durations are Go durations."""

    kind: str = ""
    name: str = ""
    class_: str = msgspec.field(default="", name="class")
    num_workers: int = 0
    max_workers: int = 0
    worker_availability_timeout_milliseconds: int | None = None
    worker_termination_timeout: str = ""
    worker_allocator_name: str = ""
    explicit_ack_mode: str = ""
    wait_explicit_ack_during_rebalance_timeout: str = ""
    batch: Batch | None = None
    url: str = ""
    paths: list[str] = msgspec.field(default_factory=list)
    username: str = ""
    password: str = ""
    secret: str = ""
    partitions: list[Any] = msgspec.field(default_factory=list)
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    attributes: Raw = msgspec.field(default_factory=dict)

    @property
    def workers(self) -> int:
        """The number of workers; `maxWorkers` is the old name of `numWorkers`."""
        return self.num_workers or self.max_workers or 1


class Platform(Struct, frozen=True):
    attributes: Raw = msgspec.field(default_factory=dict)


class LoggerSink(Struct, frozen=True):
    level: str = ""
    sink: str = ""


class Spec(Struct, frozen=True):
    description: str = ""
    handler: str = ""
    runtime: str = ""
    env: list[EnvVar] = msgspec.field(default_factory=list)
    env_from: list[Raw] = msgspec.field(default_factory=list)
    resources: Resources = msgspec.field(default_factory=Resources)
    image: str = ""
    image_hash: str = ""
    replicas: int | None = None
    min_replicas: int | None = None
    max_replicas: int | None = None
    target_cpu: int | None = msgspec.field(default=None, name="targetCPU")
    data_bindings: dict[str, Raw] = msgspec.field(default_factory=dict)
    triggers: dict[str, Trigger] = msgspec.field(default_factory=dict)
    volumes: list[Raw] = msgspec.field(default_factory=list)
    version: int | None = None
    alias: str = ""
    build: Build = msgspec.field(default_factory=Build)
    run_registry: str = ""
    image_pull_secrets: str = ""
    runtime_attributes: Raw = msgspec.field(default_factory=dict)
    logger_sinks: list[LoggerSink] = msgspec.field(default_factory=list)
    platform: Platform = msgspec.field(default_factory=Platform)
    readiness_timeout_seconds: int | None = None
    wait_readiness_timeout_before_failure: bool = False
    service_type: str = ""
    image_pull_policy: str = ""
    security_context: Raw | None = None
    service_account: str = ""
    scale_to_zero: Raw | None = None
    auto_scale_metrics: list[Raw] = msgspec.field(default_factory=list)
    custom_scaling_metric_specs: list[Raw] = msgspec.field(default_factory=list)
    disable_default_http_trigger: bool | None = msgspec.field(
        default=None, name="disableDefaultHTTPTrigger"
    )
    disable_sensitive_fields_masking: bool = False
    devices: list[str] = msgspec.field(default_factory=list)
    affinity: Raw | None = None
    node_selector: dict[str, str] = msgspec.field(default_factory=dict)
    node_name: str = ""
    tolerations: list[Raw] = msgspec.field(default_factory=list)
    priority_class_name: str = ""
    preemption_policy: str | None = None
    preemption_mode: str = ""
    deployment_strategy: Raw | None = None
    host_ipc: bool = msgspec.field(default=False, name="hostIPC")
    event_timeout: str = ""
    sidecars: list[Raw] = msgspec.field(default_factory=list)
    init_containers: list[Raw] = msgspec.field(default_factory=list)
    disable: bool = False
    publish: bool = False
    dealer_uri: str = msgspec.field(default="", name="dealerURI")


class Function(Struct, frozen=True):
    """The desired configuration of a function. `status` is set only in values from an API."""

    metadata: Metadata = msgspec.field(default_factory=Metadata)
    spec: Spec = msgspec.field(default_factory=Spec)
    status: Raw | None = None

    @property
    def project(self) -> str:
        return self.metadata.labels.get(PROJECT_LABEL, DEFAULT_PROJECT)

    def http_trigger(self) -> tuple[str, Trigger] | None:
        """Return the name and the trigger of kind http, or None."""
        for name, trigger in self.spec.triggers.items():
            if trigger.kind == "http":
                return name, trigger
        return None


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
