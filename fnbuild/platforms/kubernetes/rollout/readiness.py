"""Waiting for the pods of a revision: a watch of the Deployment, progress and failures."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from threading import Event
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
from fnbuild.platforms import LogOptions, LogRecord, Progress
from fnbuild.platforms.kubeclient import kinds, logs
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.kinds import Kind
from fnbuild.platforms.kubeclient.objects import KubeDeployment, Pod
from fnbuild.platforms.kubernetes import pod_status
from fnbuild.platforms.kubernetes.diagnosis import queries, rollout_status
from fnbuild.platforms.kubernetes.diagnosis.rollout_status import RolloutStatus
from fnbuild.platforms.kubernetes.labels import KubernetesKey
from fnbuild.platforms.kubernetes.revision_record import RevisionRecord
from fnbuild.platforms.logs import StartupFollower
from fnbuild.platforms.revision_records import failure_prefix

# The duration of one watch request; an abandoned one ends with it.
_WINDOW_SECONDS = 10.0
# The interval of lists without the permission to watch, and of reconnections.
_RETRY_SECONDS = 1.0

# The interval of queries for events and processors' reports, which are not watched.
_POLL_SECONDS = 0.5
# The minimum interval between two evaluations.
_PAUSE_SECONDS = 0.05
# The processor has the same timeout and a better error, so that it should be first.
_EXTRA_SECONDS = 5.0
# The time until a watch reports the object that was just applied.
_WATCH_LAG_SECONDS = 10.0


class DeploymentWatch:
    """A context manager that keeps a Deployment and its pods up to date through watches.

    `deployment` is None before the first response, and if it does not exist.
    """

    def __init__(self, cluster: Cluster, key: KubernetesKey):
        self._cluster = cluster
        self._key = key
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._change_count = 0
        self._seen_count = 0
        self._objects: dict[str, dict[str, Raw]] = {"Deployment": {}, "Pod": {}}
        self._error: FnbuildError | None = None

    def __enter__(self) -> Self:
        fields = f"metadata.name={self._key.object_name}"
        for kind, label_selector, only in (
            (kinds.DEPLOYMENT, "", fields),
            (kinds.POD, self._key.selector, ""),
        ):
            name = f"watch-{kind.plural}-{self._key.object_name}"
            threading.Thread(
                target=self._follow, args=(kind, label_selector, only), name=name, daemon=True
            ).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()

    @property
    def deployment(self) -> KubeDeployment | None:
        with self._changed:
            kube_deployment = self._objects["Deployment"].get(self._key.object_name)
            return None if kube_deployment is None else KubeDeployment(kube_deployment)

    @property
    def pods(self) -> list[Pod]:
        with self._changed:
            return list(map(Pod, self._objects["Pod"].values()))

    @property
    def error(self) -> FnbuildError | None:
        """The last error of a watch, or None."""
        return self._error

    def wait(self, seconds: float) -> None:
        """Wait for a change since the last call, at most for `seconds`."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while (
                self._change_count == self._seen_count and (left := deadline - time.monotonic()) > 0
            ):
                self._changed.wait(left)
            self._seen_count = self._change_count

    def _follow(self, kind: Kind, labels: str, fields: str) -> None:
        began = False
        while not self._stopped.is_set():
            try:
                if began:
                    # Objects deleted between two watches are reported by neither.
                    self._replace(kind, labels, fields)
                began = True
                self._watch(kind, labels, fields)
                self._error = None
            except FnbuildError as error:
                self._error = error
                self._stopped.wait(_RETRY_SECONDS)

    def _replace(self, kind: Kind, labels: str, fields: str) -> None:
        listed = self._cluster.list(kind, self._key.namespace, labels=labels, fields=fields)
        with self._changed:
            self._objects[kind.name] = {obj["metadata"]["name"]: obj for obj in listed}
            self._change_count += 1
            self._changed.notify_all()

    def _watch(self, kind: Kind, labels: str, fields: str) -> None:
        changes = self._cluster.watch(
            kind, self._key.namespace, labels=labels, fields=fields, seconds=_WINDOW_SECONDS
        )
        for verb, obj in changes:
            if self._stopped.is_set():
                return
            self._store(kind, verb, obj)

    def _store(self, kind: Kind, verb: str, obj: Raw) -> None:
        name = obj["metadata"]["name"]
        with self._changed:
            if verb == "DELETED":
                self._objects[kind.name].pop(name, None)
            else:
                self._objects[kind.name][name] = obj
            self._change_count += 1
            self._changed.notify_all()


