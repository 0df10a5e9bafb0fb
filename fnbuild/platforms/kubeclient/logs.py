"""Logs of a function's pods, merged by the timestamps of the nodes."""

from __future__ import annotations

import contextlib
import heapq
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from fnbuild.errors import FnbuildError, ForbiddenError, InputError, NotFoundError, UnavailableError
from fnbuild.platforms import LogOptions, LogRecord
from fnbuild.platforms.kubeclient import streams
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.logs import parse_log_line

_POLL_SECONDS = 0.5
_GATHER_SECONDS = 0.1
_MAX_OUTAGE_SECONDS = 30.0
_QUEUE_SIZE = 10_000
"""The number of lines that wait for the consumer."""
FUNCTION_CONTAINER = "nuclio"
"""The container of a function in Nuclio's pods."""


_LINES_READ = 200
_LINES_SHOWN = 20


class _LogLine(NamedTuple):
    time_ns: int
    pod: str
    text: bytes


def read_logs(
    cluster: Cluster,
    namespace: str,
    pods: Callable[[], list[str] | None],
    options: LogOptions,
    container: str = FUNCTION_CONTAINER,
) -> Iterator[LogRecord]:
    """Return an iterator over the records of all pods, oldest first, each with a field `pod`.

    `pods` returns the names of the current pods, or None once there will be no more. `tail` counts
    records of all pods together; they are read before this returns, which fixes the position in
    the log. Following includes new pods and ends when `pods` returns None.
    """
    current_pods = pods()
    if current_pods is None:
        return iter(())
    # The position in each pod's log at which following continues after the history.
    ends = dict.fromkeys(current_pods, int((options.since or 0) * 1e9))
    past = _read_history(cluster, namespace, ends, options, container)
    if not options.follow:
        return past
    followers = _LogFollowers(cluster, namespace, pods, ends, container)
    return _follow_after(past, followers, options.stop)


def _follow_after(
    past: Iterator[LogRecord], followers: _LogFollowers, stop: threading.Event
) -> Iterator[LogRecord]:
    """Yield the history, then what is followed. Closing the iterator ends the followers."""
    yield from past
    yield from followers.records(stop)


def read_previous_logs(
    cluster: Cluster,
    namespace: str,
    pods: list[str],
    options: LogOptions,
    container: str = FUNCTION_CONTAINER,
) -> Iterator[LogRecord]:
    """Yield the records that the pods' containers wrote before their last restart."""
    ends = dict.fromkeys(pods, 0)
    yield from _read_history(cluster, namespace, ends, options, container, previous=True)


def _read_history(  # noqa: PLR0913 (the place of the log, and the part of it)
    cluster: Cluster,
    namespace: str,
    ends: dict[str, int],
    options: LogOptions,
    container: str,
    *,
    previous: bool = False,
) -> Iterator[LogRecord]:
    """Return the current records of the pods in `ends`, oldest first, or the last `tail` of them.

    The last timestamp of each pod is stored in `ends`.
    """
    since, tail = options.since, options.tail
    # Even with a tail of 0, the last line determines the position in the log.
    limit = None if tail is None else max(tail, 1)
    sources = {
        pod: cluster.log_stream(
            namespace, pod, container=container, since=since, tail=limit, previous=previous
        )
        for pod in ends
    }
    lines = heapq.merge(*(_read_lines(source, pod, since, ends) for pod, source in sources.items()))
    return map(_to_record, lines if tail is None else deque(lines, maxlen=tail))


def _read_lines(
    source: streams.ApiStream, pod: str, since: float | None, ends: dict[str, int]
) -> Iterator[_LogLine]:
    """Yield the current lines of a pod's log, and store the last timestamp in `ends`."""
    for moment, text in streams.read_log(source):
        if since is None or moment / 1e9 >= since:
            ends[pod] = moment
            yield _LogLine(moment, pod, text)


def _to_record(line: _LogLine) -> LogRecord:
    record = parse_log_line(line.text, line.time_ns / 1e9)
    return replace(record, fields={**record.fields, "pod": line.pod})


