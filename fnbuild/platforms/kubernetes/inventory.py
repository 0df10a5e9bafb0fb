"""The objects of functions in a cluster, found by Nuclio's names and labels.

Requests are sent concurrently: the latency of a request dominates.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from fnbuild.errors import ForbiddenError
from fnbuild.function.types import Raw
from fnbuild.platforms.errors import function_not_found_error
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster, if_allowed
from fnbuild.platforms.kubeclient.errors import RequestSubject, namespace_not_found_error
from fnbuild.platforms.kubeclient.objects import KubeDeployment, Pod
from fnbuild.platforms.kubeclient.ownership import is_managed, labels_of
from fnbuild.platforms.kubernetes import labels
from fnbuild.platforms.kubernetes.labels import KubernetesKey, parse_object, section
from fnbuild.platforms.kubernetes.manifests.keda import SCALER_NAME
from fnbuild.platforms.kubernetes.revision_record import RevisionRecord

IMPORTED_KEY = "function"
"""The key of the ConfigMap with the configuration of an imported function, as JSON."""

PENDING_KEY = "wanted"
"""The key of the ConfigMap with the configuration during the first deploy, as JSON."""

_IMPORTS_SELECTOR = f"{labels.RECORD}=imported"
_LISTED_RECORDS_SELECTOR = f"{labels.RECORD} in (imported,{labels.CHANGING_RECORD})"

T = TypeVar("T")


@dataclass(slots=True)
class FunctionObjects:
    """The objects of a function in the cluster.

    `config_map` holds its revisions, or its import. Lists of functions read it only for imports,
    for functions that are being changed, and for those without a Deployment. `hpa` is read only for
    a single function. Objects of the same name that fnbuild does not manage are included: see
    `has_unmanaged_objects`.
    """

    key: KubernetesKey
    deployment: KubeDeployment | None = None
    service: Raw | None = None
    ingress: Raw | None = None
    hpa: Raw | None = None
    config_map: Raw | None = None

    @property
    def exists(self) -> bool:
        """True if the objects are a function, whether or not fnbuild manages it."""
        return _is_function(self.deployment) or any(
            is_managed(obj) for obj in (self.deployment, self.service, self.config_map)
        )

    @property
    def has_unmanaged_objects(self) -> bool:
        """True if fnbuild does not manage one of the objects; Nuclio may have created it."""
        return bool(self.unmanaged_objects)

    @property
    def unmanaged_objects(self) -> list[str]:
        """The names of the objects that fnbuild does not manage, as in `Deployment nuclio-NAME`."""
        objects = (self.deployment, self.service, self.ingress, self.hpa, self.config_map)
        return [
            f"{obj['kind']} {obj['metadata']['name']}"
            for obj in objects
            if obj is not None and not is_managed(obj)
        ]

    @property
    def imported_config(self) -> Raw | None:
        """The configuration of an imported function that has not been deployed."""
        return self._config(IMPORTED_KEY)

    @property
    def pending_config(self) -> Raw | None:
        """The configuration of the first deploy, which is in progress or was interrupted."""
        return self._config(PENDING_KEY)

    def _config(self, name: str) -> Raw | None:
        text = section(self.config_map or {}, "data").get(name)
        return None if text is None else parse_object(text)

    def is_leased(self, now: float) -> bool:
        """Return True if the lease has not expired at `now`, in seconds since the epoch."""
        until = self.lease.get("until")
        return isinstance(until, int | float) and until > now

    @property
    def lease(self) -> Raw:
        """The lease of the last change, unless it was released."""
        return parse_object(self.annotation(labels.LEASE))

    @property
    def node_port(self) -> int:
        """The node port that the function had when it was last changed; 0 for none."""
        text = self.annotation(labels.NODE_PORT)
        return int(text) if text.isdecimal() else 0

    def annotation(self, name: str) -> str:
        """Return an annotation of the ConfigMap, or ""."""
        return str(section(self.config_map or {}, "metadata", "annotations").get(name, ""))

    @property
    def applied_revision(self) -> RevisionRecord | None:
        """The revision of the Deployment, which may not be ready; None without a managed one.

        Raises `ConfigError` for a configuration that cannot be read.
        """
        return RevisionRecord.from_deployment(self.deployment)

    @property
    def is_scaled_to_zero_by_keda(self) -> bool:
        """True if KEDA may end all pods, and starts one for a request through its interceptor."""
        if self.deployment is None:
            return False
        return self.deployment.annotations.get(labels.SCALER) == SCALER_NAME

    @property
    def project(self) -> str:
        """The project of the labels, which exist even if the configuration cannot be read."""
        objects = (self.deployment, self.service, self.config_map)
        candidates = (labels_of(obj).get(labels.PROJECT) for obj in objects if obj is not None)
        return next(filter(None, candidates), "default")


def list_functions(cluster: Cluster, namespace: str) -> list[FunctionObjects]:
    """Return all functions of a namespace, by name, including those of other tools."""
    listed = run_concurrently(
        lambda: cluster.list(kinds.DEPLOYMENT, namespace, labels=labels.FUNCTIONS_SELECTOR),
        lambda: cluster.list(kinds.SERVICE, namespace, labels=labels.FUNCTIONS_SELECTOR),
        lambda: if_allowed(
            lambda: cluster.list(kinds.INGRESS, namespace, labels=labels.FUNCTIONS_SELECTOR), ()
        ),
        lambda: cluster.list(kinds.CONFIG_MAP, namespace, labels=_LISTED_RECORDS_SELECTOR),
    )
    deployments, services, ingresses, records = (
        {_name(obj): obj for obj in objects} for objects in listed
    )
    names = [*deployments, *(name for name, obj in services.items() if is_managed(obj)), *records]
    for name in set(names) - {*deployments, *records}:
        # Without a Deployment, the record describes the function.
        if (record := cluster.get(kinds.CONFIG_MAP, namespace, name)) is not None:
            records[name] = record
    return [
        FunctionObjects(
            KubernetesKey(namespace, name.removeprefix(labels.OBJECT_PREFIX)),
            KubeDeployment(deployments[name]) if name in deployments else None,
            services.get(name),
            ingresses.get(name),
            config_map=records.get(name),
        )
        for name in sorted(set(names))
        if name.startswith(labels.OBJECT_PREFIX)
    ]


def read_function(cluster: Cluster, key: KubernetesKey) -> FunctionObjects:
    """Return the objects of a function; see `FunctionObjects.exists`."""
    deployment, service, ingress, hpa, record = run_concurrently(
        lambda: cluster.get(kinds.DEPLOYMENT, key.namespace, key.object_name),
        lambda: cluster.get(kinds.SERVICE, key.namespace, key.object_name),
        lambda: if_allowed(
            lambda: cluster.get(kinds.INGRESS, key.namespace, key.object_name), None
        ),
        # All clusters serve this version, whichever the object was created with.
        lambda: if_allowed(lambda: cluster.get(kinds.HPA_V1, key.namespace, key.object_name), None),
        lambda: cluster.get(kinds.CONFIG_MAP, key.namespace, key.object_name),
    )
    typed = None if deployment is None else KubeDeployment(deployment)
    return FunctionObjects(key, typed, service, ingress, hpa, record)


def existing_function(cluster: Cluster, key: KubernetesKey) -> FunctionObjects:
    """Return the objects of a function. Raises `NotFoundError` if it does not exist."""
    objects = read_function(cluster, key)
    if not objects.exists:
        raise function_not_found_error(*key, list_all_keys(cluster))
    return objects


def require_namespace(cluster: Cluster, namespace: str) -> None:
    """Raise `NotFoundError` if the namespace does not exist and this user may see that."""
    try:
        namespace_object = cluster.get(kinds.NAMESPACE, "", namespace)
    except ForbiddenError:
        return
    if namespace_object is None:
        subject = RequestSubject("list", server=cluster.server, context=cluster.context)
        raise namespace_not_found_error(namespace, subject)


def list_all_keys(cluster: Cluster) -> list[KubernetesKey]:
    """Return the keys of functions in all namespaces; none if listing them is forbidden."""
    listed = run_concurrently(
        lambda: if_allowed(
            lambda: cluster.list(kinds.DEPLOYMENT, None, labels=labels.FUNCTIONS_SELECTOR), ()
        ),
        lambda: if_allowed(
            lambda: cluster.list(kinds.CONFIG_MAP, None, labels=_IMPORTS_SELECTOR), ()
        ),
    )
    return sorted({KubernetesKey.of_object(obj) for objects in listed for obj in objects})


def list_pods(cluster: Cluster, key: KubernetesKey) -> list[Pod]:
    """Return the pods of all revisions of a function."""
    return list(map(Pod, cluster.list(kinds.POD, key.namespace, labels=key.selector)))


def list_namespace_pods(cluster: Cluster, namespace: str) -> list[Pod]:
    """Return the pods of all functions of a namespace."""
    return list(map(Pod, cluster.list(kinds.POD, namespace, labels=labels.FUNCTIONS_SELECTOR)))


def default_pull_secret(cluster: Cluster, namespace: str) -> str:
    """Return the default pull secret of functions, or "" if it is missing or forbidden."""
    secret = if_allowed(lambda: cluster.get(kinds.SECRET, namespace, labels.PULL_SECRET), None)
    return labels.PULL_SECRET if secret is not None else ""


def run_concurrently(*queries: Callable[[], T]) -> list[T]:
    """Run the queries concurrently, and return their results in order."""
    with ThreadPoolExecutor(len(queries)) as pool:
        return [future.result() for future in [pool.submit(query) for query in queries]]


def _is_function(deployment: Raw | None) -> bool:
    return deployment is not None and labels_of(deployment).get(labels.CLASS) == "function"


def _name(obj: Raw) -> str:
    return str(obj["metadata"]["name"])
