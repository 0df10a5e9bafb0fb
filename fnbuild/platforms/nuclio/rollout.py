"""A rollout through Nuclio: hand over a function, wait for the outcome, explain a failure.

Nuclio's message mixes its own errors with lines of a replica's log
(pkg/platform/kube/client/deployer.go), and the log is JSON if the image is fnbuild's. The errors of
the function come first.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from fnbuild.errors import ConflictError, FnbuildError, NotReadyError
from fnbuild.function.types import Raw
from fnbuild.platforms import Progress
from fnbuild.platforms.base import FunctionKey
from fnbuild.platforms.logs import parse_log_line
from fnbuild.platforms.nuclio.client import DashboardClient
from fnbuild.platforms.nuclio.function_config import (
    SETTLED_STATES,
    WAITING_STATE,
    DeployRecord,
    decode_deploy_record,
    metadata_of,
    nuclio_state_of,
    status_of,
)

_POLL_SECONDS = 0.25
_MAX_POLL_SECONDS = 1.0
# The time that Nuclio needs in addition to the function's readiness.
_ROLLOUT_MARGIN_SECONDS = 60.0
_DELETE_SECONDS = 60.0
# After a change, reads may return the old state for a moment. A busy dashboard takes longer to
# start a deploy than to show the deploy of another client.
_STALE_READ_SECONDS = 3.0
_START_SECONDS = 60.0
# Nuclio's clock may be this much behind.
_SKEW_SECONDS = 5.0
_SERVING_STATES = ("ready", "scaledToZero")

_STATE_MESSAGES = {
    "building": "Nuclio prepares the function",
    WAITING_STATE: "Nuclio creates the resources and waits until they are ready",
    "configuringResources": "Nuclio creates the resources",
    "waitingForBuild": "Nuclio has not started yet",
    "waitingForScaleResourceFromZero": "Nuclio starts the first replica",
    "waitingForScaleResourceToZero": "Nuclio stops the replicas",
}

_TRACEBACK = "Traceback (most recent call last)"
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit|Warning)\b.*")
_MAX_LINES = 40

ConfigPredicate = Callable[[Raw], bool]
"""Returns True if the stored configuration is the one that was handed over."""


def check_not_busy(key: FunctionKey, stored: Raw | None) -> None:
    """Raise `ConflictError` during another deploy: Nuclio accepts no change until it ends."""
    if stored is None or nuclio_state_of(stored) in SETTLED_STATES:
        return
    raise ConflictError(
        f"another client is deploying {key.name}: Nuclio reports"
        f" {f'the state {nuclio_state_of(stored)}' if nuclio_state_of(stored) else 'no state'}",
        hint="try again when that deploy has ended; if its dashboard has died, it never ends, and"
        f" `fnbuild delete function {key.name}` removes the function",
    )


def wait_until_deleted(dashboard: DashboardClient, key: FunctionKey) -> None:
    """Wait until Nuclio has removed the function."""
    deadline = time.monotonic() + _DELETE_SECONDS
    while dashboard.function(key) is not None:
        if time.monotonic() > deadline:
            raise NotReadyError(
                f"{key.name} still exists {_DELETE_SECONDS:g} s after its deletion was requested",
                hint="a finalizer may keep it: `kubectl get nucliofunction -o yaml` shows which",
            )
        time.sleep(_POLL_SECONDS)


@dataclass(slots=True)
class Rollout:
    """One change of a function; `seconds` is the function's time to become ready."""

    dashboard: DashboardClient
    key: FunctionKey
    seconds: float
    progress: Progress
    _log_start: float = field(default_factory=lambda: time.time() - _SKEW_SECONDS)
    _reported: set[str] = field(default_factory=set)

    def deploy(self, function: Raw, stored: Raw | None, *, keep_failed: bool) -> None:
        """Deploy the function in place of `stored`, and wait until it is ready.

        Raises `NotReadyError` if it does not become ready. Then the previous configuration is
        deployed again, unless `keep_failed`.
        """
        if stored is None:
            self.dashboard.create(function)
        else:
            self.dashboard.replace(stored, function)
        created = decode_deploy_record(function).created

        def is_new(current: Raw) -> bool:
            return decode_deploy_record(current).created == created

        replaced = decode_deploy_record(stored).created if stored is not None else None
        try:
            self._wait_until_settled(is_new, replaced=replaced)
        except NotReadyError as error:
            if (
                stored is not None
                and nuclio_state_of(stored) in _SERVING_STATES
                and not keep_failed
            ):
                self._roll_back(stored, is_new, error)
            raise

    def redeploy(self, stored: Raw) -> None:
        """Deploy the function unchanged, and wait until it is ready."""
        self.dashboard.redeploy(stored)
        version = metadata_of(stored).get("resourceVersion")
        started = time.monotonic()

        def is_new(current: Raw) -> bool:
            changed = metadata_of(current).get("resourceVersion") != version
            return changed or time.monotonic() - started > _STALE_READ_SECONDS

        self._wait_until_settled(is_new)

    def wait_until_imported(self) -> None:
        """Wait until Nuclio has recorded the function as imported."""
        self._wait_until_settled(lambda _: True, ("imported",))

    def _wait_until_settled(
        self,
        is_new: ConfigPredicate,
        expected: Collection[str] = _SERVING_STATES,
        replaced: str | None = None,
    ) -> None:
        """Wait until the deploy ends. Raises `NotReadyError` if the state is not expected.

        `replaced` is the time of creation of the revision that this deploy replaces.
        """
        started = time.monotonic()
        pause = _POLL_SECONDS
        while True:
            current = self.dashboard.function(self.key)
            elapsed = time.monotonic() - started
            if current is None:
                raise ConflictError(f"another client deleted {self.key.name} during its deploy")
            settled = nuclio_state_of(current) in SETTLED_STATES
            if is_new(current):
                if nuclio_state_of(current) in expected:
                    return
                if settled:
                    raise self._not_ready_error(current)
                self._report_progress(current)
            elif _was_rejected(current):
                raise self._not_ready_error(current)
            elif settled:
                self._check_no_other_deploy(decode_deploy_record(current), elapsed, replaced)
            self._check_timeout(current, elapsed)
            time.sleep(pause)
            pause = min(pause * 1.2, _MAX_POLL_SECONDS)

    def _check_no_other_deploy(
        self, revision: DeployRecord, elapsed: float, replaced: str | None
    ) -> None:
        """Raise `ConflictError` if a revision that is not the new one cannot be a stale read."""
        stale = _START_SECONDS if revision.created == replaced else _STALE_READ_SECONDS
        if revision.number and elapsed > stale:
            raise ConflictError(
                f"another client deployed {self.key.name} at the same time, as revision"
                f" {revision.number}"
            )

    def _check_timeout(self, current: Raw, elapsed: float) -> None:
        if elapsed > self.seconds + _ROLLOUT_MARGIN_SECONDS:
            raise NotReadyError(
                f"{self.key.name} is not ready after {elapsed:.0f} s; Nuclio reports the state"
                f" {nuclio_state_of(current)}",
                detail=self.dashboard.last_errors(self.key, self._log_start) or None,
                hint="Nuclio may still finish the deploy: `fnbuild get functions` shows the state",
            )

    def _not_ready_error(self, current: Raw) -> NotReadyError:
        errors = function_errors(str(status_of(current).get("message") or ""))
        log_errors = "" if errors else self.dashboard.last_errors(self.key, self._log_start)
        reason, detail = failure_reason(current, log_errors)
        return NotReadyError(f"{self.key.name} did not become ready: {reason}", detail=detail)

    def _roll_back(self, before: Raw, is_new: ConfigPredicate, error: NotReadyError) -> None:
        """Deploy the previous configuration again, and add the outcome to `error`."""
        number = decode_deploy_record(before).number
        previous = f"revision {number}" if number else "what ran before"
        failed = self.dashboard.function(self.key)
        if failed is None or not is_new(failed) or nuclio_state_of(failed) not in SETTLED_STATES:
            return
        self.progress(f"rolling back to {previous}")
        try:
            self.dashboard.replace(failed, before)
            self._wait_until_settled(lambda current: not is_new(current))
        except FnbuildError as problem:
            error.hint = f"{previous} could not be deployed again: {problem.message}"
        else:
            error.message = f"{error.message}; {previous} goes on serving"

    def _report_progress(self, current: Raw) -> None:
        """Report the state and Nuclio's records of the deploy, each once."""
        messages = [_STATE_MESSAGES.get(nuclio_state_of(current), ""), *_deploy_messages(current)]
        for message in messages:
            if message and message not in self._reported:
                self._reported.add(message)
                self.progress(message)


