"""A rollout through Nuclio: hand over a function, wait for the outcome, explain a failure.

Nuclio's message mixes its own errors with lines of a replica's log
(pkg/platform/kube/client/deployer.go), and the log is JSON if the image is fnbuild's. The errors of
the function come first.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection

from fnbuild.errors import ConflictError, FnbuildError, NotReadyError
from fnbuild.function.types import Raw
from fnbuild.platforms import Progress
from fnbuild.platforms.base import FunctionKey
from fnbuild.platforms.logs import parse_log_line
from fnbuild.platforms.nuclio.client import DashboardClient
from fnbuild.platforms.nuclio.function_config import (
    SETTLED_STATES,
    WAITING_STATE,
    decode_revision,
    metadata_of,
    state_of,
    status_of,
)

_TRACEBACK = "Traceback (most recent call last)"
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit|Warning)\b.*")
_MAX_LINES = 40


def failure_reason(stored: Raw, last_words: str = "") -> tuple[str, str | None]:
    """The reason in one line, and the detail below it: the function's own errors.

    `last_words` are the last errors of a replica's log, where they are known.
    """
    status = status_of(stored)
    message = str(status.get("message") or "").strip()
    own = function_errors(message) or last_words.strip() or function_errors(_deploy_log(status))
    detail = own or message or _deploy_log(status)
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    reason = last_exception(own) or (lines[0] if lines else str(status.get("state") or "no state"))
    return reason, _last_lines(detail) if detail and detail != reason else None


def function_errors(text: str) -> str:
    """The errors of a log within a text: records of level error, or what a traceback says."""
    lines = text.splitlines()
    found = [
        parse_log_line(line.strip().encode(), 0.0)
        for line in lines
        if line.lstrip().startswith("{")
    ]
    errors = [one.message for one in found if one.time and one.level == "error"]
    if errors:
        return "\n".join(dict.fromkeys(errors))
    for index, line in enumerate(lines):
        if _TRACEBACK in line:
            return "\n".join(lines[index:]).strip()
    return ""


def last_exception(text: str) -> str:
    """The last line that names an exception: what a traceback comes to."""
    found = [line.strip() for line in text.splitlines() if _EXCEPTION.match(line.strip())]
    return found[-1] if found else ""


def _deploy_log(status: Raw) -> str:
    """The records that Nuclio kept of the deploy."""
    records = status.get("logs") or []
    return "\n".join(str(one.get("message", "")) for one in records if isinstance(one, dict))


def _last_lines(text: str) -> str:
    return "\n".join(text.splitlines()[-_MAX_LINES:])


_POLL_SECONDS = 0.25
_MAX_POLL_SECONDS = 1.0
# What Nuclio needs beside the function's own time to become ready.
_ROLLOUT_MARGIN_SECONDS = 60.0
_DELETE_SECONDS = 60.0
# How long after an order the state from before it may be read. A busy dashboard takes longer to
# begin with a deploy than to show one that another client has made.
_STALE_READ_SECONDS = 3.0
_BEGIN_SECONDS = 60.0
# Nuclio's clock may be this much behind.
_SKEW_SECONDS = 5.0
_SERVING_STATES = ("ready", "scaledToZero")

_STATE_MESSAGES = {
    "building": "Nuclio takes it in",
    WAITING_STATE: "Nuclio makes its resources and waits until they are ready",
    "configuringResources": "Nuclio makes its resources",
    "waitingForBuild": "Nuclio has yet to begin",
    "waitingForScaleResourceFromZero": "Nuclio starts its first replica",
    "waitingForScaleResourceToZero": "Nuclio stops its replicas",
}

ConfigPredicate = Callable[[Raw], bool]
"""Whether what Nuclio has is what was ordered."""


def check_not_busy(key: FunctionKey, stored: Raw | None) -> None:
    """Nuclio takes no change while another one is under way."""
    if stored is None or state_of(stored) in SETTLED_STATES:
        return
    raise ConflictError(
        f"{key.name} is being deployed by somebody else: Nuclio says"
        f" {state_of(stored) or 'nothing of its state'}",
        hint="try again when it is done; a deploy whose dashboard has died never is, and"
        f" `fnbuild delete function {key.name}` removes what is left of it",
    )


def wait_until_deleted(dashboard: DashboardClient, key: FunctionKey) -> None:
    """Wait until Nuclio has forgotten it."""
    deadline = time.monotonic() + _DELETE_SECONDS
    while dashboard.function(key) is not None:
        if time.monotonic() > deadline:
            raise NotReadyError(
                f"{key.name} still exists {_DELETE_SECONDS:g} s after Nuclio was told to delete it",
                hint="a finalizer may keep it: `kubectl get nucliofunction -o yaml` shows which",
            )
        time.sleep(_POLL_SECONDS)


def _was_rejected(found: Raw) -> bool:
    """Whether the order failed and left it as it was before. Nuclio keeps what failed; fnbuild's
    own dashboard keeps what serves, and says so in `status.operation`.
    """
    operation = status_of(found).get("operation")
    return isinstance(operation, dict) and operation.get("state") == "failed"


class Rollout:
    """One order to Nuclio; `seconds` are the function's to become ready."""

    def __init__(
        self, dashboard: DashboardClient, key: FunctionKey, seconds: float, progress: Progress
    ):
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
        created = decode_revision(function).created

        def ours(found: Raw) -> bool:
            return decode_revision(found).created == created

        before = decode_revision(stored).created if stored is not None else None
        try:
            self._settled(ours, before=before)
        except NotReadyError as error:
            if stored is not None and state_of(stored) in _SERVING_STATES and not keep_failed:
                self._go_back(stored, ours, error)
            raise

    def redeploy(self, stored: Raw) -> None:
        """Have it deployed as it is, and wait until it is ready."""
        self.dashboard.redeploy(stored)
        version = metadata_of(stored).get("resourceVersion")
        began = time.monotonic()

        def acted_on(found: Raw) -> bool:
            changed = metadata_of(found).get("resourceVersion") != version
            return changed or time.monotonic() - began > _STALE_READ_SECONDS

        self._settled(acted_on)

    def imported(self) -> None:
        """Wait until a function that was imported is on record as that."""
        self._settled(lambda _: True, ("imported",))

    def _settled(
        self,
        ours: ConfigPredicate,
        wanted: Collection[str] = _SERVING_STATES,
        before: str | None = None,
    ) -> None:
        """Wait until Nuclio has finished; raise `NotReadyError` if its state is not in `wanted`.

        `before` is the time of creation of the revision that this deploy replaces.
        """
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
                if state_of(found) in SETTLED_STATES:
                    raise self._failed(found)
                self._tell(found)
            elif _was_rejected(found):
                raise self._failed(found)
            elif (
                (revision := decode_revision(found)).number
                and waited > (_BEGIN_SECONDS if revision.created == before else _STALE_READ_SECONDS)
                and state_of(found) in SETTLED_STATES
            ):
                raise ConflictError(
                    f"somebody else has deployed {self.key.name} meanwhile, as revision"
                    f" {revision.number}"
                )
            self._refuse_to_wait(found, waited)
            time.sleep(pause)
            pause = min(pause * 1.2, _MAX_POLL_SECONDS)

    def _refuse_to_wait(self, found: Raw, waited: float) -> None:
        """Raise `NotReadyError` if the rollout took too long."""
        if waited > self.seconds + _ROLLOUT_MARGIN_SECONDS:
            raise NotReadyError(
                f"{self.key.name} is not ready after {waited:.0f} s; Nuclio says {state_of(found)}",
                detail=self.dashboard.last_words(self.key, self._began) or None,
                hint="Nuclio may still go on: `fnbuild get functions` shows what comes of it",
            )

    def _failed(self, found: Raw) -> NotReadyError:
        told = function_errors(str(status_of(found).get("message") or ""))
        last = "" if told else self.dashboard.last_words(self.key, self._began)
        reason, detail = failure_reason(found, last)
        return NotReadyError(f"{self.key.name} did not become ready: {reason}", detail=detail)

    def _go_back(self, before: Raw, ours: ConfigPredicate, error: NotReadyError) -> None:
        """Deploy again what served, and say so in `error`: Nuclio leaves the failed one."""
        number = decode_revision(before).number
        what = f"revision {number}" if number else "what ran before"
        failed = self.dashboard.function(self.key)
        if failed is None or not ours(failed) or state_of(failed) not in SETTLED_STATES:
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
        for text in (_STATE_MESSAGES.get(state_of(found), ""), *said):
            if text and text not in self._told:
                self._told.add(text)
                self.progress(text)
