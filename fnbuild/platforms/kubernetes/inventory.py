"""What the cluster has of functions, found by Nuclio's names and labels in few requests.

All that is asked for one namespace is asked at the same time: the cluster needs longer for one
answer than for several at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.errors import ForbiddenError, RequestInfo, namespace_not_found
from fnbuild.platforms.kubernetes import labels as own
from fnbuild.platforms.kubernetes.labels import KubernetesKey, RevisionRecord, parse_object

IMPORTED_KEY = "function"
"""The key of an imported function's ConfigMap below which its configuration is, as JSON."""

FUNCTIONS_SELECTOR = f"{own.CLASS}=function"
NODE_PORT_ANNOTATION = "fnbuild.io/node-port"
"""The annotation of the ConfigMap that keeps the function's node port, should its Service go."""

LEASE_ANNOTATION = "fnbuild.io/deploying"
"""The annotation of the ConfigMap while somebody changes the function, as JSON; see `claims`."""

CHANGING_RECORD = "changing"
"""What the record's label of its kind says meanwhile, so that lists find it."""

PENDING_KEY = "wanted"
"""The key of the ConfigMap below which a function's configuration is while its first deploy is
under way, as JSON."""

_IMPORTS_SELECTOR = f"{own.RECORD}=imported"
_LISTED_RECORDS_SELECTOR = f"{own.RECORD} in (imported,{CHANGING_RECORD})"
_PREFIX = "nuclio-"

T = TypeVar("T")


@dataclass(slots=True)
class FunctionObjects:
    """All that the cluster has of one function.

    `record` is the ConfigMap of its name: the revisions, or an import; where many functions are
    listed only those of imports are read, of functions that are being changed, and of those whose
    Deployment is gone. `hpa` is read for one function alone. Objects of that name that are none of
    fnbuild's are here as well: see `foreign`.
    """

    key: KubernetesKey
    deployment: Raw | None = None
    service: Raw | None = None
    ingress: Raw | None = None
    hpa: Raw | None = None
    record: Raw | None = None

    @property
    def there(self) -> bool:
        """Whether this is a function at all, of fnbuild or of somebody else."""
        return _is_function(self.deployment) or any(
            is_managed(one) for one in (self.deployment, self.service, self.record)
        )

    @property
    def foreign(self) -> bool:
        """Whether an object of that name is somebody else's, who may be Nuclio itself."""
        return any(one is not None and not is_managed(one) for one in self._objects())

    @property
    def strangers(self) -> list[str]:
        """Those objects, as `Deployment nuclio-NAME`."""
        return [
            f"{one['kind']} {one['metadata']['name']}"
            for one in self._objects()
            if one is not None and not is_managed(one)
        ]

    def _objects(self) -> Iterator[Raw | None]:
        yield from (self.deployment, self.service, self.ingress, self.hpa, self.record)

    @property
    def imported(self) -> Raw | None:
        """The configuration of a function that has only been imported."""
        text = self._data.get(IMPORTED_KEY)
        return None if text is None else parse_object(text)

    @property
    def wanted(self) -> Raw | None:
        """The configuration that its first deploy is to bring, which may be under way."""
        text = self._data.get(PENDING_KEY)
        return None if text is None else parse_object(text)

    @property
    def _data(self) -> Raw:
        return (self.record or {}).get("data") or {}

    def claimed(self, now: float) -> bool:
        """Whether somebody changes the function; `now` is in seconds since the epoch."""
        until = self.claim.get("until")
        return isinstance(until, int | float) and until > now

    @property
    def claim(self) -> Raw:
        """What was noted by who changed the function last, unless that has ended well."""
        return parse_object(self._noted(LEASE_ANNOTATION))

    @property
    def node_port(self) -> int:
        """The node port that the function had when it was last changed; 0 for none."""
        text = self._noted(NODE_PORT_ANNOTATION)
        return int(text) if text.isdecimal() else 0

    def _noted(self, name: str) -> str:
        """An annotation of the record."""
        annotations = (self.record or {}).get("metadata", {}).get("annotations") or {}
        return str(annotations.get(name, ""))

    @property
    def made(self) -> RevisionRecord | None:
        """The revision that runs, or is to run; None without a Deployment of fnbuild's.

        Raises `ConfigError` for a configuration that cannot be read.
        """
        return (
            RevisionRecord.of_deployment(self.deployment) if self.deployment is not None else None
        )

    @property
    def project(self) -> str:
        """As a label says it: it can be read where the configuration cannot."""
        some = (self.deployment, self.service, self.record)
        found = (labels_of(one).get(own.PROJECT) for one in some if one is not None)
        return next(filter(None, found), "default")


