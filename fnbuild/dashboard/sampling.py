"""Samples of functions' statistics in the last minutes, for charts.

Processors count requests from their start. A sample is the difference between two readings of these
counters. All functions of the namespaces that clients have requested are sampled, so that a page
that is opened has a history to show.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from fnbuild.dashboard.function_entries import FunctionEntry
from fnbuild.dashboard.inventory import Inventory
from fnbuild.dashboard.settings import Settings
from fnbuild.dashboard.threads import run_in_thread
from fnbuild.errors import FnbuildError
from fnbuild.platforms import Statistics

INTERVAL_SECONDS = 5.0
KEPT_SECONDS = 15 * 60

_MAX_CONCURRENT = 4
# The list is read this often to find functions that others deploy.
_LIST_SECONDS = 30.0
_MAX_PROCESSORS = 200

_log = logging.getLogger(__name__)

_FunctionKey = tuple[str, str]
_Durations = Sequence[tuple[float, int]]


@dataclass(frozen=True, slots=True)
class Quantile:
    """A percentile in milliseconds: an estimate, and the bounds between which it lies.

    `most` is None if only the lower bound is known.
    """

    likely: float
    least: float
    most: float | None


@dataclass(frozen=True, slots=True)
class Sample:
    """One interval, which ends at `time`, in seconds since the epoch.

    `quantiles` are the 50th, 95th and 99th percentile, None without a request. `busy` and `workers`
    are the values at its end, None if no processor answered.
    """

    time: float
    requests: int
    errors: int
    quantiles: tuple[Quantile, Quantile, Quantile] | None
    busy: int | None
    workers: int | None


@dataclass(slots=True)
class SampleHistory:
    """The samples of one function, oldest first, and the counters at the end of the last one."""

    samples: deque[Sample] = field(
        default_factory=lambda: deque(maxlen=int(KEPT_SECONDS / INTERVAL_SECONDS))
    )
    counters: dict[str, Statistics] = field(default_factory=dict)

    def add(self, time: float, counters: dict[str, Statistics]) -> None:
        """Add a sample from the counters of each processor; the first reading makes none."""
        if self.counters or self.samples:
            differences = [
                statistics_since(statistics, self.counters.get(processor))
                for processor, statistics in counters.items()
            ]
            self.samples.append(_make_sample(time, differences))
        # The counters of a processor that did not answer are kept for its next answer.
        missing = [item for item in self.counters.items() if item[0] not in counters]
        self.counters = dict([*missing, *counters.items()][-_MAX_PROCESSORS:])


class Sampler:
    """Reads the counters of every running function at intervals."""

    def __init__(self, inventory: Inventory, settings: Settings):
        self._inventory = inventory
        self._namespaces = {settings.namespace}
        self._histories: dict[_FunctionKey, SampleHistory] = {}
        self._last_list = 0.0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def history(self, namespace: str, name: str) -> SampleHistory:
        """Return the samples of a function, and sample its namespace from now on."""
        self._namespaces.add(namespace)
        return self._histories.get((namespace, name)) or SampleHistory()

    async def _run(self) -> None:
        while True:
            began = time.monotonic()
            try:
                await self._sample()
            except Exception:  # noqa: BLE001 - a gap in the charts is better than their end
                _log.exception("the functions could not be sampled")
            await asyncio.sleep(max(1.0, began + INTERVAL_SECONDS - time.monotonic()))

    async def _sample(self) -> None:
        if time.monotonic() - self._last_list > _LIST_SECONDS:
            for namespace in list(self._namespaces):
                await self._inventory.functions(namespace)
            self._last_list = time.monotonic()
        functions = {
            (namespace, entry.name): entry
            for namespace in self._namespaces
            for entry in self._inventory.cached_functions(namespace)
        }
        counters = await run_in_thread(self._read_counters, functions)
        for key in self._histories.keys() - functions.keys():
            del self._histories[key]
        for key, statistics in counters.items():
            if statistics or key in self._histories:
                self._histories.setdefault(key, SampleHistory()).add(time.time(), statistics)

    def _read_counters(
        self, functions: Mapping[_FunctionKey, FunctionEntry]
    ) -> dict[_FunctionKey, dict[str, Statistics]]:
        running = {key: entry for key, entry in functions.items() if entry.deployment.http_port}
        with ThreadPoolExecutor(_MAX_CONCURRENT) as pool:
            return dict(zip(running, pool.map(self._read_function, running.values()), strict=True))

    def _read_function(self, entry: FunctionEntry) -> dict[str, Statistics]:
        try:
            return self._inventory.platform(entry.platform).statistics(entry.deployment)
        except FnbuildError:
            return {}  # the function has ended since, or its platform does not answer


def statistics_since(now: Statistics, before: Statistics | None) -> Statistics:
    """Return the difference between two readings of a processor; after a restart, the last one."""
    if before is None or now.requests < before.requests or now.errors < before.errors:
        return now
    past = dict(before.durations)
    return Statistics(
        requests=now.requests - before.requests,
        errors=now.errors - before.errors,
        durations=tuple((bound, count - past.get(bound, 0)) for bound, count in now.durations),
        total_milliseconds=max(0.0, now.total_milliseconds - before.total_milliseconds),
        workers=now.workers,
        restarts=now.restarts,
        gpu_memory=now.gpu_memory,
    )


def _make_sample(time: float, differences: Sequence[Statistics]) -> Sample:
    counts: dict[float, int] = {}
    for difference in differences:
        for bound, count in difference.durations:
            counts[bound] = counts.get(bound, 0) + count
    durations = sorted(counts.items())
    milliseconds = sum(difference.total_milliseconds for difference in differences)
    measured = durations[-1][1] if durations else 0
    busy = sum(difference.workers.get("busy", 0) for difference in differences)
    workers = sum(sum(difference.workers.values()) for difference in differences)
    return Sample(
        time=time,
        requests=sum(difference.requests for difference in differences),
        errors=sum(difference.errors for difference in differences),
        quantiles=(
            estimate_quantile(durations, milliseconds, 0.5),
            estimate_quantile(durations, milliseconds, 0.95),
            estimate_quantile(durations, milliseconds, 0.99),
        )
        if measured > 0
        else None,
        busy=busy if differences else None,
        workers=workers if differences else None,
    )


def estimate_quantile(durations: _Durations, milliseconds: float, share: float) -> Quantile:
    """Return the value below which that share of the values lies.

    `durations` are cumulative counts by rising upper bounds, of values whose sum is `milliseconds`.
    The value lies between the bounds around it. A single value is equal to the sum.
    """
    count = durations[-1][1]
    if count == 1 and milliseconds:
        return Quantile(milliseconds, milliseconds, milliseconds)
    rank = share * count
    mean = _mean_position(durations, milliseconds)
    lower, counted = 0.0, 0
    for upper, cumulative in durations:
        if cumulative >= rank and cumulative > counted:
            if math.isinf(upper):
                break
            # Values are taken to lie evenly around the mean, as far as the nearer bound.
            part = (rank - counted) / (cumulative - counted)
            position = mean + min(mean, 1 - mean) * (2 * part - 1)
            return Quantile(lower + (upper - lower) * position, lower, upper)
        lower, counted = upper, cumulative
    return Quantile(lower, lower, None)


def _mean_position(durations: _Durations, milliseconds: float) -> float:
    """Return the mean position of the values between their bounds, 0 to 1; 0.5 if unknown."""
    sum_of_lower_bounds = sum_of_widths = lower = 0.0
    counted = 0
    for upper, cumulative in durations:
        if cumulative > counted and math.isinf(upper):
            return 0.5
        if cumulative > counted:
            sum_of_lower_bounds += lower * (cumulative - counted)
            sum_of_widths += (upper - lower) * (cumulative - counted)
        lower, counted = upper, cumulative
    if not sum_of_widths or not milliseconds:
        return 0.5
    return min(1.0, max(0.0, (milliseconds - sum_of_lower_bounds) / sum_of_widths))
