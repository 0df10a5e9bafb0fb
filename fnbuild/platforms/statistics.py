"""What a processor's metrics say, as numbers that can be added up.

The names are Nuclio's where it has them (pkg/processor/metricsink/prometheus), so its own
processors are understood as far as they tell.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict

from fnbuild.platforms.model import Statistics
from fnbuild.runtime.gpu import METRIC as GPU_MEMORY

_PREFIX = "nuclio_processor_"
_HANDLED = _PREFIX + "handled_events_total"
_BUCKET = _PREFIX + "handled_events_duration_milliseconds_bucket"
_SUM = _PREFIX + "handled_events_duration_milliseconds_sum"
_ALLOCATIONS = _PREFIX + "worker_allocation_total"
_REFUSALS = _PREFIX + "http_refusals_total"
_WORKERS = _PREFIX + "workers"
_RESTARTS = _PREFIX + "worker_restarts"
_WANTED = frozenset(
    (_HANDLED, _BUCKET, _SUM, _ALLOCATIONS, _REFUSALS, _WORKERS, _RESTARTS, GPU_MEMORY)
)
_BOUND = re.compile(r'[{,]le="([^"]*)"')
_RESULT = re.compile(r'[{,]result="([^"]*)"')
_STATE = re.compile(r'[{,]state="([^"]*)"')


def parsed(text: str) -> Statistics | None:
    """The metrics of one processor; None for a text that has none of a processor."""
    sums: defaultdict[str, float] = defaultdict(float)
    handled: Counter[str] = Counter()
    below: defaultdict[float, int] = defaultdict(int)
    workers: Counter[str] = Counter()
    for line in text.splitlines():
        name, brace, rest = line.partition("{")
        if not brace or name not in _WANTED:
            continue
        labels, _, number = (brace + rest).rpartition(" ")
        value = int(float(number))
        if name == _BUCKET:
            below[float(_label(_BOUND, labels))] += value
        elif name == _HANDLED:
            handled[_label(_RESULT, labels)] += value
        elif name == _WORKERS:
            workers[_label(_STATE, labels)] += value
        elif name != _ALLOCATIONS or _label(_RESULT, labels).startswith("error"):
            sums[name] += float(number)
    if not (sums or handled or below or workers):
        return None
    unserved = int(sums[_ALLOCATIONS] + sums[_REFUSALS])
    return Statistics(
        requests=handled.total() + unserved,
        errors=handled.total() - handled["success"] + unserved,
        durations=tuple(sorted(below.items())),
        milliseconds=sums[_SUM],
        workers=+workers,
        restarts=int(sums[_RESTARTS]),
        gpu_memory=int(sums[GPU_MEMORY]) if GPU_MEMORY in sums else None,
    )


def _label(pattern: re.Pattern[str], labels: str) -> str:
    match = pattern.search(labels)
    return match[1] if match else "nan"
