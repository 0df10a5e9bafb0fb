"""What the processor tells about itself, and what it can be told to do.

The admin listener answers GET /live, /ready, /metrics and /status; the control socket takes POST
/drain, /reload and /stop besides.
"""

import json
import os
from typing import TYPE_CHECKING, Any, Awaitable, Callable, Dict, Union

from ..http.messages import HttpRequest, Reply
from . import metrics

if TYPE_CHECKING:
    from .processor import Processor

ReplyOrAwaitable = Union[Reply, Awaitable[Reply]]


class AdminApi:
    """The application of the admin listener; with `control` also that of the control socket."""

    def __init__(self, processor: "Processor", control: bool) -> None:
        self._processor = processor
        self._routes: Dict[str, Any] = {
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

    def __call__(self, request: HttpRequest) -> ReplyOrAwaitable:
        route = self._routes.get(request.path.rstrip("/") or "/")
        if route is None:
            known = ", ".join(sorted(self._routes))
            return Reply.json(404, {"error": "%s is none of %s" % (request.path, known)})
        method: str = route[0]
        function: Callable[[HttpRequest], ReplyOrAwaitable] = route[1]
        if request.method != method and not (method == "GET" and request.method == "HEAD"):
            text = "%s takes %s only" % (request.path, method)
            return Reply.json(405, {"error": text}, [("Allow", method)])
        return function(request)

    def _live(self, _request: HttpRequest) -> Reply:
        return Reply.json(200, {})

    def _ready(self, _request: HttpRequest) -> Reply:
        status = self._processor.status()
        if status["state"] == "ready":
            return Reply.json(200, {})
        return Reply.json(503, {"state": status["state"], "message": status["message"]})

    def _metrics(self, _request: HttpRequest) -> Reply:
        text = self._processor.registry.text().encode("utf-8")
        return Reply(200, [("Content-Type", metrics.CONTENT_TYPE)], text)

    def _status(self, _request: HttpRequest) -> Reply:
        return Reply.json(200, self._processor.status())

    def _drain(self, _request: HttpRequest) -> Reply:
        self._processor.drain()
        return Reply.json(200, {"state": "draining", "pid": os.getpid()})

    def _stop(self, _request: HttpRequest) -> Reply:
        self._processor.stop()
        return Reply.json(200, {"state": "draining", "pid": os.getpid()})

    async def _reload(self, request: HttpRequest) -> Reply:
        try:
            asked = json.loads(bytes(request.body).decode("utf-8")) if request.body else {}
            restart = bool(asked.get("restart", False))
        except (ValueError, AttributeError):
            return Reply.json(400, {"error": 'the body must be JSON such as {"restart": true}'})
        answers = await self._processor.pools.reload(restart)
        good = all(answer == "ok" for answer in answers.values())
        return Reply.json(200 if good else 500, {"ok": good, "workers": answers})
