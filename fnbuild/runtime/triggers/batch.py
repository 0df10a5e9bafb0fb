"""The http trigger with `batch`: one call of the handler for several requests.

In the mode `enable`, requests are collected until there are enough for a batch, or until the first
one has waited for the batch's timeout. In the mode `adaptive`, they are due at once, and batches
have the size that `adaptive_size` determines. Requests that are due get workers in the order in
which they came. Each request gets its own reply by the event's id
(pkg/processor/trigger/batcher.go).
"""

import asyncio
from collections import deque
from time import monotonic
from typing import Any, Deque, Dict, List, NamedTuple, Optional, Union

from .. import wire
from ..http.messages import DEFERRED, Deferred, Reply
from ..ids import new_id
from ..logs import LogRecord
from ..processor.pending_event import EventResult, PendingEvent
from ..processor.worker_handle import WorkerHandle
from ..streams import FileBody
from .adaptive_size import AdaptiveSize
from .base import TriggerContext
from .http import HttpTrigger
from .pending_request import PendingRequest

# The lowest status of an error. A call with nothing else says nothing about the time of others.
_ERROR_STATUS = 400


class PendingBatch(PendingEvent):
    """Several requests in flight together. Records go to each request that asked for them."""

    __slots__ = ("dispatched", "pending_requests")

    def __init__(self, trigger: "BatchTrigger", pending_requests: List[PendingRequest]) -> None:
        request_id = pending_requests[0].request_id if len(pending_requests) == 1 else new_id()
        PendingEvent.__init__(self, trigger.on_batch_result, request_id, None)
        self.pending_requests = pending_requests
        self.dispatched = monotonic()

    def add_record(self, record: LogRecord) -> None:
        for pending in self.pending_requests:
            pending.add_record(record)

    def dispatch_to(self, worker: WorkerHandle) -> None:
        """Send the batch to the worker as one message."""
        metas = [pending.assign(worker) for pending in self.pending_requests]
        bodies = [pending.request.body for pending in self.pending_requests]
        meta: wire.Meta = {"batch": metas, "sizes": [len(body) for body in bodies]}
        levels = [part["l"] for part in metas if "l" in part]
        if levels:
            meta["l"] = min(levels)
        worker.dispatch(meta, b"".join(bodies), self)


class DueRequest(NamedTuple):
    """A request that waits for a worker, and the time since when (`time.monotonic`)."""

    pending: PendingRequest
    since: float


