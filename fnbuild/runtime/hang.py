"""A worker that takes too long: asked where it is, then killed."""

import asyncio
from typing import Callable, List

from .dumps import stack_of
from .launch import DUMP_SIGNAL
from .process import WorkerProcess

# How long it gets to print its stack, in seconds.
_DUMP_TIME = 0.15


class Hang:
    """Collects what faulthandler prints for the signal, calls `report` with it, then kills.

    `report` gets the handler's frames in the order of a traceback; none when nothing was printed.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        process: WorkerProcess,
        report: Callable[[List[str]], None],
    ) -> None:
        self._process = process
        self._report = report
        self._lines: List[str] = []
        process.signal(DUMP_SIGNAL)
        loop.call_later(_DUMP_TIME, self._end)

    def add(self, line: str) -> None:
        """A line that the worker printed to stderr meanwhile."""
        self._lines.append(line)

    def _end(self) -> None:
        if self._process.gone:
            return
        self._process.read_output()
        self._report(stack_of(self._lines))
        self._process.kill()
