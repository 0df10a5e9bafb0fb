"""The client of a Nuclio dashboard's API (pkg/dashboard/resource/)."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from heapq import merge
from threading import Event
from urllib.parse import quote, urlencode

from fnbuild.errors import FnbuildError, NotFoundError, UnavailableError
from fnbuild.function.types import Raw
from fnbuild.platforms import Deployment, LogRecord, Project, api_objects
from fnbuild.platforms.base import FunctionKey
from fnbuild.platforms.logs import parse_log_line
from fnbuild.platforms.nuclio import endpoints
from fnbuild.platforms.nuclio.function_config import metadata_of, with_prebuilt_image
from fnbuild.platforms.nuclio.transport import (
    URL_VARIABLE,
    DashboardAddress,
    Transport,
    is_loopback,
)

SILENCE_SECONDS = 30.0
_QUEUE_SIZE = 1000
_QUEUE_POLL_SECONDS = 0.5

LineStreams = Mapping[str, Iterator[bytes]]
"""The lines of replicas by their names."""


def merge_records(lines: LineStreams, tail: int | None) -> Iterator[LogRecord]:
    """All records by time; the last `tail` of them."""
    streams = (_parse_records(replica, one) for replica, one in lines.items())
    together = list(merge(*streams, key=lambda one: one.time))
    return iter(together if tail is None else together[max(0, len(together) - tail) :])


def _parse_records(replica: str, lines: Iterator[bytes]) -> Iterator[LogRecord]:
    # A line without a time belongs to the one before it.
    last = 0.0
    for line in lines:
        if text := line.strip(b"\r\n"):
            record = parse_log_line(text, last or time.time())
            record.fields["pod"] = replica
            last = record.time
            yield record


def follow_records(lines: LineStreams, until: threading.Event) -> Iterator[LogRecord]:
    """Records as they come, until all streams end or `until` is set."""
    readers = _LogReaders()
    for replica, stream in lines.items():
        # A thread reads each, for none may wait for another.
        threading.Thread(target=readers.read, args=(replica, stream), daemon=True).start()
    try:
        yield from readers.records(len(lines), until)
    finally:
        readers.unwanted.set()


class _LogReaders:
    """What threads have read and nobody has taken yet."""

    def __init__(self) -> None:
        self.unwanted = threading.Event()
        self._waiting: queue.Queue[LogRecord | FnbuildError | None] = queue.Queue(_QUEUE_SIZE)

    def records(self, running: int, until: threading.Event) -> Iterator[LogRecord]:
        while running and not until.is_set():
            try:
                found = self._waiting.get(timeout=_QUEUE_POLL_SECONDS)
            except queue.Empty:
                continue
            if isinstance(found, FnbuildError):
                raise found
            if found is None:
                running -= 1
            else:
                yield found

    def read(self, replica: str, stream: Iterator[bytes]) -> None:
        try:
            for record in _parse_records(replica, stream):
                self._put(record)
                if self.unwanted.is_set():
                    return
        except FnbuildError as error:
            self._put(error)
        except (OSError, ValueError):
            pass  # the replica has ended
        self._put(None)

    def _put(self, found: LogRecord | FnbuildError | None) -> None:
        while not self.unwanted.is_set():
            with contextlib.suppress(queue.Full):
                self._waiting.put(found, timeout=_QUEUE_POLL_SECONDS)
                return


_FUNCTIONS_PATH = "/api/functions"
_PROJECTS_PATH = "/api/projects"
_LAST_LINES = 50
_POLL_SECONDS = 0.5


class DashboardClient:
    """Functions and projects in Nuclio's form; see `records`. No method waits for a rollout.

    `place` names the dashboard in messages. `host` is the machine of the functions' ports, and
    `here` is True if that is this machine, which then has the images of its engine.
    """

    def __init__(self, address: DashboardAddress):
        self.client = Transport(address)
        self.place = f"the Nuclio dashboard at {address.url}"
        self.host = address.host
        self.here = is_loopback(address.host)

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
        self.client.expect(dict, self.client.json("GET", "/api/versions"))

    # Functions

    def functions(self, namespace: str) -> list[Raw]:
        """Return all functions, sorted by name."""
        found = self.client.json("GET", _FUNCTIONS_PATH, headers=_namespace_header(namespace))
        listed = self.client.expect(dict, found or {})
        return [one for _, one in sorted(listed.items()) if isinstance(one, dict)]

    def function(self, key: FunctionKey) -> Raw | None:
        try:
            found = self.client.json(
                "GET", _function_path(key), headers=_namespace_header(key.namespace)
            )
        except NotFoundError:
            return None
        function: Raw = self.client.expect(dict, found)
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
        self.client.json(method, path, headers=_namespace_header(metadata["namespace"]), body=body)

    def redeploy(self, stored: Raw) -> None:
        """Deploy the function as it is."""
        key = _object_key(stored)
        headers = _namespace_header(key.namespace)
        self.client.json(
            "PATCH", _function_path(key), headers=headers, body={"desiredState": "ready"}
        )

    def add_imported(self, function: Raw) -> None:
        """Record the function in state `imported`."""
        self._send("POST", _FUNCTIONS_PATH, function)

    def delete(self, key: FunctionKey) -> None:
        """Delete the function in any state; a missing function is no error."""
        headers = {
            **_namespace_header(key.namespace),
            "X-Nuclio-Delete-Function-Ignore-State-Validation": "true",
        }
        body = {"metadata": {"name": key.name, "namespace": key.namespace}}
        self.client.json("DELETE", _FUNCTIONS_PATH, headers=headers, body=body)

    # Projects

    def projects(self, namespace: str) -> list[Project]:
        found = self.client.json(
            "GET", _PROJECTS_PATH, headers=_project_namespace_header(namespace)
        )
        listed = self.client.expect(dict, found or {})
        return [
            api_objects.project_from_object(one, name, namespace)
            for name, one in sorted(listed.items())
        ]

    def create_project(self, project: Project) -> None:
        headers = _project_namespace_header(project.namespace)
        self.client.json(
            "POST", _PROJECTS_PATH, headers=headers, body=api_objects.project_object(project)
        )

    def update_project(self, project: Project) -> None:
        """Replace the description and the owner of the project."""
        headers = _project_namespace_header(project.namespace)
        path = f"{_PROJECTS_PATH}/{project.name}"
        self.client.json("PUT", path, headers=headers, body=api_objects.project_object(project))

    def delete_project(self, namespace: str, name: str) -> None:
        """Delete a project without functions."""
        headers = {
            **_project_namespace_header(namespace),
            "X-Nuclio-Delete-Project-Strategy": "restricted",
        }
        body = {"metadata": {"name": name, "namespace": namespace}}
        self.client.json("DELETE", _PROJECTS_PATH, headers=headers, body=body)

    # Replicas

    def last_words(self, key: FunctionKey, since: float) -> str:
        """Return the last errors in the log; `since` is in seconds since the epoch."""
        try:
            records = list(self.logs(key, follow=False, since=since, tail=_LAST_LINES))
        except (NotFoundError, UnavailableError):
            return ""
        return "\n".join(one.message for one in records if one.level == "error")

    def replica_names(self, key: FunctionKey) -> list[str]:
        """Return the names of the replicas, as the log has them."""
        found = self.client.json(
            "GET", f"{_function_path(key)}/replicas", headers=_namespace_header(key.namespace)
        )
        named = self.client.expect(dict, found).get("names") or []
        return [str(name) for name in self.client.expect(list, named)]

    def logs(
        self,
        key: FunctionKey,
        *,
        follow: bool,
        since: float | None,
        tail: int | None,
        until: Event | None = None,
    ) -> Iterator[LogRecord]:
        """Return the records of all replicas; see `Platform.logs`."""
        if follow:
            return self._followed(key, since, tail, until or Event())
        return merge_records(
            {one: self._lines(key, one, since, tail) for one in self.replica_names(key)}, tail
        )

    def _followed(
        self, key: FunctionKey, since: float | None, tail: int | None, until: Event
    ) -> Iterator[LogRecord]:
        """On and on: replicas that end have successors, until the function is gone."""
        seen: set[str] = set()
        while not until.is_set() and self.function(key) is not None:
            began, names = time.time(), self.replica_names(key)
            # All that a successor says is new.
            lines = {
                one: self._lines(key, one, since, tail, follow=True)
                if not seen or one in seen
                else self._lines(key, one, None, None, follow=True)
                for one in names
            }
            yield from follow_records(lines, until)
            seen.update(names)
            since, tail = max(began, time.time() - _POLL_SECONDS), None
            until.wait(_POLL_SECONDS)

    def _lines(
        self,
        key: FunctionKey,
        replica: str,
        since: float | None,
        tail: int | None,
        follow: bool = False,
    ) -> Iterator[bytes]:
        """The lines of one replica's log, asked for when the first is wanted."""
        asked = {"follow": "true" if follow else "false"}
        if since is not None:
            asked["since"] = f"{max(1, round(time.time() - since))}s"
        if tail is not None:
            asked["tailLines"] = str(tail)
        path = f"{_function_path(key)}/logs/{quote(replica, safe='')}?{urlencode(asked)}"
        silence = None if follow else SILENCE_SECONDS
        with self.client.open(
            "GET", path, headers=_namespace_header(key.namespace), silence=silence
        ) as reply:
            yield from reply

    def reachable_url(self, deployment: Deployment) -> AbstractContextManager[str]:
        """See `Platform.reach`."""
        return endpoints.open_endpoint(self.client.address, deployment)


def _function_path(key: FunctionKey) -> str:
    return f"{_FUNCTIONS_PATH}/{quote(key.name, safe='')}"


def _object_key(stored: Raw) -> FunctionKey:
    metadata = metadata_of(stored)
    return FunctionKey(metadata.get("namespace", ""), metadata.get("name", ""))


def _namespace_header(namespace: str) -> dict[str, str]:
    return {"X-Nuclio-Function-Namespace": namespace}


def _project_namespace_header(namespace: str) -> dict[str, str]:
    return {"X-Nuclio-Project-Namespace": namespace}
