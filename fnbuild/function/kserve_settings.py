"""The settings of a function for KServe: `spec.platform.attributes.kserve`.

Nuclio keeps unknown attributes of the platform as they are, so the same file deploys to both. A
field has the name that KServe gives it; settings that function.yaml has already (replicas,
resources, variables, node selector …) are not repeated here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta, field

from fnbuild.errors import InputError
from fnbuild.function.source_text import quoted
from fnbuild.function.suggestions import did_you_mean
from fnbuild.function.types import FieldPath, Function
from fnbuild.runtime.storage.uris import KSERVE_SCHEMES, StorageUriError, parse_storage_uri

ATTRIBUTE = "kserve"
SETTINGS_PATH: FieldPath = ("spec", "platform", "attributes", ATTRIBUTE)

Count = Annotated[int, Meta(ge=0)]
PositiveCount = Annotated[int, Meta(ge=1)]
Percentage = Annotated[int, Meta(ge=0, le=100)]
Protocol = Literal["v1", "v2", "grpc-v1", "grpc-v2"]
DeploymentMode = Literal["Standard", "Knative", "RawDeployment", "Serverless"]

_RANGES = {Count: "0 or more", PositiveCount: "1 or more", Percentage: "0 to 100"}
_TYPE_DESCRIPTIONS = {str: "text", bool: "true or false", int: "a whole number"}


class _Settings(msgspec.Struct, kw_only=True, frozen=True, rename="camel", omit_defaults=True):
    """Base of the settings."""


class ModelStorage(_Settings, frozen=True):
    """A model in the storage that the Secret `storage-config` describes."""

    key: str = ""
    """The entry of the Secret storage-config."""
    path: str = ""
    """The path of the model in the storage."""
    parameters: dict[str, str] = field(default_factory=dict)
    """Parameters of the storage that override those of the Secret."""


class ModelResources(_Settings, frozen=True):
    limits: dict[str, str] = field(default_factory=dict)
    """The maximum it may use."""
    requests: dict[str, str] = field(default_factory=dict)
    """The reserved amount."""


class Model(_Settings, frozen=True):
    """A model in storage. With a `format` a serving runtime loads it, otherwise the function.

    `args`, `resources` and replicas concern the predictor beside a function that is a transformer.
    """

    format: str = ""
    """The format, such as sklearn; a serving runtime loads it."""
    version: str = ""
    """The version of the format, as text."""
    storage_uri: str = ""
    """The location of the model, such as s3://bucket/folder."""
    storage: ModelStorage | None = None
    """The location of the model in described storage."""
    runtime: str = ""
    """The name of the serving runtime; without it KServe selects one."""
    runtime_version: str = ""
    """The tag of the runtime's image."""
    protocol_version: Protocol | None = None
    """The protocol that the runtime must speak; v1 if it is not set."""
    args: list[str] | None = None
    """Additional arguments of the runtime, or all those of `predictorImage`."""
    resources: ModelResources = field(default_factory=ModelResources)
    """Limits and requests of the predictor beside a transformer."""
    min_replicas: Count | None = None
    """The minimum number of replicas of that predictor."""
    max_replicas: Count | None = None
    """The maximum number of replicas of that predictor."""
    service_account: str = ""
    """The service account of that predictor, with its credentials."""


class Batcher(_Settings, frozen=True):
    """KServe's batcher; it reads V1 bodies only. Times are in milliseconds and seconds."""

    max_batch_size: PositiveCount | None = None
    """The maximum number of instances in a batch."""
    max_latency: PositiveCount | None = None
    """The time in milliseconds that a batch waits for its instances."""
    timeout: PositiveCount | None = None
    """The time limit of a batch in seconds."""


class Logger(_Settings, frozen=True):
    """The recipient of copies of requests and replies, as CloudEvents."""

    url: str = ""
    """The recipient."""
    mode: Literal["all", "request", "response"] = "all"
    """The messages to copy: all, request or response."""


