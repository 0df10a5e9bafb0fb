"""The client of a Nuclio dashboard's API (pkg/dashboard/resource/)."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from heapq import merge
from typing import Any
from urllib.parse import quote, urlencode

from fnbuild.errors import FnbuildError, NotFoundError, UnavailableError
from fnbuild.function.types import Raw
from fnbuild.hosts import is_loopback
from fnbuild.platforms import Deployment, LogOptions, LogRecord, Project, api_objects
from fnbuild.platforms.base import FunctionKey
from fnbuild.platforms.logs import parse_log_line
from fnbuild.platforms.nuclio import endpoints
from fnbuild.platforms.nuclio.function_config import metadata_of, with_prebuilt_image
from fnbuild.platforms.nuclio.transport import (
    URL_VARIABLE,
    DashboardAddress,
    Transport,
)

_FUNCTIONS_PATH = "/api/functions"
_PROJECTS_PATH = "/api/projects"
_LOG_SECONDS = 30.0
_LAST_LINES = 50
_POLL_SECONDS = 0.5
_QUEUE_SIZE = 1000
_QUEUE_POLL_SECONDS = 0.5

LineStreams = Mapping[str, Iterator[bytes]]
"""The log lines of each replica by its name."""


class DashboardClient:
    """Functions and projects as `function_config` describes them. No method waits for a rollout.

    `place` names the dashboard in messages. `host` is the machine of the functions' ports, and
    `is_local` is True if that is this machine, which then has the images of its engine.
    """

    def __init__(self, address: DashboardAddress):
        self.transport = Transport(address)
        self.place = f"the Nuclio dashboard at {address.url}"
        self.host = address.host
        self.is_local = is_loopback(address.host)

    @classmethod
    def from_environment(cls) -> DashboardClient:
        """Return the dashboard that FNBUILD_NUCLIO_URL names. Raises `UnavailableError`."""
        if (address := DashboardAddress.from_environment()) is None:
            raise UnavailableError(
                f"no Nuclio dashboard is configured: {URL_VARIABLE} is not set",
                hint=f"set {URL_VARIABLE}=http://HOST:8070; `kubectl port-forward -n nuclio"
                " service/nuclio-dashboard 8070` opens that port for a dashboard in a cluster",
            )
        return cls(address)

    def check(self) -> None:
        """Raise the reason why the dashboard cannot be used."""
        self.transport.expect(dict, self.transport.json("GET", "/api/versions"))

    def _call(
        self,
        method: str,
        path: str,
        namespace: str,
        body: Raw | None = None,
        options: Mapping[str, str] | None = None,
    ) -> Any:
        """Send a request about functions or projects; `options` are headers of Nuclio."""
        headers = _namespace_header(path, namespace) | dict(options or {})
        return self.transport.json(method, path, headers=headers, body=body)

    # Functions

    def functions(self, namespace: str) -> list[Raw]:
        """Return all functions, sorted by name."""
        reply = self._call("GET", _FUNCTIONS_PATH, namespace)
        functions = self.transport.expect(dict, reply or {})
        return [function for _, function in sorted(functions.items()) if isinstance(function, dict)]

    def function(self, key: FunctionKey) -> Raw | None:
        try:
            reply = self._call("GET", _function_path(key), key.namespace)
        except NotFoundError:
            return None
        function: Raw = self.transport.expect(dict, reply)
        return function

    def create(self, function: Raw) -> None:
        """Create a function and deploy it from its image; `ConflictError` if it exists."""
        self._send("POST", _FUNCTIONS_PATH, with_prebuilt_image(function, exists=False))

    def replace(self, stored: Raw, function: Raw) -> None:
        """Deploy over `stored`; `ConflictError` if that has changed since it was read."""
        version = metadata_of(stored).get("resourceVersion")
        metadata = {**metadata_of(function), **({"resourceVersion": version} if version else {})}
        body = with_prebuilt_image({**function, "metadata": metadata}, exists=True)
        self._send("PUT", _function_path(_object_key(stored)), body)

    def _send(self, method: str, path: str, function: Raw) -> None:
        metadata = metadata_of(function)
        body = {"metadata": metadata, "spec": function.get("spec") or {}}
        self._call(method, path, metadata["namespace"], body)

    def redeploy(self, stored: Raw) -> None:
        """Deploy the function as it is."""
        key = _object_key(stored)
        self._call("PATCH", _function_path(key), key.namespace, {"desiredState": "ready"})

    def add_imported(self, function: Raw) -> None:
        """Record the function in state `imported`."""
        self._send("POST", _FUNCTIONS_PATH, function)

    def delete(self, key: FunctionKey) -> None:
        """Delete the function in any state; a missing function is no error."""
        options = {"X-Nuclio-Delete-Function-Ignore-State-Validation": "true"}
        body = {"metadata": {"name": key.name, "namespace": key.namespace}}
        self._call("DELETE", _FUNCTIONS_PATH, key.namespace, body, options)

    # Projects

    def projects(self, namespace: str) -> list[Project]:
        reply = self._call("GET", _PROJECTS_PATH, namespace)
        projects = self.transport.expect(dict, reply or {})
        return [
            api_objects.project_from_object(project, name, namespace)
            for name, project in sorted(projects.items())
        ]

    def create_project(self, project: Project) -> None:
        body = api_objects.project_object(project)
        self._call("POST", _PROJECTS_PATH, project.namespace, body)

    def update_project(self, project: Project) -> None:
        """Replace the description and the owner of the project."""
        body = api_objects.project_object(project)
        self._call("PUT", f"{_PROJECTS_PATH}/{project.name}", project.namespace, body)

    def delete_project(self, namespace: str, name: str) -> None:
        """Delete a project without functions."""
        options = {"X-Nuclio-Delete-Project-Strategy": "restricted"}
        body = {"metadata": {"name": name, "namespace": namespace}}
        self._call("DELETE", _PROJECTS_PATH, namespace, body, options)

    # Replicas

    def last_errors(self, key: FunctionKey, since: float) -> str:
        """Return the last errors in the log; `since` is in seconds since the epoch."""
        try:
            records = list(self.logs(key, LogOptions(since=since, tail=_LAST_LINES)))
        except (NotFoundError, UnavailableError):
            return ""
        return "\n".join(record.message for record in records if record.level == "error")

    def replica_names(self, key: FunctionKey) -> list[str]:
        """Return the names of the replicas, as the log has them."""
        reply = self._call("GET", f"{_function_path(key)}/replicas", key.namespace)
        names = self.transport.expect(dict, reply).get("names") or []
        return [str(name) for name in self.transport.expect(list, names)]

    def logs(self, key: FunctionKey, options: LogOptions) -> Iterator[LogRecord]:
        """Return the records of all replicas; see `Platform.logs`."""
        if options.follow:
            return self._follow_logs(key, options)
        replicas = self.replica_names(key)
        streams = {replica: self._replica_lines(key, replica, options) for replica in replicas}
        return merge_records(streams, options.tail)

    def _follow_logs(self, key: FunctionKey, options: LogOptions) -> Iterator[LogRecord]:
        """Yield the records of replicas and of their successors until the function is deleted."""
        stop = options.stop
        from_start = replace(options, since=None, tail=None)
        previous: set[str] = set()
        while not stop.is_set() and self.function(key) is not None:
            started, replicas = time.time(), self.replica_names(key)
            # Every record of a successor is new.
            streams = {
                replica: self._replica_lines(
                    key, replica, options if not previous or replica in previous else from_start
                )
                for replica in replicas
            }
            yield from follow_records(streams, stop)
            previous.update(replicas)
            options = replace(options, since=max(started, time.time() - _POLL_SECONDS), tail=None)
            stop.wait(_POLL_SECONDS)

    def _replica_lines(
        self, key: FunctionKey, replica: str, options: LogOptions
    ) -> Iterator[bytes]:
        """Yield the lines of one replica's log. The request is sent for the first line."""
        query = {"follow": "true" if options.follow else "false"}
        if options.since is not None:
            query["since"] = f"{max(1, round(time.time() - options.since))}s"
        if options.tail is not None:
            query["tailLines"] = str(options.tail)
        path = f"{_function_path(key)}/logs/{quote(replica, safe='')}?{urlencode(query)}"
        headers = _namespace_header(path, key.namespace)
        timeout = None if options.follow else _LOG_SECONDS
        with self.transport.open("GET", path, headers=headers, timeout=timeout) as response:
            yield from response

    def reachable_url(self, deployment: Deployment) -> AbstractContextManager[str]:
        """See `Platform.reachable_url`."""
        return endpoints.open_endpoint(self.transport.address, deployment)


