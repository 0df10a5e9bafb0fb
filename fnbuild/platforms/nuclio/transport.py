"""HTTP requests to a Nuclio dashboard, and its error responses as errors of fnbuild.

FNBUILD_NUCLIO_URL names the dashboard. Behind a proxy that requires a login, FNBUILD_NUCLIO_USER
and FNBUILD_NUCLIO_PASSWORD, or FNBUILD_NUCLIO_TOKEN, are the credentials; they are never shown.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from fnbuild import __version__
from fnbuild.errors import (
    ConflictError,
    FnbuildError,
    ForbiddenError,
    InputError,
    NotFoundError,
    PlatformError,
    PreconditionError,
    UnauthorizedError,
    UnavailableError,
    UsageError,
)
from fnbuild.hosts import bracketed, is_loopback

URL_VARIABLE = "FNBUILD_NUCLIO_URL"
_USER_VARIABLE = "FNBUILD_NUCLIO_USER"
_PASSWORD_VARIABLE = "FNBUILD_NUCLIO_PASSWORD"  # noqa: S105 - the name of it
_TOKEN_VARIABLE = "FNBUILD_NUCLIO_TOKEN"  # noqa: S105
_CREDENTIAL_VARIABLES = f"{_TOKEN_VARIABLE}, or {_USER_VARIABLE} and {_PASSWORD_VARIABLE}"

# A dashboard replies to a deploy when its builder has started, within a minute.
_RESPONSE_SECONDS = 90.0
_MAX_ERROR_BYTES = 1 << 20
_MAX_ERROR_LENGTH = 2000


@dataclass(frozen=True, slots=True)
class DashboardAddress:
    """The URL of a dashboard, and the Authorization header with its credentials or ""."""

    url: str
    authorization: str = ""

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @classmethod
    def from_environment(cls) -> DashboardAddress | None:
        """Return the dashboard that the environment names, or None."""
        value = os.environ.get(URL_VARIABLE, "").strip()
        if not value:
            return None
        try:
            parts = urlsplit(value)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"{URL_VARIABLE} is not a valid URL of a dashboard",
                hint="use http://HOST:PORT, such as http://127.0.0.1:8070",
            )
        host = bracketed(parts.hostname)
        netloc = f"{host}:{port}" if port else host
        url = urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", ""))
        return cls(url, _authorization_header(parts.username, parts.password))


def _authorization_header(user: str | None, password: str | None) -> str:
    if token := os.environ.get(_TOKEN_VARIABLE):
        return f"Bearer {token}"
    user = os.environ.get(_USER_VARIABLE) or unquote(user or "")
    if not user:
        return ""
    password = os.environ.get(_PASSWORD_VARIABLE) or unquote(password or "")
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Reject redirects: they lead to login pages, and the credentials are for one address."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Transport:
    """Requests to one dashboard. Threads may use it at the same time."""

    def __init__(self, address: DashboardAddress):
        self.address = address
        # Proxies of the environment are not for the loopback.
        proxies = [urllib.request.ProxyHandler({})] if is_loopback(address.host) else []
        self._opener = urllib.request.build_opener(_NoRedirects, *proxies)

    def json(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        body: Any = None,
    ) -> Any:
        """Return the decoded body of a 2xx response, None if it is empty. Raises for any other."""
        with self.open(method, path, headers=headers, body=body) as response:
            try:
                text = response.read()
            except (OSError, http.client.HTTPException) as error:
                raise self._connection_error(error) from error
        if not text.strip():
            return None
        try:
            return json.loads(text)
        except ValueError:
            raise self._not_a_dashboard() from None

    def open(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        body: Any = None,
        timeout: float | None = _RESPONSE_SECONDS,
    ) -> http.client.HTTPResponse:
        """Return a 2xx response, which the caller reads and closes. Raises for any other."""
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            f"{self.address.url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"User-Agent": f"fnbuild/{__version__}", **(headers or {})},
        )
        if body is not None:
            request.add_header("Content-Type", "application/json")
        if self.address.authorization:
            request.add_unredirected_header("Authorization", self.address.authorization)
        try:
            response = self._opener.open(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            with error:
                raise self._error_response(error) from None
        except (OSError, http.client.HTTPException) as error:
            raise self._connection_error(error) from error
        assert isinstance(response, http.client.HTTPResponse)
        return response

    def _error_response(self, error: urllib.error.HTTPError) -> FnbuildError:
        try:
            body = error.read(_MAX_ERROR_BYTES)
        except (OSError, http.client.HTTPException):
            body = b""
        cause, stack = _parse_error(body)
        cause = cause or f"HTTP status {error.code}"
        if 300 <= error.code < 400:
            return UnavailableError(
                f"the Nuclio dashboard at {self.address.url} redirects, perhaps to a login page",
                hint=f"set {_CREDENTIAL_VARIABLES}; the URL may need https",
            )
        if error.code == 401:
            return UnauthorizedError(
                f"the Nuclio dashboard at {self.address.url} requires credentials",
                hint=f"set {_CREDENTIAL_VARIABLES}",
            )
        if error.code == 403:
            hint = f"set {_CREDENTIAL_VARIABLES}"
            return ForbiddenError(f"Nuclio: {cause}", hint=hint, detail=stack)
        if error.code in (502, 503, 504):
            return UnavailableError(
                f"the Nuclio dashboard at {self.address.url} is unavailable: {cause}",
                hint="a proxy responds in its place; try again in a minute",
            )
        error_class = _ERRORS_BY_STATUS.get(error.code, PlatformError)
        return error_class(f"Nuclio: {cause}", detail=stack)

    def _connection_error(self, error: Exception) -> FnbuildError:
        reason = getattr(error, "reason", error)
        cause = "the request timed out" if isinstance(reason, TimeoutError) else str(reason)
        if isinstance(reason, ssl.SSLCertVerificationError):
            cause = f"its certificate is not trusted: {reason.verify_message}"
        return UnavailableError(
            f"no Nuclio dashboard answers at {self.address.url}: {cause}",
            hint=f"check that it runs, and that {URL_VARIABLE} is its URL"
            + ("; SSL_CERT_FILE names certificates" if isinstance(reason, ssl.SSLError) else ""),
        )

    def _not_a_dashboard(self) -> FnbuildError:
        return UnavailableError(
            f"the server at {self.address.url} is not a Nuclio dashboard",
            hint=f"set {URL_VARIABLE} to the URL of the dashboard, such as http://127.0.0.1:8070",
        )

    def expect(self, kind: type, value: Any) -> Any:
        """Return the value. Raises `UnavailableError` if it has another type than in Nuclio."""
        if not isinstance(value, kind):
            raise self._not_a_dashboard()
        return value


_ERRORS_BY_STATUS: dict[int, type[FnbuildError]] = {
    400: InputError,
    404: NotFoundError,
    409: ConflictError,
    412: PreconditionError,
}


def _parse_error(body: bytes) -> tuple[str, str | None]:
    """Return the cause and the stack of an error response (pkg/restful/resource.go)."""
    try:
        error = json.loads(body)
    except ValueError:
        text = body.decode(errors="replace").strip()
        return ("" if text.startswith("<") else text[:_MAX_ERROR_LENGTH]), None
    if not isinstance(error, dict):
        return "", None
    cause, stack = str(error.get("error") or ""), str(error.get("errorStackTrace") or "")
    return cause.strip()[:_MAX_ERROR_LENGTH], stack.strip()[:_MAX_ERROR_LENGTH] or None
