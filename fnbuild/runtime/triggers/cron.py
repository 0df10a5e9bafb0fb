"""The cron trigger: events at an interval or by a schedule.

The attributes are Nuclio's (pkg/processor/trigger/cron/types.go), with `interval` in seconds:

    {"interval": 60.0} or {"schedule": "*/5 * * * *"}, {"event": {"body", "headers", "method"}}

Runs do not accumulate: a run that is due while another waits for a worker is skipped, and runs that
were missed while the machine slept are not made up for. A run does not wake sleeping workers.
"""

import asyncio
import json
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ..config import ConfigFileError
from ..ids import new_id
from ..logs import LogRecord
from ..processor.pending_event import EventResult, PendingEvent
from ..processor.worker_handle import WorkerHandle
from .base import Trigger, TriggerContext, event_meta
from .schedule import Schedule, ScheduleError

# Seconds within which a changed clock or a machine's sleep is noticed.
_MAX_SLEEP = 30.0


class CronRun(PendingEvent):
    """An event of the trigger in flight."""

    __slots__ = ("dispatched", "worker")

    def __init__(self, trigger: "CronTrigger", worker: str) -> None:
        PendingEvent.__init__(self, trigger.on_result, new_id(), None)
        self.dispatched = time.monotonic()
        self.worker = worker


class CronTrigger(Trigger):
    """A cron trigger and its timer."""

    def __init__(self, context: TriggerContext) -> None:
        config = context.config
        self._config = config
        self._pool = context.pool
        self._metrics = context.metrics
        self._interval, self._schedule = _read_schedule(config.name, config.attributes)
        self._event = _read_event(config.attributes.get("event"))
        self._timer: Optional[asyncio.TimerHandle] = None
        self._next = 0.0
        self._waiting = False
        self._runs = 0
        self._skipped = 0
        self._consecutive_skips = 0

    def start(self) -> None:
        """Schedule the first run: after one interval, or the first time of the schedule."""
        self._next = self._next_run()
        self._arm()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def to_dict(self) -> Dict[str, Any]:
        """Return the entry in the status; `next` is a Unix time or null."""
        due = None
        if self._timer is not None:
            due = self._next
            if self._schedule is None:
                due += time.time() - time.monotonic()
        return {
            "name": self._config.name,
            "kind": "cron",
            "next": due,
            "runs": self._runs,
            "skipped": self._skipped,
        }

    # Intervals use the monotonic clock, schedules the wall clock.

    def _now(self) -> float:
        return time.time() if self._schedule is not None else time.monotonic()

    def _next_run(self) -> float:
        now = self._now()
        if self._schedule is not None:
            return self._schedule.after(now) or now + _MAX_SLEEP
        due = self._next + self._interval
        return due if due > now else now + self._interval

    def _arm(self) -> None:
        wait = min(max(0.0, self._next - self._now()), _MAX_SLEEP)
        self._timer = self._pool.loop.call_later(wait, self._wake)

    def _wake(self) -> None:
        due = self._now() >= self._next
        if due:
            self._next = self._next_run()
        self._arm()
        if due:
            self._start_run()

    def _start_run(self) -> None:
        if self._waiting:
            self._skip("the last run still waits for a worker")
            return
        pool = self._pool
        if pool.sleeping or pool.holding:
            self._skipped += 1
            return
        worker = pool.acquire()
        free = 0 if worker is None else pool.idle + 1
        self._metrics.worker_requested(free, len(pool.workers), len(self._event.body))
        if worker is not None:
            self._on_worker(worker, 0.0)
        else:
            self._waiting = True
            pool.wait_for_worker(self._config.availability_timeout, self._on_worker)

    def _on_worker(self, worker: Optional[WorkerHandle], waited: float) -> None:
        self._waiting = False
        if worker is None:
            self._metrics.wait_timed_out(waited)
            self._skip("no worker was free within %g s" % self._config.availability_timeout)
            return
        self._metrics.worker_allocated(waited)
        self._runs += 1
        if self._consecutive_skips > 1:
            self._warn("%d runs were skipped" % self._consecutive_skips)
        self._consecutive_skips = 0
        run = CronRun(self, worker.name)
        body, method, headers, content_type = self._event
        meta = event_meta(self._config, run.request_id, method, headers, content_type)
        worker.dispatch(meta, body, run)

    def _skip(self, reason: str) -> None:
        self._skipped += 1
        self._consecutive_skips += 1
        # Of consecutive skips the first is logged at once, and their number at the end.
        if self._consecutive_skips == 1 and not self._pool.stopping:
            self._warn("a run was skipped: " + reason)

    def _warn(self, text: str, run: Optional[CronRun] = None) -> None:
        record = LogRecord("warn", 'cron trigger "%s": %s' % (self._config.name, text))
        record.request_id = run.request_id if run is not None else None
        self._pool.log.write(record)

    def on_result(self, run: Any, result: EventResult) -> None:
        """Count and log the result of a run."""
        seconds = time.monotonic() - run.dispatched
        self._metrics.handled(run.worker, seconds, result.status < 500)
        if result.error is not None:
            self._warn("the run failed: " + result.error, run)
        elif result.status >= 400 and not result.raised:
            self._warn("the handler answered %d" % result.status, run)


def _read_schedule(name: str, attributes: Dict[str, Any]) -> Tuple[float, Optional[Schedule]]:
    location = "triggers.%s.attributes" % name
    interval, schedule = attributes.get("interval"), attributes.get("schedule")
    if interval:
        if isinstance(interval, bool) or not isinstance(interval, (int, float)) or interval <= 0:
            raise ConfigFileError(
                "%s.interval: %r is not a number of seconds" % (location, interval)
            )
        return float(interval), None
    if not schedule:
        raise ConfigFileError("%s: a cron trigger needs an interval or a schedule" % location)
    try:
        return 0.0, Schedule(str(schedule))
    except ScheduleError as problem:
        raise ConfigFileError("%s.schedule: %s" % (location, problem)) from None


class CronEvent(NamedTuple):
    """The event of every run."""

    body: bytes
    method: str
    headers: List[Tuple[str, str]]
    content_type: str


def _read_event(value: Any) -> CronEvent:
    """Return the event in the attributes; its body is text as it is, other values as JSON."""
    event = value if isinstance(value, dict) else {}
    values = {key.lower(): item for key, item in event.items()}
    headers = [(str(name), str(text)) for name, text in (values.get("headers") or {}).items()]
    types = [text for name, text in headers if name.lower() == "content-type"]
    body = values.get("body")
    text = "" if body is None else body if isinstance(body, str) else json.dumps(body)
    default_type = "application/json" if isinstance(body, (dict, list)) else ""
    content_type = types[-1] if types else default_type
    return CronEvent(text.encode("utf-8"), str(values.get("method") or ""), headers, content_type)
