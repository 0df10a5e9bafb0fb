"""The client of a Kubernetes API. Objects are JSON mappings, as in `kubectl get -o json`."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cached_property

from fnbuild.errors import NotFoundError, UnavailableError
from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient import errors, kinds, streams
from fnbuild.platforms.kubeclient.errors import GoneError, RequestInfo
from fnbuild.platforms.kubeclient.kinds import Kind
from fnbuild.platforms.kubeclient.transport import APPLY, MERGE, ApiCall, Query, Transport

FIELD_MANAGER = "fnbuild"
"""What fnbuild is called among those that manage fields of objects."""

_PAGE_SIZE = 500
# The API server waits half a minute for a pod that is gone.
_PROXY_SECONDS = 3.0
_FIELD_MANAGER_QUERY = {"fieldManager": FIELD_MANAGER}

_Objects = list[Raw]
# In the class, `list` is a method.


class Cluster:
    """One cluster, seen by one user. Every method raises errors of fnbuild (`faults`).

    `server` is the API's URL, `context` the kubeconfig's ("" in a pod), `namespace` the one that
    the context names ("" for none). Threads may use one object at the same time.
    """

    def __init__(self, wire: Transport, context: str, namespace: str, *, in_cluster: bool = False):
        self.wire = wire
        self.server = wire.place.server
        self.context = context
        self.namespace = namespace
        self.in_cluster = in_cluster
        self._served: dict[str, set[str]] = {}
        self.close = weakref.finalize(self, wire.close)

    @cached_property
    def version(self) -> str:
        """The server's version, as in "v1.20.2"."""
        return str(
            self.wire.json(ApiCall("GET", "/version"), self._request("get")).get("gitVersion", "")
        )

    def serves(self, kind: Kind) -> bool:
        """Whether the server has this kind in this version of its API; asked once."""
        if kind.root not in self._served:
            try:
                found = self.wire.json(ApiCall("GET", kind.root), self._request("get", kind))
            except NotFoundError:
                found = {}
            self._served[kind.root] = {str(one["name"]) for one in found.get("resources") or []}
        return kind.plural in self._served[kind.root]

    # Reading

    def get(self, kind: Kind, namespace: str, name: str) -> Raw | None:
        """One object; None when there is none."""
        request = self._request("get", kind, namespace, name)
        try:
            return self.wire.json(ApiCall("GET", kind.path(namespace, name)), request)
        except NotFoundError:
            return None

    def list(
        self, kind: Kind, namespace: str | None, *, labels: str = "", fields: str = ""
    ) -> _Objects:
        """All objects, of all namespaces with None; selectors are as in `kubectl get -l`."""
        return self._listed(kind, namespace, labels, fields)[0]

    def _listed(
        self, kind: Kind, namespace: str | None, labels: str, fields: str
    ) -> tuple[_Objects, str]:
        """The same, and the version of the list, from which it can be watched."""
        request = self._request("list", kind, namespace)
        query: Query = {"limit": str(_PAGE_SIZE), **_selector_query(labels, fields)}
        path = kind.path(namespace)
        items: _Objects = []
        while True:
            try:
                page = self.wire.json(ApiCall("GET", path, query), request)
            except GoneError:  # the pages took too long: all at once
                items, query = [], _selector_query(labels, fields)
                continue
            for item in page.get("items") or []:
                items.append({"apiVersion": kind.api, "kind": kind.name, **item})
            about = page.get("metadata") or {}
            if not about.get("continue"):
                return items, str(about.get("resourceVersion", ""))
            query["continue"] = str(about["continue"])

    def watch(
        self,
        kind: Kind,
        namespace: str | None,
        *,
        labels: str = "",
        fields: str = "",
        seconds: float,
    ) -> Iterator[tuple[str, Raw]]:
        """What there is (as ADDED), then what changes: ADDED, MODIFIED, DELETED with the object.

        Ends after `seconds`. A change may be told twice, and none is left out.
        """
        call = ApiCall("GET", kind.path(namespace), _selector_query(labels, fields))
        source = streams.ApiStream(self.wire, call, self._request("watch", kind, namespace), kind)
        return streams.watch(source, lambda: self._listed(kind, namespace, labels, fields), seconds)

    # Writing

    def apply(self, manifest: Raw, *, dry_run: bool = False, force: bool = False) -> Raw:
        """Server-side apply; the object as it then is. With `dry_run` nothing is changed.

        Fields that others manage: `FieldConflictError`, unless `force` takes them over.
        """
        query = {**_FIELD_MANAGER_QUERY, "force": str(force).lower()}
        if dry_run:
            query["dryRun"] = "All"
        _, path, request = self._target("patch", manifest)
        return self.wire.json(ApiCall("PATCH", path, query, manifest, APPLY), request)

    def create(self, manifest: Raw) -> Raw:
        kind, _, request = self._target("create", manifest)
        return self.wire.json(
            ApiCall("POST", kind.path(request.namespace), _FIELD_MANAGER_QUERY, manifest), request
        )

    def replace(self, manifest: Raw) -> Raw:
        """Put it in place of what is there; `StaleError` when that is not what was read."""
        _, path, request = self._target("update", manifest)
        return self.wire.json(ApiCall("PUT", path, _FIELD_MANAGER_QUERY, manifest), request)

    def patch(self, kind: Kind, namespace: str, name: str, body: Raw) -> Raw:
        """A JSON merge patch (RFC 7386)."""
        request = self._request("patch", kind, namespace, name)
        call = ApiCall("PATCH", kind.path(namespace, name), _FIELD_MANAGER_QUERY, body, MERGE)
        return self.wire.json(call, request)

    def delete(self, kind: Kind, namespace: str, name: str) -> bool:
        """Remove it, and in the background what belongs to it; False when there was none."""
        request = self._request("delete", kind, namespace, name)
        call = ApiCall(
            "DELETE", kind.path(namespace, name), {}, {"propagationPolicy": "Background"}
        )
        try:
            self.wire.json(call, request)
        except NotFoundError:
            return False
        return True

    # Pods

    def logs(  # noqa: PLR0913 (what the API offers)
        self,
        namespace: str,
        pod: str,
        *,
        container: str = "nuclio",
        follow: bool = False,
        since: float | None = None,
        tail: int | None = None,
        previous: bool = False,
    ) -> Iterator[tuple[float, bytes]]:
        """Lines of a container's log with the node's time, oldest first.

        None of them when pod, container or log is not there (yet). `follow` goes on until the
        container ends.
        """
        source = self.log_source(
            namespace, pod, container=container, since=since, tail=tail, previous=previous
        )
        for moment_ns, line in streams.read_log(source, follow=follow):
            if since is None or moment_ns / 1e9 >= since:
                yield moment_ns / 1e9, line

    def log_source(  # noqa: PLR0913
        self,
        namespace: str,
        pod: str,
        *,
        container: str,
        since: float | None = None,
        tail: int | None = None,
        previous: bool = False,
    ) -> streams.ApiStream:
        """The same, not asked for yet; `since` is rounded down to whole seconds."""
        query: Query = {"container": container}
        if previous:
            query["previous"] = "true"
        if tail is not None:
            query["tailLines"] = str(tail)
        if since is not None:
            moment = datetime.fromtimestamp(max(0.0, since), UTC)
            query["sinceTime"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        request = self._request("get", kinds.POD, namespace, pod, "log")
        call = ApiCall("GET", kinds.POD.path(namespace, pod, "log"), query)
        return streams.ApiStream(self.wire, call, request, kinds.POD)

    def proxy(self, namespace: str, pod: str, port: int, path: str) -> bytes | None:
        """What the pod answers to a GET on this port; None when it does not answer soon."""
        request = self._request("get", kinds.POD, namespace, pod, "proxy")
        where = kinds.POD.path(namespace, f"{pod}:{port}", "proxy") + "/" + path.lstrip("/")
        try:
            status, answer = self.wire.answer(
                ApiCall("GET", where), patient=False, seconds=_PROXY_SECONDS
            )
        except UnavailableError:
            return None
        if status in {401, 403} and errors.parse_status(answer):
            raise self.wire.refused(status, answer, request)
        if status >= 400 and (errors.parse_status(answer) or b"trying to reach service" in answer):
            return None
        return answer

    # Rights

    def may(self, verb: str, kind: Kind, namespace: str, subresource: str = "") -> bool:
        """Whether this user has a right; `namespace` "" asks for all of them."""
        attributes = {
            "verb": verb,
            "group": kind.group,
            "resource": kind.plural,
            "namespace": namespace,
            "subresource": subresource,
        }
        review = {
            "apiVersion": kinds.ACCESS_REVIEW.api,
            "kind": kinds.ACCESS_REVIEW.name,
            "spec": {"resourceAttributes": {k: v for k, v in attributes.items() if v}},
        }
        request = self._request("create", kinds.ACCESS_REVIEW)
        found = self.wire.json(ApiCall("POST", kinds.ACCESS_REVIEW.path(None), {}, review), request)
        return bool((found.get("status") or {}).get("allowed"))

    def _target(self, verb: str, manifest: Raw) -> tuple[Kind, str, RequestInfo]:
        kind, about = kinds.kind_of(manifest), manifest["metadata"]
        namespace = str(about.get("namespace", "")) if kind.namespaced else None
        name = str(about["name"])
        return kind, kind.path(namespace, name), self._request(verb, kind, namespace, name)

    def _request(
        self,
        verb: str,
        kind: Kind | None = None,
        namespace: str | None = None,
        name: str = "",
        subresource: str = "",
    ) -> RequestInfo:
        return RequestInfo(verb, kind, namespace, name, subresource, self.server, self.context)


def _selector_query(labels: str, fields: str) -> Query:
    query = {"labelSelector": labels, "fieldSelector": fields}
    return {key: value for key, value in query.items() if value}
