"""What functions did in the last minutes, for charts.

Processors only count up; every few seconds their counters are read, and what came since is a
sample. All functions of the namespaces that somebody has asked about are followed, so that a page
that is opened has a past to show.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from fnbuild.dashboard.inventory import FunctionEntry, Inventory
from fnbuild.dashboard.settings import Settings
from fnbuild.dashboard.threads import run_in_thread
from fnbuild.errors import FnbuildError
from fnbuild.platforms import Statistics

INTERVAL_SECONDS = 5.0
KEPT_SECONDS = 15 * 60

_MAX_CONCURRENT = 4
# Functions that others deploy are found this often while nobody looks at the list.
_LIST_SECONDS = 30.0
_MAX_PROCESSORS = 200

_log = logging.getLogger(__name__)

_FunctionKey = tuple[str, str]
_Durations = Sequence[tuple[float, int]]


@dataclass(frozen=True, slots=True)
class Quantile:
    """A percentile in milliseconds: what it is likely to be, and between what it is for sure.

    `most` is None where only the least is known.
    """

    likely: float
    least: float
    most: float | None


@dataclass(frozen=True, slots=True)
class Sample:
    """One interval, which ends at `time`, in seconds since the epoch.

    `quantiles` are the 50th, 95th and 99th percentile, None without a request; `busy` and `workers`
    are as they were at its end, None when no processor answered.
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
    counted: dict[str, Statistics] = field(default_factory=dict)

    def take(self, moment: float, counted: dict[str, Statistics]) -> None:
        """Add what came since the last time; the first time tells only where counting begins."""
        if self.counted or self.samples:
            came = [statistics_since(one, self.counted.get(name)) for name, one in counted.items()]
            self.samples.append(_make_sample(moment, came))
        # One that did not answer goes on counting from where it was.
        silent = [(name, one) for name, one in self.counted.items() if name not in counted]
        self.counted = dict([*silent, *counted.items()][-_MAX_PROCESSORS:])


class Sampler:
    """Reads the counters of every function that runs, again and again."""

    def __init__(self, inventory: Inventory, settings: Settings):
        self._inventory = inventory
        self._namespaces = {settings.namespace}
        self._histories: dict[_FunctionKey, SampleHistory] = {}
        self._listed = 0.0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def history(self, namespace: str, name: str) -> SampleHistory:
        """What is known of a function, whose namespace is followed from now on."""
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
        if time.monotonic() - self._listed > _LIST_SECONDS:
            for namespace in list(self._namespaces):
                await self._inventory.functions(namespace)
            self._listed = time.monotonic()
        there = {
            (namespace, one.name): one
            for namespace in self._namespaces
            for one in self._inventory.last(namespace)
        }
        counted = await run_in_thread(self._counted, there)
        for key in self._histories.keys() - there.keys():
            del self._histories[key]
        for key, statistics in counted.items():
            if statistics or key in self._histories:
                self._histories.setdefault(key, SampleHistory()).take(time.time(), statistics)

    def _counted(
        self, there: Mapping[_FunctionKey, FunctionEntry]
    ) -> dict[_FunctionKey, dict[str, Statistics]]:
        running = {key: one for key, one in there.items() if one.deployment.http_port}
        with ThreadPoolExecutor(_MAX_CONCURRENT) as pool:
            return dict(zip(running, pool.map(self._ask, running.values()), strict=True))

    def _ask(self, one: FunctionEntry) -> dict[str, Statistics]:
        try:
            return self._inventory.platform(one.platform).statistics(one.deployment)
        except FnbuildError:
            return {}  # it has ended since it was listed, or its platform is silent


def statistics_since(now: Statistics, before: Statistics | None) -> Statistics:
    """What a processor has counted between two looks; all of it, when it has begun anew."""
    if before is None or now.requests < before.requests or now.errors < before.errors:
        return now
    past = dict(before.durations)
    return Statistics(
        requests=now.requests - before.requests,
        errors=now.errors - before.errors,
        durations=tuple((bound, count - past.get(bound, 0)) for bound, count in now.durations),
        milliseconds=max(0.0, now.milliseconds - before.milliseconds),
        workers=now.workers,
        restarts=now.restarts,
        gpu_memory=now.gpu_memory,
    )


def _make_sample(moment: float, came: Iterable[Statistics]) -> Sample:
    found = list(came)
    below: dict[float, int] = {}
    for one in found:
        for bound, count in one.durations:
            below[bound] = below.get(bound, 0) + count
    durations = sorted(below.items())
    spent = sum(one.milliseconds for one in found)
    measured = durations[-1][1] if durations else 0
    return Sample(
        time=moment,
        requests=sum(one.requests for one in found),
        errors=sum(one.errors for one in found),
        quantiles=(
            estimate_quantile(durations, spent, 0.5),
            estimate_quantile(durations, spent, 0.95),
            estimate_quantile(durations, spent, 0.99),
        )
        if measured > 0
        else None,
        busy=sum(one.workers.get("busy", 0) for one in found) if found else None,
        workers=sum(sum(one.workers.values()) for one in found) if found else None,
    )


def estimate_quantile(durations: _Durations, milliseconds: float, share: float) -> Quantile:
    """The value below which that share lies.

    `durations` are cumulative counts by rising upper bounds, of values whose sum is `milliseconds`.
    For sure it lies between the bounds around it; of a single value the sum is the value.
    """
    count = durations[-1][1]
    if count == 1 and milliseconds:
        return Quantile(milliseconds, milliseconds, milliseconds)
    rank = share * count
    mean = _mean_position(durations, milliseconds)
    low, below = 0.0, 0
    for bound, until in durations:
        if until >= rank and until > below:
            if math.isinf(bound):
                break
            # Values are taken to lie evenly around the mean, as far as the nearer bound.
            part = (rank - below) / (until - below)
            place = mean + min(mean, 1 - mean) * (2 * part - 1)
            return Quantile(low + (bound - low) * place, low, bound)
        low, below = bound, until
    return Quantile(low, low, None)


def _mean_position(durations: _Durations, milliseconds: float) -> float:
    """Where between their bounds the values are on average, from 0 to 1; the middle if unknown."""
    lowest = width = low = 0.0
    below = 0
    for bound, until in durations:
        if until > below and math.isinf(bound):
            return 0.5
        if until > below:
            lowest += low * (until - below)
            width += (bound - low) * (until - below)
        low, below = bound, until
    if not width or not milliseconds:
        return 0.5
    return min(1.0, max(0.0, (milliseconds - lowest) / width))
