"""Download one file from a URL: over TLS, with limits, and with a hash check if there is a hash."""

from __future__ import annotations

import base64
import errno
import hashlib
import http.client
import re
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fnbuild.builder.sources.limits import DEFAULT_LIMITS, SourceLimits, format_mebibytes
from fnbuild.errors import InputError
from fnbuild.hosts import bracketed, is_loopback
from fnbuild.progress import Progress
from fnbuild.runtime.storage.web import checked_opener

_CHUNK = 1 << 20
_PROGRESS_SECONDS = 2.0
_SHA256 = re.compile(r"[0-9a-fA-F]{64}\Z")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
# Python's own reasons may contain the whole address of a redirect.
_REASONS = http.client.responses
ADDRESS_HINT = "escape a password in it: %2F for /, %40 for @, %23 for # and %3F for ?"
_HASH_HINT = "for example https://example.com/code.zip#sha256=<64 hexadecimal digits>"


@dataclass(frozen=True, slots=True)
class DownloadAddress:
    """A URL to download. `headers` are secret, and `url` may be; `display_url` can be printed.

    `sha256` is the expected hash of the content (lower-case hex), "" for none.
    """

    url: str
    display_url: str
    sha256: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """Return the last part of the path, as the name of a file."""
        last = urllib.parse.unquote(urllib.parse.urlsplit(self.url).path.rpartition("/")[2])
        return re.sub(r"[^\w.+-]", "_", last).lstrip(".")[-100:] or "source"


def is_url(text: str) -> bool:
    """Return True if a path is a URL."""
    return bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text))


def parse_address(
    url: str, headers: Mapping[str, Any] | None = None, sha256: str = ""
) -> DownloadAddress:
    """Return the address for a URL. Raises `InputError` for plain http and unsupported schemes.

    Plain http is allowed with a hash, and for this machine.
    """
    try:
        parts = urllib.parse.urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        # Python's message may contain a part of the password.
        raise InputError(f"{printable_url(url)} is not a URL", hint=ADDRESS_HINT) from error
    fragment_hash = dict(urllib.parse.parse_qsl(parts.fragment)).get("sha256", "")
    expected = _expected_hash(printable_url(url), fragment_hash, sha256)
    if parts.scheme not in ("http", "https") or not host:
        raise InputError(
            f"{printable_url(url)} cannot be used: code is only downloaded from https:// addresses",
            hint="download it yourself, and pass its folder or archive as `--path`",
        )
    all_headers = {name: str(value) for name, value in (headers or {}).items()}
    for name, value in all_headers.items():
        if not _HEADER.match(name) or not re.fullmatch(r"[^\r\n\0]*", value):
            raise InputError(f"codeEntryAttributes.headers: {name!r} cannot be sent as a header")
    if parts.username is not None:
        credentials = (
            f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        )
        all_headers["Authorization"] = "Basic " + base64.b64encode(credentials.encode()).decode()
    netloc = bracketed(host) + (f":{port}" if port else "")
    plain = urllib.parse.urlunsplit((parts.scheme, netloc, parts.path or "/", parts.query, ""))
    result = DownloadAddress(plain.replace(" ", "%20"), printable_url(url), expected, all_headers)
    _check_secure(result.url, expected)
    return result


def printable_url(url: str) -> str:
    """Return the URL without user, password, query and fragment."""
    base, mark, _ = re.split(r"#", url, maxsplit=1)[0].partition("?")
    # A password may contain an unescaped slash.
    return re.sub(r"(?<=://)(?:[^/@]*:.*|[^/@]*)@", "", base) + ("?…" if mark else "")


def download_file(
    address: DownloadAddress,
    folder: Path,
    progress: Progress,
    limits: SourceLimits = DEFAULT_LIMITS,
) -> Path:
    """Download the file to `folder`, and return its path. Raises `InputError` with the cause."""
    request = urllib.request.Request(  # noqa: S310 - `parse_address` only allows http and https
        address.url, headers={"User-Agent": "fnbuild"}
    )
    for name, value in address.headers.items():
        request.add_unredirected_header(name, value)
    target = folder / address.name
    progress(f"downloading {address.display_url}")
    try:
        opener = checked_opener(address.headers, partial(_check_redirect, address))
        with opener.open(request, timeout=limits.idle_seconds) as response:
            digest = _save_body(response, target, address, progress, limits)
    except urllib.error.HTTPError as error:
        error.close()
        raise InputError(
            f"{address.display_url} cannot be downloaded:"
            f" {error.code} {_REASONS.get(error.code, '')}",
            hint=_status_hint(error.code),
        ) from error
    except urllib.error.URLError as error:
        raise _unreachable_error(address, error.reason) from error
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable_error(address, error) from error
    if address.sha256 and digest != address.sha256:
        raise InputError(
            f"{address.display_url} is not the expected file: its sha256 is {digest},"
            f" not {address.sha256}",
            hint="correct the hash if the change is intended",
        )
    return target


