"""Handing a function to Nuclio, and waiting until Nuclio says what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from fnbuild.errors import ConflictError, FnbuildError, NotReadyError
from fnbuild.platforms import Progress
from fnbuild.platforms.base import FunctionKey
from fnbuild.platforms.nuclio import words
from fnbuild.platforms.nuclio.dashboard import Dashboard
from fnbuild.platforms.nuclio.records import (
    PROVISIONED,
    WAITING,
    facts_of,
    metadata_of,
    state_of,
    status_of,
)
from fnbuild.spec.types import Raw

_POLL_SECONDS = 0.25
_SLOWEST_POLL_SECONDS = 1.0
# What Nuclio needs beside the function's own time to become ready.
_NUCLIO_SECONDS = 60.0
_GONE_SECONDS = 60.0
# A state from before an order may be read for a moment behind it.
_STALE_SECONDS = 3.0
# Nuclio's clock may be this much behind.
_SKEW_SECONDS = 5.0
_SERVED = ("ready", "scaledToZero")

_STATES = {
    "building": "Nuclio takes it in",
    WAITING: "Nuclio makes its resources and waits until they are ready",
    "configuringResources": "Nuclio makes its resources",
    "waitingForBuild": "Nuclio has yet to begin",
    "waitingForScaleResourceFromZero": "Nuclio starts its first replica",
    "waitingForScaleResourceToZero": "Nuclio stops its replicas",
}

Ours = Callable[[Raw], bool]
"""Whether what Nuclio has is what was ordered."""


def refuse_busy(key: FunctionKey, stored: Raw | None) -> None:
    """Nuclio takes no change while another one is under way."""
    if stored is None or state_of(stored) in PROVISIONED:
        return
    raise ConflictError(
        f"{key.name} is being deployed by somebody else: Nuclio says"
        f" {state_of(stored) or 'nothing of its state'}",
        hint="try again when it is done; a deploy whose dashboard has died never is, and"
        f" `fnbuild delete function {key.name}` removes what is left of it",
    )


def gone(dashboard: Dashboard, key: FunctionKey) -> None:
    """Wait until Nuclio has forgotten it."""
    deadline = time.monotonic() + _GONE_SECONDS
    while dashboard.function(key) is not None:
        if time.monotonic() > deadline:
            raise NotReadyError(
                f"{key.name} is still there {_GONE_SECONDS:g} s after Nuclio was told to delete it",
                hint="a finalizer may keep it: `kubectl get nucliofunction -o yaml` shows which",
            )
        time.sleep(_POLL_SECONDS)


def _kept(found: Raw) -> bool:
    """Whether the order failed and left it as it was before. Nuclio keeps what failed; fnbuild's
    own dashboard keeps what serves, and says so in `status.operation`.
    """
    operation = status_of(found).get("operation")
    return isinstance(operation, dict) and operation.get("state") == "failed"


class Rollout:
    """One order to Nuclio; `seconds` are the function's to become ready."""

    def __init__(self, dashboard: Dashboard, key: FunctionKey, seconds: float, progress: Progress):
        self.dashboard = dashboard
        self.key = key
        self.seconds = seconds
        self.progress = progress
        self._began = time.time() - _SKEW_SECONDS
        self._told: set[str] = set()

    def deploy(self, function: Raw, stored: Raw | None, *, keep_failed: bool) -> None:
        """Hand it over, in place of `stored`, and wait until it is ready.

        When it does not become so, what served before is deployed again, unless `keep_failed`;
        `NotReadyError` either way.
        """
        if stored is None:
            self.dashboard.create(function)
        else:
            self.dashboard.replace(stored, function)
        created = facts_of(function).created

        def ours(found: Raw) -> bool:
            return facts_of(found).created == created

        try:
            self._settled(ours)
        except NotReadyError as error:
            if stored is not None and state_of(stored) in _SERVED and not keep_failed:
                self._go_back(stored, ours, error)
            raise

    def redeploy(self, stored: Raw) -> None:
        """Have it deployed as it is, and wait until it is ready."""
        self.dashboard.redeploy(stored)
        version = metadata_of(stored).get("resourceVersion")
        began = time.monotonic()

        def acted_on(found: Raw) -> bool:
            changed = metadata_of(found).get("resourceVersion") != version
            return changed or time.monotonic() - began > _STALE_SECONDS

        self._settled(acted_on)

    def imported(self) -> None:
        """Wait until a function that was imported is on record as that."""
        self._settled(lambda _: True, ("imported",))

    def _settled(self, ours: Ours, wanted: Collection[str] = _SERVED) -> None:
        """Wait until Nuclio is done; `NotReadyError` when it is in no state of `wanted` then."""
        began = time.monotonic()
        pause = _POLL_SECONDS
        while True:
            found = self.dashboard.function(self.key)
            waited = time.monotonic() - began
            if found is None:
                raise ConflictError(
                    f"somebody has deleted {self.key.name} while it was being deployed"
                )
            if ours(found):
                if state_of(found) in wanted:
                    return
                if state_of(found) in PROVISIONED:
                    raise self._failed(found)
                self._tell(found)
            elif _kept(found):
                raise self._failed(found)
            elif (
                facts_of(found).number
                and waited > _STALE_SECONDS
                and state_of(found) in PROVISIONED
            ):
                raise ConflictError(
                    f"somebody else has deployed {self.key.name} meanwhile, as revision"
                    f" {facts_of(found).number}"
                )
            self._refuse_to_wait(found, waited)
            time.sleep(pause)
            pause = min(pause * 1.2, _SLOWEST_POLL_SECONDS)

    def _refuse_to_wait(self, found: Raw, waited: float) -> None:
        """Raise `NotReadyError` if the rollout took too long."""
        if waited > self.seconds + _NUCLIO_SECONDS:
            raise NotReadyError(
                f"{self.key.name} is not ready after {waited:.0f} s; Nuclio says {state_of(found)}",
                detail=self.dashboard.last_words(self.key, self._began) or None,
                hint="Nuclio may still go on: `fnbuild get functions` shows what comes of it",
            )

    def _failed(self, found: Raw) -> NotReadyError:
        told = words.own_errors(str(status_of(found).get("message") or ""))
        last = "" if told else self.dashboard.last_words(self.key, self._began)
        reason, detail = words.failure(found, last)
        return NotReadyError(f"{self.key.name} did not become ready: {reason}", detail=detail)

    def _go_back(self, before: Raw, ours: Ours, error: NotReadyError) -> None:
        """Deploy again what served, and say so in `error`: Nuclio leaves the failed one."""
        number = facts_of(before).number
        what = f"revision {number}" if number else "what ran before"
        failed = self.dashboard.function(self.key)
        if failed is None or not ours(failed) or state_of(failed) not in PROVISIONED:
            return
        self.progress(f"going back to {what}")
        try:
            self.dashboard.replace(failed, before)
            self._settled(lambda found: not ours(found))
        except FnbuildError as problem:
            error.hint = f"{what} could not be deployed again: {problem.message}"
        else:
            error.message = f"{error.message}; {what} goes on serving"

    def _tell(self, found: Raw) -> None:
        """Report the state and Nuclio's records of the deploy, each once."""
        records = [one for one in status_of(found).get("logs") or [] if isinstance(one, dict)]
        said = [str(one.get("message") or "") for one in records]
        for text in (_STATES.get(state_of(found), ""), *said):
            if text and text not in self._told:
                self._told.add(text)
                self.progress(text)
