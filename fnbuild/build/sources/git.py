"""Code from a git repository: one commit, by the git program, credentials kept out of sight."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fnbuild.build import pip
from fnbuild.build.sources.download import ABOUT_PASSWORDS, redacted
from fnbuild.build.sources.limits import Limits, Progress
from fnbuild.errors import BuildError, InputError, UnavailableError

_REFERENCES = (("branch", "refs/heads/"), ("tag", "refs/tags/"), ("reference", ""))
_REFERENCE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+@-]*\Z")
_SCHEMES = ("https", "ssh", "file")
_ASKED = re.compile(r"could not read (Username|Password)|Authentication failed|terminal prompts")


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
    progress(f"fetching {wanted} of {redacted(place)}")
    destination.mkdir()
    for words in (
        ("init", "--quiet"),
        ("fetch", "--quiet", "--depth", "1", "--no-tags", "--", place, wanted),
        ("checkout", "--quiet", "--detach", "FETCH_HEAD"),
    ):
        _run(words, destination, _surroundings(place, secret), place, seconds)
    shutil.rmtree(destination / ".git")


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


def _surroundings(place: str, secret: tuple[str, str] | None) -> dict[str, str]:
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
    if secret is not None:
        parts = urllib.parse.urlsplit(place)
        token = base64.b64encode(":".join(secret).encode()).decode()
        header = f"Authorization: Basic {token}"
        settings.append((f"http.{parts.scheme}://{parts.netloc}/.extraHeader", header))
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name in ("GIT_SSH_COMMAND", "GIT_SSH", "GIT_SSL_CAINFO")
    }
    kept.update({"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "LC_ALL": "C"})
    kept["GIT_CONFIG_COUNT"] = str(len(settings))
    for index, (name, value) in enumerate(settings):
        kept[f"GIT_CONFIG_KEY_{index}"] = name
        kept[f"GIT_CONFIG_VALUE_{index}"] = value
    return kept


def _run(
    words: tuple[str, ...], folder: Path, environment: dict[str, str], place: str, seconds: float
) -> None:
    try:
        done = subprocess.run(
            ["git", *words],
            cwd=folder,
            env=environment,
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
        if _ASKED.search(text):
            hint = "codeEntryAttributes.username and .password are what the server asks for"
        raise BuildError(f"cannot fetch {redacted(place)}: {last}", detail=text, hint=hint)


def _harmless(text: str, place: str) -> str:
    """Git's words without credentials and without the query of the address."""
    query = "?" + place.partition("?")[2]
    return pip.redacted(text.replace(query, "?…") if len(query) > 1 else text)
