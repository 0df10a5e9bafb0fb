"""Errors of fnbuild for the messages of engines and registries, each with a remedy."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fnbuild.builder.image.references import registry_of
from fnbuild.errors import BuildError, FnbuildError, InputError, UnavailableError
from fnbuild.function.secret_detection import mask_userinfo

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_DECORATION = re.compile(
    r"^(?:(?:docker|Error response from daemon|[Ee]rror|ERROR|error from daemon)\s*:\s*|"
    r"time=\S+ level=\w+ msg=|(?:failed to solve|rpc error: code = \w+ desc =)[^:]*:\s*)+"
)
_NOISE = re.compile(
    r"WARNING: |DEPRECATED: |\s*Install the buildx|\s*https://docs\.docker\.com/go/|Usage:|"
    r"See '|Run 'docker |WARN\[|time=\S+ level=warning|-+$"
)

_NOT_AN_IMAGE = re.compile(
    r"docker-import-\d+|Error processing tar file|loading tar component|"
    r"payload does not match any of the supported image formats"
)
_DAEMON_QUESTION = " Is the docker daemon running?"


@dataclass(frozen=True, slots=True)
class _KnownMessage:
    """A message of an engine. `{engine}`, `{registry}` and `{reason}` are filled in."""

    pattern: str
    message: str
    hint: str
    kind: Callable[..., FnbuildError] = BuildError


_DOCKER_GROUP_HINT = (
    "add yourself to the group that owns the socket (`sudo usermod -aG docker $USER`) and log in"
    " again, or set DOCKER_HOST to an engine of your own"
)
_MISSING_IMAGE = "{engine} does not have the image"
_LOGIN_HINT = "`{engine} login {registry}` with an account that may do this"
_KNOWN_MESSAGES = (
    _KnownMessage(
        r"permission denied while trying to connect|connect: permission denied",
        "{engine} denies this user access to its socket",
        _DOCKER_GROUP_HINT,
        UnavailableError,
    ),
    _KnownMessage(
        r"Cannot connect to the Docker daemon|[Ii]s the docker daemon running|"
        r"error during connect|Cannot connect to Podman|unable to connect to Podman",
        "{engine} does not answer: {reason}",
        "start it (`sudo systemctl start docker`), or select another by DOCKER_HOST or a context",
        UnavailableError,
    ),
    _KnownMessage(
        r"context \S+(?: is)? not found|context \S+: context not found|"
        r"unable to resolve docker endpoint",
        "{engine} does not answer: {reason}",
        "`docker context ls` lists the contexts there are; DOCKER_CONTEXT chooses one",
        UnavailableError,
    ),
    _KnownMessage(
        r"[Nn]o space left on device",
        "the disk of {engine} is full",
        "check what uses the space (`{engine} system df`); `{engine} image prune` removes images"
        " without a name",
    ),
    _KnownMessage(
        r"server gave HTTP response to HTTPS client",
        "the registry {registry} uses plain HTTP, and {engine} requires HTTPS",
        "give the registry a certificate, or name it under `insecure-registries` in the engine's"
        " configuration (Docker: /etc/docker/daemon.json; podman, buildah:"
        " /etc/containers/registries.conf)",
    ),
    _KnownMessage(
        r"x509:|certificate signed by unknown authority|certificate is not trusted",
        "{engine} does not trust the certificate of the registry {registry}",
        "put the authority's certificate into /etc/docker/certs.d/{registry}/ca.crt (podman,"
        " buildah: /etc/containers/certs.d/{registry}/ca.crt)",
    ),
    _KnownMessage(
        r"no basic auth credentials|authentication required|unauthorized|incorrect username or"
        r" password|invalid username/password|access to the resource is denied|HTTP 401|"
        r"\b401 Unauthorized|\b403 Forbidden",
        "the registry {registry} refuses these credentials, or there are none",
        _LOGIN_HINT,
    ),
    _KnownMessage(
        r"pull access denied|repository does not exist|manifest unknown|manifest for \S+ not found|"
        r"name unknown|NAME_UNKNOWN|MANIFEST_UNKNOWN|reading manifest .* not found",
        "the registry {registry} has no such image, or does not show it to this user",
        "check the name and the tag; for a private image `{engine} login {registry}`",
    ),
    _KnownMessage(
        r"no such host|lookup \S+|dial tcp|connection refused|network is unreachable|i/o timeout|"
        r"TLS handshake timeout|Client\.Timeout exceeded|temporary failure in name resolution",
        "the registry {registry} cannot be reached: {reason}",
        "check the name and the network of the machine on which {engine} runs",
    ),
    _KnownMessage(
        r"[Nn]o such image|image not known|does not exist locally|unable to find image|"
        r"failed to get digest sha256:\w+: open |unknown parent image ID|"
        r"short-name resolution|did not resolve to an alias",
        _MISSING_IMAGE,
        "`{engine} images` lists what it has; fetch it with `{engine} pull`",
    ),
    _KnownMessage(
        r"buildx component is missing or broken",
        "DOCKER_BUILDKIT enables BuildKit, and this docker has no buildx plugin for it",
        "install the buildx plugin, or unset DOCKER_BUILDKIT for the classic builder",
    ),
    _KnownMessage(
        r"unknown flag|unknown shorthand flag",
        "{engine} does not know a flag: {reason}",
        "spec.build.flags and --build-flag are passed unchanged to its build command",
    ),
)


def missing_image_message(engine: str) -> str:
    """Return the message for an image that the engine does not have."""
    return _MISSING_IMAGE.format(engine=engine)


def require_program(program: str) -> None:
    """Raise `UnavailableError` if the engine's program is not installed."""
    if shutil.which(program) is None:
        raise UnavailableError(
            f"{program} is not installed",
            hint="install Docker (https://docs.docker.com/engine/install), podman or buildah",
        )


