"""A member of a group without workers: `python group_process.py FOLDER NAME`.

It wants memory, holds the lock of the file NAME.loaded in the folder while it has it, writes a line
to NAME.turns, and falls asleep for others.
"""

from __future__ import annotations

import asyncio
import fcntl
import sys
import time
from pathlib import Path

from fnbuild.runtime.config import GroupConfig
from fnbuild.runtime.groups.member import GroupMember, MemoryUser
from fnbuild.runtime.logs import Log


class Sleeper(MemoryUser):
    """Wants memory again as soon as it has released it."""

    def __init__(self, folder: Path, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self._folder, self._name, self._loop = folder, name, loop
        self._state = "waiting"
        self._last = time.monotonic()
        self._file = (folder / f"{name}.loaded").open("w")
        config = GroupConfig("g", str(folder / "group"), None, 100, 60, False)
        self.member = GroupMember(config, {"name": name}, 60.0, Log(), loop)
        self.member.start(self)

    def group_state(self) -> str:
        return self._state

    def is_busy(self) -> bool:
        return False

    def last_use(self) -> float:
        return self._last

    def measure_memory(self) -> int | None:
        return None

    def grant(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        with (self._folder / f"{self._name}.turns").open("a") as turns:
            turns.write("turn\n")
        self._last = time.monotonic()
        self._enter("awake")

    def refuse(self, reason: str) -> None:
        raise AssertionError(reason)

    def release(self) -> None:
        self._state = "falling asleep"
        self._loop.call_soon(self._end_release)

    def keep(self) -> None:
        pass

    def _end_release(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)
        self._enter("asleep")
        self._loop.call_later(0.01, self._enter, "waiting")

    def _enter(self, state: str) -> None:
        self._state = state
        self._loop.call_soon(self.member.update)


if __name__ == "__main__":
    loop = asyncio.new_event_loop()
    sleeper = Sleeper(Path(sys.argv[1]), sys.argv[2], loop)
    loop.run_forever()
