"""Waiting until a revision's pods are ready, and saying why when they will not be."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from threading import Event

from fnbuild.builder.processor_settings import readiness_seconds
from fnbuild.errors import (
    ConflictError,
    FnbuildError,
    NotFoundError,
    NotReadyError,
    UnavailableError,
)
from fnbuild.platforms import LogRecord, Progress
from fnbuild.platforms.cluster import logs
from fnbuild.platforms.cluster.api import Cluster
from fnbuild.platforms.kube import asking, podstates, reasons
from fnbuild.platforms.kube.labels import Made
from fnbuild.platforms.kube.reasons import Standing
from fnbuild.platforms.kube.watching import Watched
from fnbuild.platforms.logs import StartupFollower
from fnbuild.spec.types import Raw

# How often what no watch tells is asked for: events, and what processors say of themselves.
_ASK_SECONDS = 0.5
# Between two looks, however much changes.
_PAUSE_SECONDS = 0.05
# The processor keeps the same time and can say where the handler hangs: it goes first.
_VERDICT_SECONDS = 5.0
# Until a watch has seen what was just applied.
_SIGHT_SECONDS = 10.0


def opening(made: Made) -> str:
    """What the message of each `NotReadyError` begins with; the reason follows."""
    return f"revision {made.number} of {made.key.name} did not become ready: "


@dataclass(slots=True)
class Wait:
    """Waiting for the pods of a revision that was just applied."""

    cluster: Cluster
    made: Made
    progress: Progress
    _said: set[str] = field(default_factory=set)
    _seen: bool = False
    _last: Standing | None = None

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
        with Watched(self.cluster, self.made.key) as watched, self._following(watched):
            while (passed := time.monotonic() - began) < seconds + _VERDICT_SECONDS:
                watched.wait(_ASK_SECONDS)
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

    def _following(self, watched: Watched) -> StartupFollower:
        """Report what the first of the new pods prints while it starts."""

        def pods() -> list[str]:
            deployment = watched.deployment
            current = Made.of_deployment(deployment) if deployment is not None else None
            if deployment is None or current is None or current.number != self.made.number:
                return []
            # Until there is a new pod, the old ones would count as the newest.
            new = reasons.matching(deployment, watched.pods)
            return [str(pod["metadata"]["name"]) for pod in new if podstates.runs(pod)][:1]

        def records(until: Event) -> Iterator[LogRecord]:
            while not (first := pods()) and not until.wait(_PAUSE_SECONDS):
                pass
            namespace = self.made.key.namespace
            return logs.read(
                self.cluster,
                namespace,
                lambda: first,
                follow=True,
                since=None,
                tail=None,
                until=until,
            )

        return StartupFollower(records, self.progress)

    def _ready(self, watched: Watched, passed: float) -> bool:
        deployment = watched.deployment
        current = Made.of_deployment(deployment) if deployment is not None else None
        if deployment is None or current is None or current.number != self.made.number:
            if self._seen or (deployment is not None and passed > _SIGHT_SECONDS):
                raise taken_over(self.made, deployment)
            return False
        self._seen = True
        if reasons.rolled_out(deployment):
            return True
        standing = asking.standing(self.cluster, deployment, watched.pods, time.time())
        self._last = standing
        whole_time = self.made.function.spec.wait_readiness_timeout_before_failure
        over = bool(standing.failure) and not whole_time
        # What the error says is not said before it.
        self._say(one for one in standing.words if not over or one != standing.failure)
        if over:
            raise NotReadyError(
                opening(self.made) + standing.failure,
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
        last = self._last or Standing(ready=False)
        what = f" ({'; '.join(last.words)})" if last.words else ""
        return NotReadyError(
            f"{opening(self.made)}it is still starting after {seconds:g} seconds{what}",
            detail=self._last_words(last),
            hint="a model that takes longer needs a larger spec.readinessTimeoutSeconds",
        )

    def _last_words(self, standing: Standing) -> str | None:
        if not standing.pod:
            return None
        try:
            namespace = self.made.key.namespace
            return asking.last_words(self.cluster, namespace, standing.pod, standing.container)
        except FnbuildError:  # the reason is told all the same
            return None


def taken_over(made: Made, deployment: Raw | None) -> FnbuildError:
    """What is said of a revision whose Deployment is somebody else's by now, or gone."""
    name = made.key.name
    if deployment is None:
        return NotFoundError(f"{name} was deleted while revision {made.number} was being deployed")
    current = Made.of_deployment(deployment)
    number = f"revision {current.number}" if current and current.number else "something else"
    return ConflictError(
        f"{name} was deployed from elsewhere meanwhile: {number} has replaced revision"
        f" {made.number}",
        hint=f"`fnbuild history {name}` shows what runs",
    )
