"""The http trigger: a request becomes an event, the worker's result becomes the reply.

Statuses and headers follow Nuclio's (pkg/processor/trigger/http/trigger.go). Every reply has a
`Server-Timing` header with the milliseconds of each stage. The backlog is limited: beyond
`maxBacklog` waiting requests, or `maxBacklogBytes` of their bodies, a request gets 503 at once.
"""

import json
from functools import partial
from time import monotonic
from typing import Any, Dict, List, Optional, Tuple, Union

from ..access.gate import GateOptions, GateOwner, create_gate
from ..config import DEFAULT_BACKLOG, ConfigFileError, attribute_number
from ..http.messages import (
    DEFERRED,
    Body,
    BodySource,
    ConnectionLimits,
    Deferred,
    HttpRequest,
    Reply,
    encode_header_lines,
)
from ..ids import INSTANCE_HEADER, instance_id
from ..processor.pending_event import EventResult
from ..processor.shared_memory import RequestMemory
from ..processor.tracing import create_tracer
from ..processor.worker_handle import WorkerHandle
from ..protocols import torchserve
from ..protocols.answers import DirectAnswer
from ..protocols.mapping import read_model
from ..protocols.routes import ProtocolRouter
from . import file_replies
from .base import Trigger, TriggerContext
from .cors import cors_policy
from .inference import PendingInference, SplitRequest
from .model_description import describe_model
from .pending_request import PendingRequest, RequestOwner

HEALTH_PATH = "/__internal/health"

# Bytes above which Nuclio omits the logs header.
_MAX_LOGS_HEADER = 4096
_RETRY_AFTER = ("Retry-After", "1")
# A request with this header does not wake sleeping workers.
_NO_WAKE = "x-fnbuild-no-wake"
_TIMING_LINES = (
    b"X-Request-Id: %s\r\n"
    b"Server-Timing: %squeue;dur=%.3f, handover;dur=%.3f, handler;dur=%.3f, reply;dur=%.3f\r\n"
)
_DEFAULT_BACKLOG_BYTES = 256 * 1024 * 1024


def app_without_trigger(request: HttpRequest) -> Reply:
    """Answer requests of a function without http trigger: only health checks, as in Nuclio."""
    if request.path.startswith(HEALTH_PATH):
        return Reply(200, [(INSTANCE_HEADER, instance_id())], b"ok")
    return Reply.json(404, {"error": "the function has no http trigger"})


