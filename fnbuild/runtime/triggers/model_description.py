"""The description of a running model, as TorchServe's management API has it."""

import os
from typing import Any, Dict

from ..config import BatchConfig, TriggerConfig
from ..processor.pool import WorkerPool
from ..processor.worker_handle import WorkerHandle


def describe_model(
    config: TriggerConfig, pool: WorkerPool, waiting: int, capacity: int
) -> Dict[str, Any]:
    """Return the workers, the settings and the queue of a trigger.

    `waiting` is the number of requests that wait, `capacity` how many more may wait.
    """
    batch = config.batch or BatchConfig(1, 0.0, False)
    return {
        "minWorkers": len(pool.workers),
        "maxWorkers": len(pool.workers),
        "batchSize": batch.size,
        "maxBatchDelay": round(batch.timeout * 1000),
        # 0 means no limit.
        "responseTimeout": round(pool.config.event_timeout or 0),
        "startupTimeout": round(pool.config.readiness_timeout),
        "loadedAtStartup": True,
        "workers": [_describe_worker(worker) for worker in pool.workers],
        "jobQueueStatus": {"remainingCapacity": capacity, "pendingRequests": waiting},
    }


def _describe_worker(worker: WorkerHandle) -> Dict[str, Any]:
    return {
        "id": worker.name,
        "status": "READY" if worker.state in ("ready", "busy") else "UNLOADING",
        "memoryUsage": _resident_bytes(worker.pid),
        "pid": worker.pid,
    }


def _resident_bytes(pid: int) -> int:
    try:
        with open("/proc/%d/statm" % pid) as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