class BatchTrigger(HttpTrigger):
    """An http trigger whose requests are handled in batches.

    A request whose client has left before the call is not part of it. As a client that leaves ends
    at least its own sending side, that alone is taken for leaving.
    """

    def __init__(self, context: TriggerContext) -> None:
        super().__init__(context)
        assert self._config.batch is not None
        self._size, self._batch_timeout, is_adaptive = self._config.batch
        self._adaptive: Optional[AdaptiveSize] = None
        if is_adaptive:
            self._adaptive = AdaptiveSize(self._size, self._batch_timeout)
        self._collected: List[PendingRequest] = []
        self._due: Deque[DueRequest] = deque()
        self._timer: Optional[asyncio.TimerHandle] = None
        self._waits_for_worker = False
        self._in_flight = 0
        self._batch_metrics = context.metrics.batches()
        context.server.half_closed_is_gone = True

    def _admit(self, pending: PendingRequest) -> Union[Reply, Deferred]:
        size = len(pending.request.body)
        if self._is_backlog_full(size):
            self._drop_disconnected()
        refusal = self._admission_refusal(pending, size)
        if refusal is not None:
            return self._unavailable_reply(pending, refusal)
        if self._tracer is not None:
            pending.span = self._tracer.start(pending.request, pending)
        self._metrics.worker_requested(self._pool.idle, self._workers, size)
        self._waiting_bytes += size
        self._pool.last_request = pending.request.received_at
        self._pool.demand()
        if self._adaptive is None:
            self._collect(pending)
        else:
            now = monotonic()
            self._due.append(DueRequest(pending, now))
            self._adaptive.arrived(len(self._due) + self._in_flight, now)
            self._advance()
        return DEFERRED

    def _is_backlog_full(self, size: int) -> bool:
        waiting_bytes = self._waiting_bytes + size
        return self._waiting_requests() >= self._backlog or waiting_bytes > self._backlog_bytes

    def _waiting_requests(self) -> int:
        return len(self._collected) + len(self._due)

    def waiting_outside_pool(self) -> int:
        return self._waiting_requests() - self._waits_for_worker

    # The mode `enable`.

    def _collect(self, pending: PendingRequest) -> None:
        self._collected.append(pending)
        if len(self._collected) >= self._size:
            self._drop_disconnected()
        if len(self._collected) >= self._size:
            self._end_collection()
        elif self._timer is None:
            self._timer = self._pool.loop.call_later(self._batch_timeout, self._end_collection)

    def _end_collection(self) -> None:
        """Make the collected requests due."""
        self._cancel_timer()
        now = monotonic()
        self._due.extend([DueRequest(pending, now) for pending in self._collected])
        self._collected = []
        self._advance()

    # Requests that are due.

    def _advance(self, has_waited: bool = False) -> None:
        """Dispatch batches to idle workers, as long as there are both and no batch should wait.

        `has_waited` is True if the requests waited because no worker was idle.
        """
        while self._due:
            worker = self._pool.acquire()
            if worker is None:
                self._request_worker()
                return
            if self._waits_for_callers():
                self._pool.release(worker)
                return
            self._dispatch(worker, has_waited)

    def _request_worker(self) -> None:
        if not self._waits_for_worker:
            self._waits_for_worker = True
            left = self._deadline(self._due[0]) - monotonic()
            # The wait for a sleeping pool is limited from the end of its wake on.
            asleep = self._pool.sleeping or self._pool.holding
            left = self._timeout if asleep else left
            self._pool.wait_for_worker(left, self._on_available)

    def _deadline(self, request: DueRequest) -> float:
        """Return the time until which a worker must become available."""
        deadline: float = max(request.since, self._pool.woken_at) + self._timeout
        return deadline

    def _on_available(self, worker: Optional[WorkerHandle], _waited: float) -> None:
        self._waits_for_worker = False
        if worker is None:
            self._refuse_overdue()
            self._advance()
        elif self._adaptive is None or len(self._due) >= self._limit():
            self._dispatch(worker, has_waited=True)
            self._advance(has_waited=True)
        else:
            # The worker's last event is not answered yet: after that its callers may return.
            self._pool.release(worker)
            self._pool.loop.call_soon(self._advance, True)

    def _refuse_overdue(self) -> None:
        """Answer the requests for which no worker became available in time."""
        is_pointless = self._refusal_reason() is not None
        now = monotonic()
        reason = self._timeout_reason()
        while self._due:
            pending, since = self._due.popleft()
            self._waiting_bytes -= len(pending.request.body)
            self._metrics.wait_timed_out(now - since)
            self._answer(pending, self._unavailable_reply(pending, reason))
            if not is_pointless and self._due and self._deadline(self._due[0]) > now:
                return

    def _waits_for_callers(self) -> bool:
        """Return True if the batch is incomplete and should wait; set a timer for its end."""
        if self._adaptive is None or len(self._due) >= self._limit():
            return False
        now = monotonic()
        in_hand = len(self._due) + self._in_flight
        until = self._adaptive.wait_until(in_hand, self._due[0].since, now)
        if until <= now:
            return False
        if self._timer is None:
            self._timer = self._pool.loop.call_later(until - now, self._end_wait)
        return True

    def _end_wait(self) -> None:
        self._timer = None
        self._advance()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _limit(self) -> int:
        """Return the largest size of the next batch."""
        if self._adaptive is None:
            return self._size
        serving = [worker for worker in self._pool.workers if worker.state in ("ready", "busy")]
        return self._adaptive.limit(len(serving))

    def _dispatch(self, worker: WorkerHandle, has_waited: bool) -> None:
        """Send the worker a batch of the oldest requests whose clients are connected."""
        limit = self._limit()
        now = monotonic()
        batch: List[PendingRequest] = []
        while self._due and len(batch) < limit:
            pending, since = self._due.popleft()
            self._waiting_bytes -= len(pending.request.body)
            if self._is_connected(pending):
                self._metrics.worker_allocated(now - since if has_waited else 0.0)
                pending.add_wake(self._pool.woken_at)
                batch.append(pending)
        if not batch:
            self._pool.release(worker)
            return
        self._in_flight += len(batch)
        if self._adaptive is not None:
            self._adaptive.called(len(batch), limit, self._in_flight + len(self._due))
        self._batch_metrics.called(len(batch), is_full=len(batch) == limit)
        PendingBatch(self, batch).dispatch_to(worker)

    def _is_connected(self, pending: PendingRequest) -> bool:
        """Return False if the client has left, and end its request."""
        if not pending.request.connection.closed:
            return True
        self._batch_metrics.dropped()
        self._answer(pending, None)
        return False

    def _drop_disconnected(self) -> None:
        """Drop the waiting requests whose clients have left."""
        self._collected = [pending for pending in self._collected if self._is_connected(pending)]
        self._due = deque(request for request in self._due if self._is_connected(request.pending))
        waiting = [*self._collected, *(request.pending for request in self._due)]
        self._waiting_bytes = sum(len(pending.request.body) for pending in waiting)

    # Results.

    def on_batch_result(self, batch: Any, result: EventResult) -> None:
        """Answer each request with its part of the result."""
        self._in_flight -= len(batch.pending_requests)
        if self._adaptive is not None:
            now = monotonic()
            seconds = now - batch.dispatched if _is_successful(result) else None
            self._adaptive.answered(len(batch.pending_requests), seconds, now)
        if result.parts is None:
            for pending in batch.pending_requests:
                pending.finish(result)
            return
        start = 0
        body = result.body
        assert not isinstance(body, FileBody)
        for pending, part in zip(batch.pending_requests, result.parts):  # noqa: B905
            status, headers, size = part
            part_result = EventResult(status, headers, body[start : start + size])
            part_result.raised = result.raised
            part_result.started, part_result.duration = result.started, result.duration
            start += size
            pending.finish(part_result)

    def to_dict(self) -> Dict[str, Any]:
        """Return the entry in the status; `limit` is the largest size of the next batch."""
        return {
            "name": self._config.name,
            "kind": "http",
            "mode": "enable" if self._adaptive is None else "adaptive",
            "size": self._size,
            "limit": self._limit(),
            "waiting": self._waiting_requests(),
            **self._batch_metrics.to_dict(),
        }


def _is_successful(result: EventResult) -> bool:
    statuses = [part[0] for part in result.parts or ()]
    return bool(statuses) and not result.raised and min(statuses) < _ERROR_STATUS


def create_http_trigger(context: TriggerContext) -> HttpTrigger:
    """Return an http trigger, with batches if they are configured."""
    return HttpTrigger(context) if context.config.batch is None else BatchTrigger(context)
