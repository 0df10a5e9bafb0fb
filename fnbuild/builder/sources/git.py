"""Code from a git repository: one commit, fetched by the git program with hidden credentials.

The attributes of client certificates are Nuclio's (pkg/common/git/types.go): `clientCert`,
`clientKey` and `caBundle`, as PEM text or as base64 of it. The git program only takes files, so
each goes into an in-memory file that the program inherits. Nothing is written to a disk or a
command line, or left after a crash.
"""

from __future__ import annotations

import base64
import os
import re
import ssl
import subprocess
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fnbuild import trees
from fnbuild.builder.sources.download import ADDRESS_HINT, printable_url
from fnbuild.builder.sources.limits import DEFAULT_LIMITS
from fnbuild.errors import BuildError, InputError, UnavailableError
from fnbuild.function.secret_detection import mask_userinfo
from fnbuild.progress import Progress

_CERT, _KEY, _BUNDLE = "clientCert", "clientKey", "caBundle"
_AUTHORITIES_SETTING = "sslCAInfo"
_SETTINGS = {_CERT: "sslCert", _KEY: "sslKey", _BUNDLE: _AUTHORITIES_SETTING}
"""Git's settings for the attributes, without their `http.`."""

_PEM_HINT = "use PEM, which begins with -----BEGIN, or base64 of it"

_REFERENCES = (("branch", "refs/heads/"), ("tag", "refs/tags/"), ("reference", ""))
_REFERENCE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+@-]*\Z")
_SCHEMES = ("https", "ssh", "file")
_REMEDIES = (
    (
        re.compile(r"could not read (Username|Password)|Authentication failed|terminal prompts"),
        "the server requires codeEntryAttributes.username and .password",
    ),
    (
        re.compile(r"certificate verification failed|unable to get (local )?issuer|self.signed"),
        "codeEntryAttributes.caBundle names the authority of the server's certificate, as PEM",
    ),
    (
        # A TLS 1.3 server refuses a client without a certificate by closing the connection.
        re.compile(
            r"[Cc]ertificate.is.required|certificate.required|alert|getpeername|reset by peer"
            r"|handshake|non-properly terminated|SSL_read|gnutls recv"
        ),
        "a server that wants a client certificate needs codeEntryAttributes.clientCert and"
        " .clientKey, as PEM",
    ),
)


@dataclass(frozen=True, slots=True)
class ClientCertificates:
    """Paths of files by their settings for git, and the descriptors that git has to inherit."""

    settings: Mapping[str, str] = field(default_factory=dict)
    descriptors: tuple[int, ...] = ()


@contextmanager
def open_certificates(
    attributes: Mapping[str, Any], *, https: bool
) -> Iterator[ClientCertificates]:
    """Provide the certificates in the attributes as files until the context ends.

    Raises `InputError` for an invalid certificate, for a key of another certificate, and for
    addresses without TLS.
    """
    certificate, key, bundle = (_pem(attributes, name) for name in (_CERT, _KEY, _BUNDLE))
    if not (certificate or key or bundle):
        yield ClientCertificates()
        return
    if not https:
        raise InputError(
            f"codeEntryAttributes: {_CERT}, {_KEY} and {_BUNDLE} need an https address"
        )
    if bool(certificate) != bool(key):
        present, missing = (_CERT, _KEY) if certificate else (_KEY, _CERT)
        raise InputError(
            f"codeEntryAttributes has {present}, and {missing} is missing",
            hint="exports do not include the key: add it again",
        )
    with ExitStack() as stack:
        files = {
            name: _memory_file(stack, name, content)
            for name, content in ((_CERT, certificate), (_KEY, key), (_BUNDLE, bundle))
            if content
        }
        _check_certificates(files, bundle)
        if bundle:
            # Git's setting replaces the system's authorities; the bundle is meant to add to them.
            files[_BUNDLE] = _memory_file(stack, _BUNDLE, f"{_system_authorities()}\n{bundle}")
        settings = {_SETTINGS[name]: f"/proc/self/fd/{number}" for name, number in files.items()}
        yield ClientCertificates(settings, tuple(files.values()))


