"""The checks of a cluster by `fnbuild doctor`."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace

from fnbuild.errors import ForbiddenError
from fnbuild.platforms import Finding
from fnbuild.platforms.checks import Check, is_selected, run_checks
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.kinds import Kind
from fnbuild.platforms.kubeclient.objects import KubeObject, Node
from fnbuild.platforms.kubeclient.permissions import check_permissions
from fnbuild.platforms.kubernetes.doctor import image_pull, nodes
from fnbuild.platforms.kubernetes.doctor.permissions import (
    KEDA_PERMISSIONS,
    REQUIRED_PERMISSIONS,
)
from fnbuild.platforms.kubernetes.labels import FNBUILD_SELECTOR
from fnbuild.platforms.kubernetes.pod_status import join_words, parse_timestamp

_KUBECONFIG_AREA = "kubeconfig"
_AREAS = (_KUBECONFIG_AREA, "rights", "nodes", "gpu", "clock", "storage", "node-ports", "registry")
_OLDEST_VERSION = (1, 20)
_LEASE_NAMESPACE = "kube-node-lease"
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_SKEW_SECONDS = 5.0
# Nodes renew every 10 s, and count as ready for 40 s after the last time.
_STALE_SECONDS = 60.0
_CLOCK_REMEDY = "let all machines keep their clocks by NTP; tokens and certificates depend on it"


def examine(
    connect: Callable[[], Cluster],
    namespace: str,
    areas: Collection[str] = (),
    image: str = "",
    architecture: str = "",
) -> Iterator[Finding]:
    """Yield the findings about a cluster; see `Platform.examine`."""
    if not is_selected(areas, *_AREAS):
        return
    clusters: list[Cluster] = []
    connection = Check(_KUBECONFIG_AREA, lambda: _check_connection(connect, clusters))
    for finding in run_checks((connection,)):
        if is_selected(areas, _KUBECONFIG_AREA) or finding.state == "failure":
            yield finding
    if clusters:
        examination = _Examination(clusters[0], namespace, is_selected(areas, "rights"))
        yield from examination.findings(areas, image, architecture)


def _check_connection(connect: Callable[[], Cluster], clusters: list[Cluster]) -> Iterator[Finding]:
    """Check the connection, and add the cluster to `clusters`."""
    cluster = connect()
    location = cluster.transport.location
    where = "this pod's own cluster"
    if location.context:
        where = f"context {location.context} of {location.file}"
    version = cluster.version
    clusters.append(cluster)
    text = f"Kubernetes {version} answers at {cluster.server} ({where})"
    number = tuple(map(int, re.findall(r"\d+", version)[:2]))
    if number < _OLDEST_VERSION:
        oldest = ".".join(map(str, _OLDEST_VERSION))
        remedy = f"fnbuild is tried with {oldest} and later"
        yield Finding(_KUBECONFIG_AREA, "warning", text, remedy)
    else:
        yield Finding(_KUBECONFIG_AREA, "ok", text)


@dataclass(slots=True)
class _Examination:
    """An examination of a cluster. Of the findings that nodes are forbidden, one has a remedy."""

    cluster: Cluster
    namespace: str
    remedy_given: bool
    _nodes: list[Node] | None = None

    def findings(self, areas: Collection[str], image: str, architecture: str) -> Iterator[Finding]:
        stopped = threading.Event()
        checks = [
            Check(_KUBECONFIG_AREA, self._check_namespace),
            Check("rights", self._check_permissions),
            self._node_check("nodes", lambda listed: _check_nodes(listed, architecture)),
            self._node_check("gpu", self._check_gpus),
            Check("clock", self._check_clocks),
            Check("storage", self._check_storage),
            self._node_check("node-ports", self._check_node_ports),
        ]
        if image:
            seconds = image_pull.TIMEOUT_SECONDS + 15
            checks.append(Check("registry", lambda: self._check_pull(image, stopped), seconds))
        yield from run_checks(checks, areas, stopped)

    def _check_permissions(self) -> Iterator[Finding]:
        served = (item for item in KEDA_PERMISSIONS if self.cluster.serves(item.kind))
        return check_permissions(self.cluster, self.namespace, (*REQUIRED_PERMISSIONS, *served))

    def _check_namespace(self) -> Iterator[Finding]:
        yield self._namespace_problem() or Finding(
            _KUBECONFIG_AREA, "ok", f'namespace "{self.namespace}" is there'
        )

    def _namespace_problem(self) -> Finding | None:
        """Return a problem of the namespace, or None; without access to it, None as well."""
        name = self.namespace
        try:
            namespace = self.cluster.get(kinds.NAMESPACE, "", name)
        except ForbiddenError:
            # A user with access to one namespace only may not read namespaces.
            return None
        if namespace is None:
            text = f'there is no namespace "{name}"'
            remedy = f"`kubectl create namespace {name}`, or name another one with `-n`"
            return Finding(_KUBECONFIG_AREA, "failure", text, remedy)
        if KubeObject(namespace).status.get("phase") == "Terminating":
            text = f'namespace "{name}" is being deleted'
            return Finding(
                _KUBECONFIG_AREA, "failure", text, "wait until it is gone, or use another one"
            )
        return None

    def _node_check(self, area: str, check: Callable[[list[Node]], Iterator[Finding]]) -> Check:
        """Return a check of the nodes, which is skipped if this user may not list them."""

        def run() -> Iterator[Finding]:
            try:
                if self._nodes is None:
                    self._nodes = list(map(Node, self.cluster.list(kinds.NODE, None)))
            except ForbiddenError as error:
                finding = _skipped_finding(area, error)
                yield replace(finding, remedy="") if self.remedy_given else finding
                self.remedy_given = True
            else:
                yield from check(self._nodes)

        return Check(area, run)

    def _list_objects(self, kind: Kind) -> list[KubeObject]:
        """Return the objects of functions in the namespace."""
        listed = self.cluster.list(kind, self.namespace, labels=FNBUILD_SELECTOR)
        return list(map(KubeObject, listed))

    def _check_gpus(self, listed: list[Node]) -> Iterator[Finding]:
        plugins: list[KubeObject] = []
        with contextlib.suppress(ForbiddenError):
            every = map(KubeObject, self.cluster.list(kinds.DAEMON_SET, None))
            plugins = [daemon_set for daemon_set in every if nodes.is_device_plugin(daemon_set)]
        yield from nodes.check_gpus(listed, plugins)

    def _check_clocks(self) -> Iterator[Finding]:
        before = time.time()
        server = self.cluster.transport.server_time()
        local_time = (before + time.time()) / 2
        if server is None:
            yield Finding("clock", "skipped", "the API server sends no date")
            return
        # The header has a resolution of seconds: add half a second on average.
        skew = server + 0.5 - local_time
        if abs(skew) > _SKEW_SECONDS:
            text = f"the API server's clock is {abs(skew):.0f} s {_direction(skew)} this machine's"
            yield Finding("clock", "warning", text, _CLOCK_REMEDY)
        else:
            yield Finding("clock", "ok", "the API server's clock and this machine's agree")
        with contextlib.suppress(ForbiddenError):
            leases = self.cluster.list(kinds.LEASE, _LEASE_NAMESPACE)
            yield from check_node_clocks(list(map(KubeObject, leases)), local_time + skew)

    def _check_storage(self) -> Iterator[Finding]:
        try:
            classes = list(map(KubeObject, self.cluster.list(kinds.STORAGE_CLASS, None)))
        except ForbiddenError as error:
            yield _skipped_finding("storage", error)
            return
        names = [
            storage_class.name + (" (default)" if _is_default(storage_class) else "")
            for storage_class in classes
        ]
        if not names:
            text = "no storage class: a claim of spec.volumes needs a volume made by hand"
        elif any(map(_is_default, classes)):
            text = f"volumes can be had of storage class {join_words(sorted(names), 'or')}"
        else:
            text = f"claims have to name a storage class, {join_words(sorted(names), 'or')}"
        yield Finding("storage", "ok", text)

    def _check_pull(self, image: str, stopped: threading.Event) -> Iterator[Finding]:
        if problem := self._namespace_problem():
            yield Finding("registry", "skipped", f"no pull was tried: {problem.message}")
        else:
            yield from image_pull.check_pull(self.cluster, self.namespace, image, stopped)

    def _check_node_ports(self, listed: list[Node]) -> Iterator[Finding]:
        services: list[KubeObject] = []
        endpoints: list[KubeObject] | None = None
        with contextlib.suppress(ForbiddenError):
            services = self._list_objects(kinds.SERVICE)
            endpoints = self._list_objects(kinds.ENDPOINTS)
        yield from nodes.check_node_ports(listed, services, endpoints)


def _check_nodes(listed: list[Node], architecture: str) -> Iterator[Finding]:
    yield from nodes.check_readiness(listed)
    if architecture and listed:
        yield from nodes.check_architecture(listed, architecture)


def check_node_clocks(leases: list[KubeObject], now: float) -> Iterator[Finding]:
    """Check the nodes' clocks by the renewal times of their leases.

    `now` is the API server's time in seconds since the epoch.
    """
    has_skew = False
    for lease in leases:
        renewed = parse_timestamp(lease.spec.text("renewTime"))
        if renewed is None or -_STALE_SECONDS < (skew := renewed - now) < _SKEW_SECONDS:
            continue
        has_skew = True
        name = lease.name
        if skew > 0:
            text = f"the clock of node {name} is {skew:.0f} s ahead of the API server's"
        else:
            text = (
                f"node {name} renewed its lease {-skew:.0f} s ago: its clock is behind, or it"
                " does not answer"
            )
        yield Finding("clock", "warning", text, _CLOCK_REMEDY)
    if leases and not has_skew:
        count = f"{len(leases)} node{'' if len(leases) == 1 else 's'}"
        yield Finding("clock", "ok", f"the clock of {count} agrees with the API server's")


def _direction(skew: float) -> str:
    return "ahead of" if skew > 0 else "behind"


def _is_default(storage_class: KubeObject) -> bool:
    return storage_class.annotations.get(_DEFAULT_CLASS) == "true"


def _skipped_finding(area: str, error: ForbiddenError) -> Finding:
    return Finding(area, "skipped", f"not checked: {error.message}", error.grant)