def list_functions(cluster: Cluster, namespace: str) -> list[FunctionObjects]:
    """All functions of the namespace by name, those of other makers as well."""
    listed = run_concurrently(
        lambda: cluster.list(kinds.DEPLOYMENT, namespace, labels=FUNCTIONS_SELECTOR),
        lambda: cluster.list(kinds.SERVICE, namespace, labels=FUNCTIONS_SELECTOR),
        lambda: _list_if_allowed(
            lambda: cluster.list(kinds.INGRESS, namespace, labels=FUNCTIONS_SELECTOR)
        ),
        lambda: cluster.list(kinds.CONFIG_MAP, namespace, labels=_LISTED_RECORDS_SELECTOR),
    )
    deployments, services, ingresses, records = (
        {_name(one): one for one in some} for some in listed
    )
    made = [*deployments, *(name for name, one in services.items() if is_managed(one)), *records]
    for name in set(made) - {*deployments, *records}:
        # What is there without its Deployment, the record tells.
        if (record := cluster.get(kinds.CONFIG_MAP, namespace, name)) is not None:
            records[name] = record
    return [
        FunctionObjects(
            KubernetesKey(namespace, name.removeprefix(_PREFIX)),
            deployments.get(name),
            services.get(name),
            ingresses.get(name),
            record=records.get(name),
        )
        for name in sorted(set(made))
        if name.startswith(_PREFIX)
    ]


def read_function(cluster: Cluster, key: KubernetesKey) -> FunctionObjects:
    """What there is of one function; nothing when `there` is false."""
    deployment, service, ingress, hpa, record = run_concurrently(
        lambda: cluster.get(kinds.DEPLOYMENT, key.namespace, key.object),
        lambda: cluster.get(kinds.SERVICE, key.namespace, key.object),
        lambda: _get_if_allowed(lambda: cluster.get(kinds.INGRESS, key.namespace, key.object)),
        # Every cluster serves this version, whatever the object was made with.
        lambda: _get_if_allowed(lambda: cluster.get(kinds.HPA_V1, key.namespace, key.object)),
        lambda: cluster.get(kinds.CONFIG_MAP, key.namespace, key.object),
    )
    return FunctionObjects(key, deployment, service, ingress, hpa, record)


def require_namespace(cluster: Cluster, namespace: str) -> None:
    """Raises `NotFoundError` when there is none; who may not see namespaces hears nothing."""
    try:
        found = cluster.get(kinds.NAMESPACE, "", namespace)
    except ForbiddenError:
        return
    if found is None:
        asked = RequestInfo("list", server=cluster.server, context=cluster.context)
        raise namespace_not_found(namespace, asked)


def list_all_keys(cluster: Cluster) -> list[KubernetesKey]:
    """The functions of all namespaces, for who looks for one; none where that is forbidden."""
    listed = run_concurrently(
        lambda: _list_if_allowed(
            lambda: cluster.list(kinds.DEPLOYMENT, None, labels=FUNCTIONS_SELECTOR)
        ),
        lambda: _list_if_allowed(
            lambda: cluster.list(kinds.CONFIG_MAP, None, labels=_IMPORTS_SELECTOR)
        ),
    )
    return sorted(
        {
            KubernetesKey(one["metadata"]["namespace"], _name(one).removeprefix(_PREFIX))
            for some in listed
            for one in some
        }
    )


def list_pods(cluster: Cluster, key: KubernetesKey) -> list[Raw]:
    """All pods of one function, of every revision."""
    return cluster.list(
        kinds.POD, key.namespace, labels=f"{FUNCTIONS_SELECTOR},{own.FUNCTION}={key.name}"
    )


def run_concurrently(*questions: Callable[[], T]) -> list[T]:
    """The answers in the order of the questions, which are asked at the same time."""
    with ThreadPoolExecutor(len(questions)) as pool:
        return [asked.result() for asked in [pool.submit(one) for one in questions]]


def is_managed(one: Raw | None) -> bool:
    """Whether fnbuild has made the object."""
    return one is not None and labels_of(one).get(own.MANAGED_BY) == own.MANAGER


def labels_of(one: Raw) -> dict[str, str]:
    return one["metadata"].get("labels") or {}


def _is_function(deployment: Raw | None) -> bool:
    return deployment is not None and labels_of(deployment).get(own.CLASS) == "function"


def _name(one: Raw) -> str:
    return str(one["metadata"]["name"])


def _list_if_allowed(asking: Callable[[], list[Raw]]) -> list[Raw]:
    """Nothing where it is forbidden: what only adds to the picture must not hide it."""
    try:
        return asking()
    except ForbiddenError:
        return []


def _get_if_allowed(asking: Callable[[], Raw | None]) -> Raw | None:
    try:
        return asking()
    except ForbiddenError:
        return None
