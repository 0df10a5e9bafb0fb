"""The checks of a cluster by `fnbuild doctor`."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

from fnbuild.errors import ForbiddenError
from fnbuild.platforms import Finding
from fnbuild.platforms.checks import Check, is_selected, run_checks
from fnbuild.platforms.kubeclient import kinds, permissions
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.kinds import Kind
from fnbuild.platforms.kubeclient.objects import KubeObject, Node
from fnbuild.platforms.kubernetes.doctor import image_pull, nodes
from fnbuild.platforms.kubernetes.doctor.permissions import REQUIRED_PERMISSIONS
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
    return _Examination(connect, namespace).findings(areas, image, architecture)


class _Examination:
    """An examination of a cluster, with the objects that its checks share."""

    def __init__(self, connect: Callable[[], Cluster], namespace: str):
        self._connect = connect
        self._namespace = namespace
        self._cluster: Cluster | None = None
        self._nodes: list[Node] | None = None
        self._remedy_given = False

    def findings(self, areas: Collection[str], image: str, architecture: str) -> Iterator[Finding]:
        if not is_selected(areas, *_AREAS):
            return
        for finding in run_checks((Check(_KUBECONFIG_AREA, self._check_connection),)):
            if is_selected(areas, _KUBECONFIG_AREA) or finding.state == "failure":
                yield finding
        if self._cluster is None:
            return
        cluster, stopped = self._cluster, threading.Event()
        self._remedy_given = is_selected(areas, "rights")
        checks = [
            Check(_KUBECONFIG_AREA, self._check_namespace),
            Check(
                "rights",
                lambda: permissions.check_permissions(
                    cluster, self._namespace, REQUIRED_PERMISSIONS
                ),
            ),
            Check("nodes", lambda: self._check_nodes(architecture)),
            Check("gpu", self._check_gpus),
            Check("clock", self._check_clocks),
            Check("storage", self._check_storage),
            Check("node-ports", self._check_node_ports),
        ]
        if image:
            pull = Check(
                "registry",
                lambda: self._check_pull(image, stopped),
                image_pull.TIMEOUT_SECONDS + 15,
            )
            checks.append(pull)
        yield from run_checks(checks, areas, stopped)

    def _check_connection(self) -> Iterator[Finding]:
        cluster = self._connect()
        location = cluster.transport.location
        where = "this pod's own cluster"
        if location.context:
            where = f"context {location.context} of {location.file}"
        version = cluster.version
        self._cluster = cluster
        text = f"Kubernetes {version} answers at {cluster.server} ({where})"
        number = tuple(map(int, re.findall(r"\d+", version)[:2]))
        if number < _OLDEST_VERSION:
            oldest = ".".join(map(str, _OLDEST_VERSION))
            remedy = f"fnbuild is tried with {oldest} and later"
            yield Finding(_KUBECONFIG_AREA, "warning", text, remedy)
        else:
            yield Finding(_KUBECONFIG_AREA, "ok", text)

    def _check_namespace(self) -> Iterator[Finding]:
        yield self._namespace_problem() or Finding(
            _KUBECONFIG_AREA, "ok", f'namespace "{self._namespace}" is there'
        )

    def _namespace_problem(self) -> Finding | None:
        """Return a problem of the namespace, or None; without access to it, None as well."""
        assert self._cluster is not None
        name = self._namespace
        try:
            namespace = self._cluster.get(kinds.NAMESPACE, "", name)
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

    def _list_nodes(self) -> list[Node]:
        assert self._cluster is not None
        if self._nodes is None:
            self._nodes = list(map(Node, self._cluster.list(kinds.NODE, None)))
        return self._nodes

    def _list_objects(self, kind: Kind) -> list[KubeObject]:
        """Return the objects of functions in the namespace."""
        assert self._cluster is not None
        listed = self._cluster.list(kind, self._namespace, labels=FNBUILD_SELECTOR)
        return list(map(KubeObject, listed))

    def _nodes_forbidden(self, area: str, error: ForbiddenError) -> Finding:
        """Return the finding that nodes are forbidden; only the first one has a remedy."""
        finding = _skipped_finding(area, error)
        if self._remedy_given:
            return replace(finding, remedy="")
        self._remedy_given = True
        return finding

    def _check_nodes(self, architecture: str) -> Iterator[Finding]:
        try:
            nodes_seen = self._list_nodes()
        except ForbiddenError as error:
            yield self._nodes_forbidden("nodes", error)
            return
        yield from nodes.check_readiness(nodes_seen)
        if architecture and nodes_seen:
            yield from nodes.check_architecture(nodes_seen, architecture)

    def _check_gpus(self) -> Iterator[Finding]:
        assert self._cluster is not None
        try:
            nodes_seen = self._list_nodes()
        except ForbiddenError as error:
            yield self._nodes_forbidden("gpu", error)
            return
        plugins: list[KubeObject] = []
        with contextlib.suppress(ForbiddenError):
            every = map(KubeObject, self._cluster.list(kinds.DAEMON_SET, None))
            plugins = [daemon_set for daemon_set in every if nodes.is_device_plugin(daemon_set)]
        yield from nodes.check_gpus(nodes_seen, plugins)

    def _check_clocks(self) -> Iterator[Finding]:
        assert self._cluster is not None
        before = time.time()
        server = self._cluster.transport.server_time()
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
            leases = self._cluster.list(kinds.LEASE, _LEASE_NAMESPACE)
            yield from check_node_clocks(list(map(KubeObject, leases)), local_time + skew)

    def _check_storage(self) -> Iterator[Finding]:
        assert self._cluster is not None
        try:
            classes = list(map(KubeObject, self._cluster.list(kinds.STORAGE_CLASS, None)))
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
        assert self._cluster is not None
        if problem := self._namespace_problem():
            yield Finding("registry", "skipped", f"no pull was tried: {problem.message}")
        else:
            yield from image_pull.check_pull(self._cluster, self._namespace, image, stopped)

    def _check_node_ports(self) -> Iterator[Finding]:
        assert self._cluster is not None
        try:
            nodes_seen = self._list_nodes()
        except ForbiddenError as error:
            yield self._nodes_forbidden("node-ports", error)
            return
        services: list[KubeObject] = []
        endpoints: list[KubeObject] | None = None
        with contextlib.suppress(ForbiddenError):
            services = self._list_objects(kinds.SERVICE)
            endpoints = self._list_objects(kinds.ENDPOINTS)
        yield from nodes.check_node_ports(nodes_seen, services, endpoints)


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