@dataclass(slots=True)
class _LogFollowers:
    """Threads that follow the logs of pods, and a queue of their lines.

    `pods` returns the names of the current pods. `ends` is the last timestamp by pod.
    """

    cluster: Cluster
    namespace: str
    pods: Callable[[], list[str] | None]
    ends: dict[str, int]
    container: str
    _current_pods: set[str] = field(default_factory=set)
    _threads: dict[str, threading.Thread] = field(default_factory=dict)
    _replies: dict[str, Any] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _queue: queue.Queue[_LogLine | FnbuildError] = field(
        default_factory=lambda: queue.Queue(_QUEUE_SIZE)
    )
    _last_response: float = field(default_factory=time.monotonic)

    def records(self, stop: threading.Event) -> Iterator[LogRecord]:
        """Yield records as they arrive, sorted by time within each batch."""
        try:
            while not stop.is_set() and self._update_followers():
                yield from map(_to_record, self._collect(_POLL_SECONDS))
            yield from map(_to_record, self._collect(0))
        finally:
            self._stop()

    def _update_followers(self) -> bool:
        """Follow new pods. Return False if there will be no more pods."""
        try:
            current_pods = self.pods()
        except UnavailableError:
            if time.monotonic() - self._last_response > _MAX_OUTAGE_SECONDS:
                raise
            return True
        self._last_response = time.monotonic()
        if current_pods is None:
            return False
        self._current_pods = set(current_pods)
        self._threads = {pod: thread for pod, thread in self._threads.items() if thread.is_alive()}
        for pod in self._current_pods - self._threads.keys():
            thread = threading.Thread(target=self._follow, args=(pod,), daemon=True)
            self._threads[pod] = thread
            thread.start()
        return True

    def _collect(self, seconds: float) -> list[_LogLine]:
        """Return the lines that arrive within a time, sorted; the first line shortens the wait."""
        lines: list[_LogLine] = []
        end = time.monotonic() + seconds
        while True:
            try:
                entry = self._queue.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                return sorted(lines)
            if isinstance(entry, FnbuildError):
                raise entry
            if not lines:
                end = min(end, time.monotonic() + _GATHER_SECONDS)
            lines.append(entry)

    def _follow(self, pod: str) -> None:
        while pod in self._current_pods and not self._stopped.is_set():
            try:
                self._read(pod)
            except (NotFoundError, InputError, UnavailableError):
                pass  # not started yet, already gone, or the server is temporarily unavailable
            except FnbuildError as error:
                self._put(error)
                return
            self._stopped.wait(_POLL_SECONDS)

    def _read(self, pod: str) -> None:
        """Read the log of the pod's container until it terminates."""
        end = self.ends.get(pod, 0)
        source = self.cluster.log_stream(
            self.namespace, pod, container=self.container, since=end / 1e9 if end else None
        )
        with source.open(None, timestamps="true", follow="true") as reply:
            with self._lock:
                if self._stopped.is_set():
                    return
                self._replies[pod] = reply
            try:
                for moment, text in streams.timestamped_lines(reply):
                    if moment > self.ends.get(pod, 0):
                        self.ends[pod] = moment
                        self._put(_LogLine(moment, pod, text))
            finally:
                with self._lock:
                    del self._replies[pod]

    def _put(self, entry: _LogLine | FnbuildError) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(entry, timeout=_POLL_SECONDS)
                return

    def _stop(self) -> None:
        with self._lock:
            self._stopped.set()
            for reply in self._replies.values():
                with contextlib.suppress(OSError, ValueError, RuntimeError):  # already closed
                    reply.shutdown()
        for thread in self._threads.values():
            thread.join(_POLL_SECONDS)


def last_records(
    cluster: Cluster,
    namespace: str,
    pod: str,
    container: str,
    *,
    previous: bool = False,
) -> list[LogRecord]:
    """Return the last records of a container's log; none if it is missing or forbidden."""
    try:
        lines = cluster.logs(
            namespace, pod, container=container, tail=_LINES_READ, previous=previous
        )
        return [parse_log_line(line, moment) for moment, line in lines]
    except ForbiddenError:
        return []


def failure_output(cluster: Cluster, namespace: str, pod: str, container: str) -> str:
    """Return the last traceback, or else the last error lines, or else the last lines.

    If the current container has not failed yet, the output of the previous one is used.
    """
    current = last_records(cluster, namespace, pod, container)
    if errors := _error_text(current):
        return errors
    earlier = last_records(cluster, namespace, pod, container, previous=True)
    return _error_text(earlier) or _last_lines(current or earlier)


def _error_text(records: list[LogRecord]) -> str:
    """Return the last traceback, or else all errors: workers often fail in the same way."""
    errors = [record for record in records if record.level == "error"]
    traceback = next((record.message for record in reversed(errors) if "\n" in record.message), "")
    return traceback or _last_lines(errors)


def _last_lines(records: list[LogRecord]) -> str:
    return "\n".join(record.message for record in records[-_LINES_SHOWN:])
