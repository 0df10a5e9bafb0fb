"""A worker that takes too long: asked where it is, then killed."""

import asyncio
import os
from typing import Callable, List

from .launch import DUMP_SIGNAL
from .process import WorkerProcess

_HERE = os.path.dirname(os.path.abspath(__file__))
# How long it gets to print its stack, in seconds.
_DUMP_TIME = 0.15


class Hang:
    """Collects what faulthandler prints for the signal, calls `report` with it, then kills.

    `report` gets the stack as text that can follow a sentence; it is empty when there was none.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        process: WorkerProcess,
        report: Callable[[str], None],
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
        if self._process.ended:
            return
        self._process.read_output()
        frames = stack_of(self._lines)
        self._report("; it was here:\n" + "\n".join(frames) if frames else "")
        self._process.kill()


def stack_of(dump: List[str]) -> List[str]:
    """faulthandler's dump in the order of a traceback, without the runtime's frames."""
    frames = [line for line in dump if line.startswith("  File ") and _HERE not in line]
    return list(reversed(frames))