def clean_output(text: str) -> str:
    """Return the text without escape codes and without credentials in URLs."""
    return mask_userinfo(_ESCAPES.sub("", text))


def engine_error(what: str, text: str, *, engine: str, reference: str = "") -> FnbuildError:
    """Return the error for an engine's output; `what` begins its message with what failed."""
    return known_error(what, text, engine=engine, reference=reference) or BuildError(
        f"{what}: {short_reason(text)}"
    )


def known_error(what: str, text: str, *, engine: str, reference: str = "") -> FnbuildError | None:
    """Return the error if the output matches a known message."""
    output = clean_output(text)
    names = {"engine": engine, "registry": registry_of(reference), "reason": short_reason(output)}
    for entry in _KNOWN_MESSAGES:
        if re.search(entry.pattern, output):
            explanation = entry.message.format(**names)
            message = explanation if entry.kind is UnavailableError else f"{what}: {explanation}"
            return entry.kind(message, hint=entry.hint.format(**names))
    return None


def load_error(file: Path, text: str, *, engine: str) -> FnbuildError:
    """Return the error for an archive that an engine did not load."""
    what = f"{file} cannot be loaded as an image"
    error = known_error(what, text, engine=engine)
    if error is None and _NOT_AN_IMAGE.search(text):
        return not_an_image_error(file, "it is not an image archive, or incomplete")
    return error or engine_error(what, text, engine=engine)


def not_an_image_error(file: Path, why: str) -> InputError:
    """Return the error for a file that does not contain an image."""
    return InputError(
        f"{file} cannot be loaded as an image: {why}",
        hint="`docker save --output FILE IMAGE` writes an image archive, and so does"
        " `fnbuild build --output-image-file FILE`; `docker import` creates an image from an"
        " exported file system",
    )


def short_reason(text: str) -> str:
    """Return the engine's last line, without its usual prefixes."""
    lines = [line.strip() for line in clean_output(text).splitlines()]
    messages = [line for line in lines if line and not _NOISE.match(line)]
    if not messages:
        return "no reason given"
    return _DECORATION.sub("", messages[-1]).strip('"').removesuffix(_DAEMON_QUESTION)
