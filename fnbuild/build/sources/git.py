"""Code from a git repository: one commit, by the git program, credentials kept out of sight."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import urllib.parse
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fnbuild import trees
from fnbuild.build import pip
from fnbuild.build.sources import certificates
from fnbuild.build.sources.certificates import Certificates
from fnbuild.build.sources.download import ABOUT_PASSWORDS, redacted
from fnbuild.build.sources.limits import Limits, Progress
from fnbuild.errors import BuildError, InputError, UnavailableError

_REFERENCES = (("branch", "refs/heads/"), ("tag", "refs/tags/"), ("reference", ""))
_REFERENCE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+@-]*\Z")
_SCHEMES = ("https", "ssh", "file")
_REMEDIES = (
    (
        re.compile(r"could not read (Username|Password)|Authentication failed|terminal prompts"),
        "codeEntryAttributes.username and .password are what the server asks for",
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


def reference(attributes: Mapping[str, Any]) -> str:
    """What to fetch: the branch, else the tag, else the reference. Raises `InputError`."""
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


def clone(
    url: str,
    attributes: Mapping[str, Any],
    destination: Path,
    progress: Progress,
    limits: Limits | None = None,
) -> None:
    """The files of one commit in `destination`, which must not exist. Nothing of git's remains.

    Raises `InputError` for addresses and references that are none, `UnavailableError` without the
    git program, `BuildError` with git's own words when it fails.
    """
    wanted = reference(attributes)
    place, secret = _address(url, attributes)
    seconds = (Limits() if limits is None else limits).whole
    https = place.startswith("https://")
    with certificates.opened(attributes, https=https) as client_files:
        progress(f"fetching {wanted} of {redacted(place)}")
        destination.mkdir()
        environment = _surroundings(place, secret, client_files)
        run = partial(_run, destination, environment, place, seconds, client_files.descriptors)
        run("init", "--quiet")
        run("fetch", "--quiet", "--depth", "1", "--no-tags", "--", place, wanted)
        run("checkout", "--quiet", "--detach", "FETCH_HEAD")
    trees.remove(destination / ".git")


def _address(url: str, attributes: Mapping[str, Any]) -> tuple[str, tuple[str, str] | None]:
    """The URL without credentials, and the credentials."""
    user, password = (str(attributes.get(key) or "") for key in ("username", "password"))
    if re.match(r"[\w.-]+@[\w.-]+:(?!//)", url):
        return url, None  # the short form of ssh, whose keys are git's own matter
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise InputError(f"{redacted(url)} is not a URL", hint=ABOUT_PASSWORDS) from error
    local = host in ("localhost", "127.0.0.1", "::1")
    if parts.scheme not in _SCHEMES and not (parts.scheme == "http" and local):
        raise InputError(
            f"{redacted(url)} is not an address that code is fetched from by git",
            hint="as in https://github.com/owner/repository.git",
        )
    if parts.scheme not in ("https", "http"):
        return url, None
    user = user or urllib.parse.unquote(parts.username or "")
    password = password or urllib.parse.unquote(parts.password or "")
    netloc = f"{host}:{port}" if port else host
    plain = urllib.parse.urlunsplit((parts.scheme, netloc, parts.path, parts.query, ""))
    return plain, (user, password) if user or password else None


def _surroundings(
    place: str, secret: tuple[str, str] | None, client_files: Certificates
) -> dict[str, str]:
    """The caller's environment, without what would make git ask or run something.

    The settings travel in it, credentials too: arguments are seen by everybody on the machine.
    """
    settings = [
        ("core.hooksPath", os.devnull),
        ("protocol.ext.allow", "never"),
        ("init.defaultBranch", "code"),
        # Both are on by the user's own settings only, and change what files hold.
        ("core.autocrlf", "false"),
        ("advice.detachedHead", "false"),
    ]
    # The client's credentials and certificate are for this server only.
    parts = urllib.parse.urlsplit(place)
    section = f"http.{parts.scheme}://{parts.netloc}/"
    if secret is not None:
        token = base64.b64encode(":".join(secret).encode()).decode()
        settings.append((f"{section}.extraHeader", f"Authorization: Basic {token}"))
    settings += [(f"{section}.{name}", file) for name, file in client_files.settings]
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name in ("GIT_SSH_COMMAND", "GIT_SSH", "GIT_SSL_CAINFO")
    }
    if client_files.bundle:
        kept.pop("GIT_SSL_CAINFO", None)  # it would win, and the bundle has what it names
    kept.update({"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "LC_ALL": "C"})
    kept["GIT_CONFIG_COUNT"] = str(len(settings))
    for index, (name, value) in enumerate(settings):
        kept[f"GIT_CONFIG_KEY_{index}"] = name
        kept[f"GIT_CONFIG_VALUE_{index}"] = value
    return kept


def _run(
    folder: Path,
    environment: dict[str, str],
    place: str,
    seconds: float,
    descriptors: tuple[int, ...],
    *arguments: str,
) -> None:
    try:
        done = subprocess.run(
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
            "code from a git repository needs the git program, which is not installed here",
            hint="install git, or clone the repository elsewhere and give its folder",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{redacted(place)} did not come within {seconds:.0f} s") from error
    if done.returncode:
        text = _harmless(done.stderr.strip(), place)
        last = (text.splitlines() or ["git failed"])[-1].removeprefix("fatal: ")
        hint = "see whether the address and the branch, tag or reference are right"
        for pattern, remedy in _REMEDIES:
            if pattern.search(text):
                hint = remedy
                break
        raise BuildError(f"cannot fetch {redacted(place)}: {last}", detail=text, hint=hint)


def _harmless(text: str, place: str) -> str:
    """Git's words without credentials and without the query of the address."""
    query = "?" + place.partition("?")[2]
    return pip.redacted(text.replace(query, "?…") if len(query) > 1 else text)
