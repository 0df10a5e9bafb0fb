"""Prometheus metrics of a processor (text exposition format 0.0.4).

Values belong to the thread that runs the processor's loop; nothing is locked. Children of a family
are looked up once, at start, so that counting costs an addition.

Metrics that Nuclio has are here under its names (pkg/processor/metricsink/prometheus/trigger.go
and worker.go). Where Nuclio has a sum and a count there is a histogram, which writes the same two
names and buckets besides.
"""

import re
import socket
from bisect import bisect_left
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Milliseconds, from a health check to the longest inference.
DEFAULT_BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 30000, 60000)

_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
_LABEL_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*\Z")

Number = Union[int, float]
# The suffix of the metric's name, a label in addition to the family's, and the value.
Sample = Tuple[str, str, Number]
# Returns the values of gauges by their label values.
GaugeReader = Callable[[], Mapping[Tuple[str, ...], Number]]

PREFIX = "nuclio_processor_"
# The stages of an event: waiting for a worker, on the way to it, in the handler, on the way back.
STAGES = ("queue", "handover", "handler", "reply")
# Handover and reply take hundredths of a millisecond.
_STAGE_BOUNDS = (
    0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 30000,
)  # fmt: skip
_SIZE_BOUNDS = tuple(4**power for power in range(4, 15))
_BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class SingleValue:
    """A single number: a child of a counter or a gauge."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Number = 0

    def samples(self) -> List[Sample]:
        """Return what a scrape shows of this child."""
        return [("", "", self.value)]


class Histogram:
    """The number of values below each of the upper bounds, and their sum."""

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: Sequence[Number]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self.sum: Number = 0

    def observe(self, value: Number) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def samples(self) -> List[Sample]:
        """Return what a scrape shows of this child."""
        rows: List[Sample] = []
        total = 0
        for bound, count in zip(self._bounds, self._counts):  # noqa: B905 - zip has no strict in 3.6
            total += count
            rows.append(("_bucket", 'le="%s"' % _format_value(bound), total))
        total += self._counts[-1]
        rows.append(("_bucket", 'le="+Inf"', total))
        rows.append(("_sum", "", self.sum))
        rows.append(("_count", "", total))
        return rows


class MetricFamily:
    """The children of a metric, one for each combination of label values."""

    def __init__(
        self, name: str, kind: str, text: str, labels: Sequence[str], make: Callable[[], Any]
    ) -> None:
        if not _METRIC_NAME.match(name):
            raise ValueError("%r cannot be the name of a metric" % name)
        for label in labels:
            _check_label(label, kind)
        self.name = name
        self.kind = kind
        self.text = text
        self.labels = tuple(labels)
        self._make = make
        self._children: Dict[Tuple[str, ...], Any] = {}

    def child(self, *values: object) -> Any:
        """Return the child for these label values, in the order of the labels."""
        if len(values) != len(self.labels):
            raise ValueError("%s has the labels %r, not %r" % (self.name, self.labels, values))
        key = tuple(str(value) for value in values)
        if key not in self._children:
            self._children[key] = self._make()
        return self._children[key]

    def lines(self, constant: Sequence[str]) -> List[str]:
        """Return the family's lines; `constant` are formatted labels of every sample."""
        help_text = self.text.replace("\\", "\\\\").replace("\n", "\\n")
        rows = [
            "# HELP %s %s" % (self.name, help_text),
            "# TYPE %s %s" % (self.name, self.kind),
        ]
        for values, child in self._children.items():
            own = [_format_label(label, values[i]) for i, label in enumerate(self.labels)]
            for suffix, extra, value in child.samples():
                pairs = [*constant, *own] + ([extra] if extra else [])
                braced = "{%s}" % ",".join(pairs) if pairs else ""
                rows.append("%s%s%s %s" % (self.name, suffix, braced, _format_value(value)))
        return rows


class GaugeFamily(MetricFamily):
    """Gauges whose labels and values are read at each scrape. Without any, nothing is shown."""

    def __init__(self, name: str, text: str, labels: Sequence[str], read: GaugeReader) -> None:
        super().__init__(name, "gauge", text, labels, SingleValue)
        self._read = read

    def lines(self, constant: Sequence[str]) -> List[str]:
        self._children.clear()
        for values, number in self._read().items():
            self.child(*values).value = number
        return super().lines(constant) if self._children else []


