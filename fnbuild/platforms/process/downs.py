"""When everything was stopped last: what was begun before must not start a function after it.

A deploy takes its time before it asks for its revision to run, and where no supervisor runs it
starts one. So it remembers the mark that it found at its beginning.
"""

from __future__ import annotations

import contextlib
import os
import time

from fnbuild.errors import ConflictError
from fnbuild.platforms.process.layout import down_mark


def mark() -> None:
    """Note that everything is to be stopped now."""
    now = time.time_ns()
    # A full disk must not keep anybody from stopping what runs.
    with contextlib.suppress(OSError):
        down_mark().touch(mode=0o600)
        os.utime(down_mark(), ns=(now, now))


def last() -> int:
    """A number that each `mark` changes; 0 before the first."""
    try:
        return down_mark().stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def check(known: int, name: str) -> None:
    """Raise `ConflictError` where everything was stopped since `last` gave that number."""
    if last() != known:
        raise ConflictError(
            f"{name} was not started: `fnbuild down` has stopped everything meanwhile",
            hint="what ran before comes back with `fnbuild up`; deploy it again for the change",
        )
