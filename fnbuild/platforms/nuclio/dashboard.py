"""The API of a Nuclio dashboard (pkg/dashboard/resource/)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from threading import Event
from urllib.parse import quote, urlencode

from fnbuild.errors import NotFoundError, UnavailableError
from fnbuild.platforms import Deployment, LogRecord, Project, api_objects
from fnbuild.platforms.base import FunctionKey
from fnbuild.platforms.nuclio import reaching, streams
from fnbuild.platforms.nuclio.body import taken_as_it_is
from fnbuild.platforms.nuclio.client import URL_VARIABLE, Address, Client, is_loopback
from fnbuild.platforms.nuclio.records import metadata_of
from fnbuild.spec.types import Raw

_FUNCTIONS = "/api/functions"
_PROJECTS = "/api/projects"
_LAST_LINES = 50
_POLL_SECONDS = 0.5


class Dashboard:
    """Functions and projects in Nuclio's form; see `records`. No method waits for a rollout.

    `place` names the dashboard in messages. `host` is the machine of the functions' ports, and
    `here` is True if that is this machine, which then has the images of its engine.
    """

    def __init__(self, address: Address):
        self.client = Client(address)
        self.place = f"the Nuclio dashboard at {address.url}"
        self.host = address.host
        self.here = is_loopback(address.host)

    @classmethod
    def from_environment(cls) -> Dashboard:
        """Return the dashboard that FNBUILD_NUCLIO_URL names. Raises `UnavailableError`."""
        if (address := Address.from_environment()) is None:
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
        found = self.client.json("GET", _FUNCTIONS, headers=_in(namespace))
        listed = self.client.expect(dict, found or {})
        return [one for _, one in sorted(listed.items()) if isinstance(one, dict)]

    def function(self, key: FunctionKey) -> Raw | None:
        try:
            found = self.client.json("GET", _path(key), headers=_in(key.namespace))
        except NotFoundError:
            return None
        function: Raw = self.client.expect(dict, found)
        return function

    def create(self, function: Raw) -> None:
        """Create a function and deploy it from its image; `ConflictError` if it exists."""
        self._send("POST", _FUNCTIONS, taken_as_it_is(function, exists=False))

    def replace(self, stored: Raw, function: Raw) -> None:
        """Deploy over `stored`; `ConflictError` if that has changed since it was read."""
        version = metadata_of(stored).get("resourceVersion")
        metadata = {**metadata_of(function), **({"resourceVersion": version} if version else {})}
        body = taken_as_it_is({**function, "metadata": metadata}, exists=True)
        self._send("PUT", _path(_key(stored)), body)

    def _send(self, method: str, path: str, function: Raw) -> None:
        metadata = metadata_of(function)
        body = {"metadata": metadata, "spec": function.get("spec") or {}}
        self.client.json(method, path, headers=_in(metadata["namespace"]), body=body)

    def redeploy(self, stored: Raw) -> None:
        """Deploy the function as it is."""
        key = _key(stored)
        headers = _in(key.namespace)
        self.client.json("PATCH", _path(key), headers=headers, body={"desiredState": "ready"})

    def add_imported(self, function: Raw) -> None:
        """Record the function in state `imported`."""
        self._send("POST", _FUNCTIONS, function)

    def delete(self, key: FunctionKey) -> None:
        """Delete the function in any state; a missing function is no error."""
        headers = {**_in(key.namespace), "X-Nuclio-Delete-Function-Ignore-State-Validation": "true"}
        body = {"metadata": {"name": key.name, "namespace": key.namespace}}
        self.client.json("DELETE", _FUNCTIONS, headers=headers, body=body)

    # Projects

    def projects(self, namespace: str) -> list[Project]:
        found = self.client.json("GET", _PROJECTS, headers=_in_project(namespace))
        listed = self.client.expect(dict, found or {})
        return [
            api_objects.project_from_object(one, name, namespace)
            for name, one in sorted(listed.items())
        ]

    def create_project(self, project: Project) -> None:
        headers = _in_project(project.namespace)
        self.client.json(
            "POST", _PROJECTS, headers=headers, body=api_objects.project_object(project)
        )

    def update_project(self, project: Project) -> None:
        """Replace the description and the owner of the project."""
        headers = _in_project(project.namespace)
        path = f"{_PROJECTS}/{project.name}"
        self.client.json("PUT", path, headers=headers, body=api_objects.project_object(project))

    def delete_project(self, namespace: str, name: str) -> None:
        """Delete a project without functions."""
        headers = {**_in_project(namespace), "X-Nuclio-Delete-Project-Strategy": "restricted"}
        body = {"metadata": {"name": name, "namespace": namespace}}
        self.client.json("DELETE", _PROJECTS, headers=headers, body=body)

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
        found = self.client.json("GET", f"{_path(key)}/replicas", headers=_in(key.namespace))
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
        return streams.past(
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
            yield from streams.followed(lines, until)
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
        path = f"{_path(key)}/logs/{quote(replica, safe='')}?{urlencode(asked)}"
        silence = None if follow else streams.SILENCE_SECONDS
        with self.client.open("GET", path, headers=_in(key.namespace), silence=silence) as reply:
            yield from reply

    def reach(self, deployment: Deployment) -> AbstractContextManager[str]:
        """See `Platform.reach`."""
        return reaching.by_dashboard(self.client.address, deployment)


def _path(key: FunctionKey) -> str:
    return f"{_FUNCTIONS}/{quote(key.name, safe='')}"


def _key(stored: Raw) -> FunctionKey:
    metadata = metadata_of(stored)
    return FunctionKey(metadata.get("namespace", ""), metadata.get("name", ""))


def _in(namespace: str) -> dict[str, str]:
    return {"X-Nuclio-Function-Namespace": namespace}


def _in_project(namespace: str) -> dict[str, str]:
    return {"X-Nuclio-Project-Namespace": namespace}
