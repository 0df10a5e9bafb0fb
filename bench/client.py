"""Single requests for checks, not for timings."""

from __future__ import annotations

import http.client
import json
import threading
from typing import Any
from urllib.parse import urlsplit

from .forms import FORMS, GRPC_SCHEME, JSON_HEADERS, METHOD, Headers
from .workloads import Payload, Workload

TIMEOUT = 60.0
_THREADS = 8
_REQUESTS_EACH = 4


def ask(url: str, workload: Workload, payload: Payload) -> tuple[int, Any]:
    """Return status and the handler's reply to the payload; raise OSError without a response."""
    form = FORMS[workload.form]
    grpc = form.scheme == GRPC_SCHEME
    status, value = call(url, payload.body) if grpc else post(url, payload.body, payload.headers)
    try:
        return status, form.read(value)
    except (LookupError, TypeError, ValueError):
        return status, value


def call(url: str, body: bytes) -> tuple[int, bytes]:
    """Return 200 and the response of a gRPC call on a new connection; raise OSError if it fails."""
    import grpc

    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(urlsplit(url).netloc, options) as channel:
        try:
            return 200, channel.unary_unary(METHOD)(body, timeout=TIMEOUT)
        except grpc.RpcError as problem:
            raise ConnectionError(f"{problem.code().name}: {problem.details()}") from problem


def post(url: str, body: bytes, headers: Headers = JSON_HEADERS) -> tuple[int, Any]:
    """Return status and parsed reply of one POST on a new connection; raise OSError without one."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=TIMEOUT)
    try:
        connection.request("POST", parts.path, body, dict(headers))
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


def find_wrong_replies(url: str, workload: Workload) -> list[str]:
    """Send every payload from several concurrent clients; return a message for each wrong reply."""
    payloads = workload.payloads
    errors: list[str] = []

    def run(first: int) -> None:
        for number in range(first, first + _REQUESTS_EACH):
            payload = payloads[number % len(payloads)]
            try:
                status, reply = ask(url, workload, payload)
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
