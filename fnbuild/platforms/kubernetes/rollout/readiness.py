"""Waiting for the pods of a revision: a watch of the Deployment, progress and failures."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from threading import Event
from types import TracebackType
from typing import Self

from fnbuild.builder.processor_settings import readiness_seconds
from fnbuild.errors import (
    ConflictError,
    FnbuildError,
    NotFoundError,
    NotReadyError,
    UnavailableError,
)
from fnbuild.function.types import Raw
from fnbuild.platforms import LogRecord, Progress
from fnbuild.platforms.kubeclient import kinds, logs
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.kinds import Kind
from fnbuild.platforms.kubernetes import labels as own
from fnbuild.platforms.kubernetes import status
from fnbuild.platforms.kubernetes.diagnosis import queries, rollout_status
from fnbuild.platforms.kubernetes.diagnosis.rollout_status import RolloutStatus
from fnbuild.platforms.kubernetes.labels import KubernetesKey, RevisionRecord
from fnbuild.platforms.logs import StartupFollower

# A watch that nobody listens to any more ends with its window.
_WINDOW_SECONDS = 10.0
# Who may not watch asks again as often, and so does who has lost the connection.
_RETRY_SECONDS = 1.0


class DeploymentWatch:
    """A context: inside, `deployment` and `pods` follow the cluster.

    The Deployment is None before the first answer and when there is none.
    """

    def __init__(self, cluster: Cluster, key: KubernetesKey):
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
                self._over.wait(_RETRY_SECONDS)

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


# How often what no watch tells is asked for: events, and what processors say of themselves.
_POLL_SECONDS = 0.5
# Between two looks, however much changes.
_PAUSE_SECONDS = 0.05
# The processor keeps the same time and can say where the handler hangs: it goes first.
_EXTRA_SECONDS = 5.0
# Until a watch has seen what was just applied.
_WATCH_LAG_SECONDS = 10.0


def failure_prefix(made: RevisionRecord) -> str:
    """What the message of each `NotReadyError` begins with; the reason follows."""
    return f"revision {made.number} of {made.key.name} did not become ready: "


@dataclass(slots=True)
class ReadinessWait:
    """Waiting for the pods of a revision that was just applied."""

    cluster: Cluster
    made: RevisionRecord
    progress: Progress
    _said: set[str] = field(default_factory=set)
    _seen: bool = False
    _last: RolloutStatus | None = None

    def until_ready(self, *, seconds: float | None = None) -> None:
        """Return once all pods are new and available.

        Raises `NotReadyError` when they will not be (unless the function asks for the whole time
        with `waitReadinessTimeoutBeforeFailure`) or are not in so many seconds, by default those
        of `readinessTimeoutSeconds`; `ConflictError` when another deploy has taken over.
        """
        if seconds is None:
            seconds = readiness_seconds(self.made.function)
        began = time.monotonic()
        away: FnbuildError | None = None
        with DeploymentWatch(self.cluster, self.made.key) as watched, self._following(watched):
            while (passed := time.monotonic() - began) < seconds + _EXTRA_SECONDS:
                watched.wait(_POLL_SECONDS)
                try:
                    if self._ready(watched, passed):
                        return
                except UnavailableError as error:
                    away = error
                    self._say(["the cluster does not answer just now"])
                time.sleep(_PAUSE_SECONDS)
            if self._last is None and (away := watched.fault or away) is not None:
                raise away
        raise self._late(seconds)

    def _following(self, watched: DeploymentWatch) -> StartupFollower:
        """Report what the first of the new pods prints while it starts."""

        def pods() -> list[str]:
            deployment = watched.deployment
            current = RevisionRecord.of_deployment(deployment) if deployment is not None else None
            if deployment is None or current is None or current.number != self.made.number:
                return []
            # Until there is a new pod, the old ones would count as the newest.
            new = rollout_status.pods_of_template(deployment, watched.pods)
            return [str(pod["metadata"]["name"]) for pod in new if status.is_function_running(pod)][
                :1
            ]

        def records(until: Event) -> Iterator[LogRecord]:
            while not (first := pods()) and not until.wait(_PAUSE_SECONDS):
                pass
            namespace = self.made.key.namespace
            return logs.read_logs(
                self.cluster,
                namespace,
                lambda: first,
                follow=True,
                since=None,
                tail=None,
                until=until,
            )

        return StartupFollower(records, self.progress)

    def _ready(self, watched: DeploymentWatch, passed: float) -> bool:
        deployment = watched.deployment
        current = RevisionRecord.of_deployment(deployment) if deployment is not None else None
        if deployment is None or current is None or current.number != self.made.number:
            if self._seen or (deployment is not None and passed > _WATCH_LAG_SECONDS):
                raise superseded_error(self.made, deployment)
            return False
        self._seen = True
        if rollout_status.is_rolled_out(deployment):
            return True
        standing = queries.query_rollout_status(self.cluster, deployment, watched.pods, time.time())
        self._last = standing
        whole_time = self.made.function.spec.wait_readiness_timeout_before_failure
        over = bool(standing.failure) and not whole_time
        # What the error says is not said before it.
        self._say(one for one in standing.words if not over or one != standing.failure)
        if over:
            raise NotReadyError(
                failure_prefix(self.made) + standing.failure,
                detail=self._last_words(standing),
                hint=standing.hint or None,
            )
        return standing.ready

    def _say(self, words: Iterable[str]) -> None:
        for text in words:
            if text not in self._said:
                self._said.add(text)
                self.progress(text)

    def _late(self, seconds: float) -> NotReadyError:
        last = self._last or RolloutStatus(ready=False)
        what = f" ({'; '.join(last.words)})" if last.words else ""
        return NotReadyError(
            f"{failure_prefix(self.made)}it is still starting after {seconds:g} seconds{what}",
            detail=self._last_words(last),
            hint="a model that takes longer needs a larger spec.readinessTimeoutSeconds",
        )

    def _last_words(self, standing: RolloutStatus) -> str | None:
        if not standing.pod:
            return None
        try:
            namespace = self.made.key.namespace
            return queries.failure_details(
                self.cluster, namespace, standing.pod, standing.container
            )
        except FnbuildError:  # the reason is told all the same
            return None


def superseded_error(made: RevisionRecord, deployment: Raw | None) -> FnbuildError:
    """What is said of a revision whose Deployment is somebody else's by now, or gone."""
    name = made.key.name
    if deployment is None:
        return NotFoundError(f"{name} was deleted while revision {made.number} was being deployed")
    current = RevisionRecord.of_deployment(deployment)
    number = f"revision {current.number}" if current and current.number else "something else"
    return ConflictError(
        f"{name} was deployed from elsewhere meanwhile: {number} has replaced revision"
        f" {made.number}",
        hint=f"`fnbuild history {name}` shows what runs",
    )
