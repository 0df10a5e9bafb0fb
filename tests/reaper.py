"""Kill what a test run has left running, as soon as the run ends in any way.

Servers and supervisors under test have sessions of their own and outlive a killed run. They are
found by a variable in their environment, which they inherit. Run as a program, this waits for the
end of its standard input: the run holds the other end.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

VARIABLE = "LC_TEST_RUN_ID"
"""The prefix is one that fnbuild keeps in the environment of its daemons, as sudo and ssh do."""
_ROUNDS = 20
_PAUSE_SECONDS = 0.1


def start() -> None:
    """Mark this process and those that it will start; kill the latter when this one has ended."""
    run = os.environ[VARIABLE] = uuid.uuid4().hex
    # The write end of the pipe stays open until this process ends.
    read_end, _ = os.pipe()
    os.posix_spawn(
        sys.executable,
        [sys.executable, __file__, run],
        {"PATH": os.environ.get("PATH", "")},
        file_actions=[(os.POSIX_SPAWN_DUP2, read_end, 0)],
        setsid=True,
    )
    os.close(read_end)


def processes(run: str) -> Iterator[int]:
    """Yield the processes that a run has started, directly or not."""
    marker = f"{VARIABLE}={run}".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if marker in (folder / "environ").read_bytes().split(b"\0"):
                    yield int(folder.name)


def main(run: str) -> None:
    """Wait for the end of standard input, then kill the processes of the run."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    # A supervisor restarts processes that are killed before it.
    for _ in range(_ROUNDS):
        remaining = list(processes(run))
        for pid in remaining:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if not remaining:
            break
        time.sleep(_PAUSE_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1])