def _pem(attributes: Mapping[str, Any], name: str) -> str:
    """Return the PEM text of an attribute; as in Nuclio, the case of its name is ignored."""
    matches = (value for key, value in attributes.items() if key.lower() == name.lower())
    text = str(next(matches, None) or "").strip()
    if not text:
        return ""
    if "-----BEGIN" not in text:
        try:
            text = base64.b64decode("".join(text.split()), validate=True).decode("ascii").strip()
        except ValueError:
            text = ""
    if "-----BEGIN" not in text:
        raise InputError(f"codeEntryAttributes.{name} is not PEM", hint=_PEM_HINT)
    return f"{text}\n"


def _memory_file(stack: ExitStack, name: str, content: str) -> int:
    """Create a file that exists in memory only."""
    descriptor = os.memfd_create(name)
    stack.callback(os.close, descriptor)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content.encode())
    return descriptor


def _check_certificates(files: Mapping[str, int], bundle: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if _CERT in files:
        certificate, key = (f"/proc/self/fd/{files[name]}" for name in (_CERT, _KEY))
        try:
            # An empty password prevents a prompt on the terminal.
            context.load_cert_chain(certificate, key, password="")
        except (ssl.SSLError, OSError) as error:
            raise InputError(
                f"codeEntryAttributes: {_CERT} and {_KEY} cannot be used: {_ssl_reason(error)}",
                hint="use the key of that certificate, without a passphrase",
            ) from None
    if bundle:
        try:
            context.load_verify_locations(cadata=bundle)
        except (ssl.SSLError, ValueError) as error:
            raise InputError(
                f"codeEntryAttributes.{_BUNDLE} has no valid certificate: {_ssl_reason(error)}",
                hint=_PEM_HINT,
            ) from None


def _ssl_reason(error: Exception) -> str:
    """Return OpenSSL's short reason, which quotes no content."""
    reason = error.reason if isinstance(error, ssl.SSLError) else ""
    return str(reason or "it is damaged").replace("_", " ").lower()


def _system_authorities() -> str:
    """Return the authorities that git trusts by default, as PEM."""
    paths = ssl.get_default_verify_paths()
    candidates = (
        os.environ.get("GIT_SSL_CAINFO"),
        paths.cafile,
        "/etc/ssl/certs/ca-certificates.crt",
    )
    for candidate in filter(None, candidates):
        try:
            return Path(candidate).read_text("utf-8", errors="replace")
        except OSError:
            continue
    return ""


def git_reference(attributes: Mapping[str, Any]) -> str:
    """Return the ref to fetch: branch, tag or reference, in this order. Raises `InputError`."""
    for key, prefix in _REFERENCES:
        name = str(attributes.get(key) or "")
        if not name:
            continue
        if not _REFERENCE.match(name) or ".." in name:
            raise InputError(f"codeEntryAttributes.{key}: {name!r} cannot be a git reference")
        return name if name.startswith("refs/") else prefix + name
    raise InputError(
        "codeEntryType git needs a branch, a tag or a reference",
        hint="as in `codeEntryAttributes: {branch: main}`",
    )


def fetch_commit(
    url: str,
    attributes: Mapping[str, Any],
    destination: Path,
    progress: Progress,
) -> None:
    """Write the files of the commit to `destination`, which must not exist, without `.git`.

    Raises `InputError` for invalid addresses and references, `UnavailableError` without the git
    program, `BuildError` with git's output if it fails.
    """
    ref = git_reference(attributes)
    address, credentials = _split_credentials(url, attributes)
    is_https = address.startswith("https://")
    with open_certificates(attributes, https=is_https) as client_files:
        progress(f"fetching {ref} of {printable_url(address)}")
        destination.mkdir()
        environment = _git_environment(address, credentials, client_files)
        run = partial(_run_git, destination, environment, address, client_files.descriptors)
        run("init", "--quiet")
        run("fetch", "--quiet", "--depth", "1", "--no-tags", "--", address, ref)
        run("checkout", "--quiet", "--detach", "FETCH_HEAD")
    trees.remove(destination / ".git")


def _split_credentials(
    url: str, attributes: Mapping[str, Any]
) -> tuple[str, tuple[str, str] | None]:
    """Return the URL without credentials, and the credentials."""
    user, password = (str(attributes.get(key) or "") for key in ("username", "password"))
    if re.match(r"[\w.-]+@[\w.-]+:(?!//)", url):
        return url, None  # the short form of ssh; git finds the keys itself
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise InputError(f"{printable_url(url)} is not a URL", hint=ADDRESS_HINT) from error
    local = host in ("localhost", "127.0.0.1", "::1")
    if parts.scheme not in _SCHEMES and not (parts.scheme == "http" and local):
        raise InputError(
            f"{printable_url(url)} is not a supported address of a git repository",
            hint="as in https://github.com/owner/repository.git",
        )
    if parts.scheme not in ("https", "http"):
        return url, None
    user = user or urllib.parse.unquote(parts.username or "")
    password = password or urllib.parse.unquote(parts.password or "")
    netloc = f"{host}:{port}" if port else host
    plain = urllib.parse.urlunsplit((parts.scheme, netloc, parts.path, parts.query, ""))
    return plain, (user, password) if user or password else None


def _git_environment(
    address: str, credentials: tuple[str, str] | None, client_files: ClientCertificates
) -> dict[str, str]:
    """Return the environment for git, without variables that make it prompt or run programs.

    It contains the settings and the credentials, because all users can see command lines.
    """
    settings = [
        ("core.hooksPath", os.devnull),
        ("protocol.ext.allow", "never"),
        ("init.defaultBranch", "code"),
        # User settings that change the content of files.
        ("core.autocrlf", "false"),
        ("advice.detachedHead", "false"),
    ]
    # The client's credentials and certificate are for this server only.
    parts = urllib.parse.urlsplit(address)
    section = f"http.{parts.scheme}://{parts.netloc}/"
    if credentials is not None:
        token = base64.b64encode(":".join(credentials).encode()).decode()
        settings.append((f"{section}.extraHeader", f"Authorization: Basic {token}"))
    settings += [(f"{section}.{name}", file) for name, file in client_files.settings.items()]
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name in ("GIT_SSH_COMMAND", "GIT_SSH", "GIT_SSL_CAINFO")
    }
    if _AUTHORITIES_SETTING in client_files.settings:
        variables.pop("GIT_SSL_CAINFO", None)  # it takes precedence, and the bundle includes it
    variables.update({"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "LC_ALL": "C"})
    variables["GIT_CONFIG_COUNT"] = str(len(settings))
    for index, (name, value) in enumerate(settings):
        variables[f"GIT_CONFIG_KEY_{index}"] = name
        variables[f"GIT_CONFIG_VALUE_{index}"] = value
    return variables


def _run_git(
    folder: Path,
    environment: dict[str, str],
    address: str,
    descriptors: tuple[int, ...],
    *arguments: str,
) -> None:
    seconds = DEFAULT_LIMITS.total_seconds
    try:
        result = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env=environment,
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError as error:
        raise UnavailableError(
            "code from a git repository needs the git program, which is not installed",
            hint="install git, or clone the repository elsewhere and pass its folder",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise BuildError(
            f"{printable_url(address)} did not arrive within {seconds:.0f} s"
        ) from error
    if result.returncode:
        text = _redact_output(result.stderr.strip(), address)
        last_line = (text.splitlines() or ["git failed"])[-1].removeprefix("fatal: ")
        hint = "check the address and the branch, tag or reference"
        for pattern, remedy in _REMEDIES:
            if pattern.search(text):
                hint = remedy
                break
        raise BuildError(
            f"cannot fetch {printable_url(address)}: {last_line}", detail=text, hint=hint
        )


def _redact_output(text: str, address: str) -> str:
    """Return git's output without credentials and without the query of the address."""
    query = "?" + address.partition("?")[2]
    return mask_userinfo(text.replace(query, "?…") if len(query) > 1 else text)
