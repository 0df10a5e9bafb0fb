"""The http trigger: a request becomes an event, a worker's outcome becomes the reply.

Statuses and headers follow Nuclio's (pkg/processor/trigger/http/trigger.go). Every reply tells by
`Server-Timing` where its milliseconds went. What waits for a worker is bounded: beyond `maxBacklog`
requests, or `maxBacklogBytes` of their bodies, a request gets 503 at once.
"""

import json
from time import monotonic
from typing import Any, Dict, List, Optional, Tuple, Union

from ..config import attribute_number
from ..exchange import Outcome, ReplySource
from ..http.messages import LATER, Body, Later, Limits, Reply, Request, encode_lines
from ..ids import INSTANCE_HEADER, instance
from ..lifecycle import Worker
from ..pool import Pool
from ..refusals import Refusals
from ..tracing import Tracer
from ..trigger_metrics import OneTrigger
from . import files
from .call import Call
from .cors import cors_of

HEALTH = "/__internal/health"

# Nuclio drops the logs header whole when it would be larger, in bytes.
_LOGS_CAP = 4096
_RETRY = ("Retry-After", "1")
_OWN_LINES = (
    b"X-Request-Id: %s\r\n"
    b"Server-Timing: queue;dur=%.3f, handover;dur=%.3f, handler;dur=%.3f, reply;dur=%.3f\r\n"
)
# More than a function of any speed works off within the usual availability timeout of ten seconds
# is worth little to those who wait, and their bodies cost memory meanwhile.
_BACKLOG = 1024
_BACKLOG_BYTES = 256 * 1024 * 1024


def limits(attributes: Dict[str, Any]) -> Limits:
    """The trigger's own limits, in bytes: maxRequestBodySize and readBufferSize.

    ConfigFileError when one of them is no number.
    """
    usual = Limits()
    return Limits(
        max_body=attribute_number(attributes, "maxRequestBodySize", usual.max_body),
        max_head=attribute_number(attributes, "readBufferSize", usual.max_head),
    )


def without_trigger(request: Request) -> Reply:
    """The application where there is no http trigger: only health is there, as in Nuclio."""
    if request.path.startswith(HEALTH):
        return Reply(200, [(INSTANCE_HEADER, instance())], b"ok")
    return Reply.json(404, {"error": "the function has no http trigger"})


