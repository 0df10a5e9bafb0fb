"""Performance goals of the processor, evaluated from results."""

from __future__ import annotations

from dataclasses import dataclass

from .catalog import LIMIT, OURS, TORCHSERVE
from .results import Results
from .workloads import PROTOCOLS, TITLES

# The allowed seconds of a start beyond the time of the handler alone.
_START_ALLOWANCE = 0.3
_TIMES_THE_BEST = {"echo": 2.0, "torch": 1.5, "torch-vision": 1.5, "large": 1.8}


@dataclass(frozen=True)
class Goal:
    """One goal: `value` against `wanted`; None when it was not measured."""

    text: str
    value: float | None
    wanted: float
    at_most: bool = False

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value <= self.wanted if self.at_most else self.value >= self.wanted


def evaluate_goals(figures: Results) -> list[Goal]:
    """Return every goal with its figure."""
    return [
        *_against_limit(figures),
        *_against_peers(figures),
        *_unmodified(figures),
        *_latency(figures),
        *_lifecycle(figures),
    ]


def evaluate_protocol_goals(figures: Results) -> list[Goal]:
    """Return the goals of the inference protocols with their figures."""
    goals = []
    for name in ("v1", "v2", "grpc"):
        for peer in ("kserve", "torchserve"):
            text = f"{name}: times {peer} at concurrency 8"
            goals.append(Goal(text, _lowest_ratio(figures, name, [8], peer), 1.5))
    text = "tensor: times kserve at concurrency 8"
    goals.append(Goal(text, _lowest_ratio(figures, "tensor", [8], "kserve"), 2.0))
    return goals + _latency(figures)


def evaluate_torchserve_goals(figures: Results) -> list[Goal]:
    """Return the goals against TorchServe with their figures."""
    goals = [
        Goal(f"{name}: times torchserve at concurrency 8", _ratio(figures, name, TORCHSERVE), 1.5)
        for name in ("jpeg", "torch")
    ]
    for text, key, goal in (("a cold start", "cold_start", 0.5), ("memory", "pss_loaded", 0.75)):
        own, other = (figures.alone("torch", name, key) for name in (OURS, TORCHSERVE))
        goals.append(Goal(f"torch: {text} through torchserve's", _divide(own, other), goal, True))
    return goals


def _against_limit(figures: Results) -> list[Goal]:
    goals = {"jpeg-vision": 0.88, "torch-vision": 0.88, "large": 0.78, "large-vision": 0.78}
    return [
        Goal(f"{name}: share of the limit at concurrency 8", _ratio(figures, name, LIMIT), goal)
        for name, goal in goals.items()
    ]


def _against_peers(figures: Results) -> list[Goal]:
    goals = []
    for name, goal in _TIMES_THE_BEST.items():
        text = f"{name}: times the best peer at concurrency 8"
        goals.append(Goal(text, _lowest_ratio(figures, name, [8]), goal))
    for name in TITLES:
        if name in PROTOCOLS:
            continue
        text = f"{name}: times the best peer, at the worst concurrency"
        goals.append(Goal(text, _lowest_ratio(figures, name, figures.levels), 1.0))
    return goals


def _unmodified(figures: Results) -> list[Goal]:
    return [
        Goal(f"{name}: times {peer} at concurrency 8", _ratio(figures, name, peer), 1.5)
        for name in ("jpeg", "torch")
        for peer in ("flask", "nuclio")
    ]


def _latency(figures: Results) -> list[Goal]:
    goals = []
    for name in figures.workloads:
        figure = figures.figure(name, 32, OURS)
        value = figure.p99 / figure.p50 if figure and figure.p50 else None
        goals.append(Goal(f"{name}: p99 through p50 at concurrency 32", value, 2.0, True))
    return goals


def _lifecycle(figures: Results) -> list[Goal]:
    goals = []
    for name in figures.starts():
        own = figures.alone(name, OURS, "cold_start")
        bare = figures.alone(name, LIMIT, "cold_start")
        more = own - bare if own is not None and bare is not None else None
        text = f"{name}: seconds that a cold start takes beyond the handler's own"
        goals.append(Goal(text, more, _START_ALLOWANCE, True))
    again = figures.alone("torch", OURS, "restart")
    bare = figures.alone("torch", LIMIT, "cold_start")
    part = _divide(again, bare)
    goals.append(Goal("torch: a worker's restart through a cold start", part, 0.5, True))
    memory = _divide(
        figures.alone("torch", OURS, "pss_loaded"), figures.alone("torch", "flask", "pss_loaded")
    )
    goals.append(Goal("torch: memory loaded through flask's", memory, 1.0, True))
    return goals


def _ratio(figures: Results, workload: str, other: str) -> float | None:
    return figures.ratio(workload, 8, OURS, other)


def _lowest_ratio(
    figures: Results, workload: str, levels: list[int], prefix: str = ""
) -> float | None:
    """Return the lowest ratio of fnbuild's rate to the best peer's over all concurrencies.

    Only peers whose name begins with the prefix count.
    """
    ratios = [
        ratio
        for level in levels
        for peer in figures.peers
        if peer.startswith(prefix)
        and (ratio := figures.ratio(workload, level, OURS, peer)) is not None
    ]
    return min(ratios) if ratios else None


def _divide(value: float | None, other: float | None) -> float | None:
    return value / other if value is not None and other else None
