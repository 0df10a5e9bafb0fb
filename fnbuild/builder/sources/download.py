"""One file from a URL: over TLS, with limits, its hash checked when one is given."""

from __future__ import annotations

import base64
import errno
import hashlib
import http.client
import ipaddress
import re
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from fnbuild.builder.sources.limits import SourceLimits, format_mebibytes
from fnbuild.errors import InputError
from fnbuild.progress import Progress

_CHUNK = 1 << 20
_PROGRESS_SECONDS = 2.0
_MAX_REDIRECTS = 5
_SHA256 = re.compile(r"[0-9a-fA-F]{64}\Z")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
# Python's own words may hold the whole address of a redirect.
_REASONS = http.client.responses
ADDRESS_HINT = "a password in it is written with %2F for /, %40 for @, %23 for # and %3F for ?"
_HASH_HINT = "as in https://example.com/code.zip#sha256=<64 hexadecimal digits>"


@dataclass(frozen=True, slots=True)
class DownloadAddress:
    """A URL to fetch. `headers` hold what must not be shown, as `url` may; `shown` is harmless.

    `sha256` is what the content must hash to (lower-case hex), "" when nobody said.
    """

    url: str
    shown: str
    sha256: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """The last part of the path, as the name of a file."""
        last = urllib.parse.unquote(urllib.parse.urlsplit(self.url).path.rpartition("/")[2])
        return re.sub(r"[^\w.+-]", "_", last).lstrip(".")[-100:] or "source"


def is_url(text: str) -> bool:
    """Whether a path is the URL of something to fetch."""
    return bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text))