def _was_rejected(current: Raw) -> bool:
    """Return True if the deploy failed and left the function unchanged.

    Nuclio keeps a failed configuration. fnbuild's own dashboard keeps the serving one, and reports
    the failure in `status.operation`.
    """
    operation = status_of(current).get("operation")
    return isinstance(operation, dict) and operation.get("state") == "failed"


def failure_reason(stored: Raw, log_errors: str = "") -> tuple[str, str | None]:
    """Return the reason of a failure in one line, and its detail: the function's own errors.

    `log_errors` are the last errors of a replica's log, if they could be read.
    """
    status = status_of(stored)
    message = str(status.get("message") or "").strip()
    deploy_log = "\n".join(_deploy_messages(stored))
    errors = function_errors(message) or log_errors.strip() or function_errors(deploy_log)
    detail = errors or message or deploy_log
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    first_line = lines[0] if lines else str(status.get("state") or "no state")
    reason = last_exception(errors) or first_line
    return reason, _last_lines(detail) if detail and detail != reason else None


def function_errors(text: str) -> str:
    """Return the errors of a function's log inside a text: error records, or a traceback."""
    lines = text.splitlines()
    records = [
        parse_log_line(line.strip().encode(), 0.0)
        for line in lines
        if line.lstrip().startswith("{")
    ]
    errors = [record.message for record in records if record.time and record.level == "error"]
    if errors:
        return "\n".join(dict.fromkeys(errors))
    for index, line in enumerate(lines):
        if _TRACEBACK in line:
            return "\n".join(lines[index:]).strip()
    return ""


def last_exception(text: str) -> str:
    """Return the last line that names an exception, which ends a traceback; "" if there is none."""
    exceptions = [line.strip() for line in text.splitlines() if _EXCEPTION.match(line.strip())]
    return exceptions[-1] if exceptions else ""


def _deploy_messages(stored: Raw) -> list[str]:
    """Return the messages that Nuclio recorded during the deploy."""
    records = status_of(stored).get("logs") or []
    return [str(record.get("message") or "") for record in records if isinstance(record, dict)]


def _last_lines(text: str) -> str:
    return "\n".join(text.splitlines()[-_MAX_LINES:])
