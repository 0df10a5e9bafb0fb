"""The processor's admin API.

The admin listener serves GET /live, /ready, /metrics and /status; the control socket also accepts
POST /drain, /reload, /sleep, /stop and /wake. In a container, which has no control socket, the
admin listener accepts /sleep and /wake from clients in the container.
"""

import abc
import json
import os
from typing import Any, Awaitable, Callable, Dict, Tuple, Union

from ..http.messages import HttpRequest, Reply
from . import metrics
from .sleep import SleepController

ReplyOrAwaitable = Union[Reply, Awaitable[Reply]]
_LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")
# Seconds for which POST /sleep waits for the requests in hand.
_SLEEP_WAIT = 5.0
# The method and the handler of a path.
Route = Tuple[str, Callable[[HttpRequest], ReplyOrAwaitable]]


class ProcessorControl(abc.ABC):
    """The operations of a processor that the admin API exposes."""

    sleep: SleepController

    @abc.abstractmethod
    def status(self) -> Dict[str, Any]:
        """Return the body of GET /status."""

    @abc.abstractmethod
    def metrics_text(self) -> str:
        """Return all metrics in the text format of Prometheus."""

    @abc.abstractmethod
    async def reload(self, restart: bool) -> Dict[str, str]:
        """Load new code into every worker; return `ok` or the error by worker."""

    @abc.abstractmethod
    def drain(self) -> None:
        """Stop accepting; end once no connection is open."""

    @abc.abstractmethod
    def stop(self) -> None:
        """End after the requests in flight."""


class AdminApi:
    """The application of the admin listener and, with `control`, of the control socket.

    With `local_control`, clients at a loopback address may put the workers to sleep, and wake them.
    """

    def __init__(
        self, processor: ProcessorControl, control: bool, local_control: bool = False
    ) -> None:
        self._processor = processor
        self._local_control = local_control and not control
        self._routes: Dict[str, Route] = {
            "/live": ("GET", self._live),
            "/ready": ("GET", self._ready),
            "/metrics": ("GET", self._metrics),
            "/status": ("GET", self._status),
        }
        if control:
            self._routes.update(
                {
                    "/drain": ("POST", self._drain),
                    "/reload": ("POST", self._reload),
                    "/stop": ("POST", self._stop),
                }
            )
        if control or local_control:
            self._routes.update({"/sleep": ("POST", self._sleep), "/wake": ("POST", self._wake)})

    def __call__(self, request: HttpRequest) -> ReplyOrAwaitable:
        route = self._routes.get(request.path.rstrip("/") or "/")
        if route is None:
            paths = ", ".join(sorted(self._routes))
            return Reply.json(404, {"error": "%s is not one of %s" % (request.path, paths)})
        method, handler = route
        if self._local_control and method == "POST" and not _is_local(request):
            return Reply.json(403, {"error": "%s needs a client in the container" % request.path})
        if request.method != method and not (method == "GET" and request.method == "HEAD"):
            text = "%s accepts only %s" % (request.path, method)
            return Reply.json(405, {"error": text}, [("Allow", method)])
        return handler(request)

    def _live(self, _request: HttpRequest) -> Reply:
        return Reply.json(200, {})

    def _ready(self, _request: HttpRequest) -> Reply:
        status = self._processor.status()
        if status["state"] == "ready":
            return Reply.json(200, {})
        return Reply.json(503, {"state": status["state"], "message": status["message"]})

    def _metrics(self, _request: HttpRequest) -> Reply:
        text = self._processor.metrics_text().encode("utf-8")
        return Reply(200, [("Content-Type", metrics.CONTENT_TYPE)], text)

    def _status(self, _request: HttpRequest) -> Reply:
        return Reply.json(200, self._processor.status())

    def _drain(self, _request: HttpRequest) -> Reply:
        self._processor.drain()
        return Reply.json(200, {"state": "draining", "pid": os.getpid()})

    def _stop(self, _request: HttpRequest) -> Reply:
        self._processor.stop()
        return Reply.json(200, {"state": "draining", "pid": os.getpid()})

    async def _sleep(self, _request: HttpRequest) -> Reply:
        sleep = self._processor.sleep
        obstacle = await sleep.sleep(_SLEEP_WAIT)
        if obstacle:
            return Reply.json(409, {"error": "the function cannot fall asleep: " + obstacle})
        return Reply.json(200, sleep.to_dict())

    async def _wake(self, _request: HttpRequest) -> Reply:
        sleep = self._processor.sleep
        failure = await sleep.wake_and_wait()
        if failure is not None:
            return Reply.json(500, {"error": failure.text, "reason": failure.reason})
        return Reply.json(200, sleep.to_dict())

    async def _reload(self, request: HttpRequest) -> Reply:
        try:
            options = json.loads(bytes(request.body).decode("utf-8")) if request.body else {}
            restart = bool(options.get("restart", False))
        except (ValueError, AttributeError):
            return Reply.json(400, {"error": 'the body must be JSON such as {"restart": true}'})
        outcomes = await self._processor.reload(restart)
        succeeded = all(outcome == "ok" for outcome in outcomes.values())
        return Reply.json(200 if succeeded else 500, {"ok": succeeded, "workers": outcomes})


def _is_local(request: HttpRequest) -> bool:
    """Return True if the client is on the processor's machine, or in its container."""
    try:
        peer = request.connection.stream.sock.getpeername()
    except OSError:
        return False
    return str(peer[0]) in _LOOPBACK
