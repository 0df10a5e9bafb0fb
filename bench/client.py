"""Single requests for checks, not for timings."""

from __future__ import annotations

import http.client
import json
import threading
from typing import Any
from urllib.parse import urlsplit

from .workloads import Payload

TIMEOUT = 60.0
_THREADS = 8
_REQUESTS_EACH = 4


def post(url: str, body: bytes) -> tuple[int, Any]:
    """Return status and parsed reply of one POST on a new connection; raise OSError without one."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=TIMEOUT)
    try:
        connection.request("POST", parts.path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        data = response.read()
    except http.client.HTTPException as problem:
        raise ConnectionError(f"{type(problem).__name__}: {problem}") from problem
    finally:
        connection.close()
    try:
        return response.status, json.loads(data)
    except ValueError:
        return response.status, data


def find_wrong_replies(url: str, payloads: tuple[Payload, ...]) -> list[str]:
    """Send every payload from several concurrent clients; return a message for each wrong reply."""
    errors: list[str] = []

    def run(first: int) -> None:
        for number in range(first, first + _REQUESTS_EACH):
            payload = payloads[number % len(payloads)]
            try:
                status, reply = post(url, payload.body)
            except OSError as problem:
                errors.append(str(problem))
                continue
            if status != 200 or reply != payload.expected:
                errors.append(f"status {status}: {str(reply)[:120]}")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors
