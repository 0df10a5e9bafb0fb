"""The checks of a cluster by `fnbuild doctor`."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

from fnbuild.function.types import Raw
from fnbuild.platforms import Finding
from fnbuild.platforms.checks import Check, is_selected, run_checks
from fnbuild.platforms.kubeclient import kinds, kubeconfig, permissions
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.errors import ForbiddenError
from fnbuild.platforms.kubernetes.doctor import image_pull, nodes
from fnbuild.platforms.kubernetes.doctor.permissions import REQUIRED_PERMISSIONS
from fnbuild.platforms.kubernetes.labels import FNBUILD_SELECTOR
from fnbuild.platforms.kubernetes.status import join_words, parse_timestamp

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
    """All that can be said, one by one; `connect` reaches the cluster, see `Platform.examine`."""
    return _Examination(connect, namespace).findings(areas, image, architecture)


class _Examination:
    """One look at one cluster, and what was seen so far."""

    def __init__(self, connect: Callable[[], Cluster], namespace: str):
        self._connect = connect
        self._namespace = namespace
        self._cluster: Cluster | None = None
        self._nodes: list[Raw] | None = None
        self._nodes_told = False

    def findings(self, areas: Collection[str], image: str, architecture: str) -> Iterator[Finding]:
        if not is_selected(areas, *_AREAS):
            return
        for finding in run_checks((Check(_KUBECONFIG_AREA, self._reached),)):
            if is_selected(areas, _KUBECONFIG_AREA) or finding.state == "failure":
                yield finding
        if self._cluster is None:
            return
        cluster, over = self._cluster, threading.Event()
        self._nodes_told = is_selected(areas, "rights")
        checks = [
            Check(_KUBECONFIG_AREA, self._namespace_there),
            Check(
                "rights",
                lambda: permissions.check_permissions(
                    cluster, self._namespace, REQUIRED_PERMISSIONS
                ),
            ),
            Check("nodes", lambda: self._ready(architecture)),
            Check("gpu", self._gpus),
            Check("clock", self._clocks),
            Check("storage", self._storage),
            Check("node-ports", self._node_ports),
        ]
        if image:
            pull = Check(
                "registry", lambda: self._pull(image, over), image_pull.TIMEOUT_SECONDS + 15
            )
            checks.append(pull)
        yield from run_checks(checks, areas, over)

    def _reached(self) -> Iterator[Finding]:
        cluster = self._connect()
        context = kubeconfig.current_context()
        where = "this pod's own cluster"
        if not cluster.in_cluster and context is not None:
            where = f"context {context.name} of {context.file}"
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

    def _namespace_there(self) -> Iterator[Finding]:
        yield self._lacking() or Finding(
            _KUBECONFIG_AREA, "ok", f'namespace "{self._namespace}" is there'
        )

    def _lacking(self) -> Finding | None:
        """What is wrong with the namespace, as far as it can be seen."""
        assert self._cluster is not None
        name = self._namespace
        try:
            found = self._cluster.get(kinds.NAMESPACE, "", name)
        except ForbiddenError:
            # Whoever may look at one namespace only sees no namespaces.
            return None
        if found is None:
            text = f'there is no namespace "{name}"'
            remedy = f"`kubectl create namespace {name}`, or name another one with `-n`"
            return Finding(_KUBECONFIG_AREA, "failure", text, remedy)
        if (found.get("status") or {}).get("phase") == "Terminating":
            text = f'namespace "{name}" is being deleted'
            return Finding(
                _KUBECONFIG_AREA, "failure", text, "wait until it is gone, or use another one"
            )
        return None

    def _known_nodes(self) -> list[Raw]:
        assert self._cluster is not None
        if self._nodes is None:
            self._nodes = self._cluster.list(kinds.NODE, None)
        return self._nodes

    def _without_nodes(self, area: str, error: ForbiddenError) -> Finding:
        """That nodes cannot be seen; how to mend that is said once."""
        found = _skipped_finding(area, error)
        if self._nodes_told:
            return replace(found, remedy="")
        self._nodes_told = True
        return found

    def _ready(self, architecture: str) -> Iterator[Finding]:
        try:
            known = self._known_nodes()
        except ForbiddenError as error:
            yield self._without_nodes("nodes", error)
            return
        yield from nodes.check_readiness(known)
        if architecture and known:
            yield from nodes.check_architecture(known, architecture)

    def _gpus(self) -> Iterator[Finding]:
        assert self._cluster is not None
        try:
            known = self._known_nodes()
        except ForbiddenError as error:
            yield self._without_nodes("gpu", error)
            return
        plugins: list[Raw] = []
        with contextlib.suppress(ForbiddenError):
            every = self._cluster.list(kinds.DAEMON_SET, None)
            plugins = [one for one in every if nodes.is_device_plugin(one)]
        yield from nodes.check_gpus(known, plugins)

    def _clocks(self) -> Iterator[Finding]:
        assert self._cluster is not None
        before = time.time()
        server = self._cluster.wire.date()
        here = (before + time.time()) / 2
        if server is None:
            yield Finding("clock", "skipped", "the API server does not tell its time")
            return
        # It tells whole seconds, so half a one is added on average.
        skew = server + 0.5 - here
        if abs(skew) > _SKEW_SECONDS:
            text = f"the API server's clock is {abs(skew):.0f} s {_direction(skew)} this machine's"
            yield Finding("clock", "warning", text, _CLOCK_REMEDY)
        else:
            yield Finding("clock", "ok", "the API server's clock and this machine's agree")
        with contextlib.suppress(ForbiddenError):
            leases = self._cluster.list(kinds.LEASE, _LEASE_NAMESPACE)
            yield from check_node_clocks(leases, here + skew)

    def _storage(self) -> Iterator[Finding]:
        assert self._cluster is not None
        try:
            classes = self._cluster.list(kinds.STORAGE_CLASS, None)
        except ForbiddenError as error:
            yield _skipped_finding("storage", error)
            return
        names = [
            str(one["metadata"]["name"]) + (" (default)" if _is_default(one) else "")
            for one in classes
        ]
        if not names:
            text = "no storage class: a claim of spec.volumes needs a volume made by hand"
        elif any(map(_is_default, classes)):
            text = f"volumes can be had of storage class {join_words(sorted(names), 'or')}"
        else:
            text = f"claims have to name a storage class, {join_words(sorted(names), 'or')}"
        yield Finding("storage", "ok", text)

    def _pull(self, image: str, over: threading.Event) -> Iterator[Finding]:
        assert self._cluster is not None
        if lacking := self._lacking():
            yield Finding("registry", "skipped", f"no pull was tried: {lacking.message}")
        else:
            yield from image_pull.check_pull(self._cluster, self._namespace, image, over)

    def _node_ports(self) -> Iterator[Finding]:
        assert self._cluster is not None
        try:
            known = self._known_nodes()
        except ForbiddenError as error:
            yield self._without_nodes("node-ports", error)
            return
        services: list[Raw] = []
        endpoints: list[Raw] | None = None
        with contextlib.suppress(ForbiddenError):
            services = self._cluster.list(kinds.SERVICE, self._namespace, labels=FNBUILD_SELECTOR)
            endpoints = self._cluster.list(
                kinds.ENDPOINTS, self._namespace, labels=FNBUILD_SELECTOR
            )
        yield from nodes.check_node_ports(known, services, endpoints)


def check_node_clocks(leases: list[Raw], now: float) -> Iterator[Finding]:
    """Of the leases that nodes renew by their own clocks: which are ahead, which behind.

    `now` is the API server's time in seconds since the epoch.
    """
    wrong = False
    for lease in leases:
        renewed = parse_timestamp((lease.get("spec") or {}).get("renewTime"))
        if renewed is None or -_STALE_SECONDS < (skew := renewed - now) < _SKEW_SECONDS:
            continue
        wrong = True
        name = lease["metadata"]["name"]
        if skew > 0:
            text = f"the clock of node {name} is {skew:.0f} s ahead of the API server's"
        else:
            text = (
                f"node {name} gives a sign of life {-skew:.0f} s old: its clock is behind, or it"
                " does not answer"
            )
        yield Finding("clock", "warning", text, _CLOCK_REMEDY)
    if leases and not wrong:
        count = f"{len(leases)} node{'' if len(leases) == 1 else 's'}"
        yield Finding("clock", "ok", f"the clock of {count} agrees with the API server's")


def _direction(skew: float) -> str:
    return "ahead of" if skew > 0 else "behind"


def _is_default(storage_class: Raw) -> bool:
    annotations = storage_class["metadata"].get("annotations") or {}
    return annotations.get(_DEFAULT_CLASS) == "true"


def _skipped_finding(area: str, error: ForbiddenError) -> Finding:
    return Finding(area, "skipped", f"this could not be looked at: {error.message}", error.grant)
