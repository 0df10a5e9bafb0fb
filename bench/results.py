"""From slices to figures: medians over the rounds, ratios taken within each round."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

from .catalog import LIMIT, LIMIT_DEFAULT, OURS

SliceKey = tuple[str, int, str]


@dataclass(frozen=True)
class Measurement:
    """One server under one workload and concurrency: medians over the rounds that count.

    `ratio` is to the limit, `cpu_ms` is CPU time of all its processes per request. `void` holds the
    reasons of the rounds that do not count.
    """

    rate: float
    ratio: float | None
    p50: float
    p99: float
    cpu_ms: float | None
    void: tuple[str, ...] = ()


class Results:
    """Every figure of a results file."""

    def __init__(self, results: dict[str, Any]) -> None:
        self._slices: dict[SliceKey, dict[int, dict[str, Any]]] = {}
        self._lifecycle: list[dict[str, Any]] = results["lifecycle"]
        for one in results["slices"]:
            key = (one["workload"], one["concurrency"], one["server"])
            self._slices.setdefault(key, {})[one["round"]] = one
        self.servers = dict[str, str](results["servers"])
        self.workloads = list(dict.fromkeys(key[0] for key in self._slices))
        self.levels = sorted({key[1] for key in self._slices})

    @property
    def peers(self) -> list[str]:
        """The servers that are neither ours nor the limit."""
        return [name for name in self.servers if name not in (OURS, LIMIT, LIMIT_DEFAULT)]

    def figure(self, workload: str, concurrency: int, server: str) -> Measurement | None:
        """The figure; None when it was not measured."""
        slices = self._slices.get((workload, concurrency, server), {})
        good = [one for one in slices.values() if "void" not in one]
        void = tuple(one["void"] for one in slices.values() if "void" in one)
        if not good:
            return Measurement(0.0, None, 0.0, 0.0, None, void) if void else None
        spent = [one["cpu_ms"] for one in good if one.get("cpu_ms") is not None]
        return Measurement(
            median(one["rate"] for one in good),
            self.ratio(workload, concurrency, server, LIMIT),
            median(one["p50"] for one in good),
            median(one["p99"] for one in good),
            median(spent) if spent else None,
            void,
        )

    def ratio(self, workload: str, concurrency: int, server: str, other: str) -> float | None:
        """Median over the rounds of the server's rate through the other's in the same round."""
        mine = self._slices.get((workload, concurrency, server), {})
        theirs = self._slices.get((workload, concurrency, other), {})
        found = [
            one["rate"] / theirs[number]["rate"]
            for number, one in mine.items()
            if "void" not in one and _is_valid(theirs.get(number))
        ]
        return median(found) if found else None

    def alone(self, workload: str, server: str, what: str) -> float | None:
        """Median of one of the life cycle's figures; None when it was never measured."""
        found = [
            one[what]
            for one in self._lifecycle
            if (one["workload"], one["server"]) == (workload, server) and one.get(what) is not None
        ]
        return median(found) if found else None

    def gone(self, workload: str, server: str) -> bool:
        """Whether a killed worker was never replaced, in any of the starts."""
        return any(
            "restart" in one and one["restart"] is None
            for one in self._lifecycle
            if (one["workload"], one["server"]) == (workload, server)
        )

    def starts(self) -> list[str]:
        """The workloads whose life cycle was measured."""
        return list(dict.fromkeys(one["workload"] for one in self._lifecycle))


def _is_valid(one: dict[str, Any] | None) -> bool:
    return one is not None and "void" not in one and one["rate"] > 0