class SupportedFormat(_Settings, frozen=True):
    """A format that a serving runtime loads; of several runtimes the highest priority wins."""

    name: str = ""
    """The name of the format."""
    version: str = ""
    """The version of the format, as text."""
    auto_select: bool = False
    """Let KServe select the runtime for models that name none."""
    priority: PositiveCount | None = None
    """The runtime with the highest number is selected."""


class RuntimeSettings(_Settings, frozen=True):
    """A serving runtime that runs the function's image. `cluster` makes it one of the cluster."""

    cluster: bool = False
    """Make it a ClusterServingRuntime, for all namespaces."""
    formats: list[SupportedFormat] = field(default_factory=list)
    """The formats of models that it loads."""
    protocol_versions: list[Protocol] = field(default_factory=list)
    """The protocols that it speaks; none means any."""
    disabled: bool = False
    """Keep KServe from using it."""
    server_type: str = ""
    """The kind of server, such as mlserver."""


class KServeSettings(_Settings, frozen=True):
    """The settings of a function for KServe.

    A `transformer` belongs to the `inferenceService` of another function, or has its predictor
    from `model` or `predictorImage`. `command` is that of an image that fnbuild did not build; if
    `args` are set as well, nothing is added to them. A `pair` runs the function's image as both.
    With `servingRuntime` the function is a serving runtime instead of a service.
    """

    component: Literal["predictor", "transformer", "pair"] = "predictor"
    """The component that the function's code is."""
    inference_service: str = ""
    """The function whose transformer this one is."""
    predictor_image: str = ""
    """The image of the predictor beside a transformer."""
    model: Model | None = None
    """The model in storage."""
    serving_runtime: RuntimeSettings | None = None
    """Make the function a serving runtime."""
    deployment_mode: DeploymentMode | None = None
    """Standard or Knative; the cluster's default if it is not set."""
    canary_traffic_percent: Percentage | None = None
    """The share of requests that a new revision gets; 100 promotes it."""
    container_concurrency: Count | None = None
    """The maximum number of requests that a replica handles at a time."""
    scale_metric: Literal["cpu", "memory", "concurrency", "rps"] | None = None
    """The metric to scale by: cpu or memory, in Knative mode concurrency or rps."""
    scale_target: PositiveCount | None = None
    """The target value of that metric."""
    autoscaler_class: Literal["hpa", "keda", "external", "none"] | None = None
    """The autoscaler in Standard mode."""
    batcher: Batcher | None = None
    """Collect instances into batches."""
    logger: Logger | None = None
    """Send copies of requests and replies."""
    command: list[str] = field(default_factory=list)
    """The command of an image that fnbuild did not build."""
    args: list[str] | None = None
    """All arguments of an existing image, or additional ones of a built image."""
    readiness_path: str = ""
    """The path that answers 200 when the model is loaded."""

    @property
    def runs_code(self) -> bool:
        """True if an image of the function runs: a model in a format needs none of its own."""
        if self.serving_runtime is not None or self.component != "predictor":
            return True
        return self.model is None or not self.model.format


@dataclass(frozen=True, slots=True)
class SettingProblem:
    """An invalid setting. `path` is relative to the settings; `is_key` if the key is wrong."""

    path: FieldPath
    message: str
    hint: str | None = None
    is_key: bool = False


def kserve_settings(function: Function) -> KServeSettings:
    """Return the settings. Raises `InputError` with the place of the first invalid one."""
    raw = function.spec.platform.attributes.get(ATTRIBUTE)
    if raw is None:
        return KServeSettings()
    for problem in find_problems(raw):
        place = ".".join(map(str, (*SETTINGS_PATH, *problem.path)))
        raise InputError(f"{place}: {problem.message}", hint=problem.hint)
    return _decode(raw)


def needs_code(function: Function) -> bool:
    """Return False if the function is a model that a serving runtime loads."""
    raw = function.spec.platform.attributes.get(ATTRIBUTE)
    if raw is None or any(find_problems(raw)):
        return True
    return _decode(raw).runs_code


