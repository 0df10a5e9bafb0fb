"""One call of a function: what is sent, how, and what came back.

Follows nuctl (pkg/nuctl/command/invoke.go, pkg/platform/abstract/invoker.go): POST when there is a
body, else GET; without a content type the body's first bytes decide, and JSON counts as plain text.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from fnbuild.cli.deploy import ENABLE_HINT
from fnbuild.cli.listing import summary_line
from fnbuild.errors import NotReadyError, PlatformError, UsageError
from fnbuild.platforms import Deployment
from fnbuild.runtime.logs import LineFormatter

LOG_LEVEL_HEADER = "X-Nuclio-Log-Level"
LOGS_HEADER = "X-Nuclio-Logs"

_CHUNK_SIZE = 64 * 1024

# One call has one worker and one id: no news in each of its lines.
_HIDDEN_LOG_FIELDS = ("worker", "worker_id", "request_id")

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b\x08", "application/x-gzip"),
    (b"<?xml", "text/xml"),
    (b"<!DOCTYPE HTML", "text/html"),
    (b"<html", "text/html"),
)


@dataclass(frozen=True, slots=True)
class InvocationRequest:
    """What to send. `timeout` is in seconds."""

    method: str
    path: str = ""
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    timeout: float = 60.0
    verify: bool = True


@dataclass(frozen=True, slots=True)
class InvocationReply:
    """The reply to a call. `seconds` is the time from connecting to the last byte.

    `streamed` is the number of bytes that were passed on as they arrived and are not in `body`.
    """

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    seconds: float
    streamed: int | None = None

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def header(self, name: str) -> str | None:
        for key, value in self.headers:
            if key.lower() == name.lower():
                return value
        return None

    def logs(self) -> list[dict[str, Any]]:
        """The function's log records of this call. A header that cannot be read holds none: long
        logs do not fit into it, and functions of another maker do not send it."""
        try:
            records = json.loads(self.header(LOGS_HEADER) or "[]")
        except ValueError:
            return []
        return [record for record in records if isinstance(record, dict)]


def check_callable(function: Deployment, url: str, via: str = "any") -> None:
    """Raise unless the function, with this URL, is one that can be called."""
    if via in ("external-ip", "loadbalancer", "domain-name") and not function.external_urls:
        raise UsageError(f"{function.name} has no external address", hint="`--via any` takes any")
    # With some of its workers down a function is unhealthy, and answers all the same.
    if url and (function.state == "ready" or function.replicas[0]):
        return
    why = f": {summary_line(function.message)}" if function.message else ""
    why = "" if function.state == "stopped" else why
    remedy = _REMEDIES.get(function.state, _LOGS_HINT)
    if function.state == "stopped" and function.platform != "process":
        remedy = _REDEPLOY_HINT
    if function.details.get("foreground"):
        remedy = "its log is in the terminal of that process"
    raise NotReadyError(
        f"{function.name} is {function.state}{why}", hint=remedy.format(function.name)
    )


_REDEPLOY_HINT = "`fnbuild redeploy {}` starts it again"
_LOGS_HINT = "`fnbuild logs {}` says more"
_REMEDIES = {
    "stopped": "`fnbuild up` starts it again",
    "imported": "it has no code here yet: `fnbuild deploy --path FOLDER`",
    "standby": f"it is disabled; {ENABLE_HINT}",
    "building": "wait until it is ready: `fnbuild get functions`",
    "scaledToZero": "it has no replicas: `fnbuild update function {} --replicas 1` runs one",
}


BodyWriter = Callable[[bytes], object]


def _no_writer(_head: InvocationReply) -> BodyWriter | None:
    return None


def send_request(
    target: str,
    call: InvocationRequest,
    sink: Callable[[InvocationReply], BodyWriter | None] = _no_writer,
) -> InvocationReply:
    """Send one request and read the whole reply. Raises `PlatformError` if there is no reply.

    A body of unknown length is passed, as it arrives, to the function that `sink` returns for the
    reply's head. An `OSError` of that function is raised as it is.
    """
    parts = urlsplit(target)
    if parts.hostname is None:
        raise PlatformError(f"the function's address cannot be read: {target}")
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        if not call.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=call.timeout, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=call.timeout)
    place = parts.path.rstrip("/") + "/" + call.path.lstrip("/")
    began = time.monotonic()
    try:
        try:
            connection.request(call.method, place, body=call.body, headers=call.headers)
        except (BrokenPipeError, ConnectionResetError):
            # A body that is too large is refused before it was sent whole: the answer is there.
            if connection.sock is None:
                raise
        reply = connection.getresponse()
        answer = InvocationReply(
            reply.status,
            reply.reason,
            tuple(reply.getheaders()),
            b"",
            time.monotonic() - began,
        )
        write = sink(answer) if reply.length is None else None
        answer = (
            replace(answer, body=reply.read())
            if write is None
            else _stream_body(reply, write, answer)
        )
    except http.client.IncompleteRead as error:
        raise PlatformError(
            f"the reply of {target} broke off: the function failed while it was answering",
            hint="its log has the reason",
        ) from error
    except _OutputError as error:
        raise error.cause from None
    except TimeoutError:
        raise PlatformError(
            f"no answer from {target} within {call.timeout:g} s", hint="`--timeout 5m` waits longer"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise PlatformError(f"{target} does not answer: {error}") from error
    finally:
        connection.close()
    return replace(answer, seconds=time.monotonic() - began)


class _OutputError(Exception):
    """A piece of a reply that arrived could not be written; the cause says why."""

    def __init__(self, cause: OSError):
        super().__init__()
        self.cause = cause


def _stream_body(
    reply: http.client.HTTPResponse, write: BodyWriter, answer: InvocationReply
) -> InvocationReply:
    count = 0
    with reply:
        while piece := reply.read1(_CHUNK_SIZE):
            try:
                write(piece)
            except OSError as error:
                raise _OutputError(error) from error
            count += len(piece)
    return replace(answer, streamed=count)


def detect_content_type(body: bytes) -> str:
    """The type that the first bytes tell, without parameters (as Go's DetectContentType)."""
    start = body[:512].lstrip(b"\t\n\x0c\r ")
    for signature, name in _SIGNATURES:
        if start[: len(signature)].lower() == signature.lower():
            return name
    if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        return "image/webp"
    binary = any(byte < 32 and byte not in b"\t\n\x0c\r\x1b" for byte in body[:512])
    return "application/octet-stream" if binary else "text/plain"


def is_json_document(body: bytes) -> bool:
    """Whether the body is a JSON object or list."""
    if body.lstrip()[:1] not in (b"{", b"["):
        return False
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


def format_log_records(records: Iterable[dict[str, Any]]) -> Iterable[str]:
    """The records of the logs header as people read them."""
    lines = LineFormatter(colour=True)
    for record in records:
        yield lines.line({key: one for key, one in record.items() if key not in _HIDDEN_LOG_FIELDS})
