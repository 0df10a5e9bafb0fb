"""Errors of connections to a Kubernetes API server: network, TLS, proxy, client certificate."""

from __future__ import annotations

import base64
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Any

from fnbuild.errors import FnbuildError, UnavailableError


@dataclass(frozen=True, slots=True)
class ServerLocation:
    """The location of a cluster: the URL of its server, the context and the kubeconfig file."""

    server: str
    context: str = ""
    file: str = ""

    def __str__(self) -> str:
        if self.context:
            return f"{self.server} (context {self.context} of {self.file})"
        return f"{self.server} (from the environment of this pod)"


def connection_error(
    error: BaseException, location: ServerLocation, proxy: str = ""
) -> FnbuildError:
    """Translate an error of urllib3, websocket-client or the operating system."""
    import urllib3.exceptions as urllib3_errors

    if (untrusted := _find_cause(error, ssl.SSLCertVerificationError)) is not None:
        return _certificate_error(untrusted, location)
    if (tls_error := _find_cause(error, ssl.SSLError)) is not None:
        return UnavailableError(
            f"no TLS connection to the Kubernetes API at {location}: {tls_error}",
            hint="is it an https address, and are the client certificate and its key a pair?",
        )
    if isinstance(error, urllib3_errors.ProxyError):
        return UnavailableError(
            f"the proxy {_without_password(proxy)} does not reach the Kubernetes API at {location}",
            hint="add the server's address to NO_PROXY to bypass the proxy",
        )
    if isinstance(error, FileNotFoundError | PermissionError):
        named = error.filename or "a certificate or key of the kubeconfig"
        return UnavailableError(f"{named} cannot be read: {error.strerror}")
    return UnavailableError(
        f"no Kubernetes API answers at {location}: {_reason(error)}",
        hint="is the cluster running? `--context` and `--kubeconfig` select another one",
    )


def _reason(error: BaseException) -> str:
    import urllib3.exceptions as urllib3_errors

    if isinstance(error, urllib3_errors.NameResolutionError | socket.gaierror):
        return "the server's name cannot be resolved"
    if _find_cause(error, ConnectionRefusedError) is not None or "refused" in str(error):
        return "the connection is refused"
    if isinstance(error, urllib3_errors.TimeoutError | TimeoutError):
        return "it does not answer in time"
    return str(error) or type(error).__name__


def _certificate_error(
    error: ssl.SSLCertVerificationError, location: ServerLocation
) -> UnavailableError:
    reason = error.verify_message
    if "expired" in reason:
        return UnavailableError(
            f"the certificate of the Kubernetes API at {location} has expired",
            hint="the cluster's administrator has to renew it; is this machine's clock right?",
        )
    if "not valid for" in reason or "mismatch" in reason.lower():
        return UnavailableError(
            f"the certificate of the Kubernetes API at {location} is for another name: {reason}",
            hint="use a name that it has, or set tls-server-name in the kubeconfig's cluster",
        )
    return UnavailableError(
        f"the Kubernetes API at {location} does not match the kubeconfig: its certificate is from"
        f" another authority ({reason})",
        hint="was the cluster recreated? fetch its kubeconfig again",
    )


def _find_cause(error: BaseException | None, kind: type[BaseException]) -> Any:
    """Return the first error of that type in the chain of causes, including error arguments."""
    seen: set[int] = set()
    pending = [error]
    while pending:
        candidate = pending.pop()
        if candidate is None or id(candidate) in seen:
            continue
        if isinstance(candidate, kind):
            return candidate
        seen.add(id(candidate))
        inner = [cause for cause in candidate.args if isinstance(cause, BaseException)]
        pending += [
            getattr(candidate, "reason", None),
            candidate.__cause__,
            candidate.__context__,
            *inner,
        ]
        pending = [cause for cause in pending if isinstance(cause, BaseException)]
    return None


def _without_password(proxy: str) -> str:
    scheme, separator, rest = proxy.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def expiry_date(certificate: bytes) -> str:
    """Return the ISO date on which a PEM certificate expired; empty for a valid one or none."""
    try:
        pem = certificate.decode("ascii")
        body = pem.partition("-----BEGIN CERTIFICATE-----")[2].partition("-----END")[0]
        end = _end_of_validity(base64.b64decode(body))
    except (ValueError, IndexError):
        return ""
    now = time.strftime("%Y%m%d%H%M%SZ", time.gmtime())
    return f"{end[:4]}-{end[4:6]}-{end[6:8]}" if end < now else ""


def _end_of_validity(der: bytes) -> str:
    """Return `notAfter` as YYYYMMDDHHMMSSZ (RFC 5280, 4.1). Python's ssl decodes peers' only."""
    inner = _der_elements(_der_elements(_der_elements(der)[0][1])[0][1])
    fields = inner[1:] if inner[0][0] == 0xA0 else inner  # without the version
    kind, value = _der_elements(fields[3][1])[1]
    text = value.decode("ascii")
    if kind == 0x17:  # UTCTime has two digits of the year, up to 2049
        return ("20" if text[:2] < "50" else "19") + text
    return text


def _der_elements(der: bytes) -> list[tuple[int, bytes]]:
    """Return a sequence of DER elements as pairs of tag and content."""
    result, at = [], 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(der[at : at + size]), at + size
        result.append((tag, der[at : at + length]))
        at += length
    return result