class HttpTrigger:
    """The application of the http listener. ConfigFileError when an attribute is wrong."""

    def __init__(
        self,
        pool: Pool,
        metrics: OneTrigger,
        refusals: Refusals,
        tracer: Optional[Tracer] = None,
    ) -> None:
        attributes = pool.trigger.attributes
        self._pool = pool
        self._metrics = metrics
        self._refusals = refusals
        self._tracer = tracer
        self._timeout = pool.trigger.availability_timeout
        self._workers = len(pool.workers)
        self._cors = cors_of(attributes)
        self._backlog = attribute_number(attributes, "maxBacklog", _BACKLOG, "requests")
        self._backlog_bytes = attribute_number(attributes, "maxBacklogBytes", _BACKLOG_BYTES)
        self._waiting_bytes = 0

    def __call__(self, request: Request) -> Union[Reply, Later]:
        if self._cors is not None:
            answer = self._cors.check(request)
            if answer is not None:
                return answer
        if request.path.startswith(HEALTH):
            return Reply(200, [(INSTANCE_HEADER, instance())])
        return self._admit(Call(self, request))

    def _admit(self, call: Call) -> Union[Reply, Later]:
        request = call.request
        worker = self._pool.take()
        if worker is None:
            refusal = self._refusal() or self._crowd(len(request.body))
            if refusal is not None:
                return self._unavailable(call, refusal)
        if self._tracer is not None:
            call.span = self._tracer.start(request, call)
        if worker is None:
            self._queue(call)
        else:
            self._metrics.asked(self._pool.idle + 1, self._workers, len(request.body))
            self._metrics.allocated(0)
            call.dispatch(worker)
        return LATER

    # Waiting for a worker.

    def _queue(self, call: Call) -> None:
        size = len(call.request.body)
        self._metrics.asked(0, self._workers, size)
        self._waiting_bytes += size
        self._pool.queue(self._timeout, call.given)

    def given(self, call: Call, worker: Optional[Worker], waited: float) -> None:
        """The wait for a worker is over, with or without one."""
        self._waiting_bytes -= len(call.request.body)
        if worker is None:
            self._metrics.timed_out(waited)
            self._end(call, self._unavailable(call, self._waited_in_vain()))
            return
        self._metrics.allocated(waited)
        if call.request.connection.closed:
            self._pool.release(worker)
            self._end(call, None)
        else:
            call.dispatch(worker)

    def _refusal(self) -> Optional[str]:
        """Why waiting for a worker would be in vain."""
        pool = self._pool
        if pool.stopping:
            return "the function is stopping"
        state = pool.state()
        if state == "unhealthy":
            trouble = pool.trouble()
            return "the function is unhealthy: %s" % (trouble.reason if trouble else "")
        return None

    def _crowd(self, size: int) -> Optional[str]:
        """Why one more, with a body of `size` bytes, is too many to wait."""
        waiting = self._waiting()
        if waiting >= self._backlog:
            reason = "%d requests wait for a worker already (maxBacklog)" % waiting
        elif waiting and self._waiting_bytes + size > self._backlog_bytes:
            reason = (
                "%d requests with %d bytes wait for a worker already, and this one has %d more; "
                "the limit is %d (maxBacklogBytes)"
                % (waiting, self._waiting_bytes, size, self._backlog_bytes)
            )
        else:
            return None
        self._metrics.turned_away()
        return reason

    def _waiting(self) -> int:
        return self._pool.waiting

    def _waited_in_vain(self) -> str:
        refusal = self._refusal()
        if refusal is not None:
            return refusal
        pool = self._pool
        if pool.was_ready or pool.serving:
            why = "all %d workers were busy for" % self._workers
        else:
            why = "the function is starting: no worker became ready within"
        milliseconds = round(self._timeout * 1000.0, 3)
        return "%s %g ms (workerAvailabilityTimeoutMilliseconds)" % (why, milliseconds)

    # Replies.

    def begin(self, call: Call, outcome: Outcome, source: ReplySource) -> None:
        """Begin the answer of a worker that sends the body in pieces."""
        try:
            reply = self._reply(call, outcome)
            if files.wanted(outcome.headers) is not None:
                raise ValueError("it names a file and has a body of its own")
            call.writer = call.request.begin(reply, source, outcome.size)
        except (files.FileError, ValueError) as problem:
            source.cancel()
            reply = self._failed(call, 500, "the reply cannot be sent: %s" % problem)
            call.request.answer(reply)

    def done(self, call: Any, outcome: Outcome) -> None:
        """A worker has answered, or has come to its end."""
        seconds = monotonic() - call.dispatched
        whole = outcome.error is None and not outcome.cut_short
        self._metrics.handled(call.worker, seconds, outcome.status < 500 and whole)
        if call.writer is not None:
            if call.span is not None:
                call.span.end(Reply(outcome.status if whole else 500), outcome)
            call.writer.end(whole)
            return
        if outcome.error is not None:
            reply = self._failed(call, outcome.status, outcome.error)
        else:
            try:
                reply = self._reply(call, outcome)
            except files.FileError as problem:
                self._pool.log.error(str(problem))
                reply = self._failed(call, 404, str(problem))
            except ValueError as problem:
                reply = self._failed(call, 500, "the reply cannot be sent: %s" % problem)
        self._end(call, reply, outcome)

    def _end(self, call: Call, reply: Optional[Reply], outcome: Optional[Outcome] = None) -> None:
        if call.span is not None:
            call.span.end(reply, outcome)
        call.request.answer(reply)

    def _reply(self, call: Call, outcome: Outcome) -> Reply:
        times = call.times(outcome)
        self._metrics.spent(*times)
        shared = outcome.shared
        lines: Optional[bytes] = None if shared is None else shared.get("lines")
        if shared is None or lines is None:
            file = files.wanted(outcome.headers)
            lines = encode_lines(outcome.headers if file is None else file.headers)
            if shared is not None:
                shared["lines"], shared["file"] = lines, file
        else:
            file = shared["file"]
        if self._cors is not None:
            more = self._cors.headers(call.request, outcome.headers)
            lines += encode_lines(more, server=False)
        if call.level is not None:
            lines += encode_lines(self._logs(call), server=False)
        lines += _OWN_LINES % (call.request_id.encode("latin-1"), *times)
        body = outcome.body if file is None else self._file(call, file)
        return Reply(outcome.status, None, body, False, lines)

    def _file(self, call: Call, file: files.Wanted) -> Body:
        """The content of the file that the handler's reply names."""
        if call.request.header(files.PATH) is not None:
            raise ValueError("the request itself names a file")
        pids = [worker.pid for worker in self._pool.workers if worker.name == call.worker]
        return files.content(file, pids[0] if pids else 0)

    def _logs(self, call: Call) -> List[Tuple[str, str]]:
        logs = json.dumps(call.records, default=repr)
        if len(logs) < _LOGS_CAP:
            return [("X-Nuclio-Logs", logs)]
        self._pool.log.warn(
            "The handler's logs are too large for the X-Nuclio-Logs header",
            size=len(logs),
            limit=_LOGS_CAP,
        )
        return []

    def _unavailable(self, call: Call, reason: str) -> Reply:
        self._refusals.note(503, reason, call.request_id)
        return self._failed(call, 503, reason)

    def _failed(self, call: Call, status: int, reason: str) -> Reply:
        """A reply of the processor's own: the reason as JSON."""
        headers: List[Tuple[str, str]] = [("X-Request-Id", call.request_id)]
        if status == 503:
            headers.append(_RETRY)
        headers.append(("Server-Timing", "queue;dur=%.3f" % call.waited()))
        if self._cors is not None:
            headers += self._cors.headers(call.request, headers)
        return Reply.json(status, {"error": reason, "request_id": call.request_id}, headers)
