"""Logs of a function's pods, merged by the timestamps of the nodes."""

from __future__ import annotations

import contextlib
import heapq
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from fnbuild.errors import FnbuildError, InputError, NotFoundError, UnavailableError
from fnbuild.platforms import LogRecord
from fnbuild.platforms.kubeclient import streams
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.errors import ForbiddenError
from fnbuild.platforms.logs import parse_log_line

_POLL_SECONDS = 0.5
_GATHER_SECONDS = 0.1
_MAX_OUTAGE_SECONDS = 30.0
_QUEUE_SIZE = 10_000
"""Lines that wait until somebody takes them."""
_CONTAINER = "nuclio"


class _LogLine(NamedTuple):
    time_ns: int
    pod: str
    text: bytes


def read_logs(  # noqa: PLR0913 (what a log can be asked for)
    cluster: Cluster,
    namespace: str,
    pods: Callable[[], list[str] | None],
    *,
    follow: bool,
    since: float | None,
    tail: int | None,
    until: threading.Event | None = None,
) -> Iterator[LogRecord]:
    """Return an iterator over the records of all pods, oldest first, each with a field `pod`.

    `pods` returns the names of the current pods, or None once there will be no more. `tail` counts
    records of all pods together; they are read before this returns, which fixes the position in
    the log. `follow` goes on, including pods that are new, until `pods` returns None or `until` is
    set.
    """
    there = pods()
    if there is None:
        return iter(())
    # Where following goes on, of each pod: behind what the history has.
    ends = dict.fromkeys(there, int((since or 0) * 1e9))
    # Of no lines at all, the last one still tells where to go on.
    last = None if tail is None else max(tail, 1)
    sources = {
        pod: cluster.log_source(namespace, pod, container=_CONTAINER, since=since, tail=last)
        for pod in there
    }
    history = heapq.merge(
        *(_read_history(source, pod, since, ends) for pod, source in sources.items())
    )
    past = map(_to_record, history if tail is None else deque(history, maxlen=tail))
    if not follow:
        return past
    followers = _LogFollowers(cluster, namespace, pods, ends)
    return _follow_after(past, followers, until or threading.Event())


def _follow_after(
    past: Iterator[LogRecord], followers: _LogFollowers, until: threading.Event
) -> Iterator[LogRecord]:
    """Yield the history, then what is followed. Closing the iterator ends the followers."""
    yield from past
    yield from followers.records(until)


def read_previous_logs(
    cluster: Cluster, namespace: str, pods: list[str], *, since: float | None, tail: int | None
) -> Iterator[LogRecord]:
    """Yield the records that the pods' containers wrote before their last restart."""
    last = None if tail is None else max(tail, 1)
    sources = {
        pod: cluster.log_source(
            namespace, pod, container=_CONTAINER, since=since, tail=last, previous=True
        )
        for pod in pods
    }
    lines = heapq.merge(*(_read_history(source, pod, since, {}) for pod, source in sources.items()))
    for line in lines if tail is None else deque(lines, maxlen=tail):
        yield _to_record(line)


def _read_history(
    source: streams.ApiStream, pod: str, since: float | None, ends: dict[str, int]
) -> Iterator[_LogLine]:
    """What a pod's log has now; `ends` learns how far that is."""
    for moment, text in streams.read_log(source):
        if since is None or moment / 1e9 >= since:
            ends[pod] = moment
            yield _LogLine(moment, pod, text)


def _to_record(line: _LogLine) -> LogRecord:
    found = parse_log_line(line.text, line.time_ns / 1e9)
    return replace(found, fields={**found.fields, "pod": line.pod})


