"""Requests of the inference protocols as events.

The meta of such an event has a route as `pr`: the protocol `p` and the method `m`. The worker may
answer a request that has several instances with a request for each. These are events of their own,
whose routes have `part`, and as many of them as there are workers are in flight together. Their
results, or the first failure, are the response; a worker joins them (`join` in the route).
"""

import os
from functools import partial
from typing import Any, List, Optional

from .. import wire
from ..http.messages import BodySource, HttpRequest
from ..ids import new_id
from ..logs import LogRecord
from ..processor.pending_event import EventResult, PendingEvent
from ..processor.pool import WorkerPool
from ..processor.worker_handle import WorkerHandle
from ..protocols.answers import InferenceRoute
from ..streams import FileBody
from .pending_request import PendingRequest, RequestOwner

_NO_WORKER = "no worker became available for an instance of this request in time"
# Seconds that a complete response waits for a worker: its instances are handled already.
_JOIN_TIMEOUT = 60.0
# The lowest status of an error.
_ERROR_STATUS = 400


class PendingInference(PendingRequest):
    """A request of an inference protocol in flight."""

    __slots__ = ("_route", "protocol")

    def __init__(self, owner: RequestOwner, request: HttpRequest, route: InferenceRoute) -> None:
        PendingRequest.__init__(self, owner, request)
        self.protocol = route.protocol
        self._route = {"p": route.protocol, "m": route.method}

    def assign(self, worker: WorkerHandle) -> wire.Meta:
        meta = PendingRequest.assign(self, worker)
        meta["pr"] = self._route
        return meta

    def finish(self, result: EventResult) -> None:
        if result.parts is None:
            PendingRequest.finish(self, result)
        else:
            self._trigger.split(self, result)


class _InstanceEvent(PendingEvent):
    """The event of an instance. Its log records belong to the request."""

    __slots__ = ("_pieces", "_request", "index")

    def __init__(self, split: "SplitRequest", request: PendingRequest, index: int) -> None:
        PendingEvent.__init__(self, split.on_part, request.request_id, None)
        self.trace_id = request.trace_id
        self.index = index
        self._request = request
        self._pieces: List[bytes] = []

    def add_record(self, record: LogRecord) -> None:
        self._request.add_record(record)

    def write_piece(self, data: wire.Body) -> None:
        self._pieces.append(bytes(data))
        PendingEvent.write_piece(self, data)

    def body_of(self, result: EventResult) -> bytes:
        """Return the whole body of the event's result."""
        if self._pieces:
            return b"".join(self._pieces)
        body = result.body
        if isinstance(body, FileBody):
            data = os.pread(body.fd, len(body), 0)
            body.close()
            return data
        return bytes(body)


class _JoinEvent(PendingEvent):
    """The event that joins the parts of a response, whose result is that of the request."""

    __slots__ = ("_request",)

    def __init__(self, owner: RequestOwner, request: PendingRequest) -> None:
        PendingEvent.__init__(
            self, lambda _, result: owner.on_result(request, result), request.request_id, None
        )
        self.trace_id = request.trace_id
        self._request = request

    def begin_reply(self, result: EventResult, source: BodySource) -> None:
        self._request.begin_reply(result, source)

    def write_piece(self, data: wire.Body) -> None:
        self._request.write_piece(data)


class SplitRequest:
    """A request whose instances are handled as events of their own."""

    def __init__(
        self, owner: RequestOwner, pool: WorkerPool, request: PendingRequest, result: EventResult
    ) -> None:
        assert result.parts is not None
        self._part_route, self._join_route, sizes = result.parts
        self._owner = owner
        self._pool = pool
        self._request = request
        self._bodies: List[Optional[wire.Body]] = []
        body = result.body
        assert not isinstance(body, FileBody)
        view, start = memoryview(body), 0
        for size in sizes:
            self._bodies.append(view[start : start + size])
            start += size
        self._parts: List[bytes] = [b""] * len(sizes)
        self._next = 0
        self._missing = len(sizes)
        self._ended = False

    def start(self) -> None:
        """Send as many instances as there are workers; each result sends another one."""
        for _ in range(min(len(self._pool.workers), len(self._bodies))):
            self._request_worker()

    def _request_worker(self) -> None:
        index, self._next = self._next, self._next + 1
        self._with_worker(partial(self._dispatch, index))

    def _with_worker(self, callback: Any, timeout: float = 0.0) -> None:
        """Call back with a worker; with a timeout, before events that wait already."""
        worker = self._pool.acquire()
        if worker is not None:
            callback(worker, 0.0)
        else:
            limit = max(timeout, self._pool.trigger.availability_timeout)
            self._pool.wait_for_worker(limit, callback, first=timeout > 0)

    def _dispatch(self, index: int, worker: Optional[WorkerHandle], _waited: float) -> None:
        body, self._bodies[index] = self._bodies[index], None
        if self._ended or self._request.request.connection.closed:
            if worker is not None:
                self._pool.release(worker)
            self._end(None)
        elif worker is None:
            self._end(EventResult(503, error=_NO_WORKER))
        else:
            assert body is not None
            event = _InstanceEvent(self, self._request, index)
            worker.dispatch(self._meta(worker, self._part_route), body, event)

    def _meta(self, worker: WorkerHandle, route: wire.Meta) -> wire.Meta:
        meta = self._request.assign(worker)
        meta.update(i=new_id(), pr=route)
        return meta

    def on_part(self, event: Any, result: EventResult) -> None:
        """Keep the result of an instance, or end the request with its failure."""
        if self._ended:
            return
        result.body = part = event.body_of(result)
        if result.error is not None or result.status >= _ERROR_STATUS:
            self._end(result)
            return
        self._parts[event.index] = part
        self._missing -= 1
        if not self._missing:
            self._with_worker(self._join, _JOIN_TIMEOUT)
        elif self._next < len(self._bodies):
            self._request_worker()

    def _join(self, worker: Optional[WorkerHandle], _waited: float) -> None:
        if worker is None:
            self._end(EventResult(503, error=_NO_WORKER))
            return
        meta = self._meta(worker, self._join_route)
        meta["sizes"] = [len(part) for part in self._parts]
        event = _JoinEvent(self._owner, self._request)
        worker.dispatch(meta, b"".join(self._parts), event)

    def _end(self, result: Optional[EventResult]) -> None:
        """End the request with an error; None if its client has disconnected."""
        if self._ended:
            return
        self._ended = True
        self._bodies = [None] * len(self._bodies)
        self._owner.on_result(self._request, result or EventResult(503, error=_NO_WORKER))
