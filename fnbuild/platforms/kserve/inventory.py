"""The objects of functions in a cluster: their services, runtimes, Deployments and pods."""

from __future__ import annotations

from dataclasses import dataclass

from fnbuild.errors import NotFoundError
from fnbuild.function.kserve_settings import KServeSettings, RuntimeSettings, kserve_settings
from fnbuild.function.types import Raw
from fnbuild.platforms.base import FunctionKey
from fnbuild.platforms.errors import function_not_found_error
from fnbuild.platforms.kserve.identity import COMPONENT_LABEL, SERVICE_LABEL, owner_namespace
from fnbuild.platforms.kserve.records import RECORDS, FunctionRecord
from fnbuild.platforms.kserve.revision_record import RevisionRecord
from fnbuild.platforms.kserve.service_status import InferenceService
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster, if_allowed
from fnbuild.platforms.kubeclient.objects import KubeDeployment, Pod


@dataclass(frozen=True, slots=True)
class FunctionObjects:
    """The objects of a function.

    `service` is its InferenceService, or the one that it is a transformer of; `runtime` its serving
    runtime. A service without a record was deployed by another tool.
    """

    record: FunctionRecord
    service: InferenceService | None = None
    runtime: Raw | None = None

    @property
    def key(self) -> FunctionKey:
        return self.record.key

    @property
    def exists(self) -> bool:
        return self.record.exists or self.service is not None

    @property
    def is_managed(self) -> bool:
        return self.record.exists

    @property
    def described_by(self) -> RevisionRecord | None:
        """The revision that describes the function: the applied one, or the newest."""
        return self.record.applied or next(iter(self.record.revisions), None)

    @property
    def settings(self) -> KServeSettings:
        revision = self.described_by
        return KServeSettings() if revision is None else kserve_settings(revision.function)

    @property
    def components(self) -> tuple[str, ...]:
        """The components of the function: the transformer of another function is one only."""
        if not self.is_managed:
            return tuple(self.service.components) if self.service is not None else ()
        settings = self.settings
        if settings.component == "predictor" or settings.inference_service:
            return (settings.component,)
        return ("predictor", "transformer")

    @property
    def service_name(self) -> str:
        return self.settings.inference_service or self.key.name


def read_function(cluster: Cluster, key: FunctionKey) -> FunctionObjects:
    """Return the objects of a function; see `FunctionObjects.exists`."""
    objects = FunctionObjects(RECORDS.read(cluster, key))
    if not cluster.serves(kinds.INFERENCE_SERVICE):
        return objects
    if (runtime := objects.settings.serving_runtime) is not None:
        return FunctionObjects(objects.record, None, read_runtime(cluster, key, runtime))
    service = cluster.get(kinds.INFERENCE_SERVICE, key.namespace, objects.service_name)
    typed = None if service is None else InferenceService(service)
    return FunctionObjects(objects.record, typed)


def read_runtime(cluster: Cluster, key: FunctionKey, settings: RuntimeSettings) -> Raw | None:
    """Return the serving runtime of a function, unless it is that of another namespace."""
    kind = kinds.CLUSTER_SERVING_RUNTIME if settings.cluster else kinds.SERVING_RUNTIME
    runtime = cluster.get(kind, key.namespace, key.name)
    is_own = runtime is not None and owner_namespace(runtime) in ("", key.namespace)
    return runtime if is_own else None


def existing_function(cluster: Cluster, key: FunctionKey) -> FunctionObjects:
    """Return the objects of a function. Raises `NotFoundError` if it does not exist."""
    objects = read_function(cluster, key)
    if not objects.exists:
        all_records = if_allowed(lambda: RECORDS.read_all(cluster, None), [])
        raise function_not_found_error(*key, [record.key for record in all_records])
    return objects


def list_functions(cluster: Cluster, namespace: str) -> list[FunctionObjects]:
    """Return the functions of a namespace by name, including services of other tools."""
    all_records = {record.key.name: record for record in RECORDS.read_all(cluster, namespace)}
    services: dict[str, InferenceService] = {}
    if cluster.serves(kinds.INFERENCE_SERVICE):
        listed = map(InferenceService, cluster.list(kinds.INFERENCE_SERVICE, namespace))
        services = {service.name: service for service in listed}
    functions = []
    for name in sorted({*all_records, *services}):
        key = FunctionKey(namespace, name)
        objects = FunctionObjects(all_records.get(name) or RECORDS.empty(key))
        runtime = None
        if (settings := objects.settings.serving_runtime) is not None:
            runtime = read_runtime(cluster, key, settings)
        service = None if settings is not None else services.get(objects.service_name)
        functions.append(FunctionObjects(objects.record, service, runtime))
    return functions


def list_pods(cluster: Cluster, objects: FunctionObjects) -> list[Pod]:
    """Return the pods of the function's components, oldest first."""
    if objects.settings.serving_runtime is not None:
        return []
    selector = f"{SERVICE_LABEL}={objects.service_name}"
    pods = map(Pod, cluster.list(kinds.POD, objects.key.namespace, labels=selector))
    own = [pod for pod in pods if pod.labels.get(COMPONENT_LABEL) in (None, *objects.components)]
    return sorted(own, key=lambda pod: (pod.created, pod.name))


def list_deployments(cluster: Cluster, objects: FunctionObjects) -> list[KubeDeployment]:
    """Return the Deployments of the service in Standard mode; Knative has others."""
    selector = f"{SERVICE_LABEL}={objects.service_name}"
    listed = if_allowed(
        lambda: cluster.list(kinds.DEPLOYMENT, objects.key.namespace, labels=selector), []
    )
    return list(map(KubeDeployment, listed))


def require_managed(objects: FunctionObjects) -> None:
    """Raise `NotFoundError` for a service of another tool: nothing of it is on record."""
    if not objects.is_managed:
        raise NotFoundError(
            f"InferenceService {objects.key.name} was not deployed by fnbuild, so no revision of it"
            " is recorded",
            hint="`kubectl get inferenceservice` shows it; deploy it from its manifest with another"
            " name",
        )
