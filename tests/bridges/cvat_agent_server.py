"""A small server that speaks CVAT's agent API, as the client of cvat-cli uses it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

_TIME = "2026-01-01T00:00:00Z"


class AgentServer:
    """One task with one picture, functions as clients created them, and queued requests.

    `pending` has the requests for each function that will be created. `results` maps a request's
    id to `complete` or `fail` and the body that the agent sent with it.
    """

    def __init__(self, picture: bytes, size: tuple[int, int], labels: list[Any]) -> None:
        self.picture = picture
        self.size = size
        self.labels = [_as_stored(label, number) for number, label in enumerate(labels, 100)]
        self.functions: dict[int, dict[str, Any]] = {}
        self.queues: dict[int, list[dict[str, Any]]] = {}
        self.pending: list[list[dict[str, Any]]] = []
        self.results: dict[str, tuple[str, dict[str, Any]]] = {}

    def answer(self, method: str, url: str, body: Any) -> Any:  # noqa: PLR0911 - a line an endpoint
        """Return the JSON of a reply, or bytes."""
        parts = urlsplit(unquote(url))
        match method, parts.path.strip("/").split("/"):
            case "GET", ["api", "server", "about"]:
                texts = ("name", "description", "logo_url", "subtitle")
                return {**dict.fromkeys(texts, "CVAT"), "version": "2.80.0"}
            case "POST", ["api", "functions"]:
                number = len(self.functions) + 1
                self.functions[number] = _as_remote(body, number)
                self.queues[number] = self.pending.pop(0)
                return self.functions[number]
            case "GET", ["api", "functions", number]:
                return self.functions[int(number)]
            case "POST", ["api", "functions", "queues", queue, "requests", "acquire"]:
                return {"ar_assignment": self._acquire(queue, body["request_category"])}
            case "POST", ["api", "functions", "queues", _, "requests", request, verdict]:
                self.results[request] = verdict, body
                return {}
            case "GET", ["api", "tasks", "1"]:
                return self._task()
            case "GET", ["api", "labels"]:
                return {"count": len(self.labels), "next": None, "results": self.labels}
            case "GET", ["api", "tasks", "1", "data", "meta"]:
                return self._meta()
            case "GET", ["api", "tasks", "1", "data"]:
                assert parse_qs(parts.query)["type"] == ["frame"]
                return self.picture
        raise AssertionError(f"{method} {url}")

    def _acquire(self, queue: str, category: str) -> dict[str, Any] | None:
        waiting = self.queues[int(queue.removeprefix("function:"))]
        if category != "interactive" or not waiting:
            return None
        params = waiting.pop(0)
        if params["type"] == "track":
            # It continues the track of the request before.
            _, before = self.results[params["after"]]
            params = {**params, "states": before["states"]}
        return {"ar_id": params["id"], "ar_params": {"task": 1, "frame": 0, **params}}

    def _task(self) -> dict[str, Any]:
        values = {"id": 1, "updated_date": _TIME, "size": 1, "data_chunk_size": 1}
        jobs = {"completed": 0, "validation": 0}
        more = {
            "data_original_chunk_type": "imageset",
            "jobs": jobs,
            "labels": {},
            "organization": None,
        }
        return {**values, **more}

    def _meta(self) -> dict[str, Any]:
        width, height = self.size
        frame = {"width": width, "height": height, "name": "p.png", "related_files": 0}
        return {"frames": [frame], "deleted_frames": [], "chunks_updated_date": _TIME}


def _as_remote(function: dict[str, Any], number: int) -> dict[str, Any]:
    """Return a function as the server stores it."""
    stored = {**function, "id": number}
    if function["kind"] == "interactor":
        defaults = {"min_neg_points": -1, "startswith_box": False, "startswith_box_optional": False}
        stored = {**defaults, **stored}
    for label in stored.get("labels_v2", ()):
        for part in (label, *label.get("sublabels", ())):
            part.setdefault("type", "any")
        label.setdefault("sublabels", [])
    return stored


def _as_stored(label: dict[str, Any], number: int) -> dict[str, Any]:
    """Return a label of a function's spec as a task's label, with the server's ids."""
    return {
        "id": number,
        "name": label["name"],
        "color": "#ffffff",
        "type": label.get("type", "any"),
        "attributes": [
            {"mutable": False, "default_value": "", **attribute, "id": number * 10 + index}
            for index, attribute in enumerate(label.get("attributes", ()))
        ],
        "sublabels": [
            _as_stored(part, number * 10 + index)
            for index, part in enumerate(label.get("sublabels", ()))
        ],
    }


@contextmanager
def serving(answer: Callable[[str, str, Any], Any]) -> Iterator[str]:
    """Serve JSON and bytes over HTTP until the context ends; the value is the server's URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._reply("GET")

        def do_POST(self) -> None:
            self._reply("POST")

        def log_message(self, *_: object) -> None:
            pass

        def _reply(self, method: str) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                content, status = answer(method, self.path, json.loads(sent or b"null")), 200
            except Exception as error:  # noqa: BLE001
                # The client does not repeat such a request.
                content, status = {"error": repr(error)}, 400
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            kind = "image/png" if isinstance(content, bytes) else "application/json"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, name="cvat", daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
