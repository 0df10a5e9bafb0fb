"""The log of a function's container as records, across the container's replacement."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import chain, islice
from threading import Event

from fnbuild.platforms import LogRecord
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.logs import parse_log_line

_POLL_SECONDS = 0.3
_LAST_LINES = 20


def read_logs(  # noqa: PLR0913 - what a log can be asked for
    engine: Engine,
    serving: Callable[[], str | None],
    *,
    follow: bool,
    since: float | None,
    tail: int | None,
    until: Event | None = None,
) -> Iterator[LogRecord]:
    """Return an iterator over the records, oldest first.

    `serving` returns the id of the container that has the log now. The engine has been asked for
    its log on return. With `follow` the iterator goes on, from container to container, until
    `serving` returns None or `until` is set.
    """
    until = until or Event()
    if (container := serving()) is None:
        return iter(())
    first = _parse_records(
        engine.logs(container, follow=follow, since=since, tail=tail, until=until)
    )
    if not follow:
        # The engine goes on with what is written while it answers.
        return islice(first, tail)
    return chain(first, _follow_successors(engine, container, serving, until))


def _follow_successors(
    engine: Engine, seen: str, serving: Callable[[], str | None], until: Event
) -> Iterator[LogRecord]:
    """Yield the records after the end of the container `seen`: of its restart or replacement."""
    while True:
        ended = time.time()
        until.wait(_POLL_SECONDS)
        if until.is_set() or (container := serving()) is None:
            return
        # All that a successor says is new.
        since = ended if container == seen else None
        seen = container
        pieces = engine.logs(container, follow=True, since=since, tail=None, until=until)
        yield from _parse_records(pieces)


def follow_container(engine: Engine, container: str, until: Event) -> Iterator[LogRecord]:
    """Records of one container from its start on, until it ends or `until` is set."""
    return _parse_records(engine.logs(container, follow=True, since=None, tail=None, until=until))


def _parse_records(pieces: Iterable[bytes]) -> Iterator[LogRecord]:
    return (_parse_record(line) for line in _split_lines(pieces))


def last_output(engine: Engine, container: str) -> str:
    """The last messages of a container as text."""
    pieces = engine.logs(container, follow=False, since=None, tail=_LAST_LINES)
    return "\n".join(record.message for record in _parse_records(pieces))


def _split_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    if rest:
        yield rest


def _parse_record(line: bytes) -> LogRecord:
    """A line behind the engine's own time, which counts where the line has none."""
    stamp, _, text = line.partition(b" ")
    try:
        moment = datetime.fromisoformat(stamp.decode()).timestamp()
    except ValueError:
        return parse_log_line(line, time.time())
    return parse_log_line(text, moment)