class _LogFollowers:
    """A thread for each pod that reads its log, and what they have read."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        pods: Callable[[], list[str] | None],
        ends: dict[str, int],
    ):
        self._cluster = cluster
        self._namespace = namespace
        self._pods = pods
        self._ends = ends
        self._there = set(ends)
        self._threads: dict[str, threading.Thread] = {}
        self._replies: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._found: queue.Queue[_LogLine | FnbuildError] = queue.Queue(_QUEUE_SIZE)
        self._heard = time.monotonic()

    def records(self, until: threading.Event) -> Iterator[LogRecord]:
        """Records as they come, in order of time as far as they come together."""
        try:
            while not until.is_set() and self._renew():
                yield from map(_to_record, self._gathered(_POLL_SECONDS))
            yield from map(_to_record, self._gathered(0))
        finally:
            self._stop()

    def _renew(self) -> bool:
        """Follow the pods that are new; whether there may be more to come."""
        try:
            there = self._pods()
        except UnavailableError:
            if time.monotonic() - self._heard > _MAX_OUTAGE_SECONDS:
                raise
            return True
        self._heard = time.monotonic()
        if there is None:
            return False
        self._there = set(there)
        self._threads = {pod: one for pod, one in self._threads.items() if one.is_alive()}
        for pod in self._there - self._threads.keys():
            thread = threading.Thread(target=self._follow, args=(pod,), daemon=True)
            self._threads[pod] = thread
            thread.start()
        return True

    def _gathered(self, seconds: float) -> list[_LogLine]:
        """What comes within that time, in order of time; less is waited once something came."""
        lines: list[_LogLine] = []
        end = time.monotonic() + seconds
        while True:
            try:
                found = self._found.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                return sorted(lines)
            if isinstance(found, FnbuildError):
                raise found
            if not lines:
                end = min(end, time.monotonic() + _GATHER_SECONDS)
            lines.append(found)

    def _follow(self, pod: str) -> None:
        while pod in self._there and not self._stopped.is_set():
            try:
                self._read(pod)
            except (NotFoundError, InputError, UnavailableError):
                pass  # it has not begun, is gone, or the server is away for a moment
            except FnbuildError as error:
                self._put(error)
                return
            self._stopped.wait(_POLL_SECONDS)

    def _read(self, pod: str) -> None:
        """The log of the pod's container until it ends."""
        end = self._ends.get(pod, 0)
        source = self._cluster.log_source(
            self._namespace, pod, container=_CONTAINER, since=end / 1e9 if end else None
        )
        with source.opened(None, timestamps="true", follow="true") as reply:
            with self._lock:
                if self._stopped.is_set():
                    return
                self._replies[pod] = reply
            try:
                for moment, text in streams.timestamped_lines(reply):
                    if moment > self._ends.get(pod, 0):
                        self._ends[pod] = moment
                        self._put(_LogLine(moment, pod, text))
            finally:
                with self._lock:
                    del self._replies[pod]

    def _put(self, found: _LogLine | FnbuildError) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._found.put(found, timeout=_POLL_SECONDS)
                return

    def _stop(self) -> None:
        with self._lock:
            self._stopped.set()
            for reply in self._replies.values():
                with contextlib.suppress(OSError, ValueError, RuntimeError):  # it ended itself
                    reply.shutdown()
        for thread in self._threads.values():
            thread.join(_POLL_SECONDS)


_LINES_READ = 200
_LINES_SHOWN = 20


def last_records(
    cluster: Cluster,
    namespace: str,
    pod: str,
    container: str = "nuclio",
    *,
    previous: bool = False,
) -> list[LogRecord]:
    """The last of a container's log; none when it has none, or when nobody may read it."""
    try:
        lines = cluster.logs(
            namespace, pod, container=container, tail=_LINES_READ, previous=previous
        )
        return [parse_log_line(line, moment) for moment, line in lines]
    except ForbiddenError:
        return []


def failure_output(cluster: Cluster, namespace: str, pod: str, container: str = "nuclio") -> str:
    """The last traceback, else the last lines that tell of errors, else the last lines at all.

    A container that has just begun again has yet to fail: what it said before counts then. "" for
    nothing.
    """
    now = last_records(cluster, namespace, pod, container)
    if errors := _error_text(now):
        return errors
    before = last_records(cluster, namespace, pod, container, previous=True)
    return _error_text(before) or _last_lines(now or before)


def _error_text(found: list[LogRecord]) -> str:
    """Workers often say the same, so one traceback is enough."""
    errors = [one for one in found if one.level == "error"]
    whole = next((one.message for one in reversed(errors) if "\n" in one.message), "")
    return whole or _last_lines(errors)


def _last_lines(found: list[LogRecord]) -> str:
    return "\n".join(one.message for one in found[-_LINES_SHOWN:])
