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
    """Where the cluster is said to be: the server's URL, the context, and the file it is from."""

    server: str
    context: str = ""
    file: str = ""

    def __str__(self) -> str:
        if self.context:
            return f"{self.server} (context {self.context} of {self.file})"
        return f"{self.server} (told by the pod that this runs in)"


def connection_error(error: BaseException, place: ServerLocation, proxy: str = "") -> FnbuildError:
    """What urllib3, websocket-client or the operating system raised, in words."""
    import urllib3.exceptions as failures

    if (distrust := _find_cause(error, ssl.SSLCertVerificationError)) is not None:
        return _certificate_error(distrust, place)
    if (failed := _find_cause(error, ssl.SSLError)) is not None:
        return UnavailableError(
            f"no TLS connection to the Kubernetes API at {place}: {failed}",
            hint="is it an https address, and are the client certificate and its key a pair?",
        )
    if isinstance(error, failures.ProxyError):
        return UnavailableError(
            f"the proxy {_without_password(proxy)} does not lead to the Kubernetes API at {place}",
            hint="NO_PROXY with the server's address goes around it",
        )
    if isinstance(error, FileNotFoundError | PermissionError):
        named = error.filename or "a certificate or key of the kubeconfig"
        return UnavailableError(f"{named} cannot be read: {error.strerror}")
    return UnavailableError(
        f"no Kubernetes API answers at {place}: {_reason(error)}",
        hint="does the cluster run? `--context` and `--kubeconfig` name another one",
    )


def _reason(error: BaseException) -> str:
    import urllib3.exceptions as failures

    if isinstance(error, failures.NameResolutionError | socket.gaierror):
        return "the server's name is not known"
    if _find_cause(error, ConnectionRefusedError) is not None or "refused" in str(error):
        return "the connection is refused"
    if isinstance(error, failures.TimeoutError | TimeoutError):
        return "it does not answer in time"
    return str(error) or type(error).__name__


def _certificate_error(
    error: ssl.SSLCertVerificationError, place: ServerLocation
) -> UnavailableError:
    reason = error.verify_message
    if "expired" in reason:
        return UnavailableError(
            f"the certificate of the Kubernetes API at {place} has expired",
            hint="whoever runs the cluster has to renew it; is this machine's clock right?",
        )
    if "not valid for" in reason or "mismatch" in reason.lower():
        return UnavailableError(
            f"the certificate of the Kubernetes API at {place} is for another name: {reason}",
            hint="use a name that it has, or set tls-server-name in the kubeconfig's cluster",
        )
    return UnavailableError(
        f"the Kubernetes API at {place} is not the one that the kubeconfig tells of: its"
        f" certificate is from another authority ({reason})",
        hint="was the cluster made anew? fetch its kubeconfig again",
    )


def _find_cause(error: BaseException | None, kind: type[BaseException]) -> Any:
    """The first error of that kind in the chain of causes, arguments included."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        if isinstance(one, kind):
            return one
        seen.add(id(one))
        inner = [part for part in one.args if isinstance(part, BaseException)]
        waiting += [getattr(one, "reason", None), one.__cause__, one.__context__, *inner]
        waiting = [part for part in waiting if isinstance(part, BaseException)]
    return None


def _without_password(proxy: str) -> str:
    scheme, found, rest = proxy.partition("://")
    return f"{scheme}{found}{rest.rpartition('@')[2]}"


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
    """`notAfter` as YYYYMMDDHHMMSSZ (RFC 5280, 4.1); Python's ssl reads only those of peers."""
    inner = _der_elements(_der_elements(_der_elements(der)[0][1])[0][1])
    fields = inner[1:] if inner[0][0] == 0xA0 else inner  # without the version
    kind, value = _der_elements(fields[3][1])[1]
    text = value.decode("ascii")
    if kind == 0x17:  # UTCTime has two digits of the year, up to 2049
        return ("20" if text[:2] < "50" else "19") + text
    return text


def _der_elements(der: bytes) -> list[tuple[int, bytes]]:
    """The DER elements in a row: tag and content."""
    result, at = [], 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(der[at : at + size]), at + size
        result.append((tag, der[at : at + length]))
        at += length
    return result
