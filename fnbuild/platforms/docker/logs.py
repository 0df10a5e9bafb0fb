"""The log of a function's container as records; what followed it goes on in its successor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from threading import Event

from fnbuild.platforms import LogRecord
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.loglines import parse

_POLL_SECONDS = 0.3
_LAST_WORDS = 20


def read(  # noqa: PLR0913 - what a log can be asked for
    engine: Engine,
    serving: Callable[[], str | None],
    *,
    follow: bool,
    since: float | None,
    tail: int | None,
    until: Event | None = None,
) -> Iterator[LogRecord]:
    """Records, oldest first; `serving` tells the id of the container that has the log now.

    With `follow` it goes on, from container to container, until `serving` tells of none or `until`
    is set.
    """
    seen, until = "", until or Event()
    while not until.is_set() and (container := serving()) is not None:
        if seen and container != seen:
            since = None  # all that a successor says is new
        seen = container
        pieces = engine.logs(container, follow=follow, since=since, tail=tail, until=until)
        yield from _records(pieces)
        if not follow:
            return
        # It has ended: it may be started again, or another one takes its place.
        since, tail = time.time(), None
        until.wait(_POLL_SECONDS)


def _records(pieces: Iterable[bytes]) -> Iterator[LogRecord]:
    return (_record(line) for line in _lines(pieces))


def last_words(engine: Engine, container: str) -> str:
    """The last messages of a container as text."""
    pieces = engine.logs(container, follow=False, since=None, tail=_LAST_WORDS)
    return "\n".join(record.message for record in _records(pieces))


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    if rest:
        yield rest


def _record(line: bytes) -> LogRecord:
    """A line behind the engine's own time, which counts where the line has none."""
    stamp, _, text = line.partition(b" ")
    try:
        moment = datetime.fromisoformat(stamp.decode()).timestamp()
    except ValueError:
        return parse(line, time.time())
    return parse(text, moment)
