"""The log of a function's container as records, across the container's replacement."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import chain, islice
from threading import Event

from fnbuild.platforms import LogOptions, LogRecord
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.logs import parse_log_line

_POLL_SECONDS = 0.3
_LAST_LINES = 20


def read_logs(
    engine: Engine, serving: Callable[[], str | None], options: LogOptions
) -> Iterator[LogRecord]:
    """Return an iterator over the records, oldest first.

    `serving` returns the id of the container that serves now. The request to the engine is sent
    before this function returns. With `follow` the iterator continues with the container's
    successors until `serving` returns None.
    """
    if (container := serving()) is None:
        return iter(())
    first = _parse_records(engine.logs(container, options))
    if not options.follow:
        # The engine also sends lines that are written during its response.
        return islice(first, options.tail)
    return chain(first, _follow_successors(engine, container, serving, options.stop))


def _follow_successors(
    engine: Engine, previous: str, serving: Callable[[], str | None], stop: Event
) -> Iterator[LogRecord]:
    """Yield the records after the container `previous` has stopped: of its restart or successor."""
    while True:
        ended = time.time()
        stop.wait(_POLL_SECONDS)
        if stop.is_set() or (container := serving()) is None:
            return
        # All records of a successor are new.
        since = ended if container == previous else None
        previous = container
        chunks = engine.logs(container, LogOptions(follow=True, since=since, stop=stop))
        yield from _parse_records(chunks)


def follow_container(engine: Engine, container: str, stop: Event) -> Iterator[LogRecord]:
    """Yield the records of one container until it stops or `stop` is set."""
    return _parse_records(engine.logs(container, LogOptions(follow=True, stop=stop)))


def _parse_records(chunks: Iterable[bytes]) -> Iterator[LogRecord]:
    return (_parse_record(line) for line in _split_lines(chunks))


def last_output(engine: Engine, container: str) -> str:
    """Return the last messages of a container as text."""
    chunks = engine.logs(container, LogOptions(tail=_LAST_LINES))
    return "\n".join(record.message for record in _parse_records(chunks))


def _split_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest:
        yield rest


def _parse_record(line: bytes) -> LogRecord:
    """Parse a line with the engine's timestamp, which is used if the line has none."""
    timestamp, _, text = line.partition(b" ")
    try:
        moment = datetime.fromisoformat(timestamp.decode()).timestamp()
    except ValueError:
        return parse_log_line(line, time.time())
    return parse_log_line(text, moment)
