"""All pools of a processor, with their processes."""

import asyncio
import os
import signal
import time
from typing import Any, Awaitable, Callable, Dict, List, Optional, Sequence, Tuple

from ..config import ProcessorConfig, TriggerConfig
from ..logs import READY_MESSAGE, Log
from .children import ChildProcess
from .devices import list_devices
from .gpu_memory import GpuMemory, used_memory
from .large_replies import ReplyMemory
from .launch import worker_environment
from .model import ModelDownload, model_environment
from .pool import PoolContext, WorkerPool
from .sleep import SleepingWorkers
from .spawner import Spawner
from .worker_failure import WorkerFailure
from .worker_handle import WorkerHandle


class WorkerPools(SleepingWorkers):
    """All pools. Workers are numbered across them, in the order of the triggers.

    Triggers with the same `allocator` share a pool, which has the workers of the largest.
    `on_start` is called once the workers can start. `on_demand` is called when an event waits for
    sleeping workers, `on_awake` when all pools are awake again.
    """

    def __init__(
        self,
        config: ProcessorConfig,
        triggers: Sequence[TriggerConfig],
        log: Log,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._log = log
        self.warnings: List[str] = []
        self.mount = "none"
        self.gpu_memory = GpuMemory(self._worker_pids)
        self.on_start: Callable[[], None] = self.wake
        self.on_demand: Callable[[], None] = lambda: None
        self.on_awake: Callable[[], None] = lambda: None
        groups = _group_by_allocator(triggers)
        sizes = [max(trigger.num_workers for trigger in group) for group in groups]
        env = worker_environment(config, sum(sizes))
        variables = model_environment(dict(os.environ, **config.env), config)
        self._model = ModelDownload(variables, config.models, log, loop)
        self.spawner = Spawner(config, env, log, self._on_started, loop)
        context = PoolContext(
            config,
            self._devices(config, env),
            log,
            loop,
            self.spawner,
            on_started=self._on_started,
            on_ready=self._call_if_ready,
            on_demand=self._call_on_demand,
            on_awake=self._call_if_awake,
            reply_memory=ReplyMemory(),
        )
        self._reloading = asyncio.Lock()
        self._ready_callbacks: List[Callable[[], object]] = []
        self._loop = loop
        self._children: List[ChildProcess] = []
        self._pools: List[WorkerPool] = []
        self._pool_by_trigger: Dict[str, WorkerPool] = {}
        first = 0
        for group, size in zip(groups, sizes):  # noqa: B905 - zip has no strict in 3.6
            pool = WorkerPool(context, group[0], range(first, first + size))
            self._pools.append(pool)
            for trigger in group:
                self._pool_by_trigger[trigger.name] = pool
            first += size

    def _devices(self, config: ProcessorConfig, env: Dict[str, str]) -> List[str]:
        """Return the GPUs that are assigned to workers; a warning says that there are none."""
        if config.workers_per_device is None:
            return []
        devices = list_devices(env)
        if not devices:
            self.warnings.append("workers-per-device has no effect: there is no GPU")
            self._log.warn(self.warnings[-1])
        return devices

    def pool_for(self, trigger: TriggerConfig) -> WorkerPool:
        """Return the pool of the trigger."""
        return self._pool_by_trigger[trigger.name]

    @property
    def workers(self) -> List[WorkerHandle]:
        """The workers of all pools in the order of their numbers."""
        return [worker for pool in self._pools for worker in pool.workers]

    @property
    def waiting(self) -> int:
        """The number of events that wait for a worker."""
        return sum(pool.waiting for pool in self._pools)

    def start(self) -> None:
        """Start the workers, once the model is on the disk, without waiting for it."""
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap)
        self.spawner.open()
        self.call_when_ready(self._log_ready)
        self._model.start(self._call_on_start)

    def _call_on_start(self) -> None:
        self.on_start()

    async def stop(self, timeout: float) -> None:
        """End every worker with its termination callback; kill it after `timeout` seconds."""
        self._model.stop()
        for pool in self._pools:
            pool.stopping = True
        self.spawner.stop()
        await asyncio.gather(*[pool.stop(timeout) for pool in self._pools])

    def last_request(self) -> float:
        return max(pool.last_request for pool in self._pools)

    def sleep_obstacle(self) -> str:
        state = self.state()
        if state != "ready" or self._reloading.locked():
            return "the function is " + (state if state != "ready" else "reloading")
        return "its workers are busy" if any(pool.in_hand for pool in self._pools) else ""

    def fall_asleep(self, offload: bool) -> Awaitable[Any]:
        return asyncio.gather(*[pool.fall_asleep(offload) for pool in self._pools])

    def begin_asleep(self) -> None:
        for pool in self._pools:
            pool.begin_asleep()

    def used_memory(self) -> Optional[int]:
        return used_memory(self.gpu_memory, self._worker_pids())

    def _worker_pids(self) -> List[int]:
        return [worker.pid for worker in self.workers if worker.pid]

    def hold(self, everything: bool) -> None:
        for pool in self._pools:
            pool.hold(everything)

    def resume(self) -> None:
        for pool in self._pools:
            if pool.holding:
                pool.resume()

    def refuse_wake(self, refusal: Optional[WorkerFailure]) -> None:
        for pool in self._pools:
            pool.refuse_wake(refusal)

    def wake(self) -> None:
        self.started_at = self.started_at or time.monotonic()
        for worker in self.workers:
            worker.wake()

    def _call_on_demand(self) -> None:
        self.on_demand()

    def _call_if_awake(self) -> None:
        if not any(pool.sleeping for pool in self._pools):
            self.on_awake()

    def run_drain_callbacks(self) -> None:
        """Run the drain callback of every worker after its current event."""
        for worker in self.workers:
            worker.run_drain_callback()

    def kill(self) -> None:
        """Kill every worker."""
        self._model.stop()
        for pool in self._pools:
            pool.stopping = True
        for worker in self.workers:
            worker.kill()
        self.spawner.stop()

    def add_child(self, child: ChildProcess) -> None:
        """Reap another child of this process."""
        self._children.append(child)

    def state(self) -> str:
        """Return the state of the worst pool: `starting`, `ready` or `unhealthy`."""
        if self._model.failure is not None:
            return "unhealthy"
        states = [pool.state() for pool in self._pools]
        return next((state for state in ("unhealthy", "starting") if state in states), "ready")

    def failure(self) -> Optional[WorkerFailure]:
        """Return the failure of the model's download, or the first of a worker, if any."""
        if self._model.failure is not None:
            return self._model.failure
        failures = [pool.failure() for pool in self._pools]
        return next((failure for failure in failures if failure is not None), None)

    def call_when_ready(self, callback: Callable[[], object]) -> None:
        """Call the callback once the workers of all pools have been ready."""
        self._ready_callbacks.append(callback)
        self._call_if_ready()

    def _call_if_ready(self) -> None:
        if all(pool.was_ready for pool in self._pools):
            callbacks, self._ready_callbacks = self._ready_callbacks, []
            for callback in callbacks:
                callback()

    async def reload(self, restart: bool) -> Dict[str, str]:
        """Load new code into every worker; return `ok` or the traceback by worker id.

        All workers reload at once and keep `context.user_data`. With `restart` they are replaced
        one after the other.
        """
        async with self._reloading:
            self.spawner.renew()
            if restart:
                outcomes = [await worker.restart() for worker in self.workers]
            else:
                outcomes = await asyncio.gather(*[worker.reload() for worker in self.workers])
        names = [worker.name for worker in self.workers]
        return dict(zip(names, outcomes))  # noqa: B905 - zip has no strict in 3.6

    def _log_ready(self) -> None:
        self._log.info(READY_MESSAGE, workers=len(self.workers), mount=self.mount)

    def _on_started(self, report: Dict[str, Any]) -> None:
        """Handle the report of a new process; each warning is logged once, not per worker."""
        self.mount = str(report.get("mount", "none"))
        for warning in report.get("warnings", []):
            if warning not in self.warnings:
                self.warnings.append(warning)
                self._log.warn(warning)

    def _reap(self) -> None:
        handles = [worker.process for worker in self.workers]
        processes = [process for process in handles if process is not None]
        for process in processes:
            process.reap()
        pids = {process.pid for process in processes}
        for child in self._children:
            child.reap()
            pids.add(child.pid)
        self.spawner.reap(lambda pid: pid in pids)


def _group_by_allocator(triggers: Sequence[TriggerConfig]) -> List[List[TriggerConfig]]:
    groups: Dict[Tuple[str, str], List[TriggerConfig]] = {}
    for trigger in triggers:
        key = ("named", trigger.allocator) if trigger.allocator else ("of", trigger.name)
        groups.setdefault(key, []).append(trigger)
    return list(groups.values())
