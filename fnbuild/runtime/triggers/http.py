"""The http trigger: a request becomes an event, a worker's outcome becomes the reply.

Statuses and headers follow Nuclio's (pkg/processor/trigger/http/trigger.go).
"""

import json
import os
import time
from typing import Any, Dict, List, Optional, Tuple, Union

from ..config import ConfigFileError
from ..exchange import Exchange, Outcome
from ..http.messages import LATER, Later, Limits, Reply, Request
from ..lifecycle import Worker
from ..logs import LEVELS
from ..metrics import OneTrigger
from ..pool import Pool
from ..refusals import Refusals

HEALTH = "/__internal/health"

# Nuclio drops the logs header whole when it would be larger, in bytes.
_LOGS_CAP = 4096
_REQUEST_ID_CAP = 128
_RETRY = ("Retry-After", "1")


def limits(attributes: Dict[str, Any]) -> Limits:
    """The trigger's own limits, in bytes: maxRequestBodySize and readBufferSize.

    ConfigFileError when one of them is no number.
    """
    usual = Limits()
    return Limits(
        max_body=_size(attributes, "maxRequestBodySize", usual.max_body),
        max_head=_size(attributes, "readBufferSize", usual.max_head),
    )


def _size(attributes: Dict[str, Any], key: str, usual: int) -> int:
    value = attributes.get(key) or usual
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ConfigFileError("attributes.%s: %r is no number of bytes" % (key, value)) from None


class HttpTrigger:
    """The application of the http listener."""

    def __init__(self, pool: Pool, metrics: OneTrigger, refusals: Refusals) -> None:
        self._pool = pool
        self._metrics = metrics
        self._refusals = refusals
        self._timeout = pool.trigger.availability_timeout

    def __call__(self, request: Request) -> Union[Reply, Later]:
        if request.path.startswith(HEALTH):
            return Reply(200)
        pool = self._pool
        worker = pool.take()
        if worker is None:
            refusal = self._refusal()
            if refusal is not None:
                return self._unavailable(request, refusal)
        self._metrics.asked(pool.available, len(pool.workers))
        if worker is None:
            pool.queue(self._timeout, lambda one, waited: self._given(request, one, waited))
        else:
            self._metrics.allocated(0)
            self._dispatch(worker, request)
        return LATER

    def _unavailable(self, request: Request, reason: str) -> Reply:
        request_id = request_id_of(request)
        self._refusals.note(503, reason, request_id)
        return refused(503, reason, request_id)

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

    def _waited_in_vain(self) -> str:
        refusal = self._refusal()
        if refusal is not None:
            return refusal
        pool = self._pool
        if pool.was_ready or pool.serving:
            why = "all %d workers were busy for" % len(pool.workers)
        else:
            why = "the function is starting: no worker became ready within"
        milliseconds = round(self._timeout * 1000.0, 3)
        return "%s %g ms (workerAvailabilityTimeoutMilliseconds)" % (why, milliseconds)

    def _given(self, request: Request, worker: Optional[Worker], waited: float) -> None:
        if worker is None:
            self._metrics.timed_out(waited)
            request.answer(self._unavailable(request, self._waited_in_vain()))
            return
        self._metrics.allocated(waited)
        if request.connection.closed:
            self._pool.release(worker)
            request.answer(None)
            return
        self._dispatch(worker, request)

    def _dispatch(self, worker: Worker, request: Request) -> None:
        level = request.header("x-nuclio-log-level")
        if level is not None and level not in LEVELS:
            level = "debug"
        name = worker.name

        def done(exchange: Exchange, outcome: Outcome) -> None:
            seconds = time.monotonic() - exchange.began
            self._metrics.handled(name, seconds, outcome.status < 500)
            request.answer(self._reply(exchange, outcome))

        exchange = Exchange(done, request_id_of(request), level)
        meta = event_of(request)
        if level is not None:
            meta["l"] = LEVELS[level]
        worker.dispatch(meta, request.body, exchange)

    def _reply(self, exchange: Exchange, outcome: Outcome) -> Reply:
        if outcome.error is not None:
            return refused(outcome.status, outcome.error, exchange.request_id)
        headers = outcome.headers
        headers.append(("X-Request-Id", exchange.request_id))
        if exchange.level is not None:
            logs = json.dumps(exchange.records, default=repr)
            if len(logs) < _LOGS_CAP:
                headers.append(("X-Nuclio-Logs", logs))
            else:
                self._pool.log.warn(
                    "The handler's logs are too large for the X-Nuclio-Logs header",
                    size=len(logs),
                    limit=_LOGS_CAP,
                )
        return Reply(outcome.status, headers, outcome.body)


def refused(status: int, reason: str, request_id: str) -> Reply:
    """A reply of the processor's own: the reason as JSON."""
    headers: List[Tuple[str, str]] = [("X-Request-Id", request_id)]
    if status == 503:
        headers.append(_RETRY)
    return Reply.json(status, {"error": reason, "request_id": request_id}, headers)


def event_of(request: Request) -> Dict[str, Any]:
    """What a worker needs to make the event, besides the body; read by `events`."""
    return {
        "id": new_id(),
        "m": request.method,
        "p": request.path,
        "q": request.query,
        "u": request.target,
        "h": request.head.fields,
        "ct": request.header("content-type") or "",
        "t": int(time.time()),
    }


def request_id_of(request: Request) -> str:
    """The client's X-Request-Id, or a new one."""
    given = request.header("x-request-id")
    if given and len(given) <= _REQUEST_ID_CAP and given.isprintable():
        return given
    return new_id()


def new_id() -> str:
    """A random UUID (version 4); the uuid module starts other programs when 3.6 imports it."""
    number = bytearray(os.urandom(16))
    number[6] = number[6] & 0x0F | 0x40
    number[8] = number[8] & 0x3F | 0x80
    text = number.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
