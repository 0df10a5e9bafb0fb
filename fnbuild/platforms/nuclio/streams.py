"""The logs of several replicas as one, from streams of lines."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from heapq import merge

from fnbuild.errors import FnbuildError
from fnbuild.platforms import LogRecord
from fnbuild.platforms.logs import parse_log_line

SILENCE_SECONDS = 30.0
_AHEAD = 1000
_LOOK_SECONDS = 0.5

Lines = Mapping[str, Iterator[bytes]]
"""The lines of replicas by their names."""


def past(lines: Lines, tail: int | None) -> Iterator[LogRecord]:
    """All records by time; the last `tail` of them."""
    streams = (_records(replica, one) for replica, one in lines.items())
    together = list(merge(*streams, key=lambda one: one.time))
    return iter(together if tail is None else together[max(0, len(together) - tail) :])


def _records(replica: str, lines: Iterator[bytes]) -> Iterator[LogRecord]:
    # A line without a time belongs to the one before it.
    last = 0.0
    for line in lines:
        if text := line.strip(b"\r\n"):
            record = parse_log_line(text, last or time.time())
            record.fields["pod"] = replica
            last = record.time
            yield record


def followed(lines: Lines, until: threading.Event) -> Iterator[LogRecord]:
    """Records as they come, until all streams end or `until` is set."""
    readers = _Readers()
    for replica, stream in lines.items():
        # A thread reads each, for none may wait for another.
        threading.Thread(target=readers.read, args=(replica, stream), daemon=True).start()
    try:
        yield from readers.records(len(lines), until)
    finally:
        readers.unwanted.set()


class _Readers:
    """What threads have read and nobody has taken yet."""

    def __init__(self) -> None:
        self.unwanted = threading.Event()
        self._waiting: queue.Queue[LogRecord | FnbuildError | None] = queue.Queue(_AHEAD)

    def records(self, running: int, until: threading.Event) -> Iterator[LogRecord]:
        while running and not until.is_set():
            try:
                found = self._waiting.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                continue
            if isinstance(found, FnbuildError):
                raise found
            if found is None:
                running -= 1
            else:
                yield found

    def read(self, replica: str, stream: Iterator[bytes]) -> None:
        try:
            for record in _records(replica, stream):
                self._put(record)
                if self.unwanted.is_set():
                    return
        except FnbuildError as error:
            self._put(error)
        except (OSError, ValueError):
            pass  # the replica has ended
        self._put(None)

    def _put(self, found: LogRecord | FnbuildError | None) -> None:
        while not self.unwanted.is_set():
            with contextlib.suppress(queue.Full):
                self._waiting.put(found, timeout=_LOOK_SECONDS)
                return
