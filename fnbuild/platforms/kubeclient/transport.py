"""HTTP requests to an API server: authentication, timeouts, retries and errors.

Bodies are plain JSON: the official client's models are slow and reject responses of other API
versions.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode

import msgspec

from fnbuild import __version__
from fnbuild.errors import FnbuildError, UnauthorizedError, UnavailableError
from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient import connection_errors, errors
from fnbuild.platforms.kubeclient.connection_errors import ServerLocation
from fnbuild.platforms.kubeclient.credentials import ServerAccess
from fnbuild.platforms.kubeclient.errors import RequestSubject

JSON = "application/json"
APPLY = "application/apply-patch+yaml"

_CONNECT_SECONDS = 5.0
_RESPONSE_SECONDS = 60.0
_MAX_ATTEMPTS = 4
_RETRY_SECONDS = 0.2
_MAX_RETRY_SECONDS = 5.0
_CONNECTIONS = 64

Query = dict[str, str]


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """An HTTP request. `body` is sent as JSON, whatever the content type."""

    method: str
    path: str
    query: Query = field(default_factory=dict)
    body: Raw | None = None
    content_type: str = JSON


class Transport:
    """HTTP connections to an API server. Thread-safe."""

    def __init__(self, access: ServerAccess, location: ServerLocation):
        self.access = access
        self.location = location
        try:
            self._pool = access.connection_pool(_CONNECTIONS)
        except (OSError, ValueError) as error:
            raise connection_errors.connection_error(error, location) from error

    def close(self) -> None:
        self._pool.clear()

    def request_json(self, request: ApiRequest, subject: RequestSubject) -> Raw:
        """Send a request and return the JSON response. Raises fnbuild's error unless it is 2xx."""
        status, body = self.request(request)
        if not 200 <= status < 300:
            raise self.error_of(status, body, subject)
        try:
            decoded: Raw = msgspec.json.decode(body)
        except msgspec.DecodeError:
            raise UnavailableError(
                f"the server at {self.location} is not a Kubernetes API",
                hint="`kubectl config view --minify` shows the server",
            ) from None
        return decoded

    def request(
        self, request: ApiRequest, *, patient: bool = True, seconds: float = _RESPONSE_SECONDS
    ) -> tuple[int, bytes]:
        """Return status and body. With `patient`, retry where no change can be applied twice."""
        for attempt in range(_MAX_ATTEMPTS):
            last = attempt == _MAX_ATTEMPTS - 1 or not patient
            try:
                response = self._send(request, seconds)
            except UnavailableError as error:
                if request.method != "GET" or last or not _is_connection_lost(error):
                    raise
                time.sleep(_RETRY_SECONDS * 2**attempt)
                continue
            if last or not _should_retry(request.method, response.status, response.data):
                return response.status, response.data
            time.sleep(_retry_delay(response.headers.get("Retry-After"), attempt))
        raise AssertionError("the last attempt returns or raises")

    def server_time(self) -> float | None:
        """Return the server's time in whole seconds since the epoch, or None without a header."""
        response = self._send(ApiRequest("GET", "/version"), _RESPONSE_SECONDS)
        try:
            return parsedate_to_datetime(response.headers.get("Date", "")).timestamp()
        except ValueError:
            return None

    @contextlib.contextmanager
    def stream(
        self, request: ApiRequest, subject: RequestSubject, silence: float | None
    ) -> Iterator[Any]:
        """Send a request and yield the streamed response of urllib3.

        A pause of more than `silence` seconds raises urllib3's timeout error.
        """
        response = self._send(request, silence, preload=False)
        try:
            if not 200 <= response.status < 300:
                raise self.error_of(response.status, response.read(), subject)
            yield response
        finally:
            response.close()

    def error_of(self, status: int, body: bytes, subject: RequestSubject) -> FnbuildError:
        """Return the error for a response."""
        if status == 401 and (day := connection_errors.expiry_date(self.access.certificate)):
            return UnauthorizedError(
                f"the client certificate for {self.location} expired on {day}",
                hint="fetch the kubeconfig again, or have the cluster's administrator renew it",
            )
        return errors.error_of_response(status, body, subject)

    def _send(self, request: ApiRequest, seconds: float | None, preload: bool = True) -> Any:
        import urllib3

        headers = {"Accept": JSON, "User-Agent": f"fnbuild/{__version__}"}
        if preload:
            headers["Accept-Encoding"] = "gzip"
        data = None if request.body is None else msgspec.json.encode(request.body)
        if data is not None:
            headers["Content-Type"] = request.content_type
        if (proof := self.access.authorization()) is not None:
            headers["authorization"] = proof
        url = self.access.url + request.path
        if request.query:
            url += f"?{urlencode(request.query)}"
        limits = urllib3.Timeout(connect=_CONNECT_SECONDS, read=seconds)
        try:
            return self._pool.request(
                request.method,
                url,
                body=data,
                headers=headers,
                timeout=limits,
                retries=False,
                redirect=False,
                preload_content=preload,
            )
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise connection_errors.connection_error(
                error, self.location, self.access.proxy
            ) from error


def _is_connection_lost(error: UnavailableError) -> bool:
    """Return True if the connection ended before the response was complete."""
    import urllib3

    return isinstance(error.__cause__, urllib3.exceptions.ProtocolError)


def _should_retry(method: str, status: int, body: bytes) -> bool:
    """Return True if a retry is safe: the request was rejected early, or it only reads."""
    if status == 429:
        return True
    if status == 409:  # the quota was updated concurrently; the object was not created
        details = errors.parse_error_status(body).get("details") or {}
        return bool(details.get("kind") == "resourcequotas")
    return method == "GET" and status in {500, 502, 503, 504}


def _retry_delay(retry_after: str | None, attempt: int) -> float:
    seconds = (
        float(retry_after) if retry_after and retry_after.isdigit() else _RETRY_SECONDS * 2**attempt
    )
    return min(seconds, _MAX_RETRY_SECONDS)
