"""From slices to figures: medians over the rounds, ratios taken within each round."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

from .catalog import LIMIT, LIMIT_DEFAULT, OURS

SliceKey = tuple[str, int, str]


@dataclass(frozen=True)
class Measurement:
    """One server under one workload and concurrency: medians over the valid rounds.

    `ratio` is relative to the limit, `cpu_ms` is the CPU time of all its processes per request.
    `void` has the reasons of the invalid rounds.
    """

    rate: float
    ratio: float | None
    p50: float
    p99: float
    cpu_ms: float | None
    void: tuple[str, ...] = ()


class Results:
    """All figures of a results file."""

    def __init__(self, results: dict[str, Any]) -> None:
        self._slices: dict[SliceKey, dict[int, dict[str, Any]]] = {}
        self._lifecycle: list[dict[str, Any]] = results["lifecycle"]
        for record in results["slices"]:
            key = (record["workload"], record["concurrency"], record["server"])
            self._slices.setdefault(key, {})[record["round"]] = record
        self.servers = dict[str, str](results["servers"])
        self.workloads = list(dict.fromkeys(key[0] for key in self._slices))
        self.levels = sorted({key[1] for key in self._slices})

    @property
    def peers(self) -> list[str]:
        """Return the servers other than fnbuild and the limit."""
        return [name for name in self.servers if name not in (OURS, LIMIT, LIMIT_DEFAULT)]

    def figure(self, workload: str, concurrency: int, server: str) -> Measurement | None:
        """Return the figure; None if it was not measured."""
        slices = self._slices.get((workload, concurrency, server), {})
        good = [record for record in slices.values() if "void" not in record]
        void = tuple(record["void"] for record in slices.values() if "void" in record)
        if not good:
            return Measurement(0.0, None, 0.0, 0.0, None, void) if void else None
        spent = [record["cpu_ms"] for record in good if record.get("cpu_ms") is not None]
        return Measurement(
            median(record["rate"] for record in good),
            self.ratio(workload, concurrency, server, LIMIT),
            median(record["p50"] for record in good),
            median(record["p99"] for record in good),
            median(spent) if spent else None,
            void,
        )

    def ratio(self, workload: str, concurrency: int, server: str, other: str) -> float | None:
        """Return the median over the rounds of the ratio of the server's rate to the other's."""
        own = self._slices.get((workload, concurrency, server), {})
        reference = self._slices.get((workload, concurrency, other), {})
        values = [
            record["rate"] / reference[number]["rate"]
            for number, record in own.items()
            if "void" not in record and _is_valid(reference.get(number))
        ]
        return median(values) if values else None

    def alone(self, workload: str, server: str, metric: str) -> float | None:
        """Return the median of a figure of the life cycle; None if it was never measured."""
        values = [
            record[metric]
            for record in self._lifecycle
            if (record["workload"], record["server"]) == (workload, server)
            and record.get(metric) is not None
        ]
        return median(values) if values else None

    def gone(self, workload: str, server: str) -> bool:
        """Return True if a killed worker was never replaced in one of the starts."""
        return any(
            "restart" in record and record["restart"] is None
            for record in self._lifecycle
            if (record["workload"], record["server"]) == (workload, server)
        )

    def starts(self) -> list[str]:
        """Return the workloads whose life cycle was measured."""
        return list(dict.fromkeys(record["workload"] for record in self._lifecycle))


def _is_valid(record: dict[str, Any] | None) -> bool:
    return record is not None and "void" not in record and record["rate"] > 0
