"""The HTTP requests that CVAT sends to a dashboard and to functions.

Each request uses a new connection and CVAT's headers, without credentials
(cvat/apps/lambda_manager).
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from fnbuild.errors import UnavailableError, UsageError
from fnbuild.hosts import bracketed

CONNECTION_ERRORS = {
    "Connection refused": "nothing listens there",
    "Name or service not known": "the host name is unknown",
}


@dataclass(frozen=True, slots=True)
class TimedResponse:
    """A response, and the duration of its request in seconds."""

    status: int
    body: bytes
    seconds: float

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def json(self) -> Any:
        """The decoded body. Raises `ValueError`."""
        return json.loads(self.body)

    @property
    def error_message(self) -> str:
        """The error in the body, in one line."""
        try:
            value = self.json
            text = str(value.get("error", "")) if isinstance(value, dict) else ""
        except ValueError:
            text = self.body[:2000].decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[0][:200] if lines else http.client.responses.get(self.status, "")


@dataclass(frozen=True, slots=True)
class CvatClient:
    """Sends requests as CVAT does.

    `url` is the dashboard's, without a path. `direct_host` is the host of the functions' ports.
    `seconds` is CVAT's timeout.
    """

    url: str
    direct_host: str
    namespace: str
    project: str
    seconds: float

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"{self.url!r} is not the address of a dashboard", hint="write http://HOST:8070"
            )

    def list_functions(self) -> TimedResponse:
        return self._send(f"{self.url}/api/functions", self._headers())

    def list_all_functions(self) -> TimedResponse:
        """List all functions of the namespace, as clients other than CVAT do."""
        headers = {"x-nuclio-function-namespace": self.namespace}
        return self._send(f"{self.url}/api/functions", headers)

    def get_function(self, name: str) -> TimedResponse:
        return self._send(f"{self.url}/api/functions/{quote(name, safe='')}", self._headers())

    def invoke_through_dashboard(self, name: str, body: bytes) -> TimedResponse:
        headers = self._headers() | {"x-nuclio-function-name": name, "x-nuclio-path": "/"}
        return self._send(f"{self.url}/api/function_invocations", headers, body)

    def invoke_directly(self, port: int, body: bytes) -> TimedResponse:
        return self._send(f"http://{bracketed(self.direct_host)}:{port}", {}, body)

    def _headers(self) -> dict[str, str]:
        return {
            "x-nuclio-project-name": self.project,
            "x-nuclio-function-namespace": self.namespace,
            "x-nuclio-invoke-via": "domain-name",
            "X-Nuclio-Invoke-Timeout": f"{self.seconds:g}s",
            "User-Agent": "CVAT/2.64 fnbuild-doctor",
        }

    def _send(self, url: str, headers: dict[str, str], body: bytes | None = None) -> TimedResponse:
        """Send one request. Raises `UnavailableError` if there is no response."""
        if body is not None:
            headers = headers | {"Content-Type": "application/json"}
        request = urllib.request.Request(url, body, headers)  # noqa: S310 - checked above
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        started = time.monotonic()
        try:
            with opener.open(request, timeout=self.seconds) as response:
                return TimedResponse(response.status, response.read(), time.monotonic() - started)
        except urllib.error.HTTPError as error:
            with error:
                return TimedResponse(error.code, error.read(), time.monotonic() - started)
        except TimeoutError:
            raise UnavailableError(f"{url} has not answered for {self.seconds:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise UnavailableError(f"{url} does not answer: {_describe_error(reason)}") from error


def _describe_error(reason: object) -> str:
    text = str(getattr(reason, "strerror", None) or reason)
    return CONNECTION_ERRORS.get(text, text)
