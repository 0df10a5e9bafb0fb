"""The http trigger with `batch`: one call of the handler for several requests.

A batch goes to a worker when it is full, or when its first request has waited for the batch's
timeout. Each request gets its own reply by the event's id (pkg/processor/trigger/batcher.go).
"""

import asyncio
from typing import Any, List, Optional, Union

from .. import wire
from ..http.messages import DEFERRED, Deferred, Reply
from ..ids import new_id
from ..logs import LogRecord
from ..processor.pending_event import EventResult, PendingEvent
from ..processor.worker_handle import WorkerHandle
from ..streams import FileBody
from .base import TriggerContext
from .http import HttpTrigger
from .pending_request import PendingRequest


class PendingBatch(PendingEvent):
    """Several requests in flight together. Records go to each request that asked for them."""

    __slots__ = ("pending_requests",)

    def __init__(self, trigger: "BatchTrigger", pending_requests: List[PendingRequest]) -> None:
        request_id = pending_requests[0].request_id if len(pending_requests) == 1 else new_id()
        PendingEvent.__init__(self, trigger.on_batch_result, request_id, None)
        self.pending_requests = pending_requests

    def add_record(self, record: LogRecord) -> None:
        for pending in self.pending_requests:
            pending.add_record(record)

    def dispatch_to(self, worker: WorkerHandle) -> None:
        """Send the batch to the worker as one message."""
        metas = [pending.assign(worker) for pending in self.pending_requests]
        bodies = [bytes(pending.request.body) for pending in self.pending_requests]
        meta: wire.Meta = {"batch": metas, "sizes": [len(body) for body in bodies]}
        levels = [part["l"] for part in metas if "l" in part]
        if levels:
            meta["l"] = min(levels)
        worker.dispatch(meta, b"".join(bodies), self)


class BatchTrigger(HttpTrigger):
    """An http trigger that collects requests until a batch is complete."""

    def __init__(self, context: TriggerContext) -> None:
        super().__init__(context)
        assert self._config.batch is not None
        self._size, self._batch_timeout = self._config.batch
        self._batch: List[PendingRequest] = []
        self._timer: Optional[asyncio.TimerHandle] = None
        self._waiting_count = 0

    def _admit(self, pending: PendingRequest) -> Union[Reply, Deferred]:
        size = len(pending.request.body)
        refusal = self._refusal_reason() or self._backlog_reason(size)
        if refusal is not None:
            return self._unavailable_reply(pending, refusal)
        if self._tracer is not None:
            pending.span = self._tracer.start(pending.request, pending)
        self._metrics.worker_requested(self._pool.idle, self._workers, size)
        self._waiting_bytes += size
        self._waiting_count += 1
        self._batch.append(pending)
        if len(self._batch) >= self._size:
            self._request_worker()
        elif self._timer is None:
            self._timer = self._pool.loop.call_later(self._batch_timeout, self._request_worker)
        return DEFERRED

    def _waiting_requests(self) -> int:
        return self._waiting_count

    def _request_worker(self) -> None:
        """Get a worker for the batch."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        pending_requests, self._batch = self._batch, []
        worker = self._pool.acquire()
        if worker is not None:
            self._dispatch(pending_requests, worker, 0.0)
        else:
            self._pool.wait_for_worker(
                self._timeout,
                lambda worker, waited: self._dispatch(pending_requests, worker, waited),
            )

    def _dispatch(
        self, pending_requests: List[PendingRequest], worker: Optional[WorkerHandle], waited: float
    ) -> None:
        connected = []
        for pending in pending_requests:
            self._waiting_count -= 1
            self._waiting_bytes -= len(pending.request.body)
            if worker is None:
                self._metrics.wait_timed_out(waited)
                self._answer(pending, self._unavailable_reply(pending, self._timeout_reason()))
            elif pending.request.connection.closed:
                self._answer(pending, None)
            else:
                self._metrics.worker_allocated(waited)
                connected.append(pending)
        if worker is None:
            return
        if connected:
            PendingBatch(self, connected).dispatch_to(worker)
        else:
            self._pool.release(worker)

    def on_batch_result(self, batch: Any, result: EventResult) -> None:
        """Answer each request with its part of the result."""
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


def create_http_trigger(context: TriggerContext) -> HttpTrigger:
    """Return an http trigger, with batches if they are configured."""
    return HttpTrigger(context) if context.config.batch is None else BatchTrigger(context)
