"""The metrics of a processor that are not those of one trigger."""

from typing import Dict, Sequence, Tuple

from ..http.server import HttpServer
from ..triggers.base import Trigger
from .gpu_memory import GPU_MEMORY_HELP, GPU_MEMORY_LABELS, GPU_MEMORY_METRIC
from .metrics import PREFIX, MetricsRegistry
from .pools import WorkerPools
from .sleep import ASLEEP, SleepController
from .worker_lifecycle import WORKER_STATES


def register_gauges(
    registry: MetricsRegistry,
    pools: WorkerPools,
    http: HttpServer,
    sleep: SleepController,
    triggers: Sequence[Trigger],
) -> None:
    """Add the gauges of workers, connections, sleep and GPU memory, and the counter of wakes."""
    gauge = registry.gauge
    gauge(
        PREFIX + "workers",
        "Workers, by state",
        ("state",),
        lambda: _workers_by_state(pools),
    )
    gauge(
        PREFIX + "worker_restarts",
        "Times a worker was started again",
        ("worker_index",),
        lambda: {(worker.name,): worker.restarts for worker in pools.workers},
    )
    gauge(PREFIX + "connections", "Open http connections", (), lambda: {(): http.connections})
    gauge(
        PREFIX + "waiting_events",
        "Events that wait for a worker",
        (),
        lambda: {(): pools.waiting + sum(t.waiting_outside_pool() for t in triggers)},
    )
    gauge(
        PREFIX + "asleep",
        "1 while the workers are asleep, else 0",
        (),
        lambda: {(): int(sleep.state == ASLEEP)},
    )
    sleep.wakes = registry.counter(PREFIX + "wakes_total", "Times the workers were woken").child()
    gauge(GPU_MEMORY_METRIC, GPU_MEMORY_HELP, GPU_MEMORY_LABELS, pools.gpu_memory.read)


def _workers_by_state(pools: WorkerPools) -> Dict[Tuple[str, ...], int]:
    states = [worker.state for worker in pools.workers]
    return {(state,): states.count(state) for state in WORKER_STATES}