class MetricsRegistry:
    """The metrics of one processor. `constant` labels are on every sample."""

    def __init__(self, constant: Optional[Mapping[str, str]] = None) -> None:
        self._constant = [
            _format_label(_check_label(k, ""), v) for k, v in (constant or {}).items()
        ]
        self._families: Dict[str, MetricFamily] = {}

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> MetricFamily:
        """Add a family of counters. Raises ValueError if the name is invalid or taken."""
        return self._add(MetricFamily(name, "counter", text, labels, SingleValue))

    def gauge(self, name: str, text: str, labels: Sequence[str], read: GaugeReader) -> MetricFamily:
        """Add a family of gauges, which `read` returns at each scrape."""
        return self._add(GaugeFamily(name, text, labels, read))

    def histogram(
        self, name: str, text: str, labels: Sequence[str] = (), bounds: Sequence[Number] = ()
    ) -> MetricFamily:
        """Add a family of histograms with these upper bounds, in ascending order."""
        edges = tuple(bounds) or DEFAULT_BOUNDS
        if list(edges) != sorted(set(edges)):
            raise ValueError("the bounds of %s are not in ascending order: %r" % (name, edges))
        return self._add(MetricFamily(name, "histogram", text, labels, lambda: Histogram(edges)))

    def text(self) -> str:
        """Return the text of all metrics, for a reply with CONTENT_TYPE."""
        rows: List[str] = []
        for family in self._families.values():
            rows += family.lines(self._constant)
        return "\n".join(rows) + "\n" if rows else ""

    def _add(self, family: MetricFamily) -> MetricFamily:
        if family.name in self._families:
            raise ValueError("the metric %s exists already" % family.name)
        self._families[family.name] = family
        return family


def _check_label(label: str, kind: str) -> str:
    if not _LABEL_NAME.match(label) or (kind == "histogram" and label == "le"):
        raise ValueError("%r cannot be the name of a label" % label)
    return label


def _format_label(label: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return '%s="%s"' % (label, escaped)


def _format_value(value: Number) -> str:
    if value != value:  # noqa: PLR0124 - only NaN differs from itself
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value) if isinstance(value, int) or value % 1 else repr(int(value))


class TriggerMetricFamilies:
    """The metric families of all triggers, in a registry."""

    def __init__(self, registry: MetricsRegistry) -> None:
        trigger = ("trigger_kind", "trigger_id")
        self.handled = registry.counter(
            PREFIX + "handled_events_total", "Events handled, by result", (*trigger, "result")
        )
        self.durations = registry.histogram(
            PREFIX + "handled_events_duration_milliseconds",
            "How long events took in a worker",
            (*trigger, "worker_index"),
        )
        self.allocations = registry.counter(
            PREFIX + "worker_allocation_total",
            "Requests for a worker, by result",
            (*trigger, "result"),
        )
        self.requests = registry.counter(
            PREFIX + "worker_allocation_count", "Requests for a worker", trigger
        )
        self.waits = registry.histogram(
            PREFIX + "worker_allocation_wait_duration_milliseconds",
            "How long events waited for a worker",
            trigger,
        )
        self.available = registry.counter(
            PREFIX + "worker_allocation_workers_available_percentage",
            "Percentages of free workers, summed over the requests for one",
            trigger,
        )
        self.stages = registry.histogram(
            PREFIX + "event_stage_duration_milliseconds",
            "How long events spent where: queue, handover, handler, reply",
            (*trigger, "stage"),
            _STAGE_BOUNDS,
        )
        self.sizes = registry.histogram(
            PREFIX + "request_body_bytes", "Sizes of the requests' bodies", trigger, _SIZE_BOUNDS
        )
        self._registry = registry

    def batches(self, *key: str) -> "BatchMetrics":
        """Return the metrics of the batches of one trigger; their families are new."""
        trigger = ("trigger_kind", "trigger_id")
        counter = self._registry.counter
        sizes = self._registry.histogram(
            PREFIX + "batch_events", "Numbers of events in batches", trigger, _BATCH_BOUNDS
        )
        batches = counter(
            PREFIX + "batches_total",
            "Batches, by completeness: a full one has as many events as allowed at that time",
            (*trigger, "completeness"),
        )
        dropped = counter(
            PREFIX + "batch_dropped_events_total",
            "Events that were dropped before the call because their clients had left",
            trigger,
        )
        full, partial = batches.child(*key, "full"), batches.child(*key, "partial")
        return BatchMetrics(sizes.child(*key), full, partial, dropped.child(*key))


