"""The limit of the time until a worker is ready."""

import asyncio
from typing import Callable, List, Optional

from .worker_failure import IMPORT, WorkerFailure, startup_timeout
from .worker_process import WorkerProcess


class ReadinessTimer:
    """A timer that makes a hanging worker print its stack, and kills it.

    `step` is what the worker is doing. `on_timeout` is called before the worker ends.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        worker: str,
        on_timeout: Callable[[WorkerFailure], None],
    ) -> None:
        self.step = IMPORT
        self._loop = loop
        self._seconds = seconds
        self._worker = worker
        self._on_timeout = on_timeout
        self._timer: Optional[asyncio.TimerHandle] = None

    def reset(self) -> None:
        """Begin with the first step."""
        self.step = IMPORT

    def start(self, process: WorkerProcess, step: str) -> None:
        """Begin to limit the time of a step and of those that follow."""
        self.cancel()
        self.step = step
        self._timer = self._loop.call_later(self._seconds, self._expire, process)

    def cancel(self) -> None:
        """End the limit: the worker is ready, or has ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self, process: WorkerProcess) -> None:
        activity = "worker %s: %s" % (self._worker, self.step)

        def report(frames: List[str]) -> None:
            self._on_timeout(startup_timeout(activity, self._seconds, frames))

        process.dump_stack(report)
