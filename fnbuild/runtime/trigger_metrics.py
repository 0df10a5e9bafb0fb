"""What is counted of a trigger's events.

Where Nuclio has a metric it is here under its name (pkg/processor/metricsink/prometheus/trigger.go
and worker.go). Where Nuclio has a sum and a count, a histogram stands here: it writes the same two
names, and buckets besides.
"""

from typing import Dict

from .metrics import Histogram, Registry

_PREFIX = "nuclio_processor_"
# What happens to an event, one after the other: waiting for a worker, on the way to it, in the
# handler, on the way back.
STAGES = ("queue", "handover", "handler", "reply")
# The ways there and back take hundredths of a millisecond.
_STAGE_MILLISECONDS = (
    0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 30000,
)  # fmt: skip
_BYTES = tuple(4**power for power in range(4, 15))


class TriggerMetrics:
    """The families, in a registry."""

    def __init__(self, registry: Registry) -> None:
        trigger = ("trigger_kind", "trigger_id")
        self._handled = registry.counter(
            _PREFIX + "handled_events_total", "Events handled, by result", (*trigger, "result")
        )
        self._durations = registry.histogram(
            _PREFIX + "handled_events_duration_milliseconds",
            "How long events took in a worker",
            (*trigger, "worker_index"),
        )
        self._allocations = registry.counter(
            _PREFIX + "worker_allocation_total",
            "Times a worker was asked for, by result",
            (*trigger, "result"),
        )
        self._asked = registry.counter(
            _PREFIX + "worker_allocation_count", "Times a worker was asked for", trigger
        )
        self._waits = registry.histogram(
            _PREFIX + "worker_allocation_wait_duration_milliseconds",
            "How long events waited for a worker",
            trigger,
        )
        self._available = registry.counter(
            _PREFIX + "worker_allocation_workers_available_percentage",
            "Percentages of free workers, summed over the times one was asked for",
            trigger,
        )
        self._stages = registry.histogram(
            _PREFIX + "event_stage_duration_milliseconds",
            "How long events spent where: queue, handover, handler, reply",
            (*trigger, "stage"),
            _STAGE_MILLISECONDS,
        )
        self._sizes = registry.histogram(
            _PREFIX + "request_body_bytes", "Sizes of the requests' bodies", trigger, _BYTES
        )

    def trigger(self, kind: str, identity: str) -> "OneTrigger":
        """The metrics of one trigger, all of them there from the start with zero."""
        return OneTrigger(self, kind, identity)


class OneTrigger:
    """Counts for one trigger; made by TriggerMetrics."""

    def __init__(self, families: TriggerMetrics, kind: str, identity: str) -> None:
        key = (kind, identity)
        self._key = key
        self._durations_family = families._durations
        self._success = families._handled.child(*key, "success")
        self._failure = families._handled.child(*key, "failure")
        self._immediate = families._allocations.child(*key, "success_immediate")
        self._after_wait = families._allocations.child(*key, "success_after_wait")
        self._timeout = families._allocations.child(*key, "error_timeout")
        self._backlog = families._allocations.child(*key, "error_backlog")
        self._asked = families._asked.child(*key)
        self._waits = families._waits.child(*key)
        self._available = families._available.child(*key)
        self._sizes = families._sizes.child(*key)
        stages = [families._stages.child(*key, stage) for stage in STAGES]
        self._queue, self._handover, self._handler, self._reply = stages
        self._durations: Dict[str, Histogram] = {}

    def asked(self, free: int, workers: int, size: int) -> None:
        """A worker was asked for, for `size` bytes of body, while `free` of `workers` were free."""
        self._asked.value += 1
        if free:
            self._available.value += 100.0 * free / workers
        self._sizes.observe(size)

    def allocated(self, waited: float) -> None:
        """A worker was there after `waited` seconds; 0 means at once."""
        (self._after_wait if waited > 0 else self._immediate).value += 1
        self._waits.observe(waited * 1000.0)

    def timed_out(self, waited: float) -> None:
        """No worker was there within `waited` seconds."""
        self._timeout.value += 1
        self._waits.observe(waited * 1000.0)

    def turned_away(self) -> None:
        """Too many events were waiting already."""
        self._backlog.value += 1

    def handled(self, worker: str, seconds: float, success: bool) -> None:
        """A worker is done with an event, `seconds` after it got it."""
        (self._success if success else self._failure).value += 1
        durations = self._durations.get(worker)
        if durations is None:
            durations = self._durations_family.child(*self._key, worker)
            self._durations[worker] = durations
        durations.observe(seconds * 1000.0)

    def spent(self, queue: float, handover: float, handler: float, reply: float) -> None:
        """Where the milliseconds of an event went that a worker answered."""
        self._queue.observe(queue)
        self._handover.observe(handover)
        self._handler.observe(handler)
        self._reply.observe(reply)
