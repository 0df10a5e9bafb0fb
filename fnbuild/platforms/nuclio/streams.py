"""The logs of several replicas as one, from streams of lines."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from heapq import merge

from fnbuild.errors import FnbuildError
from fnbuild.platforms import LogRecord
from fnbuild.platforms.loglines import parse

SILENCE_SECONDS = 30.0
_WAITING_LINES = 1000

Lines = Callable[[str], Iterator[bytes]]
"""The lines of a replica by its name, as they come."""


def merged(
    replicas: list[str], lines: Lines, *, follow: bool, tail: int | None
) -> Iterator[LogRecord]:
    """All records by time, `tail` of them at most; with `follow` as they come, until all end."""
    if follow:
        return _followed(replicas, lines)
    together = list(merge(*(_records(one, lines) for one in replicas), key=lambda one: one.time))
    return iter(together if tail is None else together[max(0, len(together) - tail) :])


def _records(replica: str, lines: Lines) -> Iterator[LogRecord]:
    # A line without a time belongs to the one before it.
    last = 0.0
    for line in lines(replica):
        if text := line.strip(b"\r\n"):
            record = parse(text, last or time.time())
            record.fields["pod"] = replica
            last = record.time
            yield record


def _followed(replicas: list[str], lines: Lines) -> Iterator[LogRecord]:
    """Records of all as they come; a thread reads each, for none may wait for another."""
    waiting: queue.Queue[LogRecord | FnbuildError | None] = queue.Queue(_WAITING_LINES)

    def read(replica: str) -> None:
        try:
            for record in _records(replica, lines):
                waiting.put(record)
        except FnbuildError as error:
            waiting.put(error)
        except (OSError, ValueError):
            pass  # the replica has ended, or nobody reads any more
        waiting.put(None)

    for one in replicas:
        threading.Thread(target=read, args=(one,), daemon=True).start()
    running = len(replicas)
    while running:
        found = waiting.get()
        if found is None:
            running -= 1
        elif isinstance(found, FnbuildError):
            raise found
        else:
            yield found
