"""The http trigger with `batch`: requests that come close together are handled by one call.

A batch goes to a worker when it is full, or when its first request has waited for the batch's
timeout. Each request gets its own reply, by the event's id (pkg/processor/trigger/batcher.go).
"""

import asyncio
import time
from typing import Any, List, Optional, Union

from .. import wire
from ..event_loop import FileBody
from ..http.messages import DEFERRED, Deferred, Reply
from ..ids import new_id
from ..logs import LEVELS, LogRecord
from ..processor.pending_event import EventResult, PendingEvent
from ..processor.worker_handle import WorkerHandle
from .http import HttpTrigger, PendingRequest


class PendingBatch(PendingEvent):
    """Several calls on their way together. Its records go to every call that asked for them."""

    __slots__ = ("calls",)

    def __init__(self, trigger: "BatchTrigger", calls: List[PendingRequest]) -> None:
        one = calls[0].request_id if len(calls) == 1 else new_id()
        PendingEvent.__init__(self, trigger.batch_done, one, None)
        self.calls = calls

    def keep(self, record: LogRecord) -> None:
        for call in self.calls:
            call.keep(record)

    def give_to(self, worker: WorkerHandle) -> None:
        """Send it to the worker as one message."""
        metas = b",".join([call.assign(worker) for call in self.calls])
        now = int(time.time())
        marks = wire.encode([(call.event_id, now) for call in self.calls])
        bodies = [bytes(call.request.body) for call in self.calls]
        sizes = ",".join(str(len(body)) for body in bodies).encode("ascii")
        wanted = [LEVELS[call.level] for call in self.calls if call.level is not None]
        level = b',"l":%d' % min(wanted) if wanted else b""
        meta = b'{"batch":[%s],"sizes":[%s],"marks":%s%s}' % (metas, sizes, marks, level)
        worker.dispatch(wire.encode_event(meta, new_id(), now), b"".join(bodies), self)


class BatchTrigger(HttpTrigger):
    """See the module."""

    def __init__(self, *given: Any) -> None:
        HttpTrigger.__init__(self, *given)
        batch = self._pool.trigger.batch
        assert batch is not None
        self._size, self._patience = batch
        self._gathered: List[PendingRequest] = []
        self._timer: Optional[asyncio.TimerHandle] = None
        self._held = 0

    def _admit(self, call: PendingRequest) -> Union[Reply, Deferred]:
        size = len(call.request.body)
        refusal = self._refusal() or self._crowd(size)
        if refusal is not None:
            return self._unavailable(call, refusal)
        if self._tracer is not None:
            call.span = self._tracer.start(call.request, call)
        self._metrics.asked(self._pool.idle, self._workers, size)
        self._waiting_bytes += size
        self._held += 1
        self._gathered.append(call)
        if len(self._gathered) >= self._size:
            self._go()
        elif self._timer is None:
            self._timer = self._pool.loop.call_later(self._patience, self._go)
        return DEFERRED

    def _waiting(self) -> int:
        return self._held

    def _go(self) -> None:
        """The batch is complete: it needs a worker."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        calls, self._gathered = self._gathered, []
        worker = self._pool.take()
        if worker is not None:
            self._give(calls, worker, 0.0)
        else:
            self._pool.queue(self._timeout, lambda found, waited: self._give(calls, found, waited))

    def _give(
        self, calls: List[PendingRequest], worker: Optional[WorkerHandle], waited: float
    ) -> None:
        alive = []
        for call in calls:
            self._held -= 1
            self._waiting_bytes -= len(call.request.body)
            if worker is None:
                self._metrics.timed_out(waited)
                self._end(call, self._unavailable(call, self._waited_in_vain()))
            elif call.request.connection.closed:
                self._end(call, None)
            else:
                self._metrics.allocated(waited)
                alive.append(call)
        if worker is None:
            return
        if alive:
            PendingBatch(self, alive).give_to(worker)
        else:
            self._pool.release(worker)

    def batch_done(self, batch: Any, outcome: EventResult) -> None:
        """A worker has answered, or has come to its end: so much for each request."""
        if outcome.parts is None:
            for call in batch.calls:
                call.finish(outcome)
            return
        start = 0
        body = outcome.body
        assert not isinstance(body, FileBody)
        for call, part in zip(batch.calls, outcome.parts):  # noqa: B905 - no strict in 3.6
            status, headers, size = part
            one = EventResult(status, headers, body[start : start + size])
            one.raised, one.begun, one.duration = outcome.raised, outcome.begun, outcome.duration
            start += size
            call.finish(one)