def _function_path(key: FunctionKey) -> str:
    return f"{_FUNCTIONS_PATH}/{quote(key.name, safe='')}"


def _object_key(stored: Raw) -> FunctionKey:
    metadata = metadata_of(stored)
    return FunctionKey(metadata.get("namespace", ""), metadata.get("name", ""))


def _namespace_header(path: str, namespace: str) -> dict[str, str]:
    resource = "Project" if path.startswith(_PROJECTS_PATH) else "Function"
    return {f"X-Nuclio-{resource}-Namespace": namespace}


def merge_records(lines: LineStreams, tail: int | None) -> Iterator[LogRecord]:
    """Return the records of all replicas by time, or the last `tail` of them."""
    streams = (_parse_records(replica, stream) for replica, stream in lines.items())
    records = list(merge(*streams, key=lambda record: record.time))
    return iter(records if tail is None else records[max(0, len(records) - tail) :])


def _parse_records(replica: str, lines: Iterator[bytes]) -> Iterator[LogRecord]:
    # A line without a time has that of the line before it.
    last = 0.0
    for line in lines:
        if text := line.strip(b"\r\n"):
            record = parse_log_line(text, last or time.time())
            record.fields["pod"] = replica
            last = record.time
            yield record


def follow_records(lines: LineStreams, stop: threading.Event) -> Iterator[LogRecord]:
    """Yield records as they arrive, until all streams end or `stop` is set."""
    readers = _LogReaders()
    for replica, stream in lines.items():
        # A silent replica must not delay the others, so each has a thread.
        threading.Thread(target=readers.read, args=(replica, stream), daemon=True).start()
    try:
        yield from readers.records(len(lines), stop)
    finally:
        readers.stopped.set()


class _LogReaders:
    """The queue between the threads that read log streams and the consumer."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self._queue: queue.Queue[LogRecord | FnbuildError | None] = queue.Queue(_QUEUE_SIZE)

    def records(self, running: int, stop: threading.Event) -> Iterator[LogRecord]:
        while running and not stop.is_set():
            try:
                item = self._queue.get(timeout=_QUEUE_POLL_SECONDS)
            except queue.Empty:
                continue
            if isinstance(item, FnbuildError):
                raise item
            if item is None:
                running -= 1
            else:
                yield item

    def read(self, replica: str, stream: Iterator[bytes]) -> None:
        try:
            for record in _parse_records(replica, stream):
                self._put(record)
                if self.stopped.is_set():
                    return
        except FnbuildError as error:
            self._put(error)
        except (OSError, ValueError):
            pass  # the replica has ended
        self._put(None)

    def _put(self, item: LogRecord | FnbuildError | None) -> None:
        while not self.stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=_QUEUE_POLL_SECONDS)
                return