def _expected_hash(display_url: str, *values: str) -> str:
    hashes = {value.lower().removeprefix("sha256:") for value in values if value}
    if not hashes:
        return ""
    if len(hashes) > 1:
        raise InputError(f"{display_url}: its #sha256 and codeEntryAttributes.sha256 differ")
    expected = hashes.pop()
    if not _SHA256.match(expected):
        raise InputError(f"{display_url}: {expected[:80]!r} is not a sha256", hint=_HASH_HINT)
    return expected


def _check_secure(url: str, sha256: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https" or sha256 or is_loopback(parts.hostname or ""):
        return
    raise InputError(
        f"{printable_url(url)} cannot be used: with plain http, others on the network can change"
        " the code",
        hint=f"use https, or add the hash of the content, {_HASH_HINT}",
    )


def _check_redirect(
    address: DownloadAddress, before: urllib.parse.SplitResult, after: urllib.parse.SplitResult
) -> None:
    """Check a redirect like the first address.

    A remote server must not redirect to services on this machine.
    """
    url = printable_url(after.geturl())
    if after.scheme not in ("http", "https"):
        raise InputError(f"{address.display_url} leads to {url}, which is not an http(s) address")
    _check_secure(after.geturl(), address.sha256)
    if is_loopback(after.hostname or "") and not is_loopback(before.hostname or ""):
        raise InputError(f"{address.display_url} leads to {url}, on this machine itself")


def _save_body(
    response: http.client.HTTPResponse,
    target: Path,
    address: DownloadAddress,
    progress: Progress,
    limits: SourceLimits,
) -> str:
    """Write the response body to the file; return its SHA-256 (hex)."""
    length = response.headers.get("Content-Length", "")
    size = int(length) if length.isdecimal() else 0
    if size > limits.download_bytes:
        raise _too_large_error(address, limits)
    digest, received = hashlib.sha256(), 0
    start = reported = time.monotonic()
    with target.open("wb") as file:
        while chunk := response.read(_CHUNK):
            received += len(chunk)
            if received > limits.download_bytes:
                raise _too_large_error(address, limits)
            digest.update(chunk)
            file.write(chunk)
            now = time.monotonic()
            if now - start > limits.total_seconds:
                raise InputError(
                    f"{address.display_url} did not arrive within {limits.total_seconds:.0f} s"
                )
            if now - reported > _PROGRESS_SECONDS:
                reported = now
                total = f" of {format_mebibytes(size)}" if size else ""
                progress(f"downloading {address.display_url}: {format_mebibytes(received)}{total}")
    if received < size:
        raise InputError(
            f"{address.display_url}: the connection ended after {received} of {size} bytes",
            hint="try again",
        )
    return digest.hexdigest()


def _too_large_error(address: DownloadAddress, limits: SourceLimits) -> InputError:
    return InputError(
        f"{address.display_url} is larger than {format_mebibytes(limits.download_bytes)}",
        hint="download it yourself, and pass its folder",
    )


def _unreachable_error(address: DownloadAddress, error: object) -> InputError:
    reason = str(getattr(error, "strerror", None) or error)
    hint = "check that the address is correct and reachable from this machine"
    if getattr(error, "errno", 0) in (errno.ENOSPC, errno.EDQUOT):
        hint = "set TMPDIR to a folder on a disk with more space"
    if isinstance(error, TimeoutError):
        reason = "no answer in time"
    elif isinstance(error, socket.gaierror):
        hint = "check the host name and the network of this machine"
    elif "CERTIFICATE_VERIFY_FAILED" in str(error):
        hint = "set SSL_CERT_FILE to a file with the trusted certificates"
    return InputError(f"{address.display_url} cannot be downloaded: {reason}", hint=hint)


def _status_hint(status: int) -> str:
    if 300 <= status < 400:
        return "there are too many redirects, or one to an address other than http(s)"
    if status in (401, 403):
        return "add credentials to codeEntryAttributes.headers, as Authorization"
    if status in (404, 410):
        return "check the address; private files need credentials"
    return "try again later, or download it yourself and pass its folder"
