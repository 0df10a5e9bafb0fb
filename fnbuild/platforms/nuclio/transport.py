"""HTTP requests to a Nuclio dashboard, and its error responses as errors of fnbuild.

FNBUILD_NUCLIO_URL names the dashboard. Behind a proxy that requires a login, FNBUILD_NUCLIO_USER
and FNBUILD_NUCLIO_PASSWORD, or FNBUILD_NUCLIO_TOKEN, are the credentials; they are never shown.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
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
    InputError,
    NotFoundError,
    PlatformError,
    PreconditionError,
    UnavailableError,
    UsageError,
)
from fnbuild.platforms.kubeclient.errors import ForbiddenError, UnauthorizedError

URL_VARIABLE = "FNBUILD_NUCLIO_URL"
_USER_VARIABLE = "FNBUILD_NUCLIO_USER"
_PASSWORD_VARIABLE = "FNBUILD_NUCLIO_PASSWORD"  # noqa: S105 - the name of it
_TOKEN_VARIABLE = "FNBUILD_NUCLIO_TOKEN"  # noqa: S105
_CREDENTIAL_VARIABLES = f"{_TOKEN_VARIABLE}, or {_USER_VARIABLE} and {_PASSWORD_VARIABLE},"

# A dashboard answers a deploy when its builder has begun, a minute later at most.
_RESPONSE_SECONDS = 90.0
_MAX_ERROR_BYTES = 1 << 20
_MAX_ERROR_LENGTH = 2000


@dataclass(frozen=True, slots=True)
class DashboardAddress:
    """Where a dashboard is. `authorization` is the header that says who asks, or ""."""

    url: str
    authorization: str = ""

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @classmethod
    def from_environment(cls) -> DashboardAddress | None:
        """The dashboard that the environment names; None when it names none."""
        given = os.environ.get(URL_VARIABLE, "").strip()
        if not given:
            return None
        try:
            parts = urlsplit(given)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"{URL_VARIABLE} is no address of a dashboard",
                hint="http://HOST:PORT, as in http://127.0.0.1:8070",
            )
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        place = f"{host}:{port}" if port else host
        url = urlunsplit((parts.scheme, place, parts.path.rstrip("/"), "", ""))
        return cls(url, _authorization_header(parts.username, parts.password))


def _authorization_header(user: str | None, password: str | None) -> str:
    if token := os.environ.get(_TOKEN_VARIABLE):
        return f"Bearer {token}"
    user = os.environ.get(_USER_VARIABLE) or unquote(user or "")
    if not user:
        return ""
    password = os.environ.get(_PASSWORD_VARIABLE) or unquote(password or "")
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def is_loopback(host: str) -> bool:
    """Whether it is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A page to log in at is no answer, and credentials are for one address."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Transport:
    """One dashboard. Threads may use it at the same time."""

    def __init__(self, address: DashboardAddress):
        self.address = address
        # No proxy of the environment is between this machine and itself.
        past = [urllib.request.ProxyHandler({})] if is_loopback(address.host) else []
        self._opener = urllib.request.build_opener(_NoRedirects, *past)

    def json(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        body: Any = None,
    ) -> Any:
        """The JSON of an answer, None when it has no body; errors for all that is no 2xx."""
        with self.open(method, path, headers=headers, body=body) as reply:
            try:
                text = reply.read()
            except (OSError, http.client.HTTPException) as error:
                raise self._silent(error) from error
        if not text.strip():
            return None
        try:
            return json.loads(text)
        except ValueError:
            raise self._stranger() from None

    def open(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        body: Any = None,
        silence: float | None = _RESPONSE_SECONDS,
    ) -> http.client.HTTPResponse:
        """An answer of 2xx, to be read and closed; `silence` is in seconds."""
        request = urllib.request.Request(  # noqa: S310 - the scheme was looked at
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
            reply = self._opener.open(request, timeout=silence)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error) from None
        except (OSError, http.client.HTTPException) as error:
            raise self._silent(error) from error
        assert isinstance(reply, http.client.HTTPResponse)
        return reply

    def _refused(self, error: urllib.error.HTTPError) -> FnbuildError:
        try:
            body = error.read(_MAX_ERROR_BYTES)
        except (OSError, http.client.HTTPException):
            body = b""
        said, stack = _parse_error(body)
        if 300 <= error.code < 400:
            return UnavailableError(
                f"the Nuclio dashboard at {self.address.url} sends elsewhere, perhaps to log in",
                hint=f"{_CREDENTIAL_VARIABLES} say who asks; the address may need https",
            )
        if error.code == 401:
            return UnauthorizedError(
                f"the Nuclio dashboard at {self.address.url} asks who you are",
                hint=f"set {_CREDENTIAL_VARIABLES} to say it",
            )
        said = said or f"HTTP status {error.code}"
        if error.code == 403:
            return ForbiddenError(
                f"Nuclio: {said}",
                hint=f"{_CREDENTIAL_VARIABLES} say who asks",
                detail=stack,
            )
        make = _ERRORS_BY_STATUS.get(error.code, PlatformError)
        if error.code in (502, 503, 504):
            return UnavailableError(
                f"the Nuclio dashboard at {self.address.url} is not well: {said}",
                hint="the proxy before it answers, and it does not; try again in a minute",
            )
        return make(f"Nuclio: {said}", detail=stack)

    def _silent(self, error: Exception) -> FnbuildError:
        reason = getattr(error, "reason", error)
        why = "it does not answer in time" if isinstance(reason, TimeoutError) else str(reason)
        if isinstance(reason, ssl.SSLCertVerificationError):
            why = f"its certificate is not trusted: {reason.verify_message}"
        return UnavailableError(
            f"no Nuclio dashboard answers at {self.address.url}: {why}",
            hint=f"does it run? {URL_VARIABLE} says where it is looked for"
            + ("; SSL_CERT_FILE names certificates" if isinstance(reason, ssl.SSLError) else ""),
        )

    def _stranger(self) -> FnbuildError:
        return UnavailableError(
            f"what answers at {self.address.url} is no Nuclio dashboard",
            hint=f"{URL_VARIABLE} says where it is looked for, as in http://127.0.0.1:8070",
        )

    def expect(self, kind: type, value: Any) -> Any:
        """The value, if it is what Nuclio answers there; else something else answers."""
        if not isinstance(value, kind):
            raise self._stranger()
        return value


_ERRORS_BY_STATUS: dict[int, type[FnbuildError]] = {
    400: InputError,
    404: NotFoundError,
    409: ConflictError,
    412: PreconditionError,
}


def _parse_error(body: bytes) -> tuple[str, str | None]:
    """The cause and the stack of an error, as Nuclio writes them (pkg/restful/resource.go)."""
    try:
        found = json.loads(body)
    except ValueError:
        text = body.decode(errors="replace").strip()
        return ("" if text.startswith("<") else text[:_MAX_ERROR_LENGTH]), None
    if not isinstance(found, dict):
        return "", None
    said, stack = str(found.get("error") or ""), str(found.get("errorStackTrace") or "")
    return said.strip()[:_MAX_ERROR_LENGTH], stack.strip()[:_MAX_ERROR_LENGTH] or None
