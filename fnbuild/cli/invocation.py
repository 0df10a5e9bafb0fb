"""HTTP client for the invocation of functions.

As in nuctl (pkg/nuctl/command/invoke.go, pkg/platform/abstract/invoker.go), the method is POST
with a body and GET otherwise, the first bytes of the body determine the content type, and JSON is
sent as plain text.
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

from fnbuild.cli.deploy_output import ENABLE_HINT
from fnbuild.cli.listing import summary_line
from fnbuild.errors import NotReadyError, PlatformError, UsageError
from fnbuild.hosts import join_path
from fnbuild.platforms import Deployment, lookup
from fnbuild.runtime.logs import LineFormatter

LOG_LEVEL_HEADER = "X-Nuclio-Log-Level"
LOGS_HEADER = "X-Nuclio-Logs"
NO_WAKE_HEADER = "X-Fnbuild-No-Wake"

_CHUNK_SIZE = 64 * 1024

# These fields are equal in all records of a call.
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
    """A request to a function. `timeout` is in seconds."""

    method: str
    path: str = ""
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    timeout: float = 60.0
    verify: bool = True


@dataclass(frozen=True, slots=True)
class InvocationReply:
    """The reply of a function. `seconds` is the time from connecting to the last byte.

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
        """Return the log records of this call, none if the header is absent or invalid.

        Long logs do not fit into the header, and other servers do not send it.
        """
        try:
            records = json.loads(self.header(LOGS_HEADER) or "[]")
        except ValueError:
            return []
        return [record for record in records if isinstance(record, dict)]


def check_invocable(deployment: Deployment, url: str, via: str = "any") -> None:
    """Raise `NotReadyError` or `UsageError` if the function cannot be called at this URL."""
    if via in ("external-ip", "loadbalancer", "domain-name") and not deployment.external_urls:
        raise UsageError(f"{deployment.name} has no external address", hint="`--via any` takes any")
    # An unhealthy function still answers if some of its workers run.
    if url and (deployment.state == "ready" or deployment.replicas[0]):
        return
    show_reason = deployment.message and deployment.state != "stopped"
    reason = f": {summary_line(deployment.message)}" if show_reason else ""
    remedy = _REMEDIES.get(deployment.state, _LOGS_HINT)
    if deployment.state == "stopped":
        remedy = f"`{lookup(deployment.platform).start_command}` starts it again"
    if deployment.foreground:
        remedy = "its log is in the terminal of that process"
    raise NotReadyError(
        f"{deployment.name} is {deployment.state}{reason}", hint=remedy.format(deployment.name)
    )


_LOGS_HINT = "`fnbuild logs {}` says more"
_REMEDIES = {
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
    request: InvocationRequest,
    choose_writer: Callable[[InvocationReply], BodyWriter | None] = _no_writer,
) -> InvocationReply:
    """Send one request and read the whole reply. Raises `PlatformError` if there is no reply.

    A body of unknown length is passed, as it arrives, to the function that `choose_writer`
    returns for the reply's head. An `OSError` of that function is raised as it is.
    """
    parts = urlsplit(target)
    if parts.hostname is None:
        raise PlatformError(f"the function's address cannot be read: {target}")
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        if not request.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=request.timeout, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=request.timeout)
    path = join_path(parts.path, request.path)
    began = time.monotonic()
    try:
        try:
            connection.request(request.method, path, body=request.body, headers=request.headers)
        except (BrokenPipeError, ConnectionResetError):
            # The server replies to a body that is too large before it has read all of it.
            if connection.sock is None:
                raise
        response = connection.getresponse()
        headers = tuple(response.getheaders())
        reply = InvocationReply(
            response.status, response.reason, headers, b"", time.monotonic() - began
        )
        write = choose_writer(reply) if response.length is None else None
        reply = (
            replace(reply, body=response.read())
            if write is None
            else _stream_body(response, write, reply)
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
            f"no answer from {target} within {request.timeout:g} s",
            hint="`--timeout 5m` waits longer",
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise PlatformError(f"{target} does not answer: {error}") from error
    finally:
        connection.close()
    return replace(reply, seconds=time.monotonic() - began)


class _OutputError(Exception):
    """A part of the reply could not be written."""

    def __init__(self, cause: OSError):
        super().__init__()
        self.cause = cause


def _stream_body(
    response: http.client.HTTPResponse, write: BodyWriter, reply: InvocationReply
) -> InvocationReply:
    count = 0
    with response:
        while chunk := response.read1(_CHUNK_SIZE):
            try:
                write(chunk)
            except OSError as error:
                raise _OutputError(error) from error
            count += len(chunk)
    return replace(reply, streamed=count)


def detect_content_type(body: bytes) -> str:
    """Return the media type that the first bytes indicate (as Go's DetectContentType)."""
    start = body[:512].lstrip(b"\t\n\x0c\r ")
    for signature, name in _SIGNATURES:
        if start[: len(signature)].lower() == signature.lower():
            return name
    if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        return "image/webp"
    binary = any(byte < 32 and byte not in b"\t\n\x0c\r\x1b" for byte in body[:512])
    return "application/octet-stream" if binary else "text/plain"


def is_json_document(body: bytes) -> bool:
    """Return True if the body is a JSON object or list."""
    if body.lstrip()[:1] not in (b"{", b"["):
        return False
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


def format_log_records(records: Iterable[dict[str, Any]]) -> Iterable[str]:
    """Format the records of the logs header for people."""
    lines = LineFormatter(colour=True)
    for record in records:
        yield lines.line(
            {key: value for key, value in record.items() if key not in _HIDDEN_LOG_FIELDS}
        )
