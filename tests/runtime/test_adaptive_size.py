"""The size and the delay of adaptive batches, with simulated calls and callers."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

import pytest

from fnbuild.runtime.triggers.adaptive_size import AdaptiveSize, CallCosts

Duration = Callable[[int], float]


def gpu(size: int) -> float:
    """A call with 8 events takes twice the time of one with a single event."""
    return 0.006 + 0.001 * size


def proportional(size: int) -> float:
    return 0.007 * size


def limited(size: int) -> float:
    """The model is fast up to 8 events, and slow with more."""
    return gpu(size) if size <= 8 else 0.01 * size


def train(duration: Duration, maximum: int, calls: int = 300) -> CallCosts:
    """Return the costs after calls of the largest size that was allowed."""
    costs = CallCosts(maximum)
    for _ in range(calls):
        size = costs.limit()
        costs.add(size, duration(size))
    return costs


def usual_limit(costs: CallCosts, duration: Duration) -> int:
    """Return the limit of most of the next calls; trials have others."""
    limits = []
    for _ in range(64):
        size = costs.limit()
        limits.append(size)
        costs.add(size, duration(size))
    return max(set(limits), key=limits.count)


@pytest.mark.parametrize(
    ("duration", "maximum", "expected"),
    [(gpu, 32, 32), (gpu, 6, 6), (gpu, 1, 1), (proportional, 32, 1), (limited, 64, 8)],
)
def test_the_limit_is_the_smallest_size_with_nearly_the_best_rate(
    duration: Duration, maximum: int, expected: int
) -> None:
    assert usual_limit(train(duration, maximum), duration) == expected


def test_the_limit_follows_a_model_that_changes() -> None:
    costs = train(proportional, 16)
    assert usual_limit(costs, proportional) == 1
    for _ in range(1000):
        costs.add(size := costs.limit(), gpu(size))
    assert usual_limit(costs, gpu) == 16


def test_the_first_call_of_a_size_counts_little() -> None:
    seen = set()

    def slow_at_first(size: int) -> float:
        first = size not in seen
        seen.add(size)
        return gpu(size) * (50 if first else 1)

    costs = CallCosts(16)
    for _ in range(10):
        costs.add(size := costs.limit(), slow_at_first(size))
    assert costs.limit() == 16


def test_the_fixed_cost_of_a_call() -> None:
    assert CallCosts(8).fixed_cost() is None
    assert train(gpu, 32).fixed_cost() == pytest.approx(0.006, rel=0.01)
    assert train(proportional, 32).fixed_cost() == pytest.approx(0.0, abs=0.0001)
    only_one_size = CallCosts(8)
    only_one_size.add(1, 0.02)
    assert only_one_size.fixed_cost() == pytest.approx(0.01)


class Simulation:
    """Callers that send the next request `pause()` seconds after each reply, and workers."""

    def __init__(self, callers: int, workers: int, maximum: int, pause: Callable[[], float]):
        self.policy = AdaptiveSize(maximum, 1.0)
        self.sizes: list[int] = []
        self.waits: list[float] = []
        self.answered = 0
        self._pause = pause
        self._idle = self._workers = workers
        self._queue: list[float] = []
        self._in_flight = 0
        self._events = [(pause(), number, "arrival", 0) for number in range(callers)]
        heapq.heapify(self._events)
        self._serial = callers

    def run(self, seconds: float, duration: Duration = gpu) -> float:
        """Return the number of replies per second."""
        before = self.answered
        while self._events[0][0] < seconds:
            now, _, kind, size = heapq.heappop(self._events)
            if kind == "arrival":
                self._queue.append(now)
                self.policy.arrived(len(self._queue) + self._in_flight, now)
            elif kind == "end":
                self._idle += 1
                self._in_flight -= size
                self.answered += size
                self.policy.answered(size, duration(size), now)
                for _ in range(size):
                    self._schedule(now + self._pause(), "arrival")
            self._call(now, duration)
        return (self.answered - before) / seconds

    def _call(self, now: float, duration: Duration) -> None:
        while self._idle and self._queue:
            limit = self.policy.limit(self._workers)
            if len(self._queue) < limit:
                in_hand = len(self._queue) + self._in_flight
                until = self.policy.wait_until(in_hand, self._queue[0], now)
                if until > now:
                    self._schedule(until, "wait")
                    return
            batch, self._queue = self._queue[:limit], self._queue[limit:]
            self._idle -= 1
            self._in_flight += len(batch)
            self.policy.called(len(batch), limit, self._in_flight + len(self._queue))
            self.sizes.append(len(batch))
            self.waits += [now - arrival for arrival in batch]
            self._schedule(now + duration(len(batch)), "end", len(batch))

    def _schedule(self, time: float, kind: str, size: int = 0) -> None:
        self._serial += 1
        heapq.heappush(self._events, (time, self._serial, kind, size))


def quick() -> float:
    """Return the pause of a caller that sends the next request at once."""
    return random.uniform(0.0002, 0.0008)


@pytest.fixture(autouse=True)
def _seed() -> None:
    random.seed(1)


def test_a_single_caller_never_waits() -> None:
    simulation = Simulation(1, 1, 32, quick)
    simulation.run(5.0)
    assert set(simulation.sizes) == {1}
    assert max(simulation.waits) == 0.0


@pytest.mark.parametrize(
    ("callers", "maximum", "least"), [(2, 8, 1.6), (4, 8, 2.5), (20, 32, 4.8), (32, 8, 3.9)]
)
def test_batches_increase_the_rate(callers: int, maximum: int, least: float) -> None:
    """`least` is the rate in relation to calls with one event."""
    rate = Simulation(callers, 1, maximum, quick).run(20.0)
    assert rate * gpu(1) >= least


def test_workers_share_the_callers_evenly() -> None:
    simulation = Simulation(16, 2, 32, quick)
    simulation.run(10.0)
    assert set(simulation.sizes[-20:]) <= {7, 8, 9}


def test_random_arrivals_hardly_wait() -> None:
    """The arrivals of many independent callers do not follow replies."""
    simulation = Simulation(200, 1, 32, lambda: random.expovariate(1 / 4.0))
    simulation.run(60.0)
    # Without batches, 50 requests per second would occupy the worker for 35 % of the time.
    mean = sum(simulation.waits) / len(simulation.waits)
    assert mean < gpu(1) / 2


def test_the_timeout_limits_the_wait() -> None:
    policy = AdaptiveSize(8, 0.001)
    for _ in range(20):
        policy.arrived(1, 0.0)
        policy.arrived(2, 0.0)
        policy.answered(1, 1.0, 0.0)
        policy.wait_until(1, 0.0, 0.0)
    assert policy.wait_until(1, 0.0, 0.0) == 0.001
