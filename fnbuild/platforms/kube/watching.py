"""One Deployment and its pods as they change, seen through watches of the cluster."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from fnbuild.errors import FnbuildError
from fnbuild.platforms.cluster import kinds
from fnbuild.platforms.cluster.api import Cluster
from fnbuild.platforms.cluster.kinds import Kind
from fnbuild.platforms.kube import labels as own
from fnbuild.platforms.kube.labels import Key
from fnbuild.spec.types import Raw

# A watch that nobody listens to any more ends with its window.
_WINDOW_SECONDS = 10.0
# Who may not watch asks again as often, and so does who has lost the connection.
_AGAIN_SECONDS = 1.0


class Watched:
    """A context: inside, `deployment` and `pods` follow the cluster.

    The Deployment is None before the first answer and when there is none.
    """

    def __init__(self, cluster: Cluster, key: Key):
        self._cluster = cluster
        self._key = key
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._moves = 0
        self._seen = 0
        self._objects: dict[str, dict[str, Raw]] = {"Deployment": {}, "Pod": {}}
        self._fault: FnbuildError | None = None

    def __enter__(self) -> Self:
        selector = f"{own.CLASS}=function,{own.FUNCTION}={self._key.name}"
        fields = f"metadata.name={self._key.object}"
        for kind, labels, only in (
            (kinds.DEPLOYMENT, "", fields),
            (kinds.POD, selector, ""),
        ):
            name = f"watch-{kind.plural}-{self._key.object}"
            threading.Thread(
                target=self._follow, args=(kind, labels, only), name=name, daemon=True
            ).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()

    @property
    def deployment(self) -> Raw | None:
        with self._changed:
            return self._objects["Deployment"].get(self._key.object)

    @property
    def pods(self) -> list[Raw]:
        with self._changed:
            return list(self._objects["Pod"].values())

    @property
    def fault(self) -> FnbuildError | None:
        """Why the cluster could not be watched last, None when it could."""
        return self._fault

    def wait(self, seconds: float) -> None:
        """Return when something has changed since the last call, or after that time."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while self._moves == self._seen and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            self._seen = self._moves

    def _follow(self, kind: Kind, labels: str, fields: str) -> None:
        began = False
        while not self._over.is_set():
            try:
                if began:
                    # What vanished between two watches, neither of them tells.
                    self._replace(kind, labels, fields)
                began = True
                self._listen(kind, labels, fields)
                self._fault = None
            except FnbuildError as error:
                self._fault = error
                self._over.wait(_AGAIN_SECONDS)

    def _replace(self, kind: Kind, labels: str, fields: str) -> None:
        listed = self._cluster.list(kind, self._key.namespace, labels=labels, fields=fields)
        with self._changed:
            self._objects[kind.name] = {one["metadata"]["name"]: one for one in listed}
            self._moves += 1
            self._changed.notify_all()

    def _listen(self, kind: Kind, labels: str, fields: str) -> None:
        seen = self._cluster.watch(
            kind, self._key.namespace, labels=labels, fields=fields, seconds=_WINDOW_SECONDS
        )
        for verb, one in seen:
            if self._over.is_set():
                return
            self._take(kind, verb, one)

    def _take(self, kind: Kind, verb: str, one: Raw) -> None:
        name = one["metadata"]["name"]
        with self._changed:
            if verb == "DELETED":
                self._objects[kind.name].pop(name, None)
            else:
                self._objects[kind.name][name] = one
            self._moves += 1
            self._changed.notify_all()
