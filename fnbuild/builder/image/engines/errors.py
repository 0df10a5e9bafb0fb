"""What the words of an engine or of a registry mean, and what to do about them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fnbuild.builder.image.references import registry_of
from fnbuild.builder.pip import redact_urls
from fnbuild.errors import BuildError, FnbuildError, InputError, UnavailableError

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
    """`pattern` in the engine's words means `says`; `{engine}`, `{registry}` are filled in."""

    pattern: str
    says: str
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
        "{engine} does not let this user in: permission denied on its socket",
        _DOCKER_GROUP_HINT,
        UnavailableError,
    ),
    _KnownMessage(
        r"Cannot connect to the Docker daemon|[Ii]s the docker daemon running|"
        r"error during connect|Cannot connect to Podman|unable to connect to Podman",
        "{engine} does not answer: {reason}",
        "start it (`sudo systemctl start docker`), or name another by DOCKER_HOST or a context",
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
        "see what takes the space (`{engine} system df`); `{engine} image prune` removes images"
        " without a name",
    ),
    _KnownMessage(
        r"server gave HTTP response to HTTPS client",
        "the registry {registry} speaks plain HTTP, and {engine} insists on HTTPS",
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
        "the registry {registry} has no such image, or hides it",
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
        r"short-name resolution|did not resolve to an alias",
        _MISSING_IMAGE,
        "`{engine} images` lists what it has; fetch it with `{engine} pull`",
    ),
    _KnownMessage(
        r"buildx component is missing or broken",
        "DOCKER_BUILDKIT asks for BuildKit, and this docker has no buildx to build with it",
        "install the buildx plugin, or unset DOCKER_BUILDKIT for the classic builder",
    ),
    _KnownMessage(
        r"unknown flag|unknown shorthand flag",
        "{engine} does not know a flag: {reason}",
        "spec.build.flags and --build-flag are handed to its build command as they are",
    ),
)


def missing_image_message(engine: str) -> str:
    """The words for an image that the engine does not have."""
    return _MISSING_IMAGE.format(engine=engine)


def require_program(program: str) -> None:
    """`UnavailableError` when the engine's program is not there."""
    if shutil.which(program) is None:
        raise UnavailableError(
            f"{program} is not installed",
            hint="install Docker (https://docs.docker.com/engine/install), podman or buildah",
        )


def clean_output(text: str) -> str:
    """The text without escape codes and without credentials in URLs."""
    return redact_urls(_ESCAPES.sub("", text))


def engine_error(what: str, text: str, *, engine: str, reference: str = "") -> FnbuildError:
    """The error for an engine's words; `what` begins its message: what could not be done."""
    return known_error(what, text, engine=engine, reference=reference) or BuildError(
        f"{what}: {short_reason(text)}"
    )


def known_error(what: str, text: str, *, engine: str, reference: str = "") -> FnbuildError | None:
    """The error when the words are known ones."""
    words = clean_output(text)
    names = {"engine": engine, "registry": registry_of(reference), "reason": short_reason(words)}
    for one in _KNOWN_MESSAGES:
        if re.search(one.pattern, words):
            said = one.says.format(**names)
            message = said if one.kind is UnavailableError else f"{what}: {said}"
            return one.kind(message, hint=one.hint.format(**names))
    return None


def load_error(file: Path, text: str, *, engine: str) -> FnbuildError:
    """The error for an archive that an engine did not take."""
    what = f"{file} cannot be loaded as an image"
    known = known_error(what, text, engine=engine)
    if known is None and _NOT_AN_IMAGE.search(text):
        return not_an_image_error(file, "it is no archive of one, or not a whole one")
    return known or engine_error(what, text, engine=engine)


def not_an_image_error(file: Path, why: str) -> InputError:
    """The error for a file that holds no image."""
    return InputError(
        f"{file} cannot be loaded as an image: {why}",
        hint="`docker save --output FILE IMAGE` writes such an archive, and so does"
        " `fnbuild build --output-image-file FILE`; of an exported file system `docker import`"
        " makes an image",
    )


def short_reason(text: str) -> str:
    """The engine's last own line, without what it puts before every error."""
    lines = [line.strip() for line in clean_output(text).splitlines()]
    told = [line for line in lines if line and not _NOISE.match(line)]
    if not told:
        return "it does not say why"
    return _DECORATION.sub("", told[-1]).strip('"').removesuffix(_DAEMON_QUESTION)
