"""Client certificates for git servers.

The attributes are Nuclio's (pkg/common/git/types.go): `clientCert`, `clientKey` and `caBundle`, as
PEM text or as base64 of it. The git program takes files only, so each goes into a file in memory
that the program inherits. Nothing is written to a disk or a command line, or left after a crash.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fnbuild.errors import InputError

_CERT, _KEY, _BUNDLE = "clientCert", "clientKey", "caBundle"
_AS_PEM = "give it as PEM, which begins with -----BEGIN, or as base64 of that"


@dataclass(frozen=True, slots=True)
class Certificates:
    """Paths of files for git, "" for missing ones, and the descriptors that it has to inherit."""

    certificate: str = ""
    key: str = ""
    bundle: str = ""
    descriptors: tuple[int, ...] = ()

    @property
    def settings(self) -> list[tuple[str, str]]:
        """Return pairs of a git setting, without its `http.`, and a file."""
        candidates = (
            ("sslCert", self.certificate), ("sslKey", self.key), ("sslCAInfo", self.bundle),
        )  # fmt: skip
        return [(name, file) for name, file in candidates if file]


@contextmanager
def opened(attributes: Mapping[str, Any], *, https: bool) -> Iterator[Certificates]:
    """Provide the certificates in the attributes as files until the context ends.

    Raises `InputError` for an invalid certificate, for a key of another certificate, and for
    addresses without TLS.
    """
    certificate, key, bundle = (_pem(attributes, name) for name in (_CERT, _KEY, _BUNDLE))
    if not (certificate or key or bundle):
        yield Certificates()
        return
    if not https:
        raise InputError(
            f"codeEntryAttributes: {_CERT}, {_KEY} and {_BUNDLE} need an https address"
        )
    if bool(certificate) != bool(key):
        present, missing = (_CERT, _KEY) if certificate else (_KEY, _CERT)
        raise InputError(
            f"codeEntryAttributes has {present}, and {missing} is missing",
            hint="an export leaves the key out: give it again",
        )
    with ExitStack() as stack:
        files = {
            name: _in_memory(stack, name, content)
            for name, content in ((_CERT, certificate), (_KEY, key), (_BUNDLE, bundle))
            if content
        }
        _check(files, bundle)
        if bundle:
            # Git's setting replaces the system's authorities; the bundle is meant to add to them.
            files[_BUNDLE] = _in_memory(stack, _BUNDLE, f"{_of_the_system()}\n{bundle}")
        paths = {name: f"/proc/self/fd/{number}" for name, number in files.items()}
        yield Certificates(
            paths.get(_CERT, ""), paths.get(_KEY, ""), paths.get(_BUNDLE, ""),
            tuple(files.values()),
        )  # fmt: skip


def _pem(attributes: Mapping[str, Any], name: str) -> str:
    """Return the PEM text of an attribute; as in Nuclio, the case of its name is ignored."""
    matches = (value for key, value in attributes.items() if key.lower() == name.lower())
    text = str(next(matches, None) or "").strip()
    if not text:
        return ""
    if "-----BEGIN" not in text:
        try:
            text = base64.b64decode("".join(text.split()), validate=True).decode("ascii").strip()
        except (binascii.Error, ValueError):
            text = ""
    if "-----BEGIN" not in text:
        raise InputError(f"codeEntryAttributes.{name} is not PEM", hint=_AS_PEM)
    return f"{text}\n"


def _in_memory(stack: ExitStack, name: str, content: str) -> int:
    """Create a file that exists in memory only."""
    descriptor = os.memfd_create(name)
    stack.callback(os.close, descriptor)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content.encode())
    return descriptor


def _check(files: Mapping[str, int], bundle: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if _CERT in files:
        certificate, key = (f"/proc/self/fd/{files[name]}" for name in (_CERT, _KEY))
        try:
            # An empty password prevents a prompt on the terminal.
            context.load_cert_chain(certificate, key, password="")
        except (ssl.SSLError, OSError) as error:
            raise InputError(
                f"codeEntryAttributes: {_CERT} and {_KEY} cannot be used: {_reason(error)}",
                hint="the key has to be the certificate's own, without a passphrase",
            ) from None
    if bundle:
        try:
            context.load_verify_locations(cadata=bundle)
        except (ssl.SSLError, ValueError) as error:
            raise InputError(
                f"codeEntryAttributes.{_BUNDLE} holds no certificate that can be read:"
                f" {_reason(error)}",
                hint=_AS_PEM,
            ) from None


def _reason(error: Exception) -> str:
    """Return OpenSSL's short reason, which quotes no content."""
    reason = error.reason if isinstance(error, ssl.SSLError) else ""
    return str(reason or "it is damaged").replace("_", " ").lower()


def _of_the_system() -> str:
    """Return the authorities that git trusts by default, as PEM."""
    paths = ssl.get_default_verify_paths()
    places = (os.environ.get("GIT_SSL_CAINFO"), paths.cafile, "/etc/ssl/certs/ca-certificates.crt")
    for place in filter(None, places):
        try:
            return Path(place).read_text("utf-8", errors="replace")
        except OSError:
            continue
    return ""
