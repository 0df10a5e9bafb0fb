"""The client of a Kubernetes API. Objects are JSON mappings, as in `kubectl get -o json`."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from typing import TypeVar

from fnbuild.errors import ForbiddenError, NotFoundError, UnavailableError
from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient import errors, kinds, streams
from fnbuild.platforms.kubeclient.errors import GoneError, RequestSubject
from fnbuild.platforms.kubeclient.kinds import Kind
from fnbuild.platforms.kubeclient.transport import APPLY, ApiRequest, Query, Transport

FIELD_MANAGER = "fnbuild"
"""The name of fnbuild as a field manager."""

_PAGE_SIZE = 500
# The API server itself waits half a minute for a pod that no longer exists.
_PROXY_SECONDS = 3.0
_FIELD_MANAGER_QUERY = {"fieldManager": FIELD_MANAGER}

D = TypeVar("D")
T = TypeVar("T")

_Objects = list[Raw]  # inside the class, `list` is a method


class Cluster:
    """A cluster, as seen by one user. Thread-safe. All methods raise errors of fnbuild.

    `server` is the URL of the API, `context` the kubeconfig's ("" in a pod), `namespace` the
    context's or "".
    """

    def __init__(
        self, transport: Transport, context: str, namespace: str, *, in_cluster: bool = False
    ):
        self.transport = transport
        self.server = transport.location.server
        self.context = context
        self.namespace = namespace
        self.in_cluster = in_cluster
        self._served_kinds: dict[str, set[str]] = {}
        self.close = weakref.finalize(self, transport.close)

    @cached_property
    def version(self) -> str:
        """The version of the server, as in "v1.20.2"."""
        return str(
            self.transport.request_json(ApiRequest("GET", "/version"), self._subject("get")).get(
                "gitVersion", ""
            )
        )

    def serves(self, kind: Kind) -> bool:
        """Return True if the server has this kind in this API version. The result is cached."""
        if kind.api_path not in self._served_kinds:
            try:
                discovery = self.transport.request_json(
                    ApiRequest("GET", kind.api_path), self._subject("get", kind)
                )
            except NotFoundError:
                discovery = {}
            self._served_kinds[kind.api_path] = {
                str(resource["name"]) for resource in discovery.get("resources") or []
            }
        return kind.plural in self._served_kinds[kind.api_path]

    # Reading

    def get(self, kind: Kind, namespace: str, name: str) -> Raw | None:
        """Return an object, or None if it does not exist."""
        subject = self._subject("get", kind, namespace, name)
        try:
            return self.transport.request_json(
                ApiRequest("GET", kind.path(namespace, name)), subject
            )
        except NotFoundError:
            return None

    def list(
        self, kind: Kind, namespace: str | None, *, labels: str = "", fields: str = ""
    ) -> _Objects:
        """Return all objects of a namespace, or of all with None. Selectors are as in `kubectl`."""
        return self._list_with_version(kind, namespace, labels, fields)[0]

    def _list_with_version(
        self, kind: Kind, namespace: str | None, labels: str, fields: str
    ) -> tuple[_Objects, str]:
        """Return the objects and the version of the list, from which a watch can start."""
        subject = self._subject("list", kind, namespace)
        query: Query = {"limit": str(_PAGE_SIZE), **_selector_query(labels, fields)}
        path = kind.path(namespace)
        items: _Objects = []
        while True:
            try:
                page = self.transport.request_json(ApiRequest("GET", path, query), subject)
            except GoneError:  # the continue token has expired; list without pages
                items, query = [], _selector_query(labels, fields)
                continue
            for item in page.get("items") or []:
                items.append({"apiVersion": kind.api_version, "kind": kind.name, **item})
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                return items, str(metadata.get("resourceVersion", ""))
            query["continue"] = str(metadata["continue"])

    def watch(
        self,
        kind: Kind,
        namespace: str | None,
        *,
        labels: str = "",
        fields: str = "",
        seconds: float,
    ) -> Iterator[tuple[str, Raw]]:
        """Yield existing objects (as ADDED), then changes: ADDED, MODIFIED, DELETED and the object.

        Ends after `seconds`. A change may be reported twice; none is omitted.
        """
        request = ApiRequest("GET", kind.path(namespace), _selector_query(labels, fields))
        source = streams.ApiStream(
            self.transport, request, self._subject("watch", kind, namespace), kind
        )
        return streams.watch(
            source, lambda: self._list_with_version(kind, namespace, labels, fields), seconds
        )

    # Writing

    def apply(
        self,
        manifest: Raw,
        *,
        dry_run: bool = False,
        force: bool = False,
        manager: str = FIELD_MANAGER,
    ) -> Raw:
        """Apply a manifest server-side and return the resulting object.

        Another `manager` than fnbuild's own contributes a part of an object.

        Raises `FieldConflictError` for fields of other managers, unless `force` takes them over.
        """
        query = {"fieldManager": manager, "force": str(force).lower()}
        if dry_run:
            query["dryRun"] = "All"
        _, path, subject = self._locate("patch", manifest)
        return self.transport.request_json(
            ApiRequest("PATCH", path, query, manifest, APPLY), subject
        )

    def create(self, manifest: Raw) -> Raw:
        kind, _, subject = self._locate("create", manifest)
        return self.transport.request_json(
            ApiRequest("POST", kind.path(subject.namespace), _FIELD_MANAGER_QUERY, manifest),
            subject,
        )

    def replace(self, manifest: Raw) -> Raw:
        """Replace an object. Raises `StaleError` if it has changed since it was read."""
        _, path, subject = self._locate("update", manifest)
        return self.transport.request_json(
            ApiRequest("PUT", path, _FIELD_MANAGER_QUERY, manifest), subject
        )

    def delete(self, kind: Kind, namespace: str, name: str) -> bool:
        """Delete an object, and its dependents in the background; False if it did not exist."""
        subject = self._subject("delete", kind, namespace, name)
        request = ApiRequest(
            "DELETE", kind.path(namespace, name), {}, {"propagationPolicy": "Background"}
        )
        try:
            self.transport.request_json(request, subject)
        except NotFoundError:
            return False
        return True

    # Pods

    def logs(
        self,
        namespace: str,
        pod: str,
        *,
        container: str = "nuclio",
        tail: int | None = None,
        previous: bool = False,
    ) -> Iterator[tuple[float, bytes]]:
        """Yield the lines of a container's log with the node's timestamps, oldest first.

        There are none if the pod, the container or its log does not exist (yet).
        """
        source = self.log_stream(namespace, pod, container=container, tail=tail, previous=previous)
        for moment_ns, line in streams.read_log(source):
            yield moment_ns / 1e9, line

    def log_stream(  # noqa: PLR0913
        self,
        namespace: str,
        pod: str,
        *,
        container: str,
        since: float | None = None,
        tail: int | None = None,
        previous: bool = False,
    ) -> streams.ApiStream:
        """Return the log's stream without opening it. `since` is rounded down to whole seconds."""
        query: Query = {"container": container}
        if previous:
            query["previous"] = "true"
        if tail is not None:
            query["tailLines"] = str(tail)
        if since is not None:
            moment = datetime.fromtimestamp(max(0.0, since), UTC)
            query["sinceTime"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        subject = self._subject("get", kinds.POD, namespace, pod, "log")
        request = ApiRequest("GET", kinds.POD.path(namespace, pod, "log"), query)
        return streams.ApiStream(self.transport, request, subject, kinds.POD)

    def get_from_pod(self, namespace: str, pod: str, port: int, path: str) -> bytes | None:
        """Send a GET to a pod's port and return the body, or None without a timely response."""
        subject = self._subject("get", kinds.POD, namespace, pod, "proxy")
        path_to_port = kinds.POD.path(namespace, f"{pod}:{port}", "proxy") + "/" + path.lstrip("/")
        try:
            status, body = self.transport.request(
                ApiRequest("GET", path_to_port), patient=False, seconds=_PROXY_SECONDS
            )
        except UnavailableError:
            return None
        if status in {401, 403} and errors.parse_error_status(body):
            raise self.transport.error_of(status, body, subject)
        if status >= 400 and (
            errors.parse_error_status(body) or b"trying to reach service" in body
        ):
            return None
        return body

    # Permissions

    def is_allowed(self, verb: str, kind: Kind, namespace: str, subresource: str = "") -> bool:
        """Return True if this user has a permission, in all namespaces if `namespace` is ""."""
        attributes = {
            "verb": verb,
            "group": kind.group,
            "resource": kind.plural,
            "namespace": namespace,
            "subresource": subresource,
        }
        review = {
            "apiVersion": kinds.ACCESS_REVIEW.api_version,
            "kind": kinds.ACCESS_REVIEW.name,
            "spec": {"resourceAttributes": {k: v for k, v in attributes.items() if v}},
        }
        subject = self._subject("create", kinds.ACCESS_REVIEW)
        review_status = self.transport.request_json(
            ApiRequest("POST", kinds.ACCESS_REVIEW.path(None), {}, review), subject
        )
        return bool((review_status.get("status") or {}).get("allowed"))

    def _locate(self, verb: str, manifest: Raw) -> tuple[Kind, str, RequestSubject]:
        kind, metadata = kinds.kind_of(manifest), manifest["metadata"]
        namespace = str(metadata.get("namespace", "")) if kind.namespaced else None
        name = str(metadata["name"])
        return kind, kind.path(namespace, name), self._subject(verb, kind, namespace, name)

    def _subject(
        self,
        verb: str,
        kind: Kind | None = None,
        namespace: str | None = None,
        name: str = "",
        subresource: str = "",
    ) -> RequestSubject:
        return RequestSubject(verb, kind, namespace, name, subresource, self.server, self.context)


def if_allowed(query: Callable[[], T], default: D) -> T | D:
    """Return the result of a query, or `default` if it is forbidden to this user."""
    try:
        return query()
    except ForbiddenError:
        return default


def _selector_query(labels: str, fields: str) -> Query:
    query = {"labelSelector": labels, "fieldSelector": fields}
    return {key: value for key, value in query.items() if value}