def parse_address(
    url: str, headers: Mapping[str, Any] | None = None, sha256: str = ""
) -> DownloadAddress:
    """The parts of a URL. Raises `InputError` for what is not fetched: plain http, foreign schemes.

    What a hash vouches for may come by http, and so may what this machine itself serves.
    """
    try:
        parts = urllib.parse.urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        # Python's words may hold a part of the password.
        raise InputError(f"{redact_address(url)} is not a URL", hint=ADDRESS_HINT) from error
    given = dict(urllib.parse.parse_qsl(parts.fragment)).get("sha256", "")
    wanted = _expected_hash(redact_address(url), given, sha256)
    if parts.scheme not in ("http", "https") or not host:
        raise InputError(
            f"{redact_address(url)} is not fetched: code comes from https:// addresses",
            hint="fetch it by other means, and give its folder or archive as `--path`",
        )
    sent = {name: str(value) for name, value in (headers or {}).items()}
    for name, value in sent.items():
        if not _HEADER.match(name) or not re.fullmatch(r"[^\r\n\0]*", value):
            raise InputError(f"codeEntryAttributes.headers: {name!r} cannot be sent as a header")
    if parts.username is not None:
        pair = (
            f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        )
        sent["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    place = f"[{host}]" if ":" in host else host
    place += f":{port}" if port else ""
    plain = urllib.parse.urlunsplit((parts.scheme, place, parts.path or "/", parts.query, ""))
    made = DownloadAddress(plain.replace(" ", "%20"), redact_address(url), wanted, sent)
    _check_secure(made.url, wanted)
    return made


def redact_address(url: str) -> str:
    """The URL without what may be secret: user, password, query and fragment."""
    base, mark, _ = re.split(r"#", url, maxsplit=1)[0].partition("?")
    # A password may have a slash that nobody wrote as %2F.
    return re.sub(r"(?<=://)(?:[^/@]*:.*|[^/@]*)@", "", base) + ("?…" if mark else "")


def download_file(
    address: DownloadAddress, folder: Path, progress: Progress, limits: SourceLimits | None = None
) -> Path:
    """The file behind the address, in `folder`. Raises `InputError` that says why there is none."""
    bounds = SourceLimits() if limits is None else limits
    request = urllib.request.Request(  # noqa: S310 - `address` lets nothing but the web through
        address.url, headers={"User-Agent": "fnbuild"}
    )
    for name, value in address.headers.items():
        request.add_unredirected_header(name, value)
    target = folder / address.name
    progress(f"fetching {address.shown}")
    try:
        with _opener(address).open(request, timeout=bounds.silence) as reply:
            digest = _save_body(reply, target, address, progress, bounds)
    except urllib.error.HTTPError as error:
        error.close()
        raise InputError(
            f"{address.shown} cannot be fetched: {error.code} {_REASONS.get(error.code, '')}",
            hint=_status_hint(error.code),
        ) from error
    except urllib.error.URLError as error:
        raise _unreachable_error(address, error.reason) from error
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable_error(address, error) from error
    if address.sha256 and digest != address.sha256:
        raise InputError(
            f"{address.shown} is not the file that was meant: its sha256 is {digest},"
            f" not {address.sha256}",
            hint="correct the hash if the new content is wanted; else somebody changed the file",
        )
    return target


def _expected_hash(shown: str, *given: str) -> str:
    hashes = {one.lower().removeprefix("sha256:") for one in given if one}
    if not hashes:
        return ""
    if len(hashes) > 1:
        raise InputError(f"{shown}: its #sha256 and codeEntryAttributes.sha256 are not the same")
    wanted = hashes.pop()
    if not _SHA256.match(wanted):
        raise InputError(f"{shown}: {wanted[:80]!r} is not a sha256", hint=_HASH_HINT)
    return wanted


def _check_secure(url: str, sha256: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https" or sha256 or _is_loopback(parts.hostname or ""):
        return
    raise InputError(
        f"{redact_address(url)} is not fetched: by plain http, anybody on the way can change the"
        " code",
        hint=f"use https, or say what the content must be, {_HASH_HINT}",
    )


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows few redirects, each checked as the first address was.

    A foreign server leads nobody to this machine's own services.
    """

    max_redirections = _MAX_REDIRECTS

    def __init__(self, address: DownloadAddress):
        self._address = address

    def redirect_request(  # noqa: PLR0913, PLR0917 - the overridden one's
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Any,
        newurl: str,
    ) -> urllib.request.Request | None:
        before = urllib.parse.urlsplit(req.full_url)
        try:
            parts = self._checked(newurl, before.hostname or "")
        except InputError:
            fp.close()
            raise
        made = super().redirect_request(req, fp, code, msg, headers, newurl)
        same = (parts.scheme, parts.netloc) == (before.scheme, before.netloc)
        if made is not None and same:
            for name, value in self._address.headers.items():
                made.add_unredirected_header(name, value)
        return made

    def _checked(self, url: str, before: str) -> urllib.parse.SplitResult:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise InputError(
                f"{self._address.shown} leads to {redact_address(url)}, no web address"
            )
        _check_secure(url, self._address.sha256)
        if _is_loopback(parts.hostname or "") and not _is_loopback(before):
            raise InputError(
                f"{self._address.shown} leads to {redact_address(url)}, on this machine itself"
            )
        return parts


def _opener(address: DownloadAddress) -> urllib.request.OpenerDirector:
    # Not `build_opener`, which brings files and FTP along.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _CheckedRedirects(address),
    ):
        opener.add_handler(handler)
    return opener


def _save_body(
    reply: http.client.HTTPResponse,
    target: Path,
    address: DownloadAddress,
    progress: Progress,
    limits: SourceLimits,
) -> str:
    """Write the reply's body to the file; its SHA-256 (hex)."""
    length = reply.headers.get("Content-Length", "")
    whole = int(length) if length.isdecimal() else 0
    if whole > limits.download:
        raise _too_large_error(address, limits)
    digest, received = hashlib.sha256(), 0
    start = told = time.monotonic()
    with target.open("wb") as file:
        while chunk := reply.read(_CHUNK):
            received += len(chunk)
            if received > limits.download:
                raise _too_large_error(address, limits)
            digest.update(chunk)
            file.write(chunk)
            now = time.monotonic()
            if now - start > limits.whole:
                raise InputError(f"{address.shown} did not come within {limits.whole:.0f} s")
            if now - told > _PROGRESS_SECONDS:
                told = now
                of = f" of {format_mebibytes(whole)}" if whole else ""
                progress(f"fetching {address.shown}: {format_mebibytes(received)}{of}")
    if received < whole:
        raise InputError(
            f"{address.shown}: the connection ended after {received} of {whole} bytes",
            hint="try again",
        )
    return digest.hexdigest()


def _too_large_error(address: DownloadAddress, limits: SourceLimits) -> InputError:
    return InputError(
        f"{address.shown} is larger than {format_mebibytes(limits.download)}",
        hint="fetch it yourself, and give its folder",
    )


def _unreachable_error(address: DownloadAddress, error: object) -> InputError:
    reason = str(getattr(error, "strerror", None) or error)
    hint = "see whether the address is right and reachable from here"
    if getattr(error, "errno", 0) in (errno.ENOSPC, errno.EDQUOT):
        hint = "set TMPDIR to a folder on a disk with more room"
    if isinstance(error, TimeoutError):
        reason = "no answer in time"
    elif isinstance(error, socket.gaierror):
        hint = "see whether the name is right, and this machine on the network"
    elif "CERTIFICATE_VERIFY_FAILED" in str(error):
        hint = "SSL_CERT_FILE names a file with the certificates to trust"
    return InputError(f"{address.shown} cannot be fetched: {reason}", hint=hint)


def _status_hint(status: int) -> str:
    if 300 <= status < 400:
        return "it leads on too often, or to what is no web address"
    if status in (401, 403):
        return "codeEntryAttributes.headers is where credentials for it go, as Authorization"
    if status in (404, 410):
        return "see whether the address is right; private ones answer so without credentials"
    return "try again later, or fetch it yourself and give its folder"
