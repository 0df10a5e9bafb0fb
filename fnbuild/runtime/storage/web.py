"""Requests to the web servers of storage: TLS, checked redirects, one error for each failure."""

import http.client
import ipaddress
import json
import re
import socket
import ssl
import urllib.error
import urllib.request
from typing import IO, Any, Callable, Dict, Mapping, Optional
from urllib.parse import SplitResult, urlsplit

from .errors import StorageError

IDLE_SECONDS = 60.0
_MAX_REDIRECTS = 5
_MAX_DOCUMENT_BYTES = 64 << 20

RedirectCheck = Callable[[SplitResult, SplitResult], None]
"""A check of a redirect: the addresses before and after it."""


class StatusError(StorageError):
    """A response with an error status. `headers` are those of the response."""

    def __init__(
        self, message: str, hint: str, transient: bool, status: int, headers: Mapping[str, str]
    ) -> None:
        super().__init__(message, hint, transient)
        self.status = status
        self.headers = headers


def is_loopback(host: str) -> bool:
    """Return True if the host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def printable_url(url: str) -> str:
    """Return the URL without its query, which may be a signature."""
    base, mark, _query = url.partition("?")
    return re.sub(r"(?<=://)[^/@]*@", "", base) + ("?…" if mark else "")


class WebClient:
    """A client with one TLS configuration. `ca_file` has additional authorities."""

    def __init__(self, ca_file: str = "", verify: bool = True) -> None:
        try:
            self._context = ssl.create_default_context()
            if ca_file:
                self._context.load_verify_locations(ca_file)
        except OSError as problem:
            text = "the certificates in %s cannot be read: %s" % (ca_file, problem.strerror)
            raise StorageError(text, "AWS_CA_BUNDLE names a file in PEM format") from None
        if not verify:
            self._context.check_hostname = False
            self._context.verify_mode = ssl.CERT_NONE

    def open(
        self,
        url: str,
        headers: Optional[Mapping[str, str]] = None,
        body: Optional[bytes] = None,
        method: Optional[str] = None,
    ) -> Any:
        """Return the response, whose body is read later. Raises StorageError."""
        request = urllib.request.Request(  # noqa: S310 - the callers build http(s) URLs
            url, body, {"User-Agent": "fnbuild"}, method=method
        )
        for name, value in (headers or {}).items():
            request.add_unredirected_header(name, value)
        try:
            opener = checked_opener(headers or {}, _check_redirect, self._context)
            return opener.open(request, timeout=IDLE_SECONDS)
        except urllib.error.HTTPError as error:
            error.close()
            raise _status_error(url, error) from None
        except urllib.error.URLError as error:
            raise connection_error(url, error.reason) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise connection_error(url, error) from None

    def read(
        self,
        url: str,
        headers: Optional[Mapping[str, str]] = None,
        body: Optional[bytes] = None,
    ) -> bytes:
        """Return the body of a document."""
        with self.open(url, headers, body) as response:
            return read_document(url, response)


def read_document(url: str, response: Any) -> bytes:
    """Return the whole body of a response, which must not be large."""
    try:
        data = bytes(response.read(_MAX_DOCUMENT_BYTES + 1))
    except (OSError, http.client.HTTPException) as error:
        raise connection_error(url, error) from None
    if len(data) > _MAX_DOCUMENT_BYTES:
        raise StorageError("the answer of %s is too large" % printable_url(url))
    return data


def decode_json(url: str, data: bytes) -> Any:
    """Return the value of a JSON document."""
    try:
        return json.loads(data.decode("utf-8"))
    except ValueError:
        raise StorageError(
            "%s does not answer with JSON" % printable_url(url), "check the address of the server"
        ) from None


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follow a few redirects after a check of each."""

    max_redirections = _MAX_REDIRECTS

    def __init__(self, headers: Mapping[str, str], check: RedirectCheck) -> None:
        self._headers = headers
        self._check = check

    def redirect_request(  # noqa: PLR0913, PLR0917 - overrides a method
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Any,
        newurl: str,
    ) -> Optional[urllib.request.Request]:
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        try:
            self._check(before, after)
        except BaseException:
            fp.close()
            raise
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and (after.scheme, after.netloc) == (before.scheme, before.netloc):
            for name, value in self._headers.items():
                request.add_unredirected_header(name, value)
        return request


def checked_opener(
    headers: Mapping[str, str], check: RedirectCheck, context: Optional[ssl.SSLContext] = None
) -> urllib.request.OpenerDirector:
    """Return an opener for http and https. `check` raises an error for a redirect to refuse.

    Redirects to the same server get the headers as well; others do not, since they may be
    credentials.
    """
    # Not `build_opener`, which adds files and FTP.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=context),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _CheckedRedirects(headers, check),
    ):
        opener.add_handler(handler)
    return opener


def _check_redirect(before: SplitResult, after: SplitResult) -> None:
    """Refuse redirects that leave TLS or lead to this machine."""
    target = ""
    if after.scheme not in ("http", "https"):
        target = "an address that is not http(s)"
    elif before.scheme == "https" and after.scheme != "https":
        target = "an address without TLS"
    elif is_loopback(after.hostname or "") and not is_loopback(before.hostname or ""):
        target = "this machine itself"
    if target:
        raise StorageError("%s leads to %s" % (printable_url(before.geturl()), target))


def _status_error(url: str, error: urllib.error.HTTPError) -> StatusError:
    status = error.code
    hint = "try again later"
    if 300 <= status < 400:
        hint = "check the address: there are too many redirects"
    elif status in (401, 403):
        hint = "check the credentials, and the rights that they give"
    elif status in (404, 410):
        hint = "check the address; private files need credentials"
    reason = http.client.responses.get(status, "")
    return StatusError(
        "%s cannot be read: %d %s" % (printable_url(url), status, reason),
        hint,
        transient=status in (408, 425, 429) or status >= 500,
        status=status,
        headers={name.lower(): value for name, value in error.headers.items()},
    )


def connection_error(url: str, error: object) -> StorageError:
    """Return the error for a connection that could not be made or has ended."""
    reason = str(getattr(error, "strerror", None) or error or type(error).__name__)
    hint = "check that the address is correct and reachable from here"
    transient = True
    if isinstance(error, socket.timeout):
        reason = "no answer in time"
    elif isinstance(error, socket.gaierror):
        hint = "check the name of the host"
    elif "CERTIFICATE_VERIFY_FAILED" in str(error):
        hint, transient = "set SSL_CERT_FILE to a file with the trusted certificates", False
    return StorageError("%s cannot be read: %s" % (printable_url(url), reason), hint, transient)


def header_mapping(text: str, variable: str) -> Dict[str, str]:
    """Return the headers of a JSON object in an environment variable."""
    try:
        headers = json.loads(text)
    except ValueError:
        headers = None
    if not isinstance(headers, dict) or any(
        not re.match(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z", name) or re.search(r"[\r\n\0]", str(value))
        for name, value in headers.items()
    ):
        raise StorageError("%s is not a JSON object of headers" % variable)
    return {name: str(value) for name, value in headers.items()}