def find_problems(raw: Any) -> Iterator[SettingProblem]:
    """Yield all invalid settings; contradictions only if every setting is valid by itself."""
    problems = list(_type_problems(raw, KServeSettings, ()))
    yield from problems or _contradictions(_decode(raw))


def _decode(raw: Any) -> KServeSettings:
    return msgspec.convert(_without_nulls(raw), KServeSettings)


def _without_nulls(value: Any) -> Any:
    """Return the value without keys that have no value: they count as absent."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _type_problems(
    raw: Any, struct: type[msgspec.Struct], path: FieldPath
) -> Iterator[SettingProblem]:
    if not isinstance(raw, dict):
        yield SettingProblem(path, f"{path[-1] if path else ATTRIBUTE} is a mapping of settings")
        return
    fields = {item.encode_name: item for item in msgspec.structs.fields(struct)}
    for key, value in raw.items():
        if key not in fields:
            hint = did_you_mean(str(key), fields)
            message = f"{quoted(key)} is no setting; there are {', '.join(fields)}"
            yield SettingProblem((*path, key), message, hint, is_key=True)
        elif value is not None:
            yield from _value_problems(value, fields[key].type, (*path, key))


def _value_problems(value: Any, kind: Any, path: FieldPath) -> Iterator[SettingProblem]:
    kind = _without_none(kind)
    if nested := _struct_of(kind):
        yield from _type_problems(value, nested, path)
    elif get_origin(kind) is list and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _value_problems(item, get_args(kind)[0], (*path, index))
    else:
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError:
            message = f"{_last_key(path)} is {_description(kind)}, not {quoted(value)}"
            yield SettingProblem(path, message, _type_hint(value, kind))


def _struct_of(kind: Any) -> type[msgspec.Struct] | None:
    candidates = (kind, *get_args(kind)) if get_origin(kind) is not list else (kind,)
    return next(
        (item for item in candidates if isinstance(item, type) and issubclass(item, _Settings)),
        None,
    )


def _last_key(path: FieldPath) -> str:
    return next((key for key in reversed(path) if isinstance(key, str)), ATTRIBUTE)


def _without_none(kind: Any) -> Any:
    options = [item for item in get_args(kind) if item is not type(None)]
    is_optional = type(None) in get_args(kind)
    return options[0] if is_optional and len(options) == 1 else kind


def _description(kind: Any) -> str:
    kind = _without_none(kind)
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if kind in _RANGES:
        return f"a whole number, {_RANGES[kind]}"
    if get_origin(kind) is list:
        return "a list"
    return "a mapping of texts" if get_origin(kind) is dict else _TYPE_DESCRIPTIONS[kind]


def _type_hint(value: Any, kind: Any) -> str | None:
    kind = _without_none(kind)
    if get_origin(kind) is Literal:
        return did_you_mean(str(value), get_args(kind))
    if kind is str and isinstance(value, int | float):
        return f'write it in quotes: "{value}"'
    if get_origin(kind) is dict:
        return 'write numbers in quotes, as in `cpu: "0.5"` or `cpu: 500m`'
    return None


def _contradictions(settings: KServeSettings) -> Iterator[SettingProblem]:
    yield from _component_contradictions(settings)
    if (model := settings.model) is not None:
        yield from _model_contradictions(settings, model)
    if (runtime := settings.serving_runtime) is not None:
        yield from _runtime_contradictions(settings, runtime)
    if settings.logger is not None and not settings.logger.url:
        yield SettingProblem(("logger",), "the logger has no url", "`url: http://RECIPIENT`")
    in_knative = settings.deployment_mode in ("Knative", "Serverless")
    if settings.autoscaler_class and in_knative:
        message = "autoscalerClass has no effect in Knative mode, which has its own autoscaler"
        yield SettingProblem(("autoscalerClass",), message, "remove it")
    if settings.scale_target and not settings.scale_metric and not in_knative:
        message = "scaleTarget without scaleMetric has no meaning outside of Knative mode"
        yield SettingProblem(("scaleTarget",), message, "`scaleMetric: cpu` or memory")


def _component_contradictions(settings: KServeSettings) -> Iterator[SettingProblem]:
    has_predictor = settings.predictor_image or (settings.model and settings.model.format)
    if settings.component == "transformer":
        if bool(settings.inference_service) == bool(has_predictor):
            message = "a transformer needs one predictor"
            hint = (
                "`inferenceService: NAME` is the function that predicts; `model` with a format or"
                " `predictorImage` makes a predictor beside it"
            )
            yield SettingProblem(("component",), message, hint)
        if settings.inference_service and settings.canary_traffic_percent is not None:
            message = "a transformer of another function has no canary of its own"
            hint = f"set it in {settings.inference_service}"
            yield SettingProblem(("canaryTrafficPercent",), message, hint)
        return
    for key, value in (
        ("inferenceService", settings.inference_service),
        ("predictorImage", settings.predictor_image),
    ):
        if value:
            message = f"{key} is for functions with `component: transformer`"
            yield SettingProblem((key,), message, "add `component: transformer`, or remove it")
    if settings.component == "pair" and settings.model and settings.model.format:
        message = "the predictor of a pair is the function itself, and so has no model format"
        yield SettingProblem(("model", "format"), message, "`component: transformer`")


def _model_contradictions(settings: KServeSettings, model: Model) -> Iterator[SettingProblem]:
    if model.storage_uri and model.storage is not None:
        message = "storageUri and storage exclude each other"
        yield SettingProblem(("model", "storage"), message, "remove one of them")
    if model.format and not model.storage_uri and model.storage is None:
        message = f"the model of format {model.format} has no storageUri"
        hint = "as in `storageUri: s3://bucket/folder` or `pvc://claim/folder`"
        yield SettingProblem(("model",), message, hint)
    scheme, colon, _ = model.storage_uri.partition(":")
    # A text without a scheme is a path in the image.
    if colon and scheme not in KSERVE_SCHEMES:
        try:
            parse_storage_uri(model.storage_uri)
        except StorageUriError as error:
            yield SettingProblem(("model", "storageUri"), error.message, error.hint)
    if model.format:
        return
    for key, value in (
        ("runtime", model.runtime),
        ("version", model.version),
        ("runtimeVersion", model.runtime_version),
        ("protocolVersion", model.protocol_version),
    ):
        if value:
            message = f"{key} has no effect without a format: the function itself loads the model"
            hint = "add `format: NAME`, the format that the runtime supports"
            yield SettingProblem(("model", key), message, hint)
    if settings.component == "predictor" and not model.storage_uri:
        message = "the model has neither a format nor a storageUri"
        yield SettingProblem(("model",), message, "`storageUri: URI` fetches it to /mnt/models")


def _runtime_contradictions(
    settings: KServeSettings, runtime: RuntimeSettings
) -> Iterator[SettingProblem]:
    place: FieldPath = ("servingRuntime",)
    if settings.model is not None or settings.component != "predictor":
        message = "a serving runtime has neither a model nor a component"
        yield SettingProblem(place, message, "the functions that use the runtime have them")
    if not runtime.formats:
        message = "the serving runtime supports no format, so no model can use it"
        yield SettingProblem(place, message, '`formats: [{name: sklearn, version: "1"}]`')
    priorities: dict[str, int | None] = {}
    for index, item in enumerate(runtime.formats):
        if not item.name:
            yield SettingProblem((*place, "formats", index), "the format has no name")
        elif priorities.setdefault(item.name, item.priority) != item.priority:
            message = f"the format {item.name} has two priorities; KServe accepts one for a name"
            hint = "give all its versions the same priority"
            yield SettingProblem((*place, "formats", index, "priority"), message, hint)