class HttpTrigger(Trigger, RequestOwner, GateOwner):
    """The application of the http listeners.

    It serves whenever they accept, also before all workers have been ready and during a drain.
    """

    def __init__(self, context: TriggerContext) -> None:
        config, pool = context.config, context.pool
        attributes = config.attributes
        self._config = config
        self._pool = pool
        self._metrics = context.metrics
        self._refusal_log = context.refusal_log
        self._recorder = context.recorder
        name = str(pool.config.function.get("name", ""))
        self._tracer = create_tracer(name, pool.config.env, pool.log)
        self._timeout = config.availability_timeout
        self._workers = len(pool.workers)
        self._cors = cors_policy(attributes)
        self._backlog = attribute_number(attributes, "maxBacklog", DEFAULT_BACKLOG, "requests")
        self._backlog_bytes = attribute_number(
            attributes, "maxBacklogBytes", _DEFAULT_BACKLOG_BYTES
        )
        self._waiting_bytes = 0
        self._router = self._create_router()
        server = context.server
        server.app = self
        defaults = ConnectionLimits()
        server.limits = defaults._replace(
            max_body=attribute_number(attributes, "maxRequestBodySize", defaults.max_body),
            max_head=attribute_number(attributes, "readBufferSize", defaults.max_head),
        )
        if config.batch is None:
            server.allocate_body = RequestMemory(pool.loop).allocate_body
        processor = pool.config
        gate = GateOptions(
            name, attributes, processor.credentials, processor.allowed_hosts, processor.code
        )
        self._gate = create_gate(gate, self._cors, server, self)

    def is_health_check(self, request: HttpRequest) -> bool:
        return self._router is not None and self._router.is_health_check(request.path)

    def _create_router(self) -> Optional[ProtocolRouter]:
        """Return the router of the inference protocols, if there are any."""
        try:
            model = read_model(self._config.attributes, self._pool.config.function)
        except ValueError as problem:
            raise ConfigFileError("triggers.%s.%s" % (self._config.name, problem)) from None
        if model is None:
            return None
        return ProtocolRouter(
            model,
            self._is_ready,
            lambda: self._pool.declared_tensors,
            self._describe_model,
        )

    def _describe_model(self) -> Dict[str, Any]:
        waiting = self._waiting_requests()
        return describe_model(self._config, self._pool, waiting, self._backlog - waiting)

    def _is_ready(self) -> bool:
        return not self._pool.stopping and self._pool.state() == "ready"

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def __call__(self, request: HttpRequest) -> Union[Reply, Deferred]:
        answer: Union[Reply, Deferred, None]
        if self._cors is not None:
            answer = self._cors.check(request)
            if answer is not None:
                return answer
        if request.path.startswith(HEALTH_PATH):
            return Reply(200, [(INSTANCE_HEADER, instance_id())])
        if self._gate is not None:
            answer = self._gate.check(request)
            if answer is not None:
                return answer
        return self.serve(request)

    def serve(self, request: HttpRequest) -> Union[Reply, Deferred]:
        if self._router is not None and request.path.startswith(self._router.prefixes):
            return self._infer(request, self._router)
        return self._admit(PendingRequest(self, request))

    def _infer(self, request: HttpRequest, router: ProtocolRouter) -> Union[Reply, Deferred]:
        """Answer a request whose path is probably one of an inference protocol."""
        target = router.route(request.method, request.path)
        if target is None:
            return self._admit(PendingRequest(self, request))
        if isinstance(target, DirectAnswer):
            headers = [("Content-Type", "application/json")]
            headers += [("Allow", target.allowed)] if target.allowed else []
            reply = Reply(target.status, headers, target.encode(target.value))
            if self._cors is not None:
                reply.headers += self._cors.headers(request, reply.headers)
            return reply
        return self._admit(PendingInference(self, request, target))

    def _admit(self, pending: PendingRequest) -> Union[Reply, Deferred]:
        size = len(pending.request.body)
        worker = self._pool.acquire()
        if worker is None:
            refusal = self._admission_refusal(pending, size)
            if refusal is not None:
                return self._unavailable_reply(pending, refusal)
        if self._tracer is not None:
            pending.span = self._tracer.start(pending.request, pending)
        self._pool.last_request = pending.request.received_at
        if worker is None:
            self._metrics.worker_requested(0, self._workers, size)
            self._waiting_bytes += size
            self._pool.wait_for_worker(self._timeout, partial(self._on_worker, pending))
        else:
            self._metrics.worker_requested(self._pool.idle + 1, self._workers, size)
            self._metrics.worker_allocated(0)
            pending.dispatch_to(worker)
        return DEFERRED

    # Waiting for a worker.

    def _on_worker(
        self, pending: PendingRequest, worker: Optional[WorkerHandle], waited: float
    ) -> None:
        """Dispatch the request, or answer it if no worker became available."""
        self._waiting_bytes -= len(pending.request.body)
        if worker is None:
            self._metrics.wait_timed_out(waited)
            self._answer(pending, self._unavailable_reply(pending, self._timeout_reason()))
            return
        self._metrics.worker_allocated(waited)
        pending.add_wake(self._pool.woken_at)
        if pending.request.connection.closed:
            self._pool.release(worker)
            self._answer(pending, None)
        else:
            pending.dispatch_to(worker)

    def _admission_refusal(self, pending: PendingRequest, size: int) -> Optional[str]:
        """Return the reason why a request with `size` bytes of body may not wait, if any."""
        return self._refusal_reason() or self._no_wake_reason(pending) or self._backlog_reason(size)

    def _no_wake_reason(self, pending: PendingRequest) -> Optional[str]:
        if (self._pool.sleeping or self._pool.holding) and pending.request.header(
            _NO_WAKE
        ) is not None:
            return "the function is asleep, and this request does not wake it (X-Fnbuild-No-Wake)"
        return None

    def _refusal_reason(self) -> Optional[str]:
        """Return the reason why waiting for a worker is pointless, if any."""
        pool = self._pool
        if pool.stopping:
            return "the function is stopping"
        state = pool.state()
        if state == "unhealthy":
            failure = pool.failure()
            return "the function is unhealthy: %s" % (failure.reason if failure else "")
        return None

    def _backlog_reason(self, size: int) -> Optional[str]:
        """Return the reason why the backlog cannot take a body of `size` bytes, if any."""
        waiting = self._waiting_requests()
        if waiting >= self._backlog:
            reason = "%d requests are waiting for a worker already (maxBacklog)" % waiting
        elif waiting and self._waiting_bytes + size > self._backlog_bytes:
            reason = (
                "%d requests with %d bytes are waiting for a worker already, "
                "and this one has %d more; the limit is %d (maxBacklogBytes)"
                % (waiting, self._waiting_bytes, size, self._backlog_bytes)
            )
        else:
            return None
        self._metrics.refused()
        return reason

    def _waiting_requests(self) -> int:
        return self._pool.waiting

    def _timeout_reason(self) -> str:
        pool = self._pool
        failure = pool.failure()
        if pool.sleeping and failure is not None:
            return "the function did not wake: " + failure.text
        refusal = self._refusal_reason()
        if refusal is not None:
            return refusal
        if pool.was_ready or pool.serving:
            why = "all %d workers were busy for" % self._workers
        else:
            why = "the function is starting: no worker became ready within"
        milliseconds = round(self._timeout * 1000.0, 3)
        return "%s %g ms (workerAvailabilityTimeoutMilliseconds)" % (why, milliseconds)

    # Replies.

    def begin_reply(self, pending: PendingRequest, result: EventResult, source: BodySource) -> None:
        """Begin the reply of a worker that sends the body in pieces."""
        try:
            reply = self._handler_reply(pending, result)
            if file_replies.file_reply(result.headers) is not None:
                raise ValueError("it names a file and has a body of its own")
            pending.writer = pending.request.begin(reply, source, result.size)
        except (file_replies.FileReplyError, ValueError) as problem:
            source.cancel()
            reply = self._error_reply(pending, 500, "the reply cannot be sent: %s" % problem)
            pending.request.answer(reply)

    def split(self, pending: PendingRequest, result: EventResult) -> None:
        SplitRequest(self, self._pool, pending, result).start()

    def on_result(self, pending: Any, result: EventResult) -> None:
        """Answer the request with the result of its event."""
        now = self._pool.last_request = monotonic()
        seconds = now - pending.dispatched
        complete = result.error is None and not result.cut_short
        self._metrics.handled(pending.worker, seconds, result.status < 500 and complete)
        if pending.writer is not None:
            if pending.span is not None:
                pending.span.end(Reply(result.status if complete else 500), result)
            pending.writer.end(complete)
            return
        if result.error is not None:
            reply = self._error_reply(pending, result.status, result.error)
        else:
            try:
                reply = self._handler_reply(pending, result)
            except file_replies.FileReplyError as problem:
                self._pool.log.error(str(problem))
                reply = self._error_reply(pending, 404, str(problem))
            except ValueError as problem:
                reply = self._error_reply(pending, 500, "the reply cannot be sent: %s" % problem)
        self._answer(pending, reply, result)

    def _answer(
        self, pending: PendingRequest, reply: Optional[Reply], result: Optional[EventResult] = None
    ) -> None:
        if pending.span is not None:
            pending.span.end(reply, result)
        if self._recorder is not None and reply is not None and result is not None:
            self._recorder.add(pending.request, reply, result)
        pending.request.answer(reply)

    def _handler_reply(self, pending: PendingRequest, result: EventResult) -> Reply:
        times = pending.times_ms(result)
        self._metrics.add_stages(*times)
        file = file_replies.file_reply(result.headers)
        lines = encode_header_lines(result.headers if file is None else file.headers)
        if self._cors is not None:
            cors_headers = self._cors.headers(pending.request, result.headers)
            lines += encode_header_lines(cors_headers, server=False)
        if pending.level is not None:
            lines += encode_header_lines(self._logs_headers(pending), server=False)
        wake = b"wake;dur=%.3f, " % (pending.wake * 1000.0) if pending.wake else b""
        lines += _TIMING_LINES % (pending.request_id.encode("latin-1"), wake, *times)
        body = result.body if file is None else self._file_body(pending, file)
        return Reply(result.status, None, body, False, lines)

    def _file_body(self, pending: PendingRequest, file: file_replies.FileReply) -> Body:
        """Return the content of the file that the handler's reply names."""
        if pending.request.header(file_replies.PATH_HEADER) is not None:
            raise ValueError("the request itself names a file")
        pids = [worker.pid for worker in self._pool.workers if worker.name == pending.worker]
        return file_replies.read_file(file, pids[0] if pids else 0)

    def _logs_headers(self, pending: PendingRequest) -> List[Tuple[str, str]]:
        logs = json.dumps(pending.records, default=repr)
        if len(logs) < _MAX_LOGS_HEADER:
            return [("X-Nuclio-Logs", logs)]
        self._pool.log.warn(
            "The handler's logs are too large for the X-Nuclio-Logs header",
            size=len(logs),
            limit=_MAX_LOGS_HEADER,
        )
        return []

    def _unavailable_reply(self, pending: PendingRequest, reason: str) -> Reply:
        self._refusal_log.add(503, reason, pending.request_id)
        return self._error_reply(pending, 503, reason)

    def _error_reply(self, pending: PendingRequest, status: int, reason: str) -> Reply:
        """Return a reply of the processor with the reason as JSON."""
        headers: List[Tuple[str, str]] = [("X-Request-Id", pending.request_id)]
        if status == 503:
            headers.append(_RETRY_AFTER)
        headers.append(("Server-Timing", "queue;dur=%.3f" % pending.waited_ms()))
        if self._cors is not None:
            headers += self._cors.headers(pending.request, headers)
        if getattr(pending, "protocol", "") == torchserve.PROTOCOL:
            answer = torchserve.processor_error(status, reason)
            headers.append(("Content-Type", "application/json"))
            return Reply(answer.status, headers, answer.encode(answer.value))
        return Reply.json(status, {"error": reason, "request_id": pending.request_id}, headers)
