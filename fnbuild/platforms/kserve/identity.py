"""Names, labels and annotations of a function's objects under KServe."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fnbuild.errors import InputError
from fnbuild.function.types import Function, Raw
from fnbuild.names import FUNCTION_LABEL, PROJECT_LABEL
from fnbuild.platforms.base import FunctionKey
from fnbuild.platforms.kubeclient.ownership import MANAGED_BY, MANAGER, labels_of

MODE_ANNOTATION = "serving.kserve.io/deploymentMode"
AUTOSCALER_ANNOTATION = "serving.kserve.io/autoscalerClass"
STOP_ANNOTATION = "serving.kserve.io/stop"
RESTART_ANNOTATION = "fnbuild.io/restarted"
"""An annotation of a component's pods: a new value restarts them."""
SERVER_TYPE_ANNOTATION = "serving.kserve.io/server-type"
PROGRESS_DEADLINE_ANNOTATION = "serving.knative.dev/progress-deadline"

NAMESPACE_LABEL = "fnbuild.io/namespace"
"""The label of a ClusterServingRuntime that names the namespace of its function."""
SERVICE_LABEL = "serving.kserve.io/inferenceservice"
"""The label of the pods that names their InferenceService."""
COMPONENT_LABEL = "component"
"""The label of the pods that says predictor or transformer."""

SERVING_CONTAINER = "kserve-container"
STORAGE_CONTAINER = "storage-initializer"
HTTP_PORT = 8080
GRPC_PORT = 8081
GRPC_PORT_NAME = "grpc"
PROBE_SECONDS = 5
"""The period and the time-out of the readiness probe."""

KNOWN_ANNOTATIONS = (
    MODE_ANNOTATION, AUTOSCALER_ANNOTATION, STOP_ANNOTATION, SERVER_TYPE_ANNOTATION,
    PROGRESS_DEADLINE_ANNOTATION, "serving.kserve.io/enable-tag-routing",
    "serving.kserve.io/enable-metric-aggregation", "serving.kserve.io/enable-prometheus-scraping",
    "serving.kserve.io/storageSecretName", "storage.kserve.io/readonly", "sidecar.istio.io/inject",
    "sidecar.istio.io/proxyCPU", "sidecar.istio.io/proxyMemory", "autoscaling.knative.dev/class",
    "autoscaling.knative.dev/target", "autoscaling.knative.dev/metric",
    "autoscaling.knative.dev/window", "autoscaling.knative.dev/initial-scale",
    "prometheus.kserve.io/port", "prometheus.kserve.io/path",
)  # fmt: skip

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_MAX_LABEL_LENGTH = 63


def validated_key(function: Function) -> FunctionKey:
    """Return the key of a function. Raises `InputError` for names that KServe refuses."""
    key = FunctionKey.of(function)
    validate_service_name(key.name, "metadata.name")
    return key


def validate_service_name(name: str, place: str, suffix: str = "-predictor") -> None:
    """Raise `InputError` unless an InferenceService can have this name.

    `suffix` is the longest one that KServe adds to it.
    """
    if not _NAME.fullmatch(name):
        suggestion = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-0123456789") or "classifier"
        raise InputError(
            f"{place}: {name!r} cannot be the name of an InferenceService",
            hint="it begins with a lower-case letter, and has lower-case letters, digits and '-',"
            f" as in {suggestion!r}",
        )
    # The result is the name of a Service.
    limit = _MAX_LABEL_LENGTH - len(suffix)
    if len(name) > limit:
        raise InputError(
            f"{place}: {name!r} has {len(name)} characters; under KServe it may have {limit}",
            hint=f"shorten it by {len(name) - limit}: KServe adds `{suffix}`, and the result is the"
            " name of a Service",
        )


def owner_namespace(obj: Raw) -> str:
    """Return the namespace of an object's function; "" if the object does not name it."""
    metadata = obj["metadata"]
    return str(metadata.get("namespace") or labels_of(obj).get(NAMESPACE_LABEL, ""))


def object_labels(function: Function) -> dict[str, str]:
    """Return the labels of all objects of a function."""
    return {
        PROJECT_LABEL: function.project,
        **function.metadata.labels,
        FUNCTION_LABEL: function.metadata.name,
        MANAGED_BY: MANAGER,
    }


def qualified_annotations(annotations: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the annotations for the cluster, whose keys have a prefix.

    KServe copies annotations to pods. Those without a prefix, such as CVAT's `type` and `spec`,
    are read from the function's configuration.
    """
    return {key: text for key, text in annotations if "/" in key and "nuclio.io/" not in key}
