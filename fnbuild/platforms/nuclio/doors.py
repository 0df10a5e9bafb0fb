"""The two ways into a Nuclio: its dashboard's API, and its resources in a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from threading import Event
from typing import Protocol

from fnbuild.errors import UnavailableError
from fnbuild.platforms import Deployment, LogRecord, Project, Statistics
from fnbuild.platforms.cluster import connection
from fnbuild.platforms.keys import Key
from fnbuild.platforms.nuclio.client import URL_VARIABLE, Address
from fnbuild.spec.types import Raw


class Door(Protocol):
    """Functions and projects in Nuclio's form; see `records`. Nothing here waits for a rollout."""

    place: str
    """Where Nuclio is, in words."""

    host: str
    """The machine of the functions' ports, "" where there are several."""

    here: bool
    """Whether it seems to be on this machine, and so to have the images of its engine."""

    keeps_labels: bool
    """Whether a function that exists keeps the labels that it was made with."""

    def check(self) -> None:
        """Raise what is wrong with the way itself."""

    def functions(self, namespace: str) -> list[Raw]:
        """All functions, by name."""

    def function(self, key: Key) -> Raw | None: ...

    def create(self, function: Raw) -> None:
        """Make it and have it deployed from its image; `ConflictError` when it exists."""

    def replace(self, stored: Raw, function: Raw) -> None:
        """Deploy over `stored`; `ConflictError` when that has changed since it was read."""

    def redeploy(self, stored: Raw) -> None:
        """Have it deployed as it is."""

    def add_imported(self, function: Raw) -> None:
        """Record it in state imported."""

    def delete(self, key: Key) -> None:
        """Remove it, whatever its state; not being there is no error."""

    def projects(self, namespace: str) -> list[Project]: ...

    def create_project(self, project: Project) -> None: ...

    def update_project(self, project: Project) -> None:
        """Put its description and owner in place of those that are there."""

    def delete_project(self, namespace: str, name: str) -> None:
        """Remove a project that has no functions any more."""

    def replicas(self, namespace: str, name: str = "") -> Mapping[str, tuple[int, int]]:
        """(available, wanted) of functions by name, of one or all, as far as that is known."""

    def replica_names(self, key: Key) -> list[str]:
        """What runs of a function, by the names that its log has."""

    def statistics(self, key: Key) -> dict[str, Statistics]:
        """See `Platform.statistics`."""

    def unserved(self, stored: Raw) -> bool:
        """Whether nobody has begun to act on a function that waits, as far as that is known."""

    def obstacle(self, key: Key) -> str:
        """What keeps its replicas from running right now, a sentence; "" when nothing is seen."""

    def last_words(self, key: Key, since: float) -> str:
        """The last errors in its newest replica's log; `since` is in seconds since the epoch."""

    def logs(
        self,
        key: Key,
        *,
        follow: bool,
        since: float | None,
        tail: int | None,
        until: Event | None = None,
    ) -> Iterator[LogRecord]:
        """See `Platform.logs`."""

    def reach(self, deployment: Deployment) -> AbstractContextManager[str]:
        """See `Platform.reach`."""


def find() -> Door:
    """The dashboard that FNBUILD_NUCLIO_URL names, else the cluster that is configured."""
    if (address := Address.from_environment()) is not None:
        from fnbuild.platforms.nuclio.dashboard import Dashboard

        return Dashboard(address)
    if connection.configured():
        from fnbuild.platforms.nuclio.resources import Resources

        return Resources(connection.connect())
    raise UnavailableError(
        "it is not known where Nuclio is",
        hint=f"{URL_VARIABLE}=http://HOST:8070 names its dashboard; with a kubeconfig"
        " (`--kubeconfig`) its resources in the cluster are used",
    )
