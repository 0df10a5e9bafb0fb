"""All workers of a processor: one pool for each trigger, or for each group that shares one."""

import asyncio
import signal
from typing import Any, Callable, Dict, List, Optional

from .config import ProcessorConfig, Trigger
from .endings import Trouble
from .large_replies import ReplyMemory
from .launch import environment
from .lifecycle import Worker
from .logs import READY, Log
from .loop import Loop
from .pool import Common, Pool
from .starter import Starter


class Pools:
    """See the module. Workers are numbered through all pools, those of the http trigger first."""

    def __init__(self, config: ProcessorConfig, log: Log, loop: Loop) -> None:
        self.warnings: List[str] = []
        self.mount = "none"
        env = environment(config, config.num_workers)
        self.starter = Starter(config, env, log, self._on_facts, loop)
        common = Common(config, log, loop, self.starter, self._on_facts, ReplyMemory())
        self._reloading = asyncio.Lock()
        self._log = log
        self._loop = loop
        self._pools: List[Pool] = []
        self._by_trigger: Dict[str, Pool] = {}
        first = 0
        for shared in config.pools:
            end = first + max(trigger.num_workers for trigger in shared)
            pool = Pool(common, shared[0], range(first, end))
            self._pools.append(pool)
            for trigger in shared:
                self._by_trigger[trigger.name] = pool
            first = end

    def of(self, trigger: Trigger) -> Pool:
        """The pool that serves the trigger."""
        return self._by_trigger[trigger.name]

    @property
    def workers(self) -> List[Worker]:
        """The workers of all pools, by number."""
        return [worker for pool in self._pools for worker in pool.workers]

    @property
    def waiting(self) -> int:
        """How many events wait for a worker."""
        return sum(pool.waiting for pool in self._pools)

    def start(self) -> None:
        """Start every worker; returns at once."""
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap)
        self.starter.open()
        self.when_ready(self._say_ready)
        for pool in self._pools:
            pool.start()

    async def stop(self, timeout: float) -> None:
        """End every worker: termination callback first, and the kill after `timeout` seconds."""
        for pool in self._pools:
            pool.stopping = True
        self.starter.stop()
        await asyncio.gather(*[pool.stop(timeout) for pool in self._pools])

    def drain(self) -> None:
        """Tell every worker that another processor takes over."""
        for pool in self._pools:
            pool.drain()

    def kill(self) -> None:
        """End every worker now."""
        for pool in self._pools:
            pool.kill()
        self.starter.stop()

    def state(self) -> str:
        """`starting`, `ready` or `unhealthy`: the function is as well as its worst pool."""
        states = [pool.state() for pool in self._pools]
        return next((one for one in ("unhealthy", "starting") if one in states), "ready")

    def trouble(self) -> Optional[Trouble]:
        """Why the function, or a worker of it, is not ready."""
        found = [pool.trouble() for pool in self._pools]
        return next((trouble for trouble in found if trouble is not None), None)

    def when_ready(self, callback: Callable[[], object]) -> None:
        """Call back once, when the workers of all pools have been ready."""

        def check() -> None:
            if all(pool.was_ready for pool in self._pools):
                callback()

        waited_for = [pool for pool in self._pools if not pool.was_ready]
        for pool in waited_for:
            pool.when_ready(check)
        if not waited_for:
            callback()

    async def reload(self, restart: bool) -> Dict[str, str]:
        """Bring new code into every worker: `ok` or the traceback, by worker id.

        In place, all at the same time, keeping `context.user_data`; or, with `restart`, by ending
        the workers one after the other.
        """
        async with self._reloading:
            self.starter.renew()
            if restart:
                answers = [await pool.reload(restart) for pool in self._pools]
            else:
                answers = list(await asyncio.gather(*[p.reload(restart) for p in self._pools]))
        return {name: answer for one in answers for name, answer in one.items()}

    def _say_ready(self) -> None:
        self._log.info(READY, workers=len(self.workers), mount=self.mount)

    def _on_facts(self, facts: Dict[str, Any]) -> None:
        """A process told how it sees the machine; a warning is said once, not once per worker."""
        self.mount = str(facts.get("mount", "none"))
        for warning in facts.get("warnings", []):
            if warning not in self.warnings:
                self.warnings.append(warning)
                self._log.warn(warning)

    def _reap(self) -> None:
        found = [worker.process for worker in self.workers]
        processes = [process for process in found if process is not None]
        for process in processes:
            process.reap()
        pids = {process.pid for process in processes}
        self.starter.reap(lambda pid: pid in pids)