@dataclass(slots=True)
class ReadinessWait:
    """A wait for the pods of a revision that was just applied."""

    cluster: Cluster
    revision: RevisionRecord
    progress: Progress
    _reported: set[str] = field(default_factory=set)
    _seen: bool = False
    _last: RolloutStatus | None = None

    def until_ready(self, *, seconds: float | None = None) -> None:
        """Return once all pods are new and available.

        Raises `NotReadyError` after `seconds` (by default `readinessTimeoutSeconds`), or as soon as
        the rollout cannot succeed, unless `waitReadinessTimeoutBeforeFailure` is set. Raises
        `ConflictError` if another deploy has taken over.
        """
        if seconds is None:
            seconds = readiness_seconds(self.revision.function)
        began = time.monotonic()
        connection_error: FnbuildError | None = None
        with (
            DeploymentWatch(self.cluster, self.revision.key) as watched,
            self._follow_output(watched),
        ):
            while (passed := time.monotonic() - began) < seconds + _EXTRA_SECONDS:
                watched.wait(_POLL_SECONDS)
                try:
                    if self._ready(watched, passed):
                        return
                except UnavailableError as error:
                    connection_error = error
                    self._report(["the cluster is not available at the moment"])
                time.sleep(_PAUSE_SECONDS)
            if (
                self._last is None
                and (connection_error := watched.error or connection_error) is not None
            ):
                raise connection_error
        raise self._timeout_error(seconds)

    def _follow_output(self, watched: DeploymentWatch) -> StartupFollower:
        """Report the output of the first new pod while it starts."""

        def pods() -> list[str]:
            kube_deployment = watched.deployment
            if kube_deployment is None or not self._is_current(kube_deployment):
                return []
            # `newest_pods` would return the old pods until there is a new one.
            new = rollout_status.pods_of_template(kube_deployment, watched.pods)
            return [pod.name for pod in new if pod_status.is_function_running(pod)][:1]

        def records(stop: Event) -> Iterator[LogRecord]:
            while not (first := pods()) and not stop.wait(_PAUSE_SECONDS):
                pass
            namespace = self.revision.key.namespace
            options = LogOptions(follow=True, stop=stop)
            return logs.read_logs(self.cluster, namespace, lambda: first, options)

        return StartupFollower(records, self.progress)

    def _ready(self, watched: DeploymentWatch, passed: float) -> bool:
        kube_deployment = watched.deployment
        if kube_deployment is None or not self._is_current(kube_deployment):
            if self._seen or (kube_deployment is not None and passed > _WATCH_LAG_SECONDS):
                raise superseded_error(self.revision, kube_deployment)
            return False
        self._seen = True
        if kube_deployment.is_rolled_out:
            return True
        status = queries.query_rollout_status(
            self.cluster, kube_deployment, watched.pods, time.time()
        )
        self._last = status
        whole_time = self.revision.function.spec.wait_readiness_timeout_before_failure
        has_failed = bool(status.failure) and not whole_time
        # The failure is reported as an error, not as progress.
        self._report(
            message for message in status.messages if not has_failed or message != status.failure
        )
        if has_failed:
            raise NotReadyError(
                failure_prefix(self.revision.number, self.revision.key.name) + status.failure,
                detail=self._failure_details(status),
                hint=status.hint or None,
            )
        return status.ready

    def _is_current(self, kube_deployment: Raw) -> bool:
        """Return True if the Deployment has the revision that is waited for."""
        current = RevisionRecord.from_deployment(kube_deployment)
        return current is not None and current.number == self.revision.number

    def _report(self, messages: Iterable[str]) -> None:
        for text in messages:
            if text not in self._reported:
                self._reported.add(text)
                self.progress(text)

    def _timeout_error(self, seconds: float) -> NotReadyError:
        status = self._last or RolloutStatus(ready=False)
        progress = f" ({'; '.join(status.messages)})" if status.messages else ""
        prefix = failure_prefix(self.revision.number, self.revision.key.name)
        return NotReadyError(
            f"{prefix}it is still starting after {seconds:g} seconds{progress}",
            detail=self._failure_details(status),
            hint="a model that takes longer needs a larger spec.readinessTimeoutSeconds",
        )

    def _failure_details(self, status: RolloutStatus) -> str | None:
        if not status.pod:
            return None
        try:
            namespace = self.revision.key.namespace
            return queries.failure_details(self.cluster, namespace, status.pod, status.container)
        except FnbuildError:  # the reason is known even without details
            return None


def superseded_error(revision: RevisionRecord, kube_deployment: Raw | None) -> FnbuildError:
    """Return the error for a Deployment that another deploy has changed or deleted."""
    name = revision.key.name
    if kube_deployment is None:
        return NotFoundError(
            f"{name} was deleted while revision {revision.number} was being deployed"
        )
    current = RevisionRecord.from_deployment(kube_deployment)
    number = f"revision {current.number}" if current and current.number else "something else"
    return ConflictError(
        f"{name} was deployed from elsewhere in the meantime: {number} has replaced revision"
        f" {revision.number}",
        hint=f"`fnbuild history {name}` shows what runs",
    )