class BatchMetrics:
    """The metrics of the batches of one trigger."""

    def __init__(
        self, sizes: Histogram, full: SingleValue, partial: SingleValue, dropped: SingleValue
    ) -> None:
        self._sizes = sizes
        self._full = full
        self._partial = partial
        self._dropped = dropped

    def called(self, size: int, is_full: bool) -> None:
        """Count a batch that was sent to a worker."""
        self._sizes.observe(size)
        (self._full if is_full else self._partial).value += 1

    def dropped(self) -> None:
        """Count an event whose client had left."""
        self._dropped.value += 1

    def to_dict(self) -> Dict[str, Any]:
        """Return the entries in the status."""
        batches = self._full.value + self._partial.value
        mean = round(self._sizes.sum / batches, 2) if batches else None
        return {"batches": batches, "mean_size": mean, "dropped": self._dropped.value}


class TriggerMetrics:
    """The metrics of one trigger, which are zero from the start."""

    def __init__(self, families: TriggerMetricFamilies, kind: str, name: str) -> None:
        key = (kind, name)
        self._key = key
        self._families = families
        self._success = families.handled.child(*key, "success")
        self._failure = families.handled.child(*key, "failure")
        self._immediate = families.allocations.child(*key, "success_immediate")
        self._after_wait = families.allocations.child(*key, "success_after_wait")
        self._timeout = families.allocations.child(*key, "error_timeout")
        self._backlog = families.allocations.child(*key, "error_backlog")
        self._requests = families.requests.child(*key)
        self._waits = families.waits.child(*key)
        self._available = families.available.child(*key)
        self._sizes = families.sizes.child(*key)
        stages = [families.stages.child(*key, stage) for stage in STAGES]
        self._queue, self._handover, self._handler, self._reply = stages
        self._durations: Dict[str, Histogram] = {}

    def batches(self) -> BatchMetrics:
        """Return the metrics of the trigger's batches. Call this once."""
        return self._families.batches(*self._key)

    def worker_requested(self, free: int, workers: int, size: int) -> None:
        """Count a request for a worker, with `size` bytes of body; `free` of `workers` are idle."""
        self._requests.value += 1
        if free:
            self._available.value += 100.0 * free / workers
        self._sizes.observe(size)

    def worker_allocated(self, waited: float) -> None:
        """Count a worker that was available after `waited` seconds; 0 means at once."""
        (self._after_wait if waited > 0 else self._immediate).value += 1
        self._waits.observe(waited * 1000.0)

    def wait_timed_out(self, waited: float) -> None:
        """Count a wait of `waited` seconds that ended without a worker."""
        self._timeout.value += 1
        self._waits.observe(waited * 1000.0)

    def refused(self) -> None:
        """Count an event that was refused because of the backlog."""
        self._backlog.value += 1

    def handled(self, worker: str, seconds: float, success: bool) -> None:
        """Count an event that a worker has handled in `seconds`."""
        (self._success if success else self._failure).value += 1
        durations = self._durations.get(worker)
        if durations is None:
            durations = self._families.durations.child(*self._key, worker)
            self._durations[worker] = durations
        durations.observe(seconds * 1000.0)

    def add_stages(self, queue: float, handover: float, handler: float, reply: float) -> None:
        """Add the milliseconds that an event spent in each stage."""
        self._queue.observe(queue)
        self._handover.observe(handover)
        self._handler.observe(handler)
        self._reply.observe(reply)


def metric_labels(function: Mapping[str, Any]) -> Dict[str, str]:
    """Return the labels of every metric, from the function of the configuration."""
    return {
        "instance": socket.gethostname(),
        "namespace": str(function.get("namespace", "")),
        "function": str(function.get("name", "")),
        "project": str(function.get("project", "")),
    }
