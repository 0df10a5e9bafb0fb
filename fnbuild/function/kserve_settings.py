"""The settings of a function for KServe: `spec.platform.attributes.kserve`.

Nuclio keeps unknown attributes of the platform as they are, so the same file deploys to both. A
field has the name that KServe gives it; settings that function.yaml has already (replicas,
resources, variables, node selector …) are not repeated here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from msgspec import field

from fnbuild.errors import InputError
from fnbuild.function.platform_attributes import (
    Count,
    Percentage,
    PlatformAttribute,
    PositiveCount,
    SettingProblem,
    Settings,
)
from fnbuild.function.types import FieldPath, Function
from fnbuild.runtime.storage.uris import KSERVE_SCHEMES, StorageUriError, parse_storage_uri

Protocol = Literal["v1", "v2", "grpc-v1", "grpc-v2"]
DeploymentMode = Literal["Standard", "Knative", "RawDeployment", "Serverless"]


class ModelStorage(Settings, frozen=True):
    """A model in the storage that the Secret `storage-config` describes."""

    key: str = ""
    """The entry of the Secret storage-config."""
    path: str = ""
    """The path of the model in the storage."""
    parameters: dict[str, str] = field(default_factory=dict)
    """Parameters of the storage that override those of the Secret."""


class ModelResources(Settings, frozen=True):
    limits: dict[str, str] = field(default_factory=dict)
    """The maximum it may use."""
    requests: dict[str, str] = field(default_factory=dict)
    """The reserved amount."""


class Model(Settings, frozen=True):
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


class Batcher(Settings, frozen=True):
    """KServe's batcher; it reads V1 bodies only. Times are in milliseconds and seconds."""

    max_batch_size: PositiveCount | None = None
    """The maximum number of instances in a batch."""
    max_latency: PositiveCount | None = None
    """The time in milliseconds that a batch waits for its instances."""
    timeout: PositiveCount | None = None
    """The time limit of a batch in seconds."""


class Logger(Settings, frozen=True):
    """The recipient of copies of requests and replies, as CloudEvents."""

    url: str = ""
    """The recipient."""
    mode: Literal["all", "request", "response"] = "all"
    """The messages to copy: all, request or response."""


class SupportedFormat(Settings, frozen=True):
    """A format that a serving runtime loads; of several runtimes the highest priority wins."""

    name: str = ""
    """The name of the format."""
    version: str = ""
    """The version of the format, as text."""
    auto_select: bool = False
    """Let KServe select the runtime for models that name none."""
    priority: PositiveCount | None = None
    """The runtime with the highest number is selected."""


class RuntimeSettings(Settings, frozen=True):
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


class KServeSettings(Settings, frozen=True):
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


def kserve_settings(function: Function) -> KServeSettings:
    """Return the settings. Raises `InputError` with the place of the first invalid one."""
    return ATTRIBUTE.read(function)


def find_problems(raw: Any) -> Iterator[SettingProblem]:
    """Yield all invalid settings; contradictions only if every setting is valid by itself."""
    return ATTRIBUTE.find_problems(raw)


def needs_code(function: Function) -> bool:
    """Return False if the function is a model that a serving runtime loads."""
    try:
        return kserve_settings(function).runs_code
    except InputError:
        return True


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


ATTRIBUTE = PlatformAttribute("kserve", "KServe", KServeSettings, _contradictions)
