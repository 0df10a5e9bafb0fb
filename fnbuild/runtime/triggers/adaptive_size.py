"""The size and the delay of adaptive batches, learned from the calls so far.

A batch is limited to the smallest size with nearly the best rate of events per second. Sizes are
compared in levels: 1, 2, 3 to 4, 5 to 8 and so on. The limit starts at 1 and doubles as long as
that increases the rate; now and then a call tries the levels next to it again.

An incomplete batch for an idle worker waits only if more requests are expected very soon: callers
that have just received their replies, and that usually send the next request at once. Waiting for
them pays if it takes less time than the fixed cost of a call, which one larger call saves.
"""

from typing import Optional

# A smaller size is preferred if its rate is at least this share of the best one.
_NEAR_BEST = 0.95
# The calls after which a level is measured. The first one is often slow: libraries prepare for it.
_FIRST_CALLS = 2
# The weight of a new value in a moving average.
_WEIGHT = 0.2
# Once in this number of calls, a level next to the best one is tried; above and below in turns.
_TRIAL_INTERVAL = 16
# Waiting takes at most this share of a call's fixed cost.
_PATIENCE = 0.5
# If the fixed cost is unknown, it is assumed to be this share of the shortest call.
_ASSUMED_FIXED_COST = 0.5
# Batches wait if the share of recent rounds in which all callers returned in time is at least this.
_CONFIDENCE = 0.8
_CONFIDENCE_WEIGHT = 0.25


class _Level:
    """The averages of the calls of similar size."""

    def __init__(self) -> None:
        self.calls = 0
        self.size = 0.0
        self.seconds = 0.0

    @property
    def is_measured(self) -> bool:
        return self.calls >= _FIRST_CALLS

    @property
    def rate(self) -> float:
        """The number of events per second."""
        return self.size / max(self.seconds, 1e-9)

    def add(self, size: int, seconds: float) -> None:
        self.calls += 1
        is_faster = size * self.seconds > self.size * seconds
        replaces = self.calls == 1 or (self.calls <= _FIRST_CALLS and is_faster)
        weight = 1.0 if replaces else _WEIGHT
        self.size += weight * (size - self.size)
        self.seconds += weight * (seconds - self.seconds)


class CallCosts:
    """The durations of calls by their size, up to `maximum` events."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._levels = [_Level() for _ in range(_level_of(maximum) + 1)]
        self._best = 0
        self._calls = 0

    def add(self, size: int, seconds: float) -> None:
        """Add a call that was successful."""
        self._levels[_level_of(size)].add(size, seconds)
        self._calls += 1
        self._best = self._best_level()

    def limit(self) -> int:
        """Return the largest size of the next call."""
        level = self._best
        if self._calls % _TRIAL_INTERVAL == _TRIAL_INTERVAL - 1:
            is_upward = self._calls // _TRIAL_INTERVAL % 2 == 0
            level = min(max(level + (1 if is_upward else -1), 0), len(self._levels) - 1)
        return min(1 << level, self._maximum)

    def fixed_cost(self) -> Optional[float]:
        """Return the seconds that a call takes apart from its events; None without any calls.

        This is where the line through the averages of the levels begins.
        """
        levels = [level for level in self._levels if level.calls]
        if not levels:
            return None
        size = sum(level.size for level in levels) / len(levels)
        seconds = sum(level.seconds for level in levels) / len(levels)
        variance = sum((level.size - size) ** 2 for level in levels)
        if len(levels) == 1 or not variance:
            return _ASSUMED_FIXED_COST * seconds
        slope = sum((level.size - size) * (level.seconds - seconds) for level in levels) / variance
        return max(0.0, seconds - slope * size)

    def _best_level(self) -> int:
        measured = [number for number, level in enumerate(self._levels) if level.is_measured]
        if not measured:
            return 0
        sufficient = _NEAR_BEST * max(self._levels[number].rate for number in measured)
        best = next(number for number in measured if self._levels[number].rate >= sufficient)
        # As long as the largest size is the best one, larger ones may be better still.
        return min(best + 1, len(self._levels) - 1) if best == measured[-1] else best


def _level_of(size: int) -> int:
    return (size - 1).bit_length()


class ReturningCallers:
    """A forecast of requests from callers that have just received their replies.

    `count` is the number of requests that were recently in hand at once: those that wait and those
    that workers have. Times are in seconds of the same clock.
    """

    def __init__(self) -> None:
        self.count = 1
        self._confidence = 0.5
        self._last_end = 0.0
        # A round: the number of callers that should return before the deadline; 0 without one.
        self._missing = 0
        self._deadline = 0.0

    def arrived(self, in_hand: int, now: float) -> None:
        """Take note of a new request; `in_hand` includes it."""
        self.count = max(self.count, in_hand)
        self._end_late_round(now)
        if self._missing:
            self._missing -= 1
            if not self._missing:
                self._confidence += _CONFIDENCE_WEIGHT * (1.0 - self._confidence)

    def answered(self, now: float) -> None:
        """Take note of the end of a call."""
        self._last_end = now

    def left_out(self, in_hand: int) -> None:
        """Take note of a batch that was sent although fewer requests were in hand than before."""
        self.count = in_hand

    def wait_until(self, in_hand: int, patience: float, now: float) -> float:
        """Return when all callers should have returned; 0 if waiting for them is no use.

        `patience` is the longest time after a call's end.
        """
        self._end_late_round(now)
        deadline = self._last_end + patience
        if in_hand >= self.count or deadline <= now:
            return 0.0
        if not self._missing:
            self._missing, self._deadline = self.count - in_hand, deadline
        return deadline if self._confidence >= _CONFIDENCE else 0.0

    def _end_late_round(self, now: float) -> None:
        if self._missing and now >= self._deadline:
            self._missing = 0
            self._confidence -= _CONFIDENCE_WEIGHT * self._confidence


class AdaptiveSize:
    """The decisions about adaptive batches of at most `maximum` events.

    No request waits longer than `timeout` seconds for others.
    """

    def __init__(self, maximum: int, timeout: float) -> None:
        self._timeout = timeout
        self._costs = CallCosts(maximum)
        self._callers = ReturningCallers()

    def arrived(self, in_hand: int, now: float) -> None:
        """Take note of a new request; `in_hand` are those that wait or that workers have."""
        self._callers.arrived(in_hand, now)

    def called(self, size: int, limit: int, in_hand: int) -> None:
        """Take note of a batch for a worker."""
        if size < limit:
            self._callers.left_out(in_hand)

    def answered(self, size: int, seconds: Optional[float], now: float) -> None:
        """Take note of the end of a call; `seconds` is None if it failed."""
        self._callers.answered(now)
        if seconds is not None:
            self._costs.add(size, seconds)

    def limit(self, workers: int) -> int:
        """Return the largest size of the next batch: `workers` share the requests evenly."""
        share = -(-self._callers.count // max(workers, 1))
        return max(1, min(self._costs.limit(), share))

    def wait_until(self, in_hand: int, oldest: float, now: float) -> float:
        """Return when an incomplete batch is due, whose first request came at `oldest`.

        A time that is not in the future stands for now.
        """
        patience = _PATIENCE * (self._costs.fixed_cost() or 0.0)
        return min(self._callers.wait_until(in_hand, patience, now), oldest + self._timeout)
